"""Keeping house among damaged things: `store verify` reads packed data, `store gc` removes nothing it is unsure of."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweeps.commands.store import store_group
from trainables.data import catalog
from trainables.errors import MachineError
from trainables.store.artifacts import Store

KEY = "0123456789abcdef"


def test_verify_finds_packed_data_altered_in_place(tmp_path: Path) -> None:
    info = catalog.pack(catalog.locate("digits", data_root=None), tmp_path / "store" / "data")
    words = ["verify", "--out", str(tmp_path), "--json"]
    whole = CliRunner().invoke(store_group, words)
    assert whole.exit_code == 0
    answer = json.loads(whole.output)
    assert (answer["checked"], answer["damaged"], answer["data_checked"], answer["data_damaged"]) == (0, {}, 1, {})
    with open(info.path, "r+b") as file:
        file.seek(info.bytes // 2)
        file.write(bytes(8192))
    altered = CliRunner().invoke(store_group, words)
    assert altered.exit_code == 1
    answer = json.loads(altered.output)
    assert list(answer["data_damaged"]) == [info.fingerprint]
    assert "fingerprint" in answer["data_damaged"][info.fingerprint]


def test_how_a_damaged_artifact_is_removed_is_said_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    for key in (KEY, "f" * 16):
        artifact = store.publish(key, {"kind": "x", "spec": {}, "parents": {}, "metrics": {}}, fill)
    (artifact.path / "manifest.json").write_text("{}")
    (store.root / KEY / "content.bin").write_bytes(b"y")
    said = CliRunner().invoke(store_group, ["verify", "--out", str(tmp_path)])
    assert said.exit_code == 1
    lines = [line for line in said.output.splitlines() if line.startswith("FAIL")]
    assert [line.count("store discard") for line in lines] == [1, 1] and not any(".." in line for line in lines)
    assert lines[0].startswith(f"FAIL  {KEY}  file 'content.bin' ")


def fill(folder: Path) -> None:
    (folder / "content.bin").write_bytes(b"x")


def test_a_folder_of_records_that_cannot_be_listed_is_told_of_its_run(tmp_path: Path) -> None:
    Store(tmp_path / "store").prepare()
    run = tmp_path / "runs" / "a-0123abcd"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "records").write_text("no folder")
    said = CliRunner().invoke(store_group, ["verify", "--out", str(tmp_path)])
    assert said.exit_code == 1
    (line,) = [line for line in said.output.splitlines() if line.startswith("FAIL")]
    assert "Not a directory. No record of a-0123abcd was looked at" in line and "resume" not in line


def gc(out: Path) -> tuple[int, str]:
    result = CliRunner().invoke(store_group, ["gc", "--out", str(out)], standalone_mode=False)
    return result.exit_code, str(result.exception)


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.write_text('{"path": 3, "keys": {}}')])
def test_nothing_is_collected_while_a_registration_cannot_be_read(put: Callable[[Path], Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    store.publish(KEY, {"kind": "x", "spec": {}, "parents": {}, "metrics": {}}, lambda folder: None)
    registered = store.root / ".runs" / "a run-123.json"
    registered.parent.mkdir()
    put(registered)
    code, said = gc(tmp_path)
    assert code and registered.name in said and "nothing was removed" in said
    assert store.has(KEY)


def test_nothing_is_collected_while_the_registrations_are_no_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    store.publish(KEY, {"kind": "x", "spec": {}, "parents": {}, "metrics": {}}, lambda folder: None)
    (store.root / ".runs").write_text("in the way")
    code, said = gc(tmp_path)
    assert code and "nothing was removed" in said
    assert store.has(KEY)


def test_discard_takes_what_only_bears_the_name_of_an_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    for put in (Path.touch, os.mkfifo, lambda path: path.symlink_to(elsewhere)):
        put(store.path(KEY))
        store.discard(KEY)
        assert os.listdir(store.root) == [".work"] and os.listdir(store.work) == []
    assert (elsewhere / "precious").exists()


def test_a_store_that_cannot_be_written_is_told_when_something_is_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    store.prepare()

    def refused(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.rename", refused)
    with pytest.raises(MachineError, match="must be writable"):
        store.discard(KEY)
