"""`store verify` reads the packed data too."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from sweeps.cli_shelves import store_group
from trainables.data import catalog


def test_verify_finds_packed_data_altered_in_place(tmp_path: Path) -> None:
    info = catalog.pack(catalog.locate("digits", data_root=None), tmp_path / "store" / "data")
    words = ["verify", "--out", str(tmp_path), "--json"]
    whole = CliRunner().invoke(store_group, words)
    assert whole.exit_code == 0
    answer = {"schema": 1, "checked": 0, "damaged": {}, "data_checked": 1, "data_damaged": {}}
    assert json.loads(whole.output) == answer
    with open(info.path, "r+b") as file:
        file.seek(info.bytes // 2)
        file.write(bytes(8192))
    altered = CliRunner().invoke(store_group, words)
    assert altered.exit_code == 1
    answer = json.loads(altered.output)
    assert list(answer["data_damaged"]) == [info.fingerprint]
    assert "fingerprint" in answer["data_damaged"][info.fingerprint]
