"""A proof is checked by a program with nothing but Python; a tampered one is refused, whichever field it was."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.integrity import tampering

from wakelog.integrity.proof import NotAsSealed, NotInTheLog, NotSealed, proof
from wakelog.integrity.seal import FORM, seals

Connection = psycopg.Connection[Any]
CHECKER = Path(__file__).parents[2] / "examples" / "check_proof.py"


def check(folder: Path, document: Any, exported: Any = None) -> "subprocess.CompletedProcess[str]":
    """Run the checker where no Wakelog can be imported: isolated, and without the site's packages."""
    (folder / "proof.json").write_text(json.dumps(document))
    arguments = ["proof.json"]
    if exported is not None:
        (folder / "seals.json").write_text(json.dumps(exported))
        arguments += ["--seals", "seals.json"]
    return subprocess.run(
        [sys.executable, "-I", "-S", CHECKER, *arguments], cwd=folder, capture_output=True, text=True
    )


def export(connection: Connection, number: int | None = None) -> dict[str, Any]:
    chosen = [seal.document() for seal in seals(connection) if number in (None, seal.number)]
    return {"wakelog": "seals", "form": FORM, "seals": chosen}


def test_where_it_is_checked_there_is_no_wakelog() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import wakelog"], capture_output=True, text=True
    )
    assert "No module named 'wakelog'" in done.stderr


@pytest.mark.parametrize("position", [1, 10, 17, 40])
def test_a_proof_holds(log: Connection, tmp_path: Path, position: int) -> None:
    document = proof(log, position)
    done = check(tmp_path, document, export(log))
    assert done.returncode == 0, done.stderr
    assert f"position {position}, order." in done.stdout
    assert document["seal"]["hash"] in done.stdout
    assert check(tmp_path, document).returncode == 0
    assert check(tmp_path, document, export(log, document["seal"]["number"])).returncode == 0


def test_an_event_is_found_by_its_id(log: Connection) -> None:
    id_ = proof(log, 5)["event"]["id"]
    assert proof(log, UUID(id_)) == proof(log, 5)


def tampered(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with one thing changed, for everything that is in it."""
    for name in document:
        without = copy.deepcopy(document)
        del without[name]
        yield f"without {name}", without
    yield "with more", {**document, "more": 1}
    for part in ("event", "seal"):
        for name, value in document[part].items():
            other = copy.deepcopy(document)
            other[part][name] = another(value)
            yield f"{part}.{name}", other
            without = copy.deepcopy(document)
            del without[part][name]
            yield f"without {part}.{name}", without
            if value is not None:
                nothing = copy.deepcopy(document)
                nothing[part][name] = None
                yield f"{part}.{name} null", nothing
        more = copy.deepcopy(document)
        more[part]["more"] = 1
        yield f"more in {part}", more
    for at, value in enumerate(document["path"]):
        other = copy.deepcopy(document)
        other["path"][at] = another(value)
        yield f"path {at}", other
    yield "a path too short", {**document, "path": document["path"][:-1]}
    yield "a path too long", {**document, "path": [*document["path"], document["path"][0]]}
    yield "another form", {**document, "form": 2}


def another(value: Any) -> Any:
    match value:
        case None:
            return "x"
        case int():
            return value + 1
        case str() if value[-1:] == "Z":
            return value[:-2] + ("1" if value[-2] == "0" else "0") + "Z"
        case _:
            return value[:-1] + ("0" if value[-1:] != "0" else "1")


def test_whatever_is_changed_in_a_proof_it_is_refused(log: Connection, tmp_path: Path) -> None:
    """All at once, in one process: the same program, imported as a file."""
    document = proof(log, 17)
    cases = dict(tampered(document))
    assert len(cases) > 60
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    script = f"""
import json, runpy, struct
checker = runpy.run_path({str(CHECKER)!r})
for name, case in json.load(open("cases.json")).items():
    try:
        checker["check"](case)
    except (checker["Wrong"], ValueError, KeyError, TypeError, AttributeError, struct.error):
        continue
    print("accepted:", name)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("payload", '{"n": 17}', "the event is not the one that was sealed"),
        ("position", 27, "does not cover"),
    ],
)
def test_what_is_refused_is_said(log: Connection, tmp_path: Path, field: str, value: Any, said: str) -> None:
    document = proof(log, 17)
    document["event"][field] = value
    done = check(tmp_path, document)
    assert (done.returncode, "REFUSED" in done.stderr, said in done.stderr) == (1, True, True), done.stderr


def test_a_proof_under_a_seal_of_somebody_elses_is_refused(log: Connection, tmp_path: Path) -> None:
    known = export(log)
    tampering.change_payload(log, 17)
    tampering.seal_all_anew(log)
    forged = proof(log, 17)
    assert check(tmp_path, forged).returncode == 0  # whole in itself
    done = check(tmp_path, forged, known)
    assert (done.returncode, "is another than the proof's" in done.stderr) == (1, True)


@pytest.mark.parametrize("change", ["hash", "root", "previous", "to", "sealed_at"])
def test_exported_seals_that_were_changed_are_refused(log: Connection, tmp_path: Path, change: str) -> None:
    document, known = proof(log, 17), export(log)
    known["seals"][1][change] = another(known["seals"][1][change])
    assert check(tmp_path, document, known).returncode == 1


def test_exported_seals_without_the_one_in_question_are_refused(log: Connection, tmp_path: Path) -> None:
    done = check(tmp_path, proof(log, 17), export(log, 4))
    assert (done.returncode, "wakelog seal export --all" in done.stderr) == (1, True)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-I", "-S", CHECKER, "proof.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, "cannot be read" in done.stderr) == (2, True)


def test_there_is_no_proof_of_what_is_not_so(log: Connection) -> None:
    with pytest.raises(NotSealed, match="sealed up to position 40"):
        proof(log, 41)
    with pytest.raises(NotInTheLog):
        proof(log, 99)
    with pytest.raises(NotInTheLog):
        proof(log, UUID(int=0))
    tampering.change_payload(log, 17)
    with pytest.raises(NotAsSealed, match="wakelog verify"):
        proof(log, 17)
    proof(log, 18)
