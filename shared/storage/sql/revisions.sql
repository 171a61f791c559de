-- What two revisions of `recommend` earned, every decision at the same age.

-- name: feedback_at_age
-- Feedback that had come by that age, of the decisions that had been shown by then.
select d.decision_id::text as decision_id, extract(epoch from d.decided_at)::float8 as decided_at, d.policy, d.actions,
       f.source, f.event_id, f.kind, f.value, f.action, f.actor, extract(epoch from f.occurred_at)::float8 as occurred_at,
       extract(epoch from f.received_at)::float8 as received_at
from decisions d
join feedback f on f.decided_at = d.decided_at and f.decision_id = d.decision_id
where d.decided_at >= to_timestamp(%(began)s) and d.decided_at < to_timestamp(%(until)s)
  and f.decided_at >= to_timestamp(%(began)s) and f.decided_at < to_timestamp(%(until)s)
  and d.revision = any(%(revisions)s) and d.origin = 'served'
  and (%(policies)s::text[] is null or d.policy = any(%(policies)s))
  and f.received_at <= d.decided_at + make_interval(secs => %(age)s)
order by d.decided_at, d.decision_id

-- name: specs
-- The active version of every policy, by which feedback becomes a reward.
select v.spec from policies p join policy_versions v on v.policy = p.name and v.version = p.active_version

-- name: moments
-- The sums of both revisions by unit: the user, or the decision where there is none. `excess`: rewards above the default.
with scope as (
    select coalesce(d.user_pseudonym, d.decision_id::text) as unit, d.revision = %(candidate)s as is_new,
           cardinality(d.actions) * coalesce((v.spec ->> 'default_reward')::float8, 0) + coalesce(e.excess, 0) as reward
    from decisions d
    left join policies p on p.name = d.policy
    left join policy_versions v on v.policy = p.name and v.version = p.active_version
    left join json_to_recordset(%(excess)s::json) as e (decision_id uuid, excess float8) on e.decision_id = d.decision_id
    where d.decided_at >= to_timestamp(%(began)s) and d.decided_at < to_timestamp(%(until)s)
      and d.revision = any(%(revisions)s) and d.origin = 'served'
      and (%(policies)s::text[] is null or d.policy = any(%(policies)s))
      and (not d.deferred or exists (
          select from activations a
          where a.decided_at = d.decided_at and a.decision_id = d.decision_id
            and a.activated_at <= d.decided_at + make_interval(secs => %(age)s)))
), units as (
    select count(*) filter (where is_new)::float8 as n, count(*) filter (where not is_new)::float8 as m,
           coalesce(sum(reward) filter (where is_new), 0) as r, coalesce(sum(reward) filter (where not is_new), 0) as s,
           coalesce(sum(reward * reward) filter (where is_new), 0) as rr,
           coalesce(sum(reward * reward) filter (where not is_new), 0) as ss
    from scope group by unit
)
select array[sum(n), sum(r), sum(rr), sum(n * n), sum(n * r), sum(r * r)] as candidate,
       array[sum(m), sum(s), sum(ss), sum(m * m), sum(m * s), sum(s * s)] as serving,
       array[sum(n * m), sum(n * s), sum(r * m), sum(r * s)] as both_sums
from units
