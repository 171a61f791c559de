-- Dropping what is older than the retention.

-- name: expired_weeks
-- The first moments of the weeks whose partitions end before a limit.
select extract(epoch from to_timestamp(right(c.relname, 8), 'YYYYMMDD'))::float8 as first
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'decisions'::regclass
  and to_timestamp(right(c.relname, 8), 'YYYYMMDD') + interval '7 days' <= to_timestamp(%(before)s)
order by 1

-- name: policies_of_week
-- Whose decisions stand in a week.
select distinct policy from decisions
where decided_at >= to_timestamp(%(first)s) and decided_at < to_timestamp(%(last)s) order by policy

-- name: drop_old_snapshots
-- Snapshots that a newer one replaced a day before the limit: no kept decision was made from them.
delete from snapshots s where exists (
    select from snapshots n
    where n.policy = s.policy and n.snapshot_version > s.snapshot_version
      and n.created_at < to_timestamp(%(before)s) - interval '1 day')

-- name: drop_old_trainings
-- Trainings that began before the limit: nobody delivers their events again.
delete from trainings where started_at < to_timestamp(%(before)s)

-- name: drop_pending
-- What waits for decisions of a week that goes.
delete from pending where decided_at >= to_timestamp(%(first)s) and decided_at < to_timestamp(%(last)s)

-- name: drop_old_exposures
-- Exposures that began before the limit.
delete from exposures where exposed_at < to_timestamp(%(before)s)

-- name: drop_old_user_feedback
-- What users did before the limit, beside decisions.
delete from user_feedback where received_at < to_timestamp(%(before)s)
