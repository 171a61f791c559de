-- Whether actions are chosen as often as their propensities say.

-- name: health
-- What was seen of one version of a policy.
select statistics from propensity_health where policy = %(policy)s and policy_version = %(policy_version)s

-- name: put_health
-- What was seen by now.
insert into propensity_health (policy, policy_version, statistics)
values (%(policy)s, %(policy_version)s, %(statistics)s)
on conflict (policy, policy_version) do update set statistics = excluded.statistics, updated_at = now()

-- name: health_of_policy
-- What was seen of every version of a policy, the newest first.
select policy_version, statistics, updated_at from propensity_health where policy = %(policy)s order by policy_version desc
