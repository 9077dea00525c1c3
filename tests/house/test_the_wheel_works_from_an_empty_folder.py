"""What `pip install wakelog` gives is whole: the schema, the migrations and the examples are in it."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[2]

APP = """
from wakelog import Wakelog

app = Wakelog("one")


@app.agent("answer", on="question")
def answer(event, ctx):
    return {"is": 42}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    wheels = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--wheel-dir", str(wheels), str(ROOT),
        ],
        check=True,
    )  # fmt: skip
    (wheel,) = wheels.glob("wakelog-*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files and nothing of this checkout."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_works_from_an_empty_folder(installed: Path, empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(APP)
    environment = os.environ | {"PYTHONPATH": str(installed), "DATABASE_URL": empty_database}
    start = [sys.executable, "-c", "import sys; from wakelog_cli.main import main; sys.exit(main())"]

    def wakelog(*words: str) -> str:
        done = subprocess.run(
            [*start, *words], cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import wakelog; print(wakelog.__file__)"],
        cwd=tmp_path, env=environment, text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed))

    wakelog("db", "upgrade")
    worker = subprocess.Popen([*start, "worker", "one.py"], cwd=tmp_path, env=environment)
    try:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            while connection.execute("select count(*) from wakelog.workers where asleep").fetchone() == (0,):
                assert worker.poll() is None
            wakelog("append", "question", '{"of": "life"}')
            answers = "select payload from wakelog.events where type = 'answer.completed'"
            while (row := connection.execute(answers).fetchone()) is None:
                assert worker.poll() is None
        assert row == ({"is": 42},)
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_the_wheel_carries_what_is_needed_and_no_waste(wheel: Path) -> None:
    carried = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in carried if name.endswith(".pyc")]
    for needed in (
        "wakelog/_sql/install.txt",
        "wakelog/_migrations/env.py",
        "wakelog/_examples/ci_pipeline.py",
        "wakelog/_examples/check_proof.py",
    ):
        assert needed in carried
