"""Recorded work through other code: what would have been different, event by event, and nothing left behind."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Ended
from tests.worker.waiting import until
from tests.workflows.dumps import contents

from wakelog import BadInput, DoNotRetry, Event, Fixed, Wakelog
from wakelog.postgres.binaries import Binaries
from wakelog.testing import LogUnderTest
from wakelog.workflows import Rehearsed, rehearse
from wakelog_cli.main import run

COMMAND = str(Path(sys.executable).with_name("wakelog"))


def one_agent(handler: Any, **options: Any) -> Wakelog:
    """An application with one agent, "triage", that wants every mail."""
    app = Wakelog("mail")
    app.agent("triage", on="mail", backoff=Fixed(0), **options)(handler)
    return app


async def old(event, ctx):
    label = await ctx.step("label", lambda: event.payload["text"].split()[0])
    await ctx.connection.execute("insert into effects values (%s)", [label])
    ctx.emit("labelled", {"label": label, "by": ["old", 1]}, key="label")
    if label == "spam":
        raise DoNotRetry("spam")
    return {"label": label, "score": 1, "at": ctx.attempt}


@pytest.fixture
def mails(log: LogUnderTest) -> list[Event]:
    log.connection.execute("create table effects (label text)")
    mails = [log.append("mail", {"text": f"{word} and more"}) for word in ("hello", "spam", "bye")]
    log.run_until_idle(one_agent(old))
    return mails


def rehearsed(log: LogUnderTest, mails: list[Event], app: Wakelog, **options: Any) -> list[Rehearsed]:
    return list(rehearse(log.url, app, [mail.correlation_id for mail in mails], **options))


def told(found: list[Rehearsed]) -> list[list[tuple[Any, ...]]]:
    return [[(d.what, d.answer, d.path, d.was, d.would_be) for d in one.differences] for one in found]


def test_the_same_code_comes_to_the_same(log: LogUnderTest, mails: list[Event]) -> None:
    found = rehearsed(log, mails, one_agent(old))
    assert told(found) == [[], [], []]
    assert [(one.agent, one.position, one.type) for one in found] == [
        ("triage", n, "mail") for n in (1, 2, 3)
    ]


def test_every_kind_of_difference(log: LogUnderTest, mails: list[Event]) -> None:
    async def new(event, ctx):
        label = await ctx.step("label", lambda: 1 / 0)  # recorded: not done
        if label == "bye":
            raise KeyError("bye")
        ctx.emit(
            "label.found",
            {"label": label, "by": ["new", 1, 2]},
            key="label",
            source="else",
            metadata={"a": 1},
        )
        ctx.emit("more")
        return {"label": label, "score": True}

    first, second, third = told(rehearsed(log, mails, one_agent(new)))
    assert sorted(first, key=str) == sorted(
        [
            ("type", "labelled", None, "labelled", "label.found"),
            ("source", "labelled", None, "triage", "else"),
            ("payload", "labelled", "by.0", "old", "new"),
            ("payload", "labelled", "by.2", None, 2),
            ("metadata", "labelled", "a", None, 1),
            ("event", "more", None, None, "more"),
            ("payload", "triage.completed", "score", 1, True),
            ("payload", "triage.completed", "at", 1, None),
        ],
        key=str,
    )
    assert second == [("outcome", None, None, "failed: spam", "completed")]
    assert third == [("outcome", None, None, "completed", "failed: KeyError: 'bye'")]
    (ignored, *_) = told(rehearsed(log, mails, one_agent(new), ignore=["by.*", "score", "at", "a"]))
    assert [what for what, *_ in ignored] == ["type", "source", "event"]


def test_a_step_without_a_recording_is_told_and_not_done(log: LogUnderTest, mails: list[Event]) -> None:
    done: list[str] = []

    async def new(event, ctx):
        try:
            label = await ctx.step("label", lambda: done.append("label") or "again")
            more = await ctx.step("more", lambda: done.append("more") or "more")
        except Exception:
            label = more = done.append("went on")
        if event.payload["text"].startswith("spam"):
            raise DoNotRetry("spam")
        ctx.emit("labelled", {"label": label, "by": ["old", 1]}, key="label")
        return {"label": label, "score": 1, "at": ctx.attempt, "more": more}

    hello = mails[:1]
    assert told(rehearsed(log, hello, one_agent(new))) == [[("step", None, None, None, "more")]]
    assert done == []
    (found,) = told(rehearsed(log, hello, one_agent(new), live_steps=["more"]))
    assert (found, done) == ([("payload", "triage.completed", "more", None, "more")], ["more"])
    (found,) = told(rehearsed(log, hello, one_agent(new), live_steps=True))
    assert sorted(path for _, _, path, _, _ in found) == ["label", "label", "more"]
    assert done == ["more", "label", "more"]


def test_sync_handlers_batches_and_time_limits(log: LogUnderTest, mails: list[Event]) -> None:
    def sync(event, ctx):
        label = ctx.step("label", lambda: None)
        ctx.connection.execute("insert into effects values (%s)", [label])
        ctx.extend(5)
        ctx.emit("labelled", {"label": label, "by": ["old", 1]}, key="label")
        if label == "spam":
            raise DoNotRetry("spam")
        return {"label": label, "score": 1, "at": ctx.attempt}

    assert told(rehearsed(log, mails, one_agent(sync))) == [[], [], []]

    async def batch(events, ctx):
        for event in events:
            label = event.payload["text"].split()[0]
            ctx.emit("labelled", {"label": label, "by": ["old", 1]}, key="label", answers=event)
            if label == "spam":
                ctx.fail(event, DoNotRetry("spam"))
        return [{"label": e.payload["text"].split()[0], "score": 1, "at": ctx.attempt} for e in events]

    assert told(rehearsed(log, mails, one_agent(batch, batch=100))) == [[], [], []]

    def spinning(event, ctx):
        while True:
            pass

    async def blocking(event, ctx):
        while True:
            pass

    for handler in (spinning, blocking):
        ((late,),) = told(rehearsed(log, mails[:1], one_agent(handler, timeout=0.1)))
        assert late[-1] == "failed: the time limit of 0.1 s passed"


async def commits(event, ctx):
    await ctx.connection.execute("insert into effects values ('x')")
    await ctx.connection.commit()


async def says_commit(event, ctx):
    await ctx.connection.execute("insert into effects values ('x')")
    await ctx.connection.execute("commit")


async def begins_anew(event, ctx):
    await ctx.connection.execute("rollback")
    await ctx.connection.execute("insert into effects values ('x')")
    await ctx.connection.execute("commit")


async def prepares(event, ctx):
    await ctx.connection.execute("insert into effects values ('x')")
    await ctx.connection.execute("prepare transaction 'x'")


async def closes(event, ctx):
    async with ctx.connection as connection:
        await connection.execute("insert into effects values ('x')")


def in_a_thread(event, ctx):
    ctx.connection.execute("insert into effects values ('x')")
    ctx.connection.commit()


async def everything(event, ctx):
    from wakelog import append

    await append(ctx.connection, "by.itself", {"n": 1}, stream="s")
    await ctx.connection.execute("create table more (n int)")
    await ctx.connection.execute("insert into more select generate_series(1, 100)")
    await ctx.connection.execute("update effects set label = 'changed'")
    await ctx.connection.execute("select pg_advisory_lock(1), pg_notify('x', 'y'), nextval('numbers')")
    await ctx.connection.execute("select lo_create(0)")
    ctx.emit("labelled", {"label": "other"})
    await ctx.step("label", lambda: "never")
    return {"n": 1}


@pytest.mark.parametrize(
    ("handler", "refused"),
    [
        (commits, "expected no commit in a rehearsal"),
        (in_a_thread, "expected no commit in a rehearsal"),
        (closes, "expected no commit in a rehearsal"),
        (says_commit, "rehearsals_are_never_committed"),
        (prepares, "rehearsals_are_never_committed"),
        (begins_anew, "read-only transaction"),
        (everything, None),
    ],
)
def test_nothing_is_left_behind(
    log: LogUnderTest, mails: list[Event], binaries: Binaries, handler: Any, refused: str | None
) -> None:
    log.connection.execute("create sequence numbers")
    before = contents(binaries, log.url)
    assert "hello and more" in before
    (found,) = rehearsed(log, mails[:1], one_agent(handler, timeout=5))
    assert found.differences
    if refused is not None:
        assert refused in found.differences[0].would_be
    assert contents(binaries, log.url) == before
    # The next one gets a connection that knows nothing of it.
    locks = "select count(*) from pg_locks where locktype = 'advisory' and objid = 1"
    assert log.connection.execute(locks).fetchone() == (0,)


def test_agents_are_those_of_the_application(log: LogUnderTest, mails: list[Event]) -> None:
    with pytest.raises(BadInput, match=r'agents of the application "mail" \(triage\), found "nobody"'):
        rehearsed(log, mails, one_agent(old), agents=["nobody"])


OLD = """
from wakelog import DoNotRetry, Wakelog

app = Wakelog("mail")


@app.agent("triage", on="mail")
async def triage(event, ctx):
    print("a handler may print")
    n = event.payload["n"]
    await ctx.connection.execute("insert into effects values ('x')")
    if n % 50 == 7:
        raise DoNotRetry("odd")
    return {{"n": n, "label": "new" if {new} else "old"}}


@app.agent("echo", on="mail")
async def echo(event, ctx):
    return event.payload
"""


def recorded(log: LogUnderTest, folder: Path, count: int) -> None:
    """So many workflows, and a new version of their code that says otherwise of every 20th."""
    log.connection.execute("create table effects (label text)")
    (folder / "before.py").write_text(OLD.format(new=False))
    (folder / "new_version.py").write_text(OLD.format(new="n % 20 == 3"))
    with log.connection.transaction():
        for n in range(count):
            log.append("mail", {"n": n}, correlation_id=f"w{n}")
    namespace: dict[str, Any] = {}
    exec((folder / "before.py").read_text(), namespace)  # noqa: S102
    log.run_until_idle(namespace["app"])


Command = Callable[..., Ended]


@pytest.fixture
def wakelog(log: LogUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`wakelog workflow rehearse`, in the test's folder and this process, with processes of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["workflow", "rehearse", *arguments, "--database", log.url])
        return Ended(int(code), out.getvalue(), err.getvalue())

    return call


def test_of_two_hundred_workflows_those_that_differ(
    log: LogUnderTest, tmp_path: Path, wakelog: Command, binaries: Binaries
) -> None:
    recorded(log, tmp_path, 200)
    before = contents(binaries, log.url)
    found = wakelog("--app", "new_version.py", "--since", "1h", "--processes", "2", "--json")
    assert found.code == 1, found.err
    *lines, last = found.lines
    assert last["summary"] == {
        "workflows": 200, "same": 190, "differ": 10, "deliveries": 400, "deliveries_differ": 10, "interrupted": False,
    }  # fmt: skip
    assert {line["workflow"] for line in lines} == {f"w{n}" for n in range(200) if n % 20 == 3}
    (rehearsed,) = lines[0]["rehearsed"]
    assert (rehearsed["agent"], rehearsed["type"]) == ("triage", "mail")
    assert rehearsed["differences"] == [
        {"what": "payload", "was": "old", "would_be": "new", "answer": "triage.completed", "path": "label"}
    ]
    assert contents(binaries, log.url) == before

    as_text = wakelog("w2", "w3", "w7", "--app", "new_version.py")
    assert as_text.code == 1
    assert 'triage.completed payload label: "old" → "new"' in as_text.out
    assert as_text.out.splitlines()[-1] == "3 workflows, 6 deliveries: 2 the same, 1 differs"
    same = wakelog("w3", "--app", "new_version.py:app", "--agents", "echo")
    assert (same.code, same.out) == (0, "1 workflow, 1 delivery: 1 the same, 0 differ\n")
    assert contents(binaries, log.url) == before


def test_a_process_that_ends_is_replaced_and_told(
    log: LogUnderTest, tmp_path: Path, wakelog: Command
) -> None:
    recorded(log, tmp_path, 6)
    code = (tmp_path / "before.py").read_text()
    (tmp_path / "dies.py").write_text(
        code.replace('print("a handler may print")', "if event.payload['n'] == 3: __import__('os')._exit(3)")
    )
    found = wakelog("--app", "dies.py", "--limit", "9", "--agents", "triage", "--json")
    lost, summary = found.lines
    assert (lost["workflow"], lost["lost"], found.code) == ("w3", True, 1)
    assert (summary["summary"]["workflows"], summary["summary"]["same"]) == (6, 5)


def test_what_cannot_be_rehearsed_is_said(log: LogUnderTest, tmp_path: Path, wakelog: Command) -> None:
    recorded(log, tmp_path, 2)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    for arguments, code, said in [
        (["--app", "new_version.py"], 2, "expected workflows, or --since"),
        (["w1", "--app", "new_version.py", "--since", "1h"], 2, "found both"),
        (["nobody", "--app", "new_version.py"], 4, 'workflow "nobody"'),
        (["w1", "--app", "missing.py"], 2, 'there is no file "missing.py"'),
        (["w1", "--app", "broken.py"], 2, "does not import: ModuleNotFoundError"),
        (["w1", "--app", "new_version.py", "--agents", "nobody"], 2, 'found "nobody"'),
        (
            ["--type", "nothing", "--app", "new_version.py"],
            4,
            "expected work of the application that was recorded",
        ),
    ]:
        ended = wakelog(*arguments)
        assert (ended.code, said in ended.err, ended.out) == (code, True, ""), ended.err


def test_ctrl_c_tells_what_was_done(log: LogUnderTest, tmp_path: Path) -> None:
    recorded(log, tmp_path, 30)
    code = (tmp_path / "new_version.py").read_text()
    (tmp_path / "slow.py").write_text(
        code.replace(
            'print("a handler may print")',
            "if event.payload['n'] == 10: await __import__('asyncio').sleep(60)",
        )
    )
    command = [COMMAND, "workflow", "rehearse", "w23", "w10", "w5", "--app", "slow.py", "--json"]
    running = subprocess.Popen(
        [*command, "--database", log.url],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    said = running.stdout.readline()  # the next one takes long
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert running.returncode == 130
    assert json.loads(said)["workflow"] == "w23"
    assert (summary["interrupted"], summary["workflows"], summary["differ"]) == (True, 1, 1)
    assert "that was not all of them" in err
    with psycopg.connect(log.url, autocommit=True) as connection:
        left = "select count(*) from pg_stat_activity where application_name = 'wakelog rehearsal'"
        until(lambda: connection.execute(left).fetchone() == (0,))
