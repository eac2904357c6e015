"""One more of everything, built in: each is one file and at most one declaration elsewhere, tried in a copy of the house.

CONTRIBUTING.md tells how each is added; `test_what_was_touched` holds it to that.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trainables.spec import StudentSpec, stage_key

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sweeps", "search_spaces", "trainables", "analysis", "slurm", "system")


@dataclass(frozen=True)
class Part:
    """What is added: a file, and a declaration in another one."""

    file: str
    text: str
    elsewhere: str = ""
    declaration: str = ""
    before: str = ""  # The line that the declaration stands before; without one it comes last.


LOSS = '''
"""Smooth distance of embeddings by a linear map: two terms, and a map that trains along."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.losses import geometry
from trainables.losses.terms import Batch, Known, Term


def near_loss(student: Tensor, teacher: Tensor, *, knee: float) -> Tensor:
    """Smooth L1 distance [] of embeddings [B, D], the teacher's constant."""
    return F.smooth_l1_loss(student, geometry.at_least_float32(teacher.detach()), beta=knee)


class NearTerm(Term):
    """Embeddings and their means."""

    def build(self, known: Known) -> None:
        self.map = nn.Linear(known.student_width, known.teacher_width, bias=False)
        self.modules = {"near": self.map}

    def value(self, name: str, batch: Batch) -> Tensor:
        with geometry.full_precision(batch.student.embedding):
            ours, theirs = self.map(batch.student.embedding.to(self.map.weight.dtype)), batch.teacher.embedding
            if name == "near_mean":
                ours, theirs = ours.mean(0), geometry.at_least_float32(theirs).mean(0)
            return near_loss(ours, theirs, knee=self.options.knee)
'''
LOSS_DECLARED = '''

@dataclass(frozen=True, kw_only=True)
class NearSpec(Fields):
    """Smooth distances."""

    rows: float = bounded(1.0, 0.0, text="Of embeddings.", unit="factor")
    means: float = bounded(0.5, 0.0)
    knee: float = bounded(1.0, 0.01)


declare("near", "near:NearTerm", NearSpec, title="Near", version=3, terms={"near_rows": "rows", "near_mean": "means"})
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
NETWORK_DECLARED = 'own("speck", "speck:speck", Size(0.22e6, 1, 314, 8), version=1)\n'
STAGE = '''
"""Shrunk: a network whose weights are multiplied by a factor and kept in half the bytes."""

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
    kept = {name: (value * spec.share if value.ndim > 1 else value).half() for name, value in weights.items()}
    yield Progress(1, 1)
    return Result(metrics={"norm": 1.0}, write=lambda folder: save_file(kept, folder / "weights.safetensors"))


def frozen(artifact, spec):
    from safetensors.torch import load_file

    from trainables.models import build

    kept = load_file(artifact.file("weights.safetensors", verify=True))
    channels, classes = kept["trunk.0.weight"].shape[1], kept["classifier.weight"].shape[0]
    network = build(spec.architecture, channels=channels, classes=classes, width=spec.width)
    network.load_state_dict({name: value.float() for name, value in kept.items()})
    return network


ENTRY = stage_entry(ShrunkSpec, run, frozen=frozen)
'''
RECIPE = '''
"""A network, the shrunk one, and another that learns from it."""

from trainables.recipes.recipe import Recipe, recipe_entry
from trainables.recipes.step import Step
from trainables.stages.evaluation import READ_OF_NETWORK, EvaluationSpec
from trainables.stages.shrunk import ShrunkSpec
from trainables.stages.student import StudentSpec
from trainables.stages.teacher import TeacherSpec

SHRINKING = Recipe(
    "shrinking",
    (
        Step("origin", TeacherSpec),
        Step("miniature", ShrunkSpec, {"network": ("origin",)}, routes=("small",)),
        Step("heir", StudentSpec, {"guide": ("miniature", "origin")}),
        Step("evaluation", EvaluationSpec, {"network": ("heir",)}, {("heir",): READ_OF_NETWORK}),
    ),
    routes=("small", "whole"),
    result=("heir",),
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
        reading = super().score(spec, trained, cut, reader)
        reading.measured.update(metric="paired", paired=reading.measured["score"])
        return reading


ENTRY = task_entry(Pairing())
'''
DATASET = '''
"""Spots: one bright pixel, by its place."""

import numpy as np

from trainables.data.datasets import DatasetInfo
from trainables.data.image_sets import FixedSet, set_entry
from trainables.data.packed import Items
from trainables.data.sources import Source, identity

INFO = DatasetInfo(
    name="spots", summary="240 spots", layout="nothing", terms="none", images=240, classes=12, side=8, fixed=True
)


class Spots(FixedSet):
    def find(self, data_root):
        return Source(name="spots", identity=identity("spots", 1), images=240, bytes=240 * 64, kind="spots")

    def read(self, source):
        labels = np.arange(240, dtype=np.int32) % 12
        images = np.random.RandomState(0).randint(0, 60, (240, 1, 8, 8)).astype(np.uint8)
        images[np.arange(240), 0, labels // 8, labels % 8] = 255
        split = (np.arange(240) // 12 % 5 == 0).astype(np.uint8)
        names = [f"{number:03d}" for number in range(240)]
        return Items(images=images, labels=labels, split=split, names=names, classes=tuple("abcdefghijkl"))


ENTRY = set_entry(Spots(INFO))
'''
STUDY = '''
"""What does shrinking cost?"""

from search_spaces.claims import Claim, Rises
from search_spaces.study import Preset, Study
from trainables.recipes.shrinking import SHRINKING

SMALL = {"architecture": "speck", "epochs": 2, "train_images": 60, "heir.method": "near"}
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
    presets={name: Preset(seeds=3, parameters=SMALL, data="spots") for name in ("demo", "tiny")},
    claims=(Claim("More is better.", "none", test=Rises("miniature.share")),),
    report="counted",
)
'''
PAGE = '''
"""The page of a count."""

from analysis.report.blocks import Answer, Column, Table, quiet
from analysis.report.page import ReportPage


class Page(ReportPage):
    """How many trials there are."""

    def body(self):
        answer = Answer(headline=f"There are {self.trials.height} trials.")
        self.top([answer], [])
        table = Table(name="counted", caption="All.", columns=[Column(heading="trials")], rows=[[self.trials.height]])
        self.add("count", "Counted", self.table(table), quiet("One each."))
        return answer
'''
FORMAT = '''
"""A list of what is in a report."""


def files(document):
    return {"contents.txt": "\\n".join(section.heading for section in document.sections).encode()}
'''
PARTS = {
    "loss": Part("trainables/losses/near.py", LOSS, "trainables/spec/losses.py", LOSS_DECLARED),
    "network": Part(
        "trainables/models/speck.py", NETWORK, "trainables/spec/networks.py", NETWORK_DECLARED, 'own("vgg11"'
    ),
    "stage": Part("trainables/stages/shrunk.py", STAGE),
    "recipe": Part("trainables/recipes/shrinking.py", RECIPE),
    "task": Part("trainables/tasks/pairing.py", TASK),
    "dataset": Part("trainables/data/sets/spots.py", DATASET),
    "study": Part("search_spaces/shrinking.py", STUDY),
    "page": Part("analysis/report/pages/counted.py", PAGE),
    "format of reports": Part("analysis/report/render/contents.py", FORMAT),
}

# Run in the copy: the contracts of `sweeps check` over what was added, and what specs, keys and plug-ins make of the loss.
ASKED = """
import json, sys
from pathlib import Path
import search_spaces, trainables
from sweeps.commands import contracts
from trainables import plugins, spec
from trainables.spec import registry

entries = [registry.get(*words.split()) for words in sys.argv[2:]]
entries.append(registry.Entry(group="study", name="shrinking", implementation=search_spaces.load("shrinking")))
told = {"where": trainables.__file__, "key": spec.stage_key(spec.StudentSpec(), {})}
told["checks"] = [[one.what, one.contract, one.why] for one in contracts.check(entries)]

chosen = spec.StudentSpec(method="kd+NEAR", near={"rows": "2"})
told["plain"] = spec.to_plain(chosen)["near"]
told["method"], told["components"] = chosen.method, chosen.components()
told["read back"] = spec.spec_from("student", spec.to_plain(chosen)) == chosen
told["off"] = spec.stage_key(spec.StudentSpec(near={"rows": 9}), {}) == told["key"]
told["paths"] = [path for path in spec.field_paths(spec.StudentSpec) if path.startswith("near.")]
for name in ("near", "near_mean"):
    file = Path(sys.argv[1]) / f"{name}_of_mine.py"
    file.write_text(f"from trainables import plugins\\n\\n@plugins.loss('{name}')\\ndef f(a, b, c): ...\\n")
    try:
        plugins.load(file)
    except Exception as error:
        told[name] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with one more of each."""
    copy = tmp_path_factory.mktemp("house")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for part in PARTS.values():
        assert not (copy / part.file).exists()
        (copy / part.file).write_text(part.text.lstrip(), encoding="utf-8")
        if part.elsewhere:
            path = copy / part.elsewhere
            text = path.read_text(encoding="utf-8")
            place = text.index(part.before) if part.before else len(text)
            path.write_text(text[:place] + part.declaration + text[place:], encoding="utf-8")
    return copy


def files_of(folder: Path) -> dict[str, list[str]]:
    """The lines of each file of the packages, by its path in the folder."""
    paths = [path for name in PACKAGES for path in (folder / name).rglob("*") if path.suffix not in ("", ".pyc")]
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8").splitlines()
        for path in paths
        if path.is_file()
    }


def hunks(before: list[str], after: list[str]) -> list[tuple[int, int]]:
    """(lines taken out, lines put in) of each place that differs."""
    codes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in codes if tag != "equal"]


def python(house: Path, *words: str) -> str:
    """What Python prints with the copy in place of the house."""
    environment = {**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *words], cwd=house, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def sweeps(house: Path, *words: str) -> Any:
    """What a command of the copy answers."""
    return json.loads(python(house, "-m", "sweeps", *words, "--json"))


def test_what_was_touched(house: Path) -> None:
    before, after = files_of(ROOT), files_of(house)
    assert len(before) > 200 and set(before) <= set(after)
    assert set(after) - set(before) == {part.file for part in PARTS.values()}, "a part is one file"
    changed = {name: hunks(before[name], after[name]) for name in before if before[name] != after[name]}
    declared = {part.elsewhere: [(0, part.declaration.count("\n"))] for part in PARTS.values() if part.elsewhere}
    assert changed == declared, "at most one declaration elsewhere, and nothing else"
    assert {name for name, part in PARTS.items() if part.elsewhere} == {"loss", "network"}
    assert declared[PARTS["network"].elsewhere] == [(0, 1)]
    assert LOSS_DECLARED.count("\ndeclare(") == LOSS_DECLARED.count("\nclass ") == 1


def test_each_holds_the_contracts_and_the_loss_is_known_everywhere(house: Path, tmp_path: Path) -> None:
    names = ("loss near", "network speck", "stage shrunk", "recipe shrinking", "dataset spots")
    told: dict[str, Any] = json.loads(python(house, "-c", ASKED, str(tmp_path), *names).splitlines()[-1])
    assert told["where"] == str(house / "trainables" / "__init__.py")
    assert [row for row in told["checks"] if row[2]] == []
    assert {what for what, _, _ in told["checks"]} == {*names, "study shrinking"}
    assert told["key"] == stage_key(StudentSpec(), {}), "no key moves by it"
    assert told["method"] == "kd+near" and told["plain"] == {"rows": 2.0, "means": 0.5, "knee": 1.0}
    assert told["components"]["loss.near"] == 3 and told["read back"] and told["off"]
    assert told["paths"] == ["near.rows", "near.means", "near.knee"]
    assert "the name is built in, a method" in told["near"]
    assert "the name is built in, a term of near" in told["near_mean"]


def test_each_is_listed_and_shown(house: Path) -> None:
    assert "shrinking" in {row["name"] for row in sweeps(house, "list")["studies"]}
    assert "240 spots" in python(house, "-m", "sweeps", "data", "list")
    listed = python(house, "-m", "sweeps", "params", "shrinking")
    assert "\nNear\n" in listed and "near.rows = 1" in listed and "Of embeddings." in listed
    assert "share = varies: 0.5, 1" in listed
    shown = sweeps(house, "show", "shrinking", "--preset", "tiny")
    assert shown["stages"]["distinct"] == {"origin": 3, "miniature": 6, "heir": 6, "evaluation": 6}
    assert 12 <= shown["core_hours"] < 12.1, "by what the stage says of its work"
    assert "6 shrunk ones" in python(house, "-m", "sweeps", "show", "shrinking", "--preset", "tiny")


def test_a_run_records_every_role_and_reports_on_its_page(house: Path) -> None:
    answer = sweeps(house, "run", "shrinking", "--preset", "tiny", "--seeds", "1", "--jobs", "1")
    assert answer["trained"] == 7 and answer["failures"] == []
    records = pl.read_parquet(Path(answer["path"]) / "records" / "*.parquet")
    roles = ["evaluation"] * 2 + ["heir"] * 2 + ["miniature"] * 2 + ["origin"]
    assert sorted(records["stage"]) == roles
    assert set(records.filter(pl.col("stage") == "evaluation")["metric"]) == {"paired"}
    assert set(records["task"]) == {"pairing"}
    (origin,) = records.filter(pl.col("stage") == "origin")["key"]
    assert set(records["teacher"]) == {origin}
    logged = records.filter(pl.col("stage") == "heir").explode("history").unnest("history")["name"]
    assert {"train/near_rows", "train/near_mean"} <= set(logged)
    report = Path(answer["path"]) / "report"
    told = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert told["sentence"] == "There are 2 trials."
    page = (report / "index.html").read_text(encoding="utf-8")
    assert '<a href="#count">Counted</a>' in page and "One each." in page and 'id="cost"' in page
    assert (report / "tables" / "counted.md").read_text(encoding="utf-8").startswith("| trials |")
    assert not (report / "figures").exists()
    headings = (report / "contents.txt").read_text(encoding="utf-8").splitlines()
    assert headings[0] == "Counted" and "Method" in headings
    assert "contents.txt" in told["files"]
