"""Whether the records of a run are what they were written as, and say what their artifacts say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from analysis import record_files
from analysis.records import EVALUATION, RECORDS_FOLDER
from trainables.errors import ArtifactError
from trainables.store.artifacts import Artifact, Store

# Columns that repeat a number of the artifact itself; an evaluation tells others of the network that it read.
_OF_METRICS = ("top1", "train_top1", "correct", "items", "embedding_spread")
_OF_TRAININGS = ("validation_top1", "parameters_count", "macs")


def wrong(path: Path, artifact: Artifact) -> str:
    """What is wrong with the record of a finished stage, or ''."""
    try:
        row = record_files.read_one(path)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return (str(error).splitlines() or ["it is no record"])[0]
    if row["key"] != artifact.key:
        return f"it is the record of {row['key']}"
    if row["status"] != "completed":
        return f"it says {row['status']}, but the stage is finished"
    return _difference(row, artifact)


def _difference(row: Mapping[str, Any], artifact: Artifact) -> str:
    """The first number that a record and its artifact tell differently; what a record does not tell is not compared."""
    metrics, manifest = artifact.metrics, artifact.manifest
    evaluates = row["stage"] == EVALUATION
    due = {name: metrics.get(name) for name in (*_OF_METRICS, *(() if evaluates else _OF_TRAININGS))}
    due |= {"seconds": manifest.get("seconds"), "cpu_seconds": manifest.get("cpu_seconds")}
    due["epochs"] = manifest.get("epochs") or 0
    if evaluates:
        due |= {"score": metrics.get("score", metrics.get("top1")), "metrics": metrics}
    else:
        due["validation_score"] = metrics.get("validation_score", metrics.get("validation_top1"))
    for name, value in due.items():
        said = row.get(name)
        if name == "metrics" and said is not None:
            said = _object(said)
        if said is not None and not _same(said, value):
            short = "other metrics than" if name == "metrics" else f"{name} {said}, and not {value}, which says"
            return f"it says {short} its artifact"
    return ""


def _object(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return text


def _same(one: Any, other: Any) -> bool:
    # NaN is not itself, but its text is.
    return bool(one == other) or json.dumps(one, sort_keys=True, default=str) == json.dumps(
        other, sort_keys=True, default=str
    )


def of_run(folder: Path, store: Store) -> tuple[int, dict[str, str]]:
    """How many records a run has, and those that are wrong: path -> why.

    A record whose artifact is not in the store, or is damaged itself, is compared with nothing but its own checksum.
    """
    records = folder / RECORDS_FOLDER
    try:
        names = record_files.names_of(records)
    except OSError as error:
        return 0, {str(records): error.strerror or str(error)}
    found = {}
    for name in names:
        path = records / name
        try:
            row = record_files.read_one(path)
            problem = ""
            if row["status"] == "completed" and store.has(str(row["key"])):
                problem = _difference(row, store.get(str(row["key"])))
        except ArtifactError:
            continue  # That is told of the artifact.
        except OSError as error:
            problem = error.strerror or str(error)
        except ValueError as error:
            problem = (str(error).splitlines() or ["it is no record"])[0]
        if problem:
            found[str(path)] = problem
    return len(names), found


def of_runs(folders: Iterable[Path], store: Store) -> tuple[int, dict[str, str]]:
    """The same of several runs."""
    count = 0
    bad: dict[str, str] = {}
    for folder in folders:
        records, found = of_run(folder, store)
        count += records
        bad |= found
    return count, bad
