"""The rules of sql/: what the files look like, and what Postgres says of the objects they make."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from wakelog.postgres.sources import sql_folder

FILES = sorted(path for path in sql_folder().rglob("*.sql"))
names = [str(path.relative_to(sql_folder())) for path in FILES]

# Made before the tables that use it, and replaced with the functions.
TWICE = "functions/uuid7.sql"


@pytest.fixture
def look(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def test_every_file_is_installed_once() -> None:
    lines = (sql_folder() / "install.txt").read_text().splitlines()
    listed = Counter(line for line in lines if line and not line.startswith(("#", "---")))
    assert listed == {**dict.fromkeys(names, 1), TWICE: 2}


@pytest.mark.parametrize("path", FILES, ids=names)
def test_a_file_opens_with_its_reason(path: Any) -> None:
    assert path.read_text().startswith("-- ")


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name in ("functions", "procedures", "views", "types")]
)
def test_a_file_makes_the_one_object_it_is_named_after(path: Any) -> None:
    kind = path.parent.name.removesuffix("s")
    made = re.findall(r"^create (?:or replace )?(\w+) wakelog\.(\w+)", path.read_text(), re.MULTILINE)
    assert made == [(kind, path.stem)]


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "tables"])
def test_a_table_has_a_file_of_its_own(path: Any) -> None:
    made = re.findall(r"^create table wakelog\.(\w+) \(", path.read_text(), re.MULTILINE)
    assert made == [path.stem]


@pytest.mark.parametrize("path", FILES, ids=names)
def test_lines_are_short_and_words_are_lower_case(path: Any) -> None:
    text = path.read_text()
    assert [
        line for line in text.splitlines() if len(line) > 140 or line != line.rstrip() or "\t" in line
    ] == []
    code = re.sub(r"--.*|'(?:[^']|'')*'", "", text)
    assert re.findall(r"\b(?:SELECT|FROM|WHERE|INSERT|UPDATE|DELETE|CREATE|RETURN|BEGIN|END)\b", code) == []


@pytest.mark.every_postgres
def test_every_function_pins_its_search_path(look: psycopg.Connection[Any]) -> None:
    """A body that is parsed when it is made (begin atomic, return) has nothing to search for.

    Procedures that commit may not pin it; they run with the rights of their caller.
    """
    loose = look.execute(
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'wakelog'::regnamespace"
        " and p.prosqlbody is null and (p.prokind <> 'p' or p.prosecdef)"
        " and not exists (select from unnest(p.proconfig) c where c = 'search_path=pg_catalog, pg_temp')"
    ).fetchall()
    assert loose == []


def test_nothing_is_for_everybody_to_call(look: psycopg.Connection[Any]) -> None:
    public = look.execute(
        "select p.oid::regprocedure::text from pg_proc p"
        " cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
        " where p.pronamespace = 'wakelog'::regnamespace and a.grantee = 0"
    ).fetchall()
    assert public == []


def test_plans_without_sequential_scans_are_not_compiled(look: psycopg.Connection[Any]) -> None:
    """Their costs look so high that JIT would spend 200 ms on each."""
    slow = look.execute(
        "select p.proname from pg_proc p where p.pronamespace = 'wakelog'::regnamespace"
        " and 'enable_seqscan=off' = any (p.proconfig) and not 'jit=off' = any (p.proconfig)"
    ).fetchall()
    assert slow == []


def test_constraints_and_indexes_say_what_they_protect(look: psycopg.Connection[Any]) -> None:
    nameless = look.execute(
        "select conname from pg_constraint where connamespace = 'wakelog'::regnamespace"
        r" and conname ~ '_(pkey|key|check|fkey|not_null)\d*$'"
        " and conname not like '%\\_one\\_per\\_%' and contype <> 'n'"
        " union all"
        " select c.relname from pg_class c where c.relnamespace = 'wakelog'::regnamespace and c.relkind in ('i', 'I')"
        r" and c.relname ~ '_(pkey|key|idx)\d*$'"
        " and c.relname not like '%\\_one\\_per\\_%'"
        " and not exists (select from pg_inherits i where i.inhrelid = c.oid)"
    ).fetchall()
    assert nameless == []


def test_there_is_one_function_of_each_name(look: psycopg.Connection[Any]) -> None:
    """Two of one name, with defaults, are one too many for whoever calls them."""
    overloaded = look.execute(
        "select proname from pg_proc where pronamespace = 'wakelog'::regnamespace group by 1 having count(*) > 1"
    ).fetchall()
    assert overloaded == []


def test_locks_are_kept_apart(look: psycopg.Connection[Any]) -> None:
    from wakelog.postgres.schema import UPGRADE_LOCK

    row = look.execute("select wakelog.lock_space('upgrade')").fetchone()
    assert row == (UPGRADE_LOCK,)
    spaces = re.findall(r"when '\w+' then (\d+)", (sql_folder() / "functions" / "lock_space.sql").read_text())
    assert len(spaces) == len(set(spaces)) > 5


@pytest.mark.every_postgres
def test_plpgsql_check_finds_nothing(look: psycopg.Connection[Any]) -> None:
    known = look.execute("select 1 from pg_available_extensions where name = 'plpgsql_check'").fetchone()
    if known is None:
        pytest.skip("plpgsql_check is not installed")
    look.execute("create extension plpgsql_check")
    found = look.execute(
        """
        select p.oid::regprocedure::text, c.lineno, c.level, c.message
        from pg_proc p
        join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
        cross join lateral plpgsql_check_function_tb(
            p.oid,
            relid => case when p.prorettype <> 'trigger'::regtype then 0 else coalesce(
                (select t.tgrelid from pg_trigger t where t.tgfoid = p.oid limit 1), 'wakelog.events'::regclass) end,
            newtable => case when p.proname = 'project_inline' then 'new_events' end,
            fatal_errors => false, extra_warnings => true, performance_warnings => false,
            security_warnings => true
        ) c
        where p.pronamespace = 'wakelog'::regnamespace
        """
    ).fetchall()
    assert [" ".join(map(str, row)) for row in found] == []
