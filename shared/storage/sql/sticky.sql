-- What sticks to units.

-- name: lock
-- One process at a time moves what sticks from Redis to PostgreSQL or back.
select pg_advisory_xact_lock(hashtextextended('sticky assignments', 0))

-- name: keep
-- Keep what sticks, beside what is kept already; the rows are one for each unit.
insert into sticky_assignments (attribute, unit, assignments)
select attribute, unit, assignments
from jsonb_to_recordset(%(rows)s::jsonb) as given (attribute text, unit text, assignments jsonb)
order by attribute, unit
on conflict (attribute, unit) do update
set assignments = sticky_assignments.assignments || excluded.assignments, updated_at = now()

-- name: page
-- What sticks to the units that follow one, in order.
select attribute, unit, assignments
from sticky_assignments
where (attribute, unit) > (%(attribute)s, %(unit)s)
order by attribute, unit
limit %(most)s
