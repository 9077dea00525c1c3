"""Several processes share the server of a folder; it stops when none of them is left, whoever started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from wakelog.postgres.binaries import Binaries
from wakelog.postgres.embedded import EmbeddedPostgres, ServerFailed

pytestmark = pytest.mark.every_postgres
Use = Callable[[Path], "Popen[str]"]


def url_of(process: "Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: "Popen[str]") -> None:
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_three_that_come_at_once_get_one_server(folder: Path, use_in_another_process: Use) -> None:
    three = [use_in_another_process(folder) for _ in range(3)]
    urls = {url_of(process) for process in three}
    assert len(urls) == 1
    url = urls.pop()
    leave(three[0])
    leave(three[1])
    assert answers(url)
    leave(three[2])
    assert not answers(url)


def test_the_one_who_started_it_may_go_first(
    folder: Path, binaries: Binaries, use_in_another_process: Use
) -> None:
    first = use_in_another_process(folder)
    url = url_of(first)
    with EmbeddedPostgres(folder, binaries=binaries) as second:
        assert second.url == url
        leave(first)
        assert answers(url)
    assert not answers(url)
    assert not second.running
    with pytest.raises(ServerFailed, match=r"call start\(\)"):
        _ = second.url


def test_a_killed_owner_leaves_it_to_the_next_one(
    folder: Path, binaries: Binaries, use_in_another_process: Use
) -> None:
    owner = use_in_another_process(folder)
    url = url_of(owner)
    owner.send_signal(signal.SIGKILL)
    owner.wait(timeout=10)
    assert answers(url)
    with EmbeddedPostgres(folder, binaries=binaries) as heir:
        assert heir.url == url
    assert not answers(url)


def test_ctrl_c_at_the_terminal_reaches_us_and_not_the_server(
    folder: Path, use_in_another_process: Use
) -> None:
    owner = use_in_another_process(folder)
    url_of(owner)
    os.killpg(owner.pid, signal.SIGINT)
    owner.wait(timeout=30)
    log = (EmbeddedPostgres(folder).log_file).read_text()
    assert log.count("received fast shutdown request") == 1
    assert "database system is shut down" in log


def test_a_process_that_forgets_to_stop_stops_it_at_its_end(folder: Path, binaries: Binaries) -> None:
    script = (
        "import sys\n"
        "from wakelog.postgres.binaries import find_binaries\n"
        "from wakelog.postgres.embedded import EmbeddedPostgres\n"
        "EmbeddedPostgres(sys.argv[1], binaries=find_binaries(sys.argv[2])).start()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder), str(binaries.bindir)], check=True, timeout=60)
    assert not EmbeddedPostgres(folder).running
    assert "database system is shut down" in EmbeddedPostgres(folder).log_file.read_text()


def test_starting_and_stopping_twice_is_harmless(folder: Path, binaries: Binaries) -> None:
    server = EmbeddedPostgres(folder, binaries=binaries)
    server.stop()
    assert server.start() == server.start()
    port = conninfo_to_dict(server.url)["port"]
    server.stop()
    server.stop()
    with server:
        assert conninfo_to_dict(server.url)["port"] == port
