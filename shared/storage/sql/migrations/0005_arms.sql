-- Who decided in a policy's place (a baseline, a default action), and how the policy does beside it.

alter table decisions add column served_by jsonb;       -- null: the policy itself
alter table posteriors add column comparison jsonb;     -- null: the policy has no arm beside itself
