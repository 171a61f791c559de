-- Learning in order: which decisions are closed, where each stands in the order, and the model that follows.

-- name: open_decisions
-- Of the given decisions those that count as shown wait from now on to be closed.
insert into learned_order (decided_at, decision_id, policy)
select d.decided_at, d.decision_id, d.policy
from unnest(%(times)s::float8[], %(ids)s::uuid[]) as wanted (moment, name)
join decisions d on d.decided_at = to_timestamp(wanted.moment) and d.decision_id = wanted.name
where d.policy = %(policy)s
  and (not d.deferred or exists (
      select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id))
order by d.decided_at, d.decision_id
on conflict do nothing

-- name: open_history
-- All of the history that counts as shown and was not learned waits to be closed.
insert into learned_order (decided_at, decision_id, policy)
select d.decided_at, d.decision_id, d.policy
from decisions d
where d.policy = %(policy)s
  and (not d.deferred or exists (
      select from activations a where a.decided_at = d.decided_at and a.decision_id = d.decision_id))
order by d.decided_at, d.decision_id
on conflict do nothing

-- name: oldest_open
-- When the oldest decision that is not learned was made.
select extract(epoch from min(decided_at))::float8 as decided_at
from learned_order where policy = %(policy)s and place is null

-- name: closed
-- Decisions whose episode is over: the last of it is `wait_s` old (or the first older than `before`), a pause of more than
-- `timeout_s` ends it, and so does its length. In the order in which they are to be learned. `shared/policies/closing.py` says the same.
with waiting as (
    select o.decided_at, o.decision_id,
           coalesce(d.session_pseudonym, o.decision_id::text) collate "C" as session
    from learned_order o
    join decisions d on d.decided_at = o.decided_at and d.decision_id = o.decision_id
    where o.policy = %(policy)s and o.place is null
), paused as (
    select *, decided_at - lag(decided_at) over (partition by session order by decided_at, decision_id)
              > make_interval(secs => %(timeout_s)s) as pause
    from waiting
), parted as (
    select *, count(*) filter (where pause) over (partition by session order by decided_at, decision_id) as part
    from paused
), cut as (
    select *, (row_number() over (partition by session, part order by decided_at, decision_id) - 1) / %(longest)s as chunk
    from parted
), whole as (
    select *, max(decided_at) over episode as last, min(decided_at) over episode as first
    from cut window episode as (partition by session, part, chunk)
)
select extract(epoch from decided_at)::float8 as decided_at, decision_id::text as decision_id,
       lead(session) over learning is distinct from session
       or lead(part) over learning is distinct from part
       or lead(chunk) over learning is distinct from chunk as ends
from whole
where last <= to_timestamp(%(now)s - %(wait_s)s) or first < to_timestamp(%(before)s::float8)
window learning as (order by last, session, part, chunk, decided_at, decision_id)
order by last, session, part, chunk, decided_at, decision_id
limit %(most)s

-- name: closed_batch
-- Decisions that are `wait_s` old (or older than `before`), as one batch, for the kinds that do not look at sessions.
select extract(epoch from decided_at)::float8 as decided_at, decision_id::text as decision_id,
       row_number() over (order by decided_at desc, decision_id desc) = 1 as ends
from (
    select decided_at, decision_id from learned_order
    where policy = %(policy)s and place is null
      and (decided_at <= to_timestamp(%(now)s - %(wait_s)s) or decided_at < to_timestamp(%(before)s::float8))
    order by decided_at, decision_id
    limit %(most)s
) as batch
order by decided_at, decision_id

-- name: put_order
-- These decisions are learned, in this order, for these rewards.
update learned_order o set place = r.place, ends = r.ends, rewards = r.rewards
from json_to_recordset(%(rows)s::json) as r (
    decided_at float8, decision_id uuid, place bigint, ends boolean, rewards float8[])
where o.decided_at = to_timestamp(r.decided_at) and o.decision_id = r.decision_id

-- name: steps_of
-- Of the given decisions all that is learned from, and the rewards that are counted.
select extract(epoch from d.decided_at)::float8 as decided_at, d.decision_id::text as decision_id, d.context, d.actions,
       d.propensities, d.eligible, d.policy_version,
       (select jsonb_object_agg(r.position, r.reward) from rewards r
        where r.decided_at = d.decided_at and r.decision_id = d.decision_id) as counted
from unnest(%(times)s::float8[], %(ids)s::uuid[]) as wanted (moment, name)
join decisions d on d.decided_at = to_timestamp(wanted.moment) and d.decision_id = wanted.name

-- name: newest_open
-- The same of the newest decisions that are not learned, the newest first.
select extract(epoch from o.decided_at)::float8 as decided_at, d.decision_id::text as decision_id, d.context, d.actions,
       d.propensities, d.eligible, d.policy_version,
       (select jsonb_object_agg(r.position, r.reward) from rewards r
        where r.decided_at = d.decided_at and r.decision_id = d.decision_id) as counted
from (
    select decided_at, decision_id from learned_order
    where policy = %(policy)s and place is null
    order by decided_at desc, decision_id desc
    limit %(most)s
) o
join decisions d on d.decided_at = o.decided_at and d.decision_id = o.decision_id
order by o.decided_at desc, o.decision_id desc

-- name: learned_steps
-- What was learned after a place and up to another, in that order. Read through a cursor.
select extract(epoch from d.decided_at)::float8 as decided_at, d.decision_id::text as decision_id, d.context, d.actions,
       d.propensities, d.eligible, d.policy_version, o.place, o.ends, o.rewards
from learned_order o
join decisions d on d.decided_at = o.decided_at and d.decision_id = o.decision_id
where o.policy = %(policy)s and o.place > %(after)s and o.place <= %(through)s
order by o.place

-- name: recount
-- What was learned counts for the rewards that are counted now.
update learned_order o set rewards = counted.rewards
from (
    select l.decided_at, l.decision_id,
           array_agg(coalesce(r.reward, %(default_reward)s) order by item.position) as rewards
    from learned_order l
    join decisions d on d.decided_at = l.decided_at and d.decision_id = l.decision_id
    cross join lateral generate_subscripts(d.actions, 1) as item (position)
    left join rewards r on r.decided_at = d.decided_at and r.decision_id = d.decision_id
                        and r.position = item.position - 1
    where l.policy = %(policy)s and l.place is not null
    group by l.decided_at, l.decision_id
) as counted
where o.decided_at = counted.decided_at and o.decision_id = counted.decision_id

-- name: last_place_between
-- The end of the episode that was learned last of what was decided in a span of time.
select min(o.place) as place from learned_order o
where o.policy = %(policy)s and o.ends and o.place >= (
    select max(place) from learned_order
    where policy = %(policy)s and decided_at >= to_timestamp(%(first)s) and decided_at < to_timestamp(%(last)s))

-- name: forget_order
-- The history is to be learned afresh.
delete from learned_order where policy = %(policy)s

-- name: forget_models
-- The same of what was made of it.
delete from ordered_models where policy = %(policy)s

-- name: models
-- The running model and the sealed one.
select sealed, spec, place, model, looked_at from ordered_models where policy = %(policy)s

-- name: put_model
-- The model after this transaction, or the sealed one.
insert into ordered_models (policy, sealed, spec, place, model, looked_at)
values (%(policy)s, %(sealed)s, %(spec)s::jsonb, %(place)s, %(model)s, %(looked_at)s)
on conflict (policy, sealed) do update set spec = excluded.spec, place = excluded.place, model = excluded.model,
    looked_at = excluded.looked_at

-- name: actions_of_versions
-- The actions of every version of a policy.
select version, coalesce(spec -> 'actions', '[]'::jsonb) as actions from policy_versions where policy = %(policy)s
