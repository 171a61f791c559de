-- Experiments: what is written, who was exposed, what users did beside decisions, and what came of it.

create table experiments (
    key text primary key,
    active_version integer not null,
    created_at timestamptz not null default now()
);

create table experiment_versions (
    key text not null references experiments (key),
    version integer not null,
    phase integer not null,
    spec json not null,                         -- as it was written: jsonb would spell its numbers anew
    actor text not null,
    created_at timestamptz not null default now(),
    primary key (key, version)
);

-- Flags that are no experiments: a default value and rules.
create table flags (
    key text primary key,
    version integer not null,
    spec json not null,
    actor text not null,
    written_at timestamptz not null default now()
);

-- The version of what is published of all that, one row: it rises with every change.
create table catalogue (
    single boolean primary key default true check (single),
    version bigint not null
);
insert into catalogue (version) values (0);

-- One row for each variation that a unit saw in a phase; more than one of them leaves the unit out of the analysis.
create table exposures (
    experiment text not null,
    phase integer not null,
    unit text not null,
    variation text not null,
    user_pseudonym text,
    exposed_at timestamptz not null,            -- the first time
    attributes jsonb not null,
    decision_id uuid,
    revision text not null,
    actor text not null,
    primary key (experiment, phase, unit, variation)
);

create index exposures_user on exposures (user_pseudonym);
create index exposures_exposed on exposures using brin (exposed_at);

-- What users did that speaks of no decision.
create table user_feedback (
    user_pseudonym text not null,
    source text not null,
    event_id text not null,
    kind text not null,
    value double precision not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    actor text not null,
    primary key (user_pseudonym, source, event_id)
);

create index user_feedback_received on user_feedback (received_at);

-- Which variation sticks to a unit, for each of its attributes: `experiment__bucket version` -> variation.
create table sticky_assignments (
    attribute text not null,
    unit text not null,
    assignments jsonb not null,
    updated_at timestamptz not null default now(),
    primary key (attribute, unit)
);

-- What every analysis found, for the course of an experiment and for the audit.
create table experiment_results (
    experiment text not null,
    phase integer not null,
    version integer not null,
    analysed_at timestamptz not null,
    verdict text not null,
    results jsonb not null,
    primary key (experiment, phase, analysed_at)
);

alter table decisions add column experiment jsonb;   -- {key, phase, variation, unit}; null: of none
