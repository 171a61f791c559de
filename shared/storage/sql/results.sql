-- The experiments to analyse, and what every analysis found.

-- name: versions
-- Every version of an experiment, the oldest first.
select v.version, v.phase, coalesce(v.spec ->> 'status', 'running') as status, extract(epoch from v.created_at)::float8 as created_at,
       v.version = e.active_version as active
from experiments e join experiment_versions v on v.key = e.key
where e.key = %(key)s order by v.version

-- name: specs
-- Versions of an experiment, the oldest first.
select spec::text as spec from experiment_versions where key = %(key)s and version = any(%(versions)s) order by version

-- name: running
-- The experiments that run, those first whose last analysis is the longest ago.
select e.key from experiments e join experiment_versions v on v.key = e.key and v.version = e.active_version
where coalesce(v.spec ->> 'status', 'running') = 'running'
order by (select max(r.analysed_at) from experiment_results r where r.experiment = e.key) nulls first, e.key

-- name: lock
-- One analysis of an experiment at a time is compared with the one before, told and kept.
select pg_advisory_xact_lock(hashtextextended('experiment results ' || %(key)s, 0))

-- name: last_verdict
-- The verdict of a phase's newest analysis, and when it was made.
select verdict, extract(epoch from analysed_at)::float8 as analysed_at
from experiment_results where experiment = %(key)s and phase = %(phase)s order by analysed_at desc limit 1

-- name: insert_results
-- Keep what an analysis found.
insert into experiment_results (experiment, phase, version, analysed_at, verdict, results)
values (%(key)s, %(phase)s, %(version)s, to_timestamp(%(analysed_at)s), %(verdict)s, %(results)s::jsonb)
on conflict do nothing

-- name: course
-- The analyses of a phase, the oldest first: all of them, or where there are too many each so manieth and the newest.
with numbered as (
    select analysed_at, verdict, results, row_number() over (order by analysed_at desc) - 1 as back, count(*) over () as all_rows
    from experiment_results where experiment = %(key)s and phase = %(phase)s
)
select analysed_at, verdict, (results ->> 'units')::bigint as units,
       coalesce((
           select jsonb_agg(jsonb_build_object(
               'metric', m.metric ->> 'name', 'variation', e.effect ->> 'variation', 'units', e.effect -> 'units',
               'difference', e.effect -> 'difference', 'low', e.effect -> 'low', 'high', e.effect -> 'high',
               'relative', e.effect -> 'relative', 'relative_low', e.effect -> 'relative_low',
               'relative_high', e.effect -> 'relative_high') order by m.at, e.at)
           from jsonb_array_elements(results -> 'metrics') with ordinality as m (metric, at),
                jsonb_array_elements(m.metric -> 'effects') with ordinality as e (effect, at)), '[]'::jsonb) as effects
from numbered where back %% ceil(all_rows::float8 / %(most)s)::bigint = 0
order by analysed_at
