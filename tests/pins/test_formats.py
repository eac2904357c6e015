"""What stands on the disk: run.json, records, manifests, and the files of a run and of a store.

Values that a clock, this machine or a library's version give are left out and only their types held; all others are held
as they are.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

SLEEPS, TRAINS = "_engine_check", "horkd_order_ablation"
# Title -> words of a run that is planned and not trained.
PLANNED: dict[str, tuple[str, ...]] = {
    "methods": ("horkd_classification",),
    "drawn": ("horkd_loss_weights", "alpha=3"),
    "people": ("horkd_face_identification",),
}
MOVES = {"checksum", "date", "revision", "started"}  # In run.json; and the versions of libraries.
OF_THE_MACHINE = {
    *("seconds", "cpu_seconds", "host", "numerics", "finished", "revision", "manifest_sha256", "digest", "bytes"),
    *("sha256", "versions", "parent_digests", "memory_gb", "images_per_second"),
}


@pytest.fixture(scope="module")
def sleeping(finished: Any) -> Any:
    return finished(SLEEPS, "seconds=0", "epochs=2")


@pytest.fixture(scope="module")
def trained(finished: Any) -> Any:
    return finished(TRAINS, "epochs=1", "train_images=64", "orders=none,1+C", seeds="1")


def typed(value: Any, moves: set[str]) -> Any:
    """A JSON value with the type alone of what moves."""
    if isinstance(value, dict):
        return {n: f"<{type(v).__name__}>" if n in moves else typed(v, moves) for n, v in value.items()}
    if isinstance(value, list):
        return [typed(member, moves) for member in value]
    return value


def told(path: Path) -> dict[str, Any]:
    """run.json without what moves."""
    run = typed(json.loads((path / "run.json").read_text()), MOVES)
    run["versions"] = sorted(run["versions"])
    run["commands"] = [
        command | {"command": re.sub(r"--out (?:'[^']*'|\S+)", "--out OUT", command["command"])}
        for command in run["commands"]
    ]
    return {name: value for name, value in run.items()}


@pytest.mark.parametrize("title", ["sleeping", "trained", *PLANNED])
def test_run_json(title: str, pin: Any, finished: Any, request: pytest.FixtureRequest) -> None:
    if title in PLANNED:
        study, *settings = PLANNED[title]
        outcome = finished(study, *settings, train=False)
    else:
        outcome = request.getfixturevalue(title)
    pin("run_json", title, told(outcome.run.path))
    pin("run_json_names", title, list(json.loads((outcome.run.path / "run.json").read_text())))


def test_the_schema_of_records(pin: Any, sleeping: Any) -> None:
    for path in (sleeping.run.path / "records").iterdir():
        schema = pq.read_schema(path)
        pin("records", "schema", {field.name: [str(field.type), field.nullable] for field in schema})
        pin("records", "order of columns", schema.names)
        pin("records", "told beside", sorted(name.decode() for name in schema.metadata or {}))


def test_the_rows_of_sleeping_stages(pin: Any, sleeping: Any) -> None:
    rows = {}
    for path in sorted((sleeping.run.path / "records").iterdir()):
        (row,) = pq.read_table(path).to_pylist()
        rows[path.name] = {n: v for n, v in typed(row, OF_THE_MACHINE).items() if v is not None}
    pin("records", "rows", rows)


def test_the_columns_that_trained_stages_fill(pin: Any, trained: Any) -> None:
    filled: dict[str, dict[str, str]] = {}
    for path in sorted((trained.run.path / "records").iterdir()):
        (row,) = pq.read_table(path).to_pylist()
        mine = filled.setdefault(row["stage"], {})
        mine.update({name: type(value).__name__ for name, value in row.items() if value is not None})
        names = {entry["name"] for entry in row["history"] or ()} | set((mine.get("names in history") or "").split())
        mine["names in history"] = " ".join(sorted(names))
        mine["names in metrics"] = " ".join(sorted(json.loads(row["metrics"] or "{}")))
        mine["names in parameters"] = " ".join(sorted(json.loads(row["parameters"] or "{}")))
    for stage, columns in filled.items():
        pin("records_filled", stage, columns)


def test_the_manifest_of_a_sleeping_stage(pin: Any, sleeping: Any) -> None:
    for cell in sleeping.run.read()["trials"][:1]:
        for role, key in cell["stages"].items():
            manifest = json.loads((sleeping.store / key / "manifest.json").read_text())
            pin("manifests", f"sleeping {role}", typed(manifest, OF_THE_MACHINE))


def test_the_manifests_and_files_of_trained_stages(pin: Any, trained: Any) -> None:
    (trial,) = [t for t in trained.run.read()["trials"] if len(t["stages"]) == 3][1:]
    for role, key in trial["stages"].items():
        folder = trained.store / key
        manifest = json.loads((folder / "manifest.json").read_text())
        pin("manifests", f"trained {role}", typed(manifest, OF_THE_MACHINE | set(manifest["metrics"])))
        pin("artifacts", role, contents(folder))


def contents(folder: Path) -> dict[str, Any]:
    """The files of an artifact, and the names inside them."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        found[path.name] = {}
        if path.suffix == ".arrow":
            schema = pa.ipc.open_file(path).schema
            found[path.name] = {field.name: str(field.type) for field in schema}
        elif path.suffix == ".safetensors":
            with safe_open(path, "numpy") as weights:
                found[path.name] = {name: weights.get_slice(name).get_shape() for name in weights.keys()}
    return found


def test_the_files_of_a_run_and_of_the_store(pin: Any, sleeping: Any, trained: Any) -> None:
    def files(folder: Path) -> list[str]:
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return sorted({re.sub(r"(?<=\.runs/).*", "RUN.json", name) for name in names})

    pin("files", "sleeping run", files(sleeping.run.path))
    pin("files", "trained run", files(trained.run.path))
    keys = {key for o in (sleeping, trained) for trial in o.run.read()["trials"] for key in trial["stages"].values()}
    pin("files", "store", [name for name in files(sleeping.store) if name.split("/")[0] in {*keys, ".runs", "data"}])


def test_the_journal_of_a_grid(pin: Any, sleeping: Any) -> None:
    """What Optuna's journal holds of cells: parameters and attributes, without times."""
    lines = [json.loads(line) for line in sleeping.run.journal.read_text().splitlines()]
    kept = [
        {n: v for n, v in line.items() if n not in ("worker_id", "stamp") and "datetime" not in n} for line in lines
    ]
    pin("journal", "sleeping", [typed(line, {"checksum"}) for line in kept])
