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
