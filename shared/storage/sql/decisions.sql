-- Reading archived decisions: one to be explained, many to be audited, exported and evaluated. Nothing here writes.

-- name: log
-- Decisions with what has come of them, in the order in which they were made: of one policy or of all, or one alone. A log is
-- read through a cursor.
select extract(epoch from d.decided_at)::float8 as decided_at, d.decision_id::text as decision_id, d.policy,
       d.policy_version, d.snapshot_version, d.actions, d.propensities, d.eligible::text as eligible,
       d.context::text as context, d.user_pseudonym, d.session_pseudonym, d.deferred, d.degraded, d.origin, d.revision,
       d.actor, d.default_action, d.position, d.served_by::text as served_by, d.experiment::text as experiment,
       (not d.deferred or exists (
           select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id)) as shown,
       (select jsonb_object_agg(r.position, r.reward) from rewards r
        where r.decided_at = d.decided_at and r.decision_id = d.decision_id)::text as rewards,
       case when %(events)s then (
           select jsonb_agg(jsonb_build_object(
               'decision_id', f.decision_id, 'source', f.source, 'event_id', f.event_id, 'kind', f.kind, 'value', f.value,
               'action', f.action, 'actor', f.actor, 'occurred_at', extract(epoch from f.occurred_at)::float8,
               'received_at', extract(epoch from f.received_at)::float8))
           from feedback f where f.decided_at = d.decided_at and f.decision_id = d.decision_id) end::text as events
from decisions d
where (%(policy)s::text is null or d.policy = %(policy)s)
  and d.decided_at >= to_timestamp(%(began)s) and d.decided_at < to_timestamp(%(until)s)
  and (%(decision_id)s::uuid is null or d.decision_id = %(decision_id)s)
order by d.decided_at, d.decision_id

-- name: log_size
-- How many decisions `log` reads.
select count(*) as size from decisions d
where (%(policy)s::text is null or d.policy = %(policy)s)
  and d.decided_at >= to_timestamp(%(began)s) and d.decided_at < to_timestamp(%(until)s)

-- name: snapshot
-- The snapshot that a decision was made from.
select content from snapshots where policy = %(policy)s and snapshot_version = %(snapshot_version)s

-- name: spec
-- A version of a policy; the active one where none is named.
select v.spec::text as spec from policies p
join policy_versions v on v.policy = p.name and v.version = coalesce(%(version)s, p.active_version)
where p.name = %(policy)s
