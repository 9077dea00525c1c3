-- The seals of the log: each covers the positions after those of the one before it, and carries that one's hash, so
-- that nothing sealed can be changed, removed, added or moved unseen, by whoever it may be. docs/integrity.md says
-- what is hashed and how.
--
-- leaves are the hashes of the events, 32 bytes for each: with them, verification names the event that is not as it
-- was sealed, and a proof for one event reads no other.
create table wakelog.seals (
    number bigint not null
        constraint seals_by_number primary key
        constraint seals_number_is_positive check (number > 0),
    from_position bigint not null,
    to_position bigint not null
        constraint seals_one_per_end unique,
    count integer not null,
    root bytea not null,
    previous bytea not null,
    sealed_at timestamptz not null,
    hash bytea not null,
    leaves bytea not null,
    constraint seals_count_their_positions check (count > 0 and count = to_position - from_position + 1),
    constraint seals_have_hashes_of_32_bytes check (
        length(root) = 32 and length(previous) = 32 and length(hash) = 32 and length(leaves) = 32 * count)
);

-- Hashes do not compress.
alter table wakelog.seals alter column leaves set storage external;
