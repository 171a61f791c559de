-- Whether actions are chosen as often as their propensities say: what was seen of each policy version, by the learner's transactions.
create table propensity_health (
    policy text not null references policies (name),
    policy_version integer not null,            -- 0: decided without a snapshot
    statistics bytea not null,                  -- a Health in MessagePack
    updated_at timestamptz not null default now(),
    primary key (policy, policy_version)
);
