-- Every training that was asked for, by the event that asked: who holds it, and what has come of it.
create table trainings (
    source text not null,
    event_id text not null,
    policy text,                                -- null: every policy
    state text not null default 'under way' check (state in ('under way', 'finished', 'announced')),
    run uuid not null,                          -- the run that holds it, or held it last
    runs integer not null default 1,            -- how many have taken hold of it
    started_at timestamptz not null,
    lease_until timestamptz not null,           -- from then on another run may take hold of it
    finished_at timestamptz,
    outcome jsonb not null default '[]',        -- the policies that are refitted, each written by its refit's transaction
    actor text not null,
    primary key (source, event_id)
);
