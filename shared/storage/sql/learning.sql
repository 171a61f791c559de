-- One learning transaction of one policy. Its first query takes the policy's lock, which the commit releases.

-- name: lock_policy
-- One learner per policy at a time, whichever process it runs in.
select pg_advisory_xact_lock(%(namespace)s, %(key)s)

-- name: policy_state
-- The active version, the version that the posterior was learned under, and the posterior.
select p.active_version, v.spec, learned.policy_version as learned_version, learned.snapshot_version,
       learned.statistics, learned_spec.spec as learned_spec
from policies p
join policy_versions v on v.policy = p.name and v.version = p.active_version
left join posteriors learned on learned.policy = p.name
left join policy_versions learned_spec on learned_spec.policy = p.name and learned_spec.version = learned.policy_version
where p.name = %(policy)s

-- name: archive_decisions
-- Archive journalled decisions; the rows returned are those that were not archived before.
insert into decisions (decided_at, decision_id, policy, policy_version, snapshot_version, actions, propensities,
                       eligible, context, user_pseudonym, session_pseudonym, deferred, degraded, origin, revision,
                       actor, default_action, served_by, experiment)
select to_timestamp(decided_at), decision_id, policy, policy_version, snapshot_version, actions, propensities, eligible,
       context, user_pseudonym, session_pseudonym, coalesce(deferred, false), coalesce(degraded, false), origin, revision,
       actor, default_action, served_by, experiment
from json_to_recordset(%(rows)s::json) as r (
    decided_at float8, decision_id uuid, policy text, policy_version int, snapshot_version bigint, actions text[],
    propensities float8[], eligible jsonb, context jsonb, user_pseudonym text, session_pseudonym text,
    deferred boolean, degraded boolean, origin text, revision text, actor text, default_action text, served_by jsonb,
    experiment jsonb)
order by decided_at, decision_id
on conflict do nothing
returning decision_id::text as decision_id

-- name: fresh_pending
-- What was committed for this policy and not looked at yet.
select id, subject, extract(epoch from decided_at)::float8 as decided_at, decision_id::text as decision_id
from pending where policy_key = %(key)s and not waiting order by id limit %(most)s

-- name: waiting_pending
-- What waited for these decisions to be archived or activated.
select id, subject, extract(epoch from decided_at)::float8 as decided_at, decision_id::text as decision_id
from pending where waiting and decision_id = any(%(ids)s::uuid[])

-- name: orphaned_feedback
-- Decisions, among those just archived, whose feedback had been given up.
select distinct extract(epoch from decided_at)::float8 as decided_at, decision_id::text as decision_id
from feedback where orphaned_at is not null and decision_id = any(%(ids)s::uuid[])

-- name: revive_feedback
-- Their decision came after all.
update feedback set orphaned_at = null where orphaned_at is not null and decision_id = any(%(ids)s::uuid[])

-- name: archived
-- Of the given decisions those that are archived, and whether each counts as shown; context and features where they are looked at,
-- who decided and for whom where that is compared.
select extract(epoch from decided_at)::float8 as decided_at, decision_id::text as decision_id, policy, policy_version,
       actions, deferred, case when %(looks)s then context end as context, case when %(looks)s then eligible end as eligible,
       case when %(compares)s and origin = 'served' then propensities end as propensities,
       case when %(compares)s then user_pseudonym end as user_pseudonym, case when %(compares)s then served_by end as served_by,
       (not deferred or exists (
           select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id)) as shown
from unnest(%(times)s::float8[], %(ids)s::uuid[]) as wanted (moment, name)
join decisions d on d.decided_at = to_timestamp(wanted.moment) and d.decision_id = wanted.name

-- name: feedback_of
-- All feedback of the given decisions.
select decision_id::text as decision_id, source, event_id, kind, value, action, actor,
       extract(epoch from occurred_at)::float8 as occurred_at, extract(epoch from received_at)::float8 as received_at
from unnest(%(times)s::float8[], %(ids)s::uuid[]) as wanted (moment, name)
join feedback on decided_at = to_timestamp(wanted.moment) and decision_id = wanted.name

-- name: rewards_of
-- The rewards of the given decisions as the posterior counts them.
select decision_id::text as decision_id, position, reward, delay_s
from unnest(%(times)s::float8[], %(ids)s::uuid[]) as wanted (moment, name)
join rewards on decided_at = to_timestamp(wanted.moment) and decision_id = wanted.name

-- name: put_rewards
-- Note what the posterior counts from now on.
insert into rewards (decided_at, decision_id, position, reward, delay_s)
select to_timestamp(decided_at), decision_id, position, reward, delay_s
from json_to_recordset(%(rows)s::json)
    as r (decided_at float8, decision_id uuid, position smallint, reward float8, delay_s float8)
order by decided_at, decision_id, position
on conflict (decided_at, decision_id, position) do update set reward = excluded.reward, delay_s = excluded.delay_s

-- name: delete_pending
-- Learned: nothing is pending about it.
delete from pending where id = any(%(ids)s)

-- name: park_pending
-- Looked at, and its decision is not there yet.
update pending set waiting = true where id = any(%(ids)s)

-- name: put_posterior
-- The learner's state after this transaction.
insert into posteriors (policy, policy_version, snapshot_version, statistics, comparison)
values (%(policy)s, %(policy_version)s, %(snapshot_version)s, %(statistics)s, %(comparison)s::jsonb)
on conflict (policy) do update set policy_version = excluded.policy_version,
    snapshot_version = excluded.snapshot_version, statistics = excluded.statistics, comparison = excluded.comparison

-- name: put_snapshot
-- The snapshot that this transaction publishes.
insert into snapshots (policy, snapshot_version, policy_version, content)
values (%(policy)s, %(snapshot_version)s, %(policy_version)s, %(content)s)

-- name: newest_snapshots
-- What Redis should hold, of one policy or of all.
select distinct on (policy) policy, snapshot_version, policy_version, content
from snapshots where %(policy)s::text is null or policy = %(policy)s
order by policy, snapshot_version desc

-- name: base
-- What no longer stands in the history but still counts.
select statistics from base_posteriors where policy = %(policy)s

-- name: put_base
-- Seal more of the history into the base.
insert into base_posteriors (policy, statistics) values (%(policy)s, %(statistics)s)
on conflict (policy) do update set statistics = excluded.statistics

-- name: forget_rewards
-- Before a refit: no reward is counted.
delete from rewards r using decisions d
where d.policy = %(policy)s and r.decided_at = d.decided_at and r.decision_id = d.decision_id

-- name: take_all_pending
-- Before a refit: take what it will count anyway. What is committed later stays pending.
delete from pending p using decisions d
where p.policy_key = %(key)s and d.decided_at = p.decided_at and d.decision_id = p.decision_id
  and (not d.deferred or exists (
      select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id))
returning p.subject, extract(epoch from p.decided_at)::float8 as decided_at, p.decision_id::text as decision_id

-- name: history
-- Every archived decision that counts as shown, oldest first; context and features where they are looked at, who decided and for
-- whom where that is compared. Read through a cursor.
select extract(epoch from d.decided_at)::float8 as decided_at, d.decision_id::text as decision_id, d.policy_version,
       d.actions, case when %(looks)s then d.context end as context, case when %(looks)s then d.eligible end as eligible,
       case when %(compares)s and d.origin = 'served' then d.propensities end as propensities,
       case when %(compares)s then d.user_pseudonym end as user_pseudonym,
       case when %(compares)s then d.served_by end as served_by
from decisions d
where d.policy = %(policy)s
  and d.decided_at >= to_timestamp(%(first)s) and d.decided_at < to_timestamp(%(last)s)
  and (not d.deferred or exists (
      select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id))
  and not exists (
      select from pending p
      where p.decision_id = d.decision_id and p.policy_key = %(key)s and p.subject in ('decision', 'activation'))
order by d.decided_at, d.decision_id

-- name: version_specs
-- What versions of a policy said.
select version, spec from policy_versions where policy = %(policy)s and version = any(%(versions)s)

-- name: policies
-- Every policy.
select name from policies order by name

-- name: mark_orphans
-- A day after its window, feedback without a decision is given up: kept, counted, no longer pending.
with given_up as (
    delete from pending p
    using (select name, policy_key, (v.spec ->> 'reward_window_s')::float8 as window_s
           from policies join policy_versions v on v.policy = name and v.version = active_version) as known
    where p.waiting and p.policy_key = known.policy_key
      and greatest(p.received_at, p.decided_at) + make_interval(secs => coalesce(known.window_s, 86400) + 86400)
          < to_timestamp(%(now)s)
    returning p.decided_at, p.decision_id, p.subject
)
update feedback f set orphaned_at = to_timestamp(%(now)s)
from given_up g where g.subject = 'feedback' and f.decided_at = g.decided_at and f.decision_id = g.decision_id
returning f.decision_id

-- name: mark_orphans_of_nobody
-- The same for feedback whose policy never existed.
with given_up as (
    delete from pending p
    where not exists (select from policies known where known.policy_key = p.policy_key)
      and greatest(p.received_at, p.decided_at) + interval '2 days' < to_timestamp(%(now)s)
    returning p.decided_at, p.decision_id, p.subject
)
update feedback f set orphaned_at = to_timestamp(%(now)s)
from given_up g where g.subject = 'feedback' and f.decided_at = g.decided_at and f.decision_id = g.decision_id
returning f.decision_id

-- name: unpark
-- The sweep looks again at what waits and could be learned by now.
update pending p set waiting = false
from decisions d
where p.waiting and d.decided_at = p.decided_at and d.decision_id = p.decision_id
  and (not d.deferred or exists (
      select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id))
returning p.policy_key
