-- Trainings: each is held by one run at a time, for as long as it renews its lease. The clock is the database's.

-- name: policies
-- Every policy.
select name from policies order by name

-- name: hold
-- Take hold of a training: of a new one, or of one that nobody holds any more. No row: it is held, or all is done.
insert into trainings (source, event_id, policy, run, started_at, lease_until, actor)
values (%(source)s, %(event_id)s, %(policy)s, %(run)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(lease_s)s), %(actor)s)
on conflict (source, event_id) do update
    set run = excluded.run, runs = trainings.runs + 1, lease_until = excluded.lease_until
    where trainings.state <> 'announced' and trainings.lease_until <= clock_timestamp()
returning state, runs, outcome

-- name: state
-- How far a training is, and for how long it is still held.
select state, extract(epoch from lease_until - clock_timestamp())::float8 as held_s
from trainings where source = %(source)s and event_id = %(event_id)s

-- name: renew
-- Hold on, unless another run has taken hold meanwhile.
update trainings set lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
where source = %(source)s and event_id = %(event_id)s and run = %(run)s
returning run

-- name: note
-- In the transaction of a policy's refit: it is done. No row: another run has taken hold.
update trainings
set outcome = outcome || %(outcome)s::jsonb, lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
where source = %(source)s and event_id = %(event_id)s and run = %(run)s
returning run

-- name: finish
-- Every policy is refitted; what is left is to publish and to say so.
update trainings set state = 'finished', finished_at = coalesce(finished_at, clock_timestamp())
where source = %(source)s and event_id = %(event_id)s and run = %(run)s
returning outcome, extract(epoch from finished_at - started_at)::float8 as duration_s

-- name: announce
-- Whoever was to be told has been told: from now on the event is a duplicate.
update trainings set state = 'announced'
where source = %(source)s and event_id = %(event_id)s and run = %(run)s

-- name: release
-- Let another run take hold at once.
update trainings set lease_until = clock_timestamp()
where source = %(source)s and event_id = %(event_id)s and run = %(run)s
