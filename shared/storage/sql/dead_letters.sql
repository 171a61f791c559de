-- Dead letters: kept once for each event and place where it failed.

-- name: keep
-- Keep a letter; one that is kept already has failed again, now like this.
insert into dead_letters (identity, type, source, event_id, subject, time, content_type, attributes, data, data_bytes,
                          data_hash, destination, error_code, error_data, actor)
values (%(identity)s, %(type)s, %(source)s, %(event_id)s, %(subject)s, %(time)s, %(content_type)s, %(attributes)s::jsonb,
        %(data)s, %(data_bytes)s, %(data_hash)s, %(destination)s, %(error_code)s, %(error_data)s, %(actor)s)
on conflict (identity) do update set
    failed_at = clock_timestamp(), arrivals = dead_letters.arrivals + 1, error_code = excluded.error_code,
    error_data = excluded.error_data
returning arrivals

-- name: list
-- Letters, newest first; open ones have not been replayed since they last failed.
select id, type, source, event_id, destination, error_code, error_data, received_at, failed_at, arrivals, replays,
       replayed_at, replayed_by, data_bytes, data is not null as data_kept,
       replayed_at is null or failed_at > replayed_at as open
from dead_letters
where (%(type)s::text is null or type = %(type)s)
  and (%(since)s::timestamptz is null or failed_at >= %(since)s)
  and (%(open)s::boolean is null or (replayed_at is null or failed_at > replayed_at) = %(open)s)
  and (%(before)s::bigint is null or id < %(before)s)
order by id desc limit %(limit)s

-- name: find
-- One letter as it is kept, and the present moment: what fails after it has failed anew.
select *, data is not null as data_kept, replayed_at is null or failed_at > replayed_at as open,
       clock_timestamp() as read_at
from dead_letters where id = %(id)s

-- name: note_replay
-- It was sent again. Whatever failed after it was read for that is open again.
update dead_letters set replays = replays + 1, replayed_at = %(read_at)s, replayed_by = %(actor)s
where id = %(id)s returning replays

-- name: drop_old
-- Letters that last failed before the limit.
delete from dead_letters where failed_at < to_timestamp(%(before)s)
