-- Experiments and flags: what operators write, and what is published of it.

-- name: lock_catalogue
-- One change at a time: whoever checks a change against the others sees them as they stay until it is committed.
select version from catalogue for update

-- name: published
-- All that is active, in one state of the database.
select c.version,
       (select coalesce(json_agg(v.spec order by e.key), '[]') from experiments e
        join experiment_versions v on v.key = e.key and v.version = e.active_version)::text as experiments,
       (select coalesce(json_agg(f.spec order by f.key), '[]') from flags f)::text as flags
from catalogue c

-- name: raise_version
-- What is published is older from now on.
update catalogue set version = version + 1 returning version

-- name: policies
-- Every policy, as far as an experiment needs to know it.
select p.name, coalesce(json_array_length((v.spec -> 'actions')::json), 0) > 0 as has_actions,
       coalesce(v.spec ->> 'mode', 'serve') = 'apprentice'
           or coalesce(v.spec -> 'baseline' ->> 'serve', '') = 'default_action' as asks_default
from policies p join policy_versions v on v.policy = p.name and v.version = p.active_version

-- name: next_version
-- The number of the next version of an experiment.
select coalesce(max(version), 0) + 1 as version from experiment_versions where key = %(key)s

-- name: insert_experiment
-- A key is taken once.
insert into experiments (key, active_version) values (%(key)s, 0) on conflict do nothing

-- name: insert_version
-- A version is written once and never changed; it is active at once.
with written as (
    insert into experiment_versions (key, version, phase, spec, actor)
    values (%(key)s, %(version)s, %(phase)s, %(spec)s::json, %(actor)s)
    returning key, version, created_at
), activated as (
    update experiments e set active_version = w.version from written w where e.key = w.key
)
select created_at from written

-- name: experiment
-- A version of an experiment; the active one where none is named.
select v.spec::text as spec, v.version = e.active_version as active, v.actor, v.created_at
from experiments e join experiment_versions v on v.key = e.key and v.version = coalesce(%(version)s, e.active_version)
where e.key = %(key)s

-- name: versions
-- All versions of an experiment, newest first.
select v.version, v.phase, v.spec ->> 'status' as status, v.version = e.active_version as active, v.actor, v.created_at
from experiment_versions v join experiments e on e.key = v.key
where v.key = %(key)s order by v.version desc

-- name: experiments
-- Every experiment's active version.
select v.spec::text as spec from experiments e
join experiment_versions v on v.key = e.key and v.version = e.active_version
order by e.key

-- name: put_flag
-- A flag as it is from now on.
insert into flags (key, version, spec, actor) values (%(key)s, %(version)s, %(spec)s::json, %(actor)s)
on conflict (key) do update set version = excluded.version, spec = excluded.spec, actor = excluded.actor, written_at = now()
returning written_at

-- name: flag
-- One flag.
select spec::text as spec, actor, written_at from flags where key = %(key)s

-- name: flags
-- Every flag.
select key, version, actor, written_at from flags order by key
