-- Exposures: from their journal, and from decisions that belong to an experiment.

-- name: record
-- Note who was shown what; of a variation that a unit was shown more than once, the first time. The rows returned are new.
insert into exposures (experiment, phase, unit, variation, user_pseudonym, exposed_at, attributes, decision_id, revision,
                       actor)
select experiment, phase, unit, variation, user_pseudonym, to_timestamp(exposed_at), coalesce(attributes, '{}'), decision_id,
       revision, actor
from json_to_recordset(%(rows)s::json) as r (
    experiment text, phase int, unit text, variation text, user_pseudonym text, exposed_at float8, attributes jsonb,
    decision_id uuid, revision text, actor text)
order by experiment, phase, unit, variation
on conflict (experiment, phase, unit, variation) do update
    set user_pseudonym = excluded.user_pseudonym, exposed_at = excluded.exposed_at, attributes = excluded.attributes,
        decision_id = excluded.decision_id, revision = excluded.revision, actor = excluded.actor
    where excluded.exposed_at < exposures.exposed_at
returning xmax = 0 as is_new

-- name: activated
-- Of the given decisions those that belong to an experiment and were activated, with the moment.
select extract(epoch from a.activated_at)::float8 as shown_at, d.decision_id::text as decision_id,
       d.experiment::text as experiment, d.context, d.user_pseudonym, d.revision, d.actor
from unnest(%(times)s::float8[], %(ids)s::uuid[]) as wanted (moment, name)
join decisions d on d.decided_at = to_timestamp(wanted.moment) and d.decision_id = wanted.name
join activations a on a.decided_at = d.decided_at and a.decision_id = d.decision_id
where d.experiment is not null

-- name: specs
-- The active versions of experiments.
select v.spec::text as spec from experiments e join experiment_versions v on v.key = e.key and v.version = e.active_version
where e.key = any(%(keys)s)
