"""A stage kind, recipe, task and data set are one file each, a network a function and a row: tried in a copy of the house."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sweeps", "search_spaces", "trainables", "analysis", "slurm", "system")

STAGE = '''
"""Shrunk: a network whose weights are multiplied by a factor."""

from dataclasses import dataclass
from typing import ClassVar

from trainables.spec import TrainingSpec, bounded, stage_entry
from trainables.spec.work import Work
from trainables.stages.base import Progress, Result


@dataclass(frozen=True, kw_only=True)
class ShrunkSpec(TrainingSpec):
    kind: ClassVar[str] = "shrunk"
    plural: ClassVar[str] = "shrunk ones"
    share: float = bounded(1.0, 0.0, 1.0)

    def work(self, sizes, guide):
        return Work(seconds=7200.0, bytes=self.kept_bytes)


def run(spec, parents, context):
    from safetensors.torch import load_file, save_file

    weights = load_file(parents["network"].file("weights.safetensors"))
    kept = {name: value * spec.share if value.ndim > 1 else value for name, value in weights.items()}
    yield Progress(1, 1)
    return Result(metrics={"norm": 1.0}, write=lambda folder: save_file(kept, folder / "weights.safetensors"))


ENTRY = stage_entry(ShrunkSpec, run)
'''
RECIPE = '''
"""A network, shrunk."""

from trainables.recipes.recipe import Recipe, recipe_entry
from trainables.recipes.step import Step
from trainables.stages.evaluation import READ_OF_NETWORK, EvaluationSpec
from trainables.stages.shrunk import ShrunkSpec
from trainables.stages.teacher import TeacherSpec

SHRINKING = Recipe(
    "shrinking",
    (
        Step("origin", TeacherSpec, routes=("small", "whole")),
        Step("miniature", ShrunkSpec, {"network": ("origin",)}, routes=("small",)),
        Step("evaluation", EvaluationSpec, {"network": ("miniature", "origin")}, {("miniature", "origin"): READ_OF_NETWORK}),
    ),
    routes=("small", "whole"),
    result=("miniature", "origin"),
    teacher="origin",
)
ENTRY = recipe_entry(SHRINKING)
'''
TASK = '''
"""Pairing: whether the nearest other image shows the same."""

from typing import ClassVar

from trainables.tasks.base import task_entry
from trainables.tasks.retrieval import Retrieval


class Pairing(Retrieval):
    name: ClassVar[str] = "pairing"
    metric: ClassVar[str] = "paired"
    validation_metric: ClassVar[str] = "paired"
    unit: ClassVar[str] = "images"

    def score(self, spec, trained, cut, reader):
        found = super().score(spec, trained, cut, reader)
        found.measured.update(metric="paired", paired=found.measured["score"])
        return found


ENTRY = task_entry(Pairing())
'''
NETWORK = '''
"""A small network."""

from torch import nn

from trainables.models.network import Network, widened


def speck(*, channels, classes, width=1.0, embedding=0):
    wide = widened(8, width)
    trunk = nn.Sequential(nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU())
    return Network(trunk, wide, classes=classes, embedding=embedding)
'''
ROW = 'own("speck", "speck:speck", Size(0.22e6, 1, 0.3e3, 8), version=1)\n'
SET = '''
"""Spots: one bright pixel, by its place."""

from pathlib import Path

import numpy as np

from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import FixedSet, set_entry
from trainables.data.packed import Items
from trainables.data.sources import Source, identity

INFO = DatasetInfo(
    name="spots", summary="240 images", layout="nothing", terms="none", images=240, classes=12, side=8, fixed=True
)


class Spots(FixedSet):
    def find(self, data_root):
        return Source(name="spots", identity=identity("spots", 1), images=240, bytes=240 * 64, kind="spots")

    def read(self, source):
        labels = np.arange(240, dtype=np.int32) % 12
        images = np.random.RandomState(0).randint(0, 60, (240, 1, 8, 8)).astype(np.uint8)
        images[np.arange(240), 0, labels // 8, labels % 8] = 255
        split = (np.arange(240) % 5 == 0).astype(np.uint8)
        names = [f"{number:03d}" for number in range(240)]
        return Items(images=images, labels=labels, split=split, names=names, classes=tuple("abcdefghijkl"))


ENTRY = set_entry(Spots(INFO))
'''
STUDY = '''
"""What does shrinking cost?"""

from search_spaces.study import Preset, Study
from trainables.recipes.shrinking import SHRINKING

SMALL = {"architecture": "speck", "epochs": 2, "train_images": 60}
STUDY = Study(
    name="shrinking",
    title="Shrinking",
    question="What does it cost?",
    paper="none",
    figure="none",
    task="pairing",
    recipe=SHRINKING,
    axes={"miniature.share": (0.5, 1.0)},
    baseline={"miniature.share": 1.0},
    presets={name: Preset(seeds=3, parameters=SMALL) for name in ("demo", "tiny")},
)
'''


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with one more of each."""
    copy = tmp_path_factory.mktemp("house")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in {
        "trainables/stages/shrunk.py": STAGE,
        "trainables/recipes/shrinking.py": RECIPE,
        "trainables/tasks/pairing.py": TASK,
        "trainables/models/speck.py": NETWORK,
        "trainables/data/sets/spots.py": SET,
        "search_spaces/shrinking.py": STUDY,
    }.items():
        assert not (copy / path).exists()
        (copy / path).write_text(text.lstrip(), encoding="utf-8")
    rows = copy / "trainables/spec/networks.py"
    text = rows.read_text(encoding="utf-8")
    rows.write_text(text.replace('own("vgg11"', ROW + 'own("vgg11"'), encoding="utf-8")
    return copy


def sweeps(house: Path, *words: str, json_answer: bool = True) -> Any:
    """What a command of the copy answers."""
    environment = {**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", *words, *(["--json"] if json_answer else [])],
        cwd=house,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout) if json_answer else done.stdout


def test_it_is_listed_and_shown_with_its_roles_and_its_work(house: Path) -> None:
    assert "shrinking" in {row["name"] for row in sweeps(house, "list")["studies"]}
    shown = sweeps(house, "show", "shrinking", "--preset", "tiny")
    assert shown["stages"]["distinct"] == {"origin": 3, "miniature": 6, "evaluation": 6}
    assert "6 shrunk ones" in sweeps(house, "show", "shrinking", "--preset", "tiny", json_answer=False)
    assert 12 <= shown["core_hours"] < 12.1


def test_a_run_records_every_role_and_reports(house: Path) -> None:
    answer = sweeps(house, "run", "shrinking", "--preset", "tiny", "--seeds", "1", "--jobs", "1", "--data", "spots")
    assert answer["trained"] == 5 and answer["failures"] == []
    import polars as pl

    records = pl.read_parquet(Path(answer["path"]) / "records" / "*.parquet")
    assert sorted(records["stage"]) == ["evaluation", "evaluation", "miniature", "miniature", "origin"]
    assert set(records.filter(pl.col("stage") == "evaluation")["metric"]) == {"paired"}
    assert set(records["task"]) == {"pairing"}
    (origin,) = records.filter(pl.col("stage") == "origin")["key"]
    assert set(records["teacher"]) == {origin}
