-- Events that their function did not take, kept to be read and sent again. Nothing personal in the clear: names are
-- sealed, and data that may hold anything is not kept.

create table dead_letters (
    id bigint generated always as identity primary key,
    identity bytea not null unique,             -- hash of source, id and where it failed
    type text not null,
    source text not null,
    event_id text not null,
    subject text,                               -- sealed
    time text,                                  -- as it was sent, which may be no time at all
    content_type text,
    attributes jsonb not null,                  -- the other attributes, a broker's own excepted
    data bytea,                                 -- JSON with sealed names; null: not kept
    data_bytes integer not null,                -- as it was sent
    data_hash text not null,                    -- keyed hash of what was sent
    destination text,                           -- where it failed
    error_code integer,                         -- the status of the last attempt
    error_data text,                            -- what was answered to it
    actor text not null,                        -- who brought it
    received_at timestamptz not null default clock_timestamp(),
    failed_at timestamptz not null default clock_timestamp(),   -- when it last came
    arrivals integer not null default 1,        -- how often it came
    replays integer not null default 0,
    replayed_at timestamptz,
    replayed_by text
);

create index dead_letters_type on dead_letters (type, id);
create index dead_letters_failed on dead_letters (failed_at);
