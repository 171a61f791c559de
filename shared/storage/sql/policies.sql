-- Policies and their versions.

-- name: insert_policy
-- A name is taken once; so is its key.
insert into policies (name, policy_key, active_version) values (%(name)s, %(key)s, 0) on conflict do nothing

-- name: name_of_key
-- Whose key this is.
select name from policies where policy_key = %(key)s

-- name: next_version
-- The number of the next version of a policy.
select coalesce(max(version), 0) + 1 as version from policy_versions where policy = %(name)s

-- name: insert_version
-- A version is written once and never changed.
insert into policy_versions (policy, version, spec, actor) values (%(name)s, %(version)s, %(spec)s::jsonb, %(actor)s)

-- name: activate_version
-- From now on the policy decides by this version.
with noted as (
    insert into promotions (policy, version, actor) values (%(name)s, %(version)s, %(actor)s)
)
update policies set active_version = %(version)s where name = %(name)s

-- name: has_version
-- Whether a version exists.
select from policy_versions where policy = %(name)s and version = %(version)s

-- name: policy
-- A policy's active version, its newest snapshot, and how it does beside what is served in its place.
select v.spec, p.active_version, s.content, l.comparison
from policies p
join policy_versions v on v.policy = p.name and v.version = coalesce(%(version)s, p.active_version)
left join lateral (
    select content from snapshots where policy = p.name order by snapshot_version desc limit 1) s on true
left join posteriors l on l.policy = p.name
where p.name = %(name)s

-- name: versions
-- All versions of a policy, newest first.
select v.version, v.version = p.active_version as active, v.spec ->> 'kind' as kind, v.actor, v.created_at
from policy_versions v join policies p on p.name = v.policy
where v.policy = %(name)s order by v.version desc

-- name: list_policies
-- Every policy with its active version and newest snapshot.
select p.name, p.active_version as version, v.spec ->> 'kind' as kind, coalesce(l.snapshot_version, 0) as snapshot_version
from policies p
join policy_versions v on v.policy = p.name and v.version = p.active_version
left join posteriors l on l.policy = p.name
order by p.name
