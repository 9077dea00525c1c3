-- The keys, 256 bits each, made in here and never sent as a parameter. Forgetting deletes one; autovacuum comes after
-- each few. No statistics are kept of them: what a histogram remembers would outlive the row.
create table wakelog.subject_keys (
    subject_id bigint not null
        constraint subject_keys_one_per_subject primary key
        constraint subject_keys_of_a_subject references wakelog.subjects (id),
    key bytea not null
        constraint subject_keys_of_256_bits check (length(key) = 32)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 0);

alter table wakelog.subject_keys alter column key set statistics 0;
alter table wakelog.subject_keys alter column key set storage plain;
