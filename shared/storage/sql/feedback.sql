-- What `feedback` commits. Every query takes one JSON array of rows, so that many requests share one statement.

-- name: insert_feedback
-- Take events that are not known yet, queue them for the learner, and return which they were.
with given as (
    select to_timestamp(decided_at) as decided_at, decision_id, source, event_id, kind, value, action,
           to_timestamp(occurred_at) as occurred_at, to_timestamp(received_at) as received_at, actor, policy_key
    from json_to_recordset(%(rows)s::json) as r (
        decided_at float8, decision_id uuid, source text, event_id text, kind text, value float8, action text,
        occurred_at float8, received_at float8, actor text, policy_key bigint)
), taken as (
    insert into feedback (decided_at, decision_id, source, event_id, kind, value, action, occurred_at, received_at, actor)
    select decided_at, decision_id, source, event_id, kind, value, action, occurred_at, received_at, actor
    from given
    order by decided_at, decision_id, source, event_id
    on conflict do nothing
    returning decided_at, decision_id, source, event_id, received_at
), queued as (
    insert into pending (subject, policy_key, decided_at, decision_id, received_at)
    select 'feedback', given.policy_key, taken.decided_at, taken.decision_id, max(taken.received_at)
    from taken join given using (decided_at, decision_id, source, event_id)
    group by given.policy_key, taken.decided_at, taken.decision_id
)
select decision_id::text as about, source, event_id from taken

-- name: insert_user_feedback
-- Take what users did beside decisions, as far as it is not known yet, and return which events those were.
insert into user_feedback (user_pseudonym, source, event_id, kind, value, occurred_at, received_at, actor)
select "user", source, event_id, kind, value, to_timestamp(occurred_at), to_timestamp(received_at), actor
from json_to_recordset(%(rows)s::json) as r (
    "user" text, source text, event_id text, kind text, value float8, occurred_at float8, received_at float8, actor text)
order by "user", source, event_id
on conflict do nothing
returning user_pseudonym as about, source, event_id

-- name: insert_decisions
-- Take logged decisions that are not known yet, queue them, and return which they were.
with given as (
    select to_timestamp(decided_at) as decided_at, decision_id, policy, actions, propensities, eligible, context,
           user_pseudonym, session_pseudonym, revision, actor, default_action, position, policy_key,
           to_timestamp(received_at) as received_at
    from json_to_recordset(%(rows)s::json) as r (
        decided_at float8, decision_id uuid, policy text, actions text[], propensities float8[], eligible jsonb,
        context jsonb, user_pseudonym text, session_pseudonym text, revision text, actor text, default_action text,
        position smallint, policy_key bigint, received_at float8)
), taken as (
    insert into decisions (decided_at, decision_id, policy, policy_version, snapshot_version, actions, propensities,
                           eligible, context, user_pseudonym, session_pseudonym, deferred, degraded, origin, revision,
                           actor, default_action, position)
    select decided_at, decision_id, policy, 0, 0, actions, propensities, eligible, context, user_pseudonym,
           session_pseudonym, false, false, 'logged', revision, actor, default_action, position
    from given
    order by decided_at, decision_id
    on conflict do nothing
    returning decided_at, decision_id
), queued as (
    insert into pending (subject, policy_key, decided_at, decision_id, received_at)
    select distinct 'decision', given.policy_key, taken.decided_at, taken.decision_id, given.received_at
    from taken join given using (decided_at, decision_id)
)
select decision_id::text as decision_id from taken

-- name: insert_activations
-- Note that deferred decisions were shown, once each, queue them, and return which were new.
with given as (
    select to_timestamp(decided_at) as decided_at, decision_id, to_timestamp(activated_at) as activated_at, actor,
           policy_key
    from json_to_recordset(%(rows)s::json) as r (
        decided_at float8, decision_id uuid, activated_at float8, actor text, policy_key bigint)
), taken as (
    insert into activations (decided_at, decision_id, activated_at, actor)
    select decided_at, decision_id, activated_at, actor from given
    order by decided_at, decision_id
    on conflict do nothing
    returning decided_at, decision_id, activated_at
), queued as (
    insert into pending (subject, policy_key, decided_at, decision_id, received_at)
    select distinct 'activation', given.policy_key, taken.decided_at, taken.decision_id, taken.activated_at
    from taken join given using (decided_at, decision_id)
)
select decision_id::text as decision_id from taken

-- name: policy_names
-- The names behind the keys that decision ids carry.
select name, policy_key from policies
