"""Records are a projection of the artifacts: one Parquet file per finished stage.

One is made again when it is missing, damaged, or says other numbers than its artifact.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.records import EVALUATION, write_record
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.runs import record_checks
from sweeps.runs.folder import RunFolder
from system.writable_files import set_aside
from trainables import spec as specs
from trainables.errors import ArtifactError
from trainables.spec.values import leaves
from trainables.store.artifacts import Artifact, Store

STATUS = {"done": "completed", "failed": "failed", "pruned": "pruned", "unrunnable": "unrunnable"}

NUMBERS = (
    "top1",
    "validation_top1",
    "train_top1",
    "correct",
    "items",
    "parameters_count",
    "macs",
    "embedding_spread",
)
OF_THE_NETWORK = ("validation_top1", "parameters_count", "macs")  # An evaluation's row says them of what it read.


class RecordWriter:
    """Writes the records of one run."""

    def __init__(
        self, run: RunFolder, study: str, data_name: str, store: Store, graph: StageGraph, *, teacher: str = "teacher"
    ) -> None:
        """Args: the run, its study and data by name, store and graph; the role that its recipe calls the teacher."""
        self.teacher = teacher
        self.run, self.study, self.data_name = run, study, data_name
        self.store, self.graph = store, graph
        self.made_again: dict[str, str] = {}  # Key -> what was wrong with the record that was there.
        self.damaged: dict[str, str] = {}  # Key -> what is wrong with the artifact.

    def write(self, node: StageNode) -> None:
        """The record of a stage that is done, failed, pruned or unrunnable.

        Raises:
            ArtifactError: If its artifact is damaged, or holds what no record can.
        """
        if node.state not in STATUS:
            return
        artifact = self.store.get(node.key) if node.state == "done" else None
        try:
            row = self.row(node, artifact)
        except (pa.ArrowException, OSError, OverflowError, LookupError, TypeError, ValueError) as error:
            raise self._unusable(node, error) from error
        path = self.path(node)
        if path.is_dir() and not path.is_symlink():
            set_aside(path)  # A rename cannot take the place of a folder.
        try:
            write_record(path, row)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise self._unusable(node, error) from error

    def _unusable(self, node: StageNode, error: Exception) -> ArtifactError:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return ArtifactError(
            f"Artifact {node.key} (stage '{node.role}') cannot be recorded, as its content is damaged: {first[:200]}. "
            f"Remove it with `python -m sweeps store discard {node.key}`; the next run makes it again."
        )

    def path(self, node: StageNode) -> Path:
        """Where the record of a stage lies; what failed and later succeeds replaces its own file."""
        return self.run.records / f"{node.key}.parquet"

    def write_missing(self) -> int:
        """Write the records that are missing or wrong; returns how many.

        What was wrong is in `made_again` afterwards, and artifacts of which no record can be made in `damaged`; they
        stop nothing.
        """
        try:
            listed = set(os.listdir(self.run.records))
        except FileNotFoundError:
            listed = set()
        written = 0
        for node in self.graph.in_state(*STATUS):
            try:
                if self.path(node).name in listed and node.state == "done":
                    wrong = record_checks.wrong(self.path(node), self.store.get(node.key))
                    if not wrong:
                        continue
                    self.made_again[node.key] = wrong
                self.write(node)
            except ArtifactError as error:
                self.made_again.pop(node.key, None)
                self.damaged[node.key] = str(error)
                continue
            written += 1
        return written

    def row(self, node: StageNode, artifact: Artifact | None) -> dict[str, Any]:
        """One row by the schema of `analysis.records`."""
        spec = node.spec
        flat = {name: list(v) if isinstance(v, tuple) else v for name, v in specs.flatten(spec).items()}
        row: dict[str, Any] = {
            "run": self.run.id,
            "study": self.study,
            "stage": node.role,
            "key": node.key,
            "parents": list(node.parents.values()),
            "cells": sorted(node.cells),
            "seed": node.seed,
            "status": STATUS[node.state],
            "parameters": json.dumps(flat, sort_keys=True),
            "data": spec.data,
            "data_name": self.data_name,
            "teacher": self._teacher(node),
            "log": f"logs/{node.role}-{node.key}.log",
            **self._of_losses(node),
        }
        if artifact is None:
            row["error"] = node.why or None
            row["error_type"] = node.why.partition(":")[0] if node.state == "failed" else None
            return row
        manifest, metrics = artifact.manifest, artifact.metrics
        row |= {
            "epochs": manifest.get("epochs") or 0,
            "seconds": manifest.get("seconds"),
            "cpu_seconds": manifest.get("cpu_seconds"),
            "device": manifest.get("device"),
            "host": manifest.get("host"),
            "numerics": manifest.get("numerics"),
        }
        for name in NUMBERS:
            row[name] = metrics.get(name)
        if node.role == EVALUATION:
            row["task"] = getattr(spec, "protocol", None)  # Stages that only sleep have none.
            row["metrics"] = json.dumps(metrics, sort_keys=True)
            row["metric"] = metrics.get("metric", "top1")
            row["score"] = metrics.get("score", metrics.get("top1"))
            network = next(iter(node.parents.values()))
            if self.store.has(network):
                about = self.store.get(network).metrics
                row |= {name: about.get(name) for name in OF_THE_NETWORK}
                row["validation_score"] = about.get("validation_score", about.get("validation_top1"))
        else:
            row["task"] = getattr(spec, "task", None)
            row["validation_score"] = metrics.get("validation_score", metrics.get("validation_top1"))
        if "outputs.arrow" in manifest["files"]:
            with pa.memory_map(str(artifact.file("outputs.arrow", verify=True))) as source:
                right = pa.ipc.open_file(source).read_all()["correct"].to_numpy(zero_copy_only=False)
            row["correct_bits"] = np.packbits(right.astype(bool)).tobytes()
        if "history.arrow" in manifest["files"]:
            row["history"] = self._history(artifact)
        return row

    def _history(self, artifact: Artifact) -> list[dict[str, Any]]:
        with pa.memory_map(str(artifact.file("history.arrow", verify=True))) as source:
            table = pa.ipc.open_file(source).read_all().to_pydict()
        return [
            {"epoch": epoch, "name": name, "value": value}
            for name in sorted(table)
            if name != "epoch"
            for epoch, value in zip(table["epoch"], table[name], strict=True)
            if value is not None
        ]

    def _of_losses(self, node: StageNode) -> dict[str, Any]:
        """Options of losses that have a column of their own: of the stage's, or of what an evaluation read."""
        parents = [self.graph.nodes[key] for key in node.parents.values() if key in self.graph.nodes]
        learner = next((one.base for one in (node, *parents) if specs.learns(one.base)), None)
        groups = [options for _, options in learner.losses_on()] if specs.learns(learner) else []
        return {
            metadata["column"]: getattr(options, name)
            for options in groups
            for name, _, _, metadata in leaves(type(options))  # type: ignore[arg-type]  # mypy takes a class for unhashable.
            if "column" in metadata
        }

    def _teacher(self, node: StageNode) -> str | None:
        at: StageNode | None = node
        while at is not None and at.role != self.teacher:
            at = next((self.graph.nodes[k] for k in at.parents.values() if k in self.graph.nodes), None)
        return at.key if at is not None else None
