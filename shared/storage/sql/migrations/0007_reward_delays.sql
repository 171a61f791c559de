-- How long after its decision the first feedback of a reward occurred, where the policy says that rewards are slow.

alter table rewards add column delay_s double precision;
