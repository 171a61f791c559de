-- What kinds that depend on order have learned, in which order, and what they made of it.

-- A decision of a policy whose kind depends on order. Open until it is learned; then it has its place for ever.
create table learned_order (
    decided_at timestamptz not null,
    decision_id uuid not null,
    policy text not null,
    place bigint,                               -- null: open
    ends boolean,                               -- nothing of its episode comes after it
    rewards double precision[],                 -- one for each item, as they were learned
    primary key (decided_at, decision_id)
) partition by range (decided_at);

create index learned_order_place on learned_order (policy, place) where place is not null;
create index learned_order_open on learned_order (policy, decided_at) where place is null;

-- The model of a policy, learned through a place of its order; `sealed` is what dropped or erased history taught.
create table ordered_models (
    policy text not null references policies (name),
    sealed boolean not null,
    spec jsonb not null,                        -- the version under which it was learned
    place bigint not null,
    model bytea,
    looked_at double precision not null,        -- when closed decisions were last looked for
    primary key (policy, sealed)
);

-- The same as before, with a partition of `learned_order`.
create or replace function ensure_partition(moment timestamptz) returns void language plpgsql as $$
declare
    first timestamptz := date_trunc('week', moment at time zone 'UTC') at time zone 'UTC';
    suffix text := to_char(first at time zone 'UTC', 'YYYYMMDD');
    parent text;
begin
    if to_regclass('learned_order_' || suffix) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('knudge partitions'));
    foreach parent in array array['decisions', 'activations', 'feedback', 'rewards', 'learned_order'] loop
        execute format('create table if not exists %I partition of %I for values from (%L) to (%L)',
                       parent || '_' || suffix, parent, first, first + interval '7 days');
    end loop;
end $$;

select ensure_partition(to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC')
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'decisions'::regclass;
