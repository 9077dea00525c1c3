"""The roles applications are granted: whether they are there, and whether they may do anything in this database."""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import tuple_row

# Each of them may execute some function: whether one is named in their rights is asked, not what somebody took away.
_ROLES: LiteralString = """
select r.name, g.oid is not null, exists (
           select from pg_catalog.pg_proc p cross join lateral pg_catalog.aclexplode(p.proacl) a
           where p.pronamespace = to_regnamespace('wakelog') and a.grantee = g.oid)
from unnest(array['wakelog_writer', 'wakelog_reader', 'wakelog_worker', 'wakelog_keys']) as r (name)
left join pg_catalog.pg_roles g on g.rolname = r.name
"""


@dataclass(frozen=True, slots=True)
class RolesStatus:
    """What a database says of the roles.

    `missing` are not in the cluster, as where the account that upgrades may not create roles. `without_rights` are, but
    were made, or made again, after the schema: the next upgrade gives them what they may do, current schema or not.
    """

    missing: tuple[str, ...]
    without_rights: tuple[str, ...]


def roles_status(connection: psycopg.Connection[Any]) -> RolesStatus:
    """Look at the roles over an open connection."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(_ROLES).fetchall()
    return RolesStatus(
        missing=tuple(name for name, exists, _ in found if not exists),
        without_rights=tuple(name for name, exists, granted in found if exists and not granted),
    )
