-- What the units of an experiment did: each unit once, what it did by metric, the events behind quantiles. One transaction that sees
-- one state of the database reads them all; `units` comes first and numbers the units for the others.

-- name: units
-- Number the units that saw one variation only, in the order of their exposure, for this transaction.
create temporary table experiment_units on commit drop as
select (row_number() over (order by exposed_at, unit) - 1)::int as no, unit, user_pseudonym, exposed_at,
       (array_position(%(variations)s::text[], variation) - 1)::int as variation, stratum
from (
    select unit, min(user_pseudonym) as user_pseudonym, min(exposed_at) as exposed_at, min(variation) as variation,
           min(attributes ->> %(strata)s::text) as stratum
    from exposures
    where experiment = %(experiment)s and phase = %(phase)s and exposed_at <= to_timestamp(%(as_of)s)
      and variation = any(%(variations)s::text[])
    group by unit
    having count(*) = 1) as single

-- name: look_at_units
-- Their number, and when the first was exposed; the planner learns it too.
select count(*) as units, extract(epoch from min(exposed_at))::float8 as first from experiment_units

-- name: double_exposures
-- How many units saw more than one variation, and are left out for that.
select count(*) as units from (
    select from exposures
    where experiment = %(experiment)s and phase = %(phase)s and exposed_at <= to_timestamp(%(as_of)s)
    group by unit having count(*) > 1) as several

-- name: exposed
-- Each unit's variation, stratum (from 1 by its value; 0: it has none) and first exposure, in the order of their numbers.
select variation, (case when stratum is null then 0 else dense_rank() over (order by stratum) end)::int as stratum,
       extract(epoch from exposed_at)::float8 as exposed_at
from experiment_units order by no

-- name: owners
-- Whose events a unit's are: those of decisions that name it, and its user's.
create temporary table experiment_owners on commit drop as
select 'unit ' || unit as name, no, exposed_at from experiment_units
union all
select 'user ' || user_pseudonym, no, exposed_at from experiment_units where user_pseudonym is not null

-- name: events
-- What the units' users did, as far as it matters to a metric: feedback on decisions, feedback by user, decisions themselves.
-- A decision that was made for this experiment and phase belongs to the unit that it names, any other to its user's unit.
create temporary table experiment_events on commit drop as
with owned as materialized (
    select d.decided_at, d.decision_id, d.deferred, o.no, o.exposed_at
    from decisions d
    join experiment_owners o on o.name =
        case when d.experiment ->> 'key' = %(experiment)s and (d.experiment ->> 'phase')::int = %(phase)s
             then 'unit ' || (d.experiment ->> 'unit') else 'user ' || d.user_pseudonym end
    where d.decided_at >= to_timestamp(%(since)s) and d.decided_at <= to_timestamp(%(as_of)s)
)
select d.no, f.kind, false as of_decisions, f.value, extract(epoch from f.occurred_at - d.exposed_at)::float8 as after_s
from owned d
join feedback f on f.decided_at = d.decided_at and f.decision_id = d.decision_id
where f.decided_at >= to_timestamp(%(since)s) and f.decided_at <= to_timestamp(%(as_of)s)
  and f.kind = any(%(kinds)s::text[]) and f.occurred_at <= to_timestamp(%(as_of)s)
  and f.occurred_at > d.exposed_at - make_interval(secs => %(before_s)s)
union all
select o.no, f.kind, false, f.value, extract(epoch from f.occurred_at - o.exposed_at)::float8
from user_feedback f
join experiment_owners o on o.name = 'user ' || f.user_pseudonym
where f.kind = any(%(kinds)s::text[]) and f.occurred_at <= to_timestamp(%(as_of)s)
  and f.occurred_at > o.exposed_at - make_interval(secs => %(before_s)s)
union all
select d.no, 'decisions', true, 1.0, extract(epoch from d.decided_at - d.exposed_at)::float8
from owned d
where %(counts_decisions)s and d.decided_at > d.exposed_at - make_interval(secs => %(before_s)s)
  and (not d.deferred or exists (
      select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id))

-- name: cells
-- What each unit that did something makes of each metric, after its exposure and, for CUPED, before it.
with metrics as (
    select * from json_to_recordset(%(metrics)s::json) as m (
        no int, event text, kind text, aggregate text, denominator text, window_s float8, covariate_s float8)
), parts as (
    select no, kind, aggregate, window_s, covariate_s, event as wanted, false as of_decisions, true as is_value from metrics
    union all
    select no, kind, aggregate, window_s, covariate_s, denominator, denominator = 'decisions', false from metrics
    where denominator is not null
), summed as (
    select e.no, p.no as metric, min(p.kind) as kind, min(p.aggregate) as aggregate,
           count(*) filter (where p.is_value and e.after_s >= 0 and e.after_s < p.window_s) as times,
           sum(e.value) filter (where p.is_value and e.after_s >= 0 and e.after_s < p.window_s) as total,
           max(e.value) filter (where p.is_value and e.after_s >= 0 and e.after_s < p.window_s) as most,
           count(*) filter (where not p.is_value and e.after_s >= 0 and e.after_s < p.window_s) as denominator,
           count(*) filter (where p.is_value and e.after_s < 0 and e.after_s >= -p.covariate_s) as times_before,
           sum(e.value) filter (where p.is_value and e.after_s < 0 and e.after_s >= -p.covariate_s) as total_before,
           max(e.value) filter (where p.is_value and e.after_s < 0 and e.after_s >= -p.covariate_s) as most_before,
           count(*) filter (where not p.is_value and e.after_s < 0 and e.after_s >= -p.covariate_s) as denominator_before
    from experiment_events e
    join parts p on p.wanted = e.kind and p.of_decisions = e.of_decisions
    group by e.no, p.no
)
select no, metric,
       coalesce(case when kind = 'proportion' then least(times, 1) when aggregate = 'count' then times
                     when aggregate = 'max' then most else total end, 0)::float8 as value,
       denominator::float8 as denominator,
       coalesce(case when kind = 'proportion' then least(times_before, 1) when aggregate = 'count' then times_before
                     when aggregate = 'max' then most_before else total_before end, 0)::float8 as before,
       denominator_before::float8 as denominator_before
from summed

-- name: values
-- The values of the events that quantiles are of.
select e.no, m.no as metric, e.value
from json_to_recordset(%(metrics)s::json) as m (no int, event text, kind text, window_s float8)
join experiment_events e on e.kind = m.event and not e.of_decisions and e.after_s >= 0 and e.after_s < m.window_s
where m.kind = 'quantile'
order by e.no, e.value
