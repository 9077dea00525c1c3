alter table wakelog.families add column versions jsonb;
