"""Keeping the store: what is in it, what may go. Never touches what a run, finished or living, rests on."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.runs.folder import Place, RunFolder, list_runs
from trainables.errors import ArtifactError, DataError, MachineError, UsageError
from trainables.store.artifacts import KEY, Store
from trainables.store.files import explained, read_json
from trainables.store.leases import Lease, OneLook

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


def verify_data(store: Store) -> dict[str, str | None]:
    """Fingerprint -> what is wrong with that packed data set, or None: all of it is read."""
    from trainables.data.packed import open_packed

    found: dict[str, str | None] = {}
    for name in _listed(store.root / "data"):
        if name.endswith(".arrow") and not name.startswith("."):
            path = store.root / "data" / name
            try:
                open_packed(path, verify=True).require_whole()
                found[path.stem] = None
            except DataError as error:
                found[path.stem] = str(error)
    return found


def discard(store: Store, keys: Sequence[str]) -> list[str]:
    """Remove artifacts by key or unique beginning.

    Raises:
        UsageError: If a key is unknown or a living process works on it; nothing is removed then.
    """
    present = store.keys()
    in_work = {name for name in _listed(store.work) if KEY.match(name)}
    chosen = []
    observer = OneLook()
    for text in keys:
        near = [key for key in present | in_work if key == text or key.startswith(text)] if text else []
        if len(near) != 1:
            what = "no artifact" if not near else f"{len(near)} artifacts"
            listing = shlex.join(["store", "list", "--store", str(store.root)])
            raise UsageError(
                f"{what} of the store {store.root} begins with '{text}'. `python -m sweeps {listing}` counts them."
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

    def add(run: RunFolder) -> None:
        content = _read(run)
        try:
            for trial in content.get("trials") or ():
                keys.update(str(key) for key in (trial.get("stages") or {}).values())
            for part in (content.get("data"), content.get("test_data")):
                if fingerprint := (part or {}).get("fingerprint"):
                    data.add(str(fingerprint))
        except (AttributeError, TypeError):
            raise _unknown(run) from None

    for run in list_runs(place):
        seen.add(run.path)
        add(run)
    for name in _registered(store):
        if name.startswith("."):
            continue  # Written aside when its writer was killed.
        entry = read_json(store.root / ".runs" / name)
        if entry is None or not isinstance(entry.get("path"), str) or not isinstance(entry.get("keys"), list):
            raise UsageError(
                f"{store.root}/.runs/{name} cannot be read, so nobody knows what that run rests on and nothing was removed. "
                "Resume the run, which writes it again, or delete the file if the run is gone."
            )
        path = Path(entry["path"])
        if path in seen:
            continue
        if (path / "run.json").exists():
            seen.add(path)
            add(RunFolder(path))
            keys.update(str(key) for key in entry.get("keys") or ())
        elif not _is_gone(path):
            seen.add(path)
            keys.update(str(key) for key in entry.get("keys") or ())
            more = entry.get("more_data")
            data.update(map(str, (entry.get("data"), *(more if isinstance(more, list) else ()))))
    return keys, data, len(seen)


def _registered(store: Store) -> list[str]:
    try:
        return sorted(os.listdir(store.root / ".runs"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(
            f"{store.root}/.runs cannot be read ({error.strerror}), so nobody knows which runs rest on the store and nothing "
            "was removed. It must be a folder that can be read."
        ) from error


def _is_gone(path: Path) -> bool:
    """A run folder that its user deleted: the folder of runs is there and can be read, the run is not."""
    try:
        return path.name not in os.listdir(path.parent)
    except OSError:
        return False


def _read(run: RunFolder) -> dict[str, Any]:
    try:
        return run.read()
    except MachineError as error:
        raise _unknown(run) from error


def _unknown(run: RunFolder) -> UsageError:
    return UsageError(
        f"{run.path}/run.json cannot be read, so nobody knows what it rests on and nothing was removed. "
        "Mend or delete that run folder first."
    )


def collect(store: Store, place: Place, *, dry_run: bool) -> dict[str, Any]:
    """Remove artifacts, packed data and work folders that no run rests on.

    Raises:
        UsageError: If a run.json cannot be read; nothing is removed then.
    """
    keys, data, runs = roots(store, place)
    observer = OneLook()
    artifacts, packed, work = [], [], []
    megabytes = 0.0
    # A key is only garbage when its work folder has no living lease either.
    for key in sorted(store.keys() - keys):
        if not store.held_elsewhere(key, observer):
            artifacts.append(key)
            megabytes += _size(store.path(key)) / 1e6
    for name in _listed(store.root / "data"):
        path = store.root / "data" / name
        if (
            name.endswith(".arrow")
            and name[0] != "."
            and path.stem not in data
            and not path.is_dir()
            and not _young(path)
        ):
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
            path = store.root / "data" / f"{stem}.arrow"
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise explained(error, path) from error
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
