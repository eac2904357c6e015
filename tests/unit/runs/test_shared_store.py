"""In a store whose folder has the set-group-id bit, the group may write whatever was added."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sweeps.runs.folder import RunFolder
from sweeps.runs.run_content import register
from trainables.data import catalog
from trainables.data.packed import doubt_of
from trainables.store.artifacts import Store
from trainables.store.leases import Lease

KEY = "0123456789abcdef"


def fill(root: Path) -> Store:
    """Everything that a run adds to a store."""
    store = Store(root)
    store.prepare()
    info = catalog.pack(catalog.locate("digits", data_root=None), root / "data")
    doubt_of(info.path).touch()
    lease = Lease.take(store.work_folder(KEY))
    assert lease is not None
    lease.update(epoch=1)
    store.write_checkpoint(KEY, lease, 1, b"weights")
    store.write_failure(KEY, {"type": "ValueError"})

    def write(folder: Path) -> None:
        (folder / "weights.safetensors").touch(mode=0o600)  # As safetensors makes them.

    store.publish("f" * 16, {"kind": "x", "spec": {}, "parents": {}, "metrics": {}}, write)
    run = RunFolder(root.parent / "runs" / "r")
    register(store, run, {"trials": [], "data": {"fingerprint": KEY}})
    return store


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}


def test_the_group_may_write_everything_in_a_shared_store(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(0o2775)
    fill(root)
    found = modes(root)
    assert {name.split("/")[0] for name in found} >= {"data", ".work", ".runs", "f" * 16}
    wrong = {
        name: oct(mode)
        for name, mode in found.items()
        if mode & 0o2070 != (0o2070 if (root / name).is_dir() else 0o0060) and not name.endswith(".doubted")
    }
    assert not wrong


def test_elsewhere_the_umask_alone_says_who_may_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    fill(root)
    assert modes(root)["f" * 16 + "/weights.safetensors"] == 0o644
    assert not any(mode & 0o020 for mode in modes(root).values())


def test_the_folders_of_before_a_store_was_shared_are_shared_with_the_next_run(tmp_path: Path) -> None:
    root = tmp_path / "store"
    fill(root)
    root.chmod(0o2775)
    Store(root).prepare()
    catalog.pack(catalog.locate("digits", data_root=None), root / "data")
    for name in ("data", ".work", ".runs", "data/.lock"):
        assert (root / name).stat().st_mode & stat.S_IWGRP, name
