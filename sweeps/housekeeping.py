"""Keeping the store: what is in it, what may go. Never touches what a run, finished or living, rests on."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import run_file
from sweeps.runs import Place, RunFolder, list_runs
from trainables.artifacts import KEY, Lease, LeaseObserver, Store, read_json
from trainables.errors import ArtifactError, UsageError

YOUNG_SECONDS = 3600.0  # What was written aside within the hour may still be in the making.


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def inventory(store: Store) -> list[dict[str, Any]]:
    """One row per stage kind: artifacts, megabytes, damaged ones."""
    rows: dict[str, dict[str, Any]] = {}
    for key in store.keys():
        damaged = 0
        try:
            kind = store.get(key).kind
        except ArtifactError:
            kind, damaged = "unreadable", 1
        row = rows.setdefault(kind, {"kind": kind, "artifacts": 0, "megabytes": 0.0, "damaged": 0})
        row["artifacts"] += 1
        row["damaged"] += damaged
        row["megabytes"] += _size(store.path(key)) / 1e6
    return sorted(rows.values(), key=lambda row: row["kind"])


def discard(store: Store, keys: Sequence[str]) -> list[str]:
    """Remove artifacts by key or unique beginning.

    Raises:
        UsageError: If a key is unknown or a living process works on it; nothing is removed then.
    """
    present = store.keys()
    in_work = {name for name in _listed(store.work) if KEY.match(name)}
    chosen = []
    observer = LeaseObserver()
    for text in keys:
        near = [key for key in present | in_work if key == text or key.startswith(text)] if text else []
        if len(near) != 1:
            what = "no artifact" if not near else f"{len(near)} artifacts"
            raise UsageError(
                f"{what} of the store {store.root} begins with '{text}'. `python -m sweeps store list` counts them."
            )
        if store.held_elsewhere(near[0], observer):
            raise UsageError(f"{near[0]} is being trained now. Stop its run first: python -m sweeps stop")
        chosen.append(near[0])
    for key in chosen:
        store.discard(key)
    return chosen


def _listed(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def roots(store: Store, place: Place) -> tuple[set[str], set[str], int]:
    """(keys, data fingerprints, runs) that known runs rest on.

    Roots are every run.json beside the store and every run registered in it, also of other users and folders. A
    registered run whose folder cannot be reached keeps its keys; one that was deleted does not.
    """
    keys: set[str] = set()
    data: set[str] = set()
    seen: set[Path] = set()

    def add(content: dict[str, Any]) -> None:
        for trial in content.get("trials") or ():
            keys.update(str(key) for key in (trial.get("stages") or {}).values())
        for part in (content.get("data"), content.get("test_data")):
            if fingerprint := (part or {}).get("fingerprint"):
                data.add(str(fingerprint))

    for run in list_runs(place):
        seen.add(run.path)
        add(_read(run))
    for name in _listed(store.root / ".runs"):
        entry = read_json(store.root / ".runs" / name)
        if entry is None or "path" not in entry:
            continue
        path = Path(str(entry["path"]))
        if path in seen:
            continue
        if (path / "run.json").exists():
            seen.add(path)
            add(_read(RunFolder(path)))
            keys.update(str(key) for key in entry.get("keys") or ())
        elif not _is_gone(path):
            seen.add(path)
            keys.update(str(key) for key in entry.get("keys") or ())
            data.update(map(str, (entry.get("data"), *(entry.get("more_data") or ()))))
    return keys, data, len(seen)


def _is_gone(path: Path) -> bool:
    """A run folder that its user deleted: the folder of runs is there and can be read, the run is not."""
    try:
        return path.name not in os.listdir(path.parent)
    except OSError:
        return False


def _read(run: RunFolder) -> dict[str, Any]:
    content = read_json(run.path / "run.json")
    problem = "cannot be read" if content is None else run_file.problem(content)
    if content is None or problem:
        raise UsageError(
            f"{run.path}/run.json is damaged ({problem}), so nobody knows what it rests on and nothing was removed. "
            "Mend or delete that run folder first."
        )
    return content


def collect(store: Store, place: Place, *, dry_run: bool) -> dict[str, Any]:
    """Remove artifacts, packed data and work folders that no run rests on.

    Raises:
        UsageError: If a run.json cannot be read; nothing is removed then.
    """
    keys, data, runs = roots(store, place)
    observer = LeaseObserver()
    artifacts, packed, work = [], [], []
    megabytes = 0.0
    # A key is only garbage when its work folder has no living lease either.
    for key in sorted(store.keys() - keys):
        if not store.held_elsewhere(key, observer):
            artifacts.append(key)
            megabytes += _size(store.path(key)) / 1e6
    for name in _listed(store.root / "data"):
        path = store.root / "data" / name
        if name.endswith(".arrow") and not name.startswith(".") and path.stem not in data and not _young(path):
            packed.append(path.stem)
            megabytes += path.stat().st_size / 1e6
    for name in _listed(store.work):
        path = store.work / name
        if KEY.match(name):
            if name in keys or (Lease.numbers(path) and store.held_elsewhere(name, observer)):
                continue
        elif _young(path):
            continue
        work.append(name)
        megabytes += _size(path) / 1e6
    if not dry_run:
        for key in artifacts:
            store.discard(key)
        for stem in packed:
            (store.root / "data" / f"{stem}.arrow").unlink(missing_ok=True)
        for name in work:
            shutil.rmtree(store.work / name, ignore_errors=True)
    return {
        "artifacts": artifacts,
        "data": packed,
        "work": work,
        "megabytes": megabytes,
        "kept": len(store.keys() & keys),
        "runs": runs,
        "dry_run": dry_run,
    }


def _young(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime < YOUNG_SECONDS
    return True
