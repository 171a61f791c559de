-- The truth: policies, decisions, feedback, rewards, posteriors. Times are UTC.

create table policies (
    name text primary key,
    policy_key bigint not null unique,          -- what a decision id carries of the name
    active_version integer not null,
    created_at timestamptz not null default now()
);

create table policy_versions (
    policy text not null references policies (name),
    version integer not null,
    spec jsonb not null,
    actor text not null,
    created_at timestamptz not null default now(),
    primary key (policy, version)
);

-- Who was made active when, for the audit.
create table promotions (
    policy text not null,
    version integer not null,
    actor text not null,
    promoted_at timestamptz not null default now()
);

-- The learner's running state, one row a policy; `statistics` is a Posterior in MessagePack.
create table posteriors (
    policy text primary key references policies (name),
    policy_version integer not null,
    snapshot_version bigint not null,
    statistics bytea not null
);

-- What is no longer in the history but still counts.
create table base_posteriors (
    policy text primary key references policies (name),
    statistics bytea not null
);

-- Every snapshot that was ever to be published: what decisions are recomputed from.
create table snapshots (
    policy text not null references policies (name),
    snapshot_version bigint not null,
    policy_version integer not null,
    content bytea not null,
    created_at timestamptz not null default now(),
    primary key (policy, snapshot_version)
);

create table decisions (
    decided_at timestamptz not null,
    decision_id uuid not null,
    policy text not null,
    policy_version integer not null,
    snapshot_version bigint not null,
    actions text[] not null,
    propensities double precision[] not null,   -- null elements: unknown
    eligible jsonb,                             -- null: the actions of the policy version
    context jsonb not null,
    user_pseudonym text,
    session_pseudonym text,
    deferred boolean not null,
    degraded boolean not null,
    origin text not null,
    revision text not null,
    actor text not null,
    default_action text,
    position smallint,                          -- where a logged one stood on its page
    primary key (decided_at, decision_id)
) partition by range (decided_at);

create table activations (
    decided_at timestamptz not null,
    decision_id uuid not null,
    activated_at timestamptz not null,
    actor text not null,
    primary key (decided_at, decision_id)
) partition by range (decided_at);

create table feedback (
    decided_at timestamptz not null,
    decision_id uuid not null,
    source text not null,
    event_id text not null,
    kind text not null,
    value double precision not null,
    action text,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    actor text not null,
    orphaned_at timestamptz,                    -- its decision never came
    primary key (decided_at, decision_id, source, event_id)
) partition by range (decided_at);

create index feedback_orphaned on feedback (decision_id) where orphaned_at is not null;

-- The reward of each item as it is counted in the posterior; no row: no feedback counts yet.
create table rewards (
    decided_at timestamptz not null,
    decision_id uuid not null,
    position smallint not null,
    reward double precision not null,
    primary key (decided_at, decision_id, position)
) partition by range (decided_at);

-- What is committed and not yet learned. Rows are deleted by the transaction that learns them.
create table pending (
    id bigint generated always as identity primary key,
    subject text not null check (subject in ('decision', 'activation', 'feedback')),
    policy_key bigint not null,
    decided_at timestamptz not null,
    decision_id uuid not null,
    received_at timestamptz not null,
    waiting boolean not null default false      -- looked at once: its decision is not archived or not activated
);

create index pending_fresh on pending (policy_key, id) where not waiting;
create index pending_decision on pending (decision_id);

-- One partition a week (Monday, UTC) of every table that holds history. Safe to call at any time by anyone.
create function ensure_partition(moment timestamptz) returns void language plpgsql as $$
declare
    first timestamptz := date_trunc('week', moment at time zone 'UTC') at time zone 'UTC';
    suffix text := to_char(first at time zone 'UTC', 'YYYYMMDD');
    parent text;
begin
    if to_regclass('rewards_' || suffix) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('knudge partitions'));
    foreach parent in array array['decisions', 'activations', 'feedback', 'rewards'] loop
        execute format('create table if not exists %I partition of %I for values from (%L) to (%L)',
                       parent || '_' || suffix, parent, first, first + interval '7 days');
    end loop;
end $$;
