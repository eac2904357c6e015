"""run.json: whatever lies there, one reader answers with what must hold."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from sweeps.runs import run_file
from sweeps.runs.folder import RunFolder
from system import writable_files
from trainables.errors import MachineError

CELL = {"id": "0123abcd", "parameters": {"horkd.orders": "1+2"}, "label": "1+2", "baseline": None}
TRIAL = {"cell": "0123abcd", "seed": 0, "stages": {"teacher": "0" * 16, "evaluation": "1" * 16}}
CONTENT: dict[str, Any] = {
    "schema": 1,
    "run": "made_up-0123abcd",
    "study": "made_up",
    "data": {"name": "digits", "fingerprint": "ab" * 8},
    "seeds": [0, 1],
    "axes": {"horkd.orders": ["1", "1+2"]},
    "sampled": False,
    "cells": [CELL],
    "trials": [TRIAL, TRIAL | {"seed": 1}],
    "commands": [{"command": "python -m sweeps run made_up", "date": "2026-01-01"}],
    "request": {"study": "made_up", "settings": []},
}


@pytest.fixture
def run(nasty_path: Path) -> RunFolder:
    made = RunFolder(nasty_path / "made_up-0123abcd")
    made.prepare()
    made.write(CONTENT)
    return made


def test_what_is_written_is_read_and_its_last_key_is_a_checksum(run: RunFolder) -> None:
    assert run.read() == CONTENT
    assert list(json.loads((run.path / "run.json").read_text())) == [*CONTENT, "checksum"]
    run.write(run.read() | {"started": "now"})
    assert run.read() == CONTENT | {"started": "now"}


def test_every_flipped_bit_is_noticed(run: RunFolder) -> None:
    path = run.path / "run.json"
    whole = path.read_bytes()
    draw = random.Random(3)
    for _ in range(300):
        bit = draw.randrange(8 * len(whole))
        hurt = bytearray(whole)
        hurt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(hurt)
        if run.is_readable():  # Only the name of the checksum was hit.
            assert CONTENT.items() <= run.read().items(), bit
            continue
        with pytest.raises(MachineError, match="no readable run.json"):
            run.read()


@pytest.mark.parametrize(
    "change",
    [
        {"trials": [{"bell": "0123abcd", "seed": 0, "stages": {"teacher": "0" * 16}}]},
        {"trials": [TRIAL | {"stages": {}}]},
        {"trials": [TRIAL | {"stages": {"teacher": "../../etc"}}]},
        {"trials": [TRIAL | {"stages": {"teacher": None}}]},
        {"trials": [TRIAL | {"stages": ["0" * 16]}]},
        {"trials": [TRIAL | {"seed": "0"}]},
        {"trials": [TRIAL | {"seed": True}]},
        {"trials": [TRIAL | {"seed": 2**63}]},
        {"trials": {"0": TRIAL}},
        {"trials": "none"},
        {"cells": [{"parameters": {}}]},
        {"cells": [CELL | {"label": None}]},
        {"cells": [CELL | {"parameters": []}]},
        {"cells": ["0123abcd"]},
        {"seeds": 3},
        {"seeds": [0.5]},
        {"data": "digits"},
        {"data": None},
        {"axes": {"horkd.orders": 3}},
        {"sampled": "no"},
        {"commands": ["python"]},
        {"request": []},
        {"study": 7},
        {"plugins": [{"file": "../a.py", "sha256": "", "where": "", "copy": "plugins/a"}]},
        {"plugins": [{"file": "a.py", "sha256": "", "where": "", "copy": "/etc/a.py"}]},
        {"plugins": ["a.py"]},
    ],
)
def test_a_value_of_another_type_is_named_by_its_key(run: RunFolder, change: dict[str, Any]) -> None:
    (run.path / "run.json").write_text(json.dumps(CONTENT | change))  # As one without a checksum.
    with pytest.raises(MachineError, match=f"`{next(iter(change))}` must be"):
        run.read()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe{}", "UTF-8|no JSON"),
        (b'{"study": "\xff"}', "UTF-8"),
        (b"[" * 200_000, "too deep"),
        (b'{"a": ' * 100_000, "too deep"),
        (b"[]", "holds list"),
        (b'{"seeds": [' + b"9" * 5000 + b"]}", "no JSON"),
        (b"\0" * 100, "no JSON"),
    ],
)
def test_what_is_no_object_is_said_so(run: RunFolder, content: bytes, word: str) -> None:
    (run.path / "run.json").write_bytes(content)
    with pytest.raises(MachineError, match=word):
        run.read()


def test_what_is_no_file_is_not_waited_for(run: RunFolder) -> None:
    path = run.path / "run.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MachineError, match="regular file"):
        run.read()


def test_one_edited_by_hand_is_read_without_its_checksum(run: RunFolder) -> None:
    path = run.path / "run.json"
    edited = json.loads(path.read_text()) | {"started": "then"}
    path.write_text(json.dumps(edited))
    with pytest.raises(MachineError, match="removes `checksum`"):
        run.read()
    del edited["checksum"]
    path.write_text(json.dumps(edited))
    assert run.read()["started"] == "then"


def test_what_is_whole_in_a_damaged_one_is_used_and_the_file_kept(run: RunFolder) -> None:
    assert run_file.salvaged(run.path) == (CONTENT, "")
    path = run.path / "run.json"
    hurt = path.read_bytes().replace(b'"cell"', b'"bell"', 1).replace(b'"sampled"', b'"tampled"')
    path.write_bytes(hurt)
    kept, harm = run_file.salvaged(run.path)
    assert "checksum" in harm
    assert kept["cells"] == [CELL]
    assert kept["trials"] == [TRIAL | {"seed": 1}]
    assert kept["seeds"] == [1]
    assert "tampled" not in kept
    copies = [writable_files.keep_damaged(path).name for _ in range(2)]
    assert copies == ["run.json.damaged-1", "run.json.damaged-2"]
    assert (run.path / copies[0]).read_bytes() == hurt
    path.unlink()
    assert run_file.salvaged(run.path) == ({}, "")
