"""What somebody with every right does to a log, and what the honest ones do."""

from typing import Any

import psycopg


def fill(connection: psycopg.Connection[Any], count: int) -> None:
    """Events with something in every column, each with its position, placed in the log at several times."""
    for first in range(1, count + 1, 13):
        connection.execute(
            """insert into wakelog.events (type, source, stream, payload, metadata, correlation_id, causation_id,
                                           idempotency_key, schema_version, deliver_after)
               select 'order.' || case n %% 2 when 0 then 'paid' else 'placed' end, 'shop', 'order-' || n %% 3,
                      jsonb_build_object('n', n, 'amount', n * 1.10, 'text', E'é\\u2028"\\\\'), '{"by": "api"}',
                      'corr-' || n, wakelog.uuid7(), 'key-' || n, 2,
                      case n %% 4 when 0 then now() + interval '1 hour' end
               from generate_series(%s::integer, %s::integer) n""",
            [first, min(first + 12, count)],
        )
        connection.execute("select wakelog.sequence()")


def change_payload(superuser: psycopg.Connection[Any], position: int) -> None:
    """One digit of an amount."""
    superuser.execute(
        "update wakelog.events set payload = jsonb_set(payload, '{amount}', '1000')"
        " where seq = (select seq from wakelog.log where position = %s)",
        [position],
    )


def delete_event(superuser: psycopg.Connection[Any], position: int) -> None:
    """The event alone; its place in the log stays."""
    superuser.execute(
        "delete from wakelog.events where seq = (select seq from wakelog.log where position = %s)", [position]
    )


def delete_and_close_up(superuser: psycopg.Connection[Any], position: int) -> None:
    """Event and place, and those after it move up, so that there is no gap."""
    with superuser.transaction():
        delete_event(superuser, position)
        superuser.execute("delete from wakelog.log where position = %s", [position])
        superuser.execute("update wakelog.log set position = -position where position > %s", [position])
        superuser.execute("update wakelog.log set position = -position - 1 where position < 0")
        superuser.execute("update wakelog.sequencer set head = head - 1")


def insert_at(superuser: psycopg.Connection[Any], position: int) -> None:
    """An event that never was, and those after it move down."""
    with superuser.transaction():
        superuser.execute("update wakelog.log set position = -position where position >= %s", [position])
        superuser.execute("update wakelog.log set position = -position + 1 where position < 0")
        superuser.execute(
            """with made as (insert into wakelog.events (type) values ('order.paid') returning seq, type)
               insert into wakelog.log (position, seq, type_id, sequenced_at)
               select %s, m.seq, t.id, now() from made m join wakelog.types t on t.type = m.type""",
            [position],
        )
        superuser.execute("update wakelog.sequencer set head = head + 1")


def swap(superuser: psycopg.Connection[Any], one: int, other: int) -> None:
    """Two events in each other's place, the times of the places kept."""
    superuser.execute(
        """update wakelog.log l set seq = -o.seq, type_id = o.type_id
           from wakelog.log o where (l.position, o.position) in ((%s, %s), (%s, %s))""",
        [one, other, other, one],
    )
    superuser.execute("update wakelog.log set seq = -seq where seq < 0")


def seal_all_anew(superuser: psycopg.Connection[Any]) -> None:
    """Every seal, over what is there now, by the log's own function."""
    with superuser.transaction():
        superuser.execute("delete from wakelog.seals")
    while (superuser.execute("select wakelog.seal(10)").fetchone() or (0,))[0]:
        pass
