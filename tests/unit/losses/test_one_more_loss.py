"""A built-in loss is its file and one declaration: everything else follows from the registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trainables
from trainables.spec import StudentSpec, stage_key

TERM = '''
"""Smooth distance of embeddings by a linear map: two terms, one of which trains along."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.losses.terms import Batch, Known, Term


class NearTerm(Term):
    """Embeddings and their means."""

    def build(self, known: Known) -> None:
        self.map = nn.Linear(known.student_width, known.teacher_width, bias=False)
        self.modules = {"near": self.map}

    def value(self, name: str, batch: Batch) -> Tensor:
        ours, theirs = self.map(batch.student.embedding.float()), batch.teacher.embedding.detach().float()
        if name == "near_mean":
            ours, theirs = ours.mean(0), theirs.mean(0)
        return F.smooth_l1_loss(ours, theirs, beta=self.options.beta)
'''
DECLARATION = '''

@dataclass(frozen=True, kw_only=True)
class NearSpec(Fields):
    """Smooth distances."""

    rows: float = bounded(1.0, 0.0, text="Of embeddings.", unit="factor")
    means: float = bounded(0.5, 0.0)
    beta: float = bounded(1.0, 0.01)


declare("near", "near:NearTerm", NearSpec, title="Near", version=3, terms={"near_rows": "rows", "near_mean": "means"})
'''
ASKED = """
import dataclasses, json, sys, tempfile
from pathlib import Path
import numpy as np
from pyarrow import ipc
import trainables
from trainables import plugins, spec
from trainables.attempts.attempt import attempt
from trainables.data.packed import Items
from trainables.data.packing import write_packed
from trainables.stages.base import Context
from trainables.store.artifacts import Store

told = {"where": trainables.__file__, "key": spec.stage_key(spec.StudentSpec(), {})}
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

store = Store(Path(sys.argv[1]) / "store")
store.prepare()
(store.root / "data").mkdir()
images = np.random.RandomState(0).randint(0, 256, (16, 3, 8, 8)).astype(np.uint8)
labels, split = np.arange(16, dtype=np.int32) % 2, np.repeat([0, 1], [12, 4]).astype(np.uint8)
items = Items(images=images, labels=labels, split=split, names=[str(n) for n in range(16)], classes=("a", "b"))
data = write_packed(store.root / "data", "drawn", items).fingerprint
fields = {"data": data, "architecture": "resnet_thin", "epochs": 2, "batch_size": 6}
parents = {}
for stage in (spec.TeacherSpec(**fields, embedding=5), spec.StudentSpec(**fields, method="near+kd")):
    key = spec.stage_key(stage, parents)
    *_, said = attempt(stage.kind, spec.to_plain(stage), parents, Context(store=store, key=key, core_locks=False))
    assert said["outcome"] == "done", said
    parents = {"guide": key}
rows = ipc.open_file(store.get(key).path / "history.arrow").schema.names
told["history"] = sorted(name for name in rows if "near" in name)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the packages in which one file was written and one declaration added."""
    folder, root = tmp_path_factory.mktemp("enlarged"), Path(trainables.__file__).parent.parent
    for name in ("sweeps", "search_spaces", "trainables", "analysis", "slurm", "system"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "trainables"
    (package / "losses" / "near.py").write_text(TERM)
    with (package / "spec" / "losses.py").open("a") as file:
        file.write(DECLARATION)
    return folder


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_loss_of_one_file_and_one_declaration_is_known_and_trains(enlarged: Path) -> None:
    told: dict[str, Any] = json.loads(run(enlarged, "-c", ASKED, str(enlarged)).splitlines()[-1])
    assert told["where"] == str(enlarged / "trainables" / "__init__.py")
    assert told["key"] == stage_key(StudentSpec(), {})  # No key moves by it.
    assert told["method"] == "kd+near" and told["plain"] == {"rows": 2.0, "means": 0.5, "beta": 1.0}
    assert told["components"]["loss.near"] == 3 and told["read back"] and told["off"]
    assert told["paths"] == ["near.rows", "near.means", "near.beta"]
    assert "the name is built in, a method" in told["near"]
    assert "the name is built in, a term of near" in told["near_mean"]
    assert {"near_rows", "near_mean"} <= {name.rpartition("/")[2] for name in told["history"]}


def test_such_a_loss_is_a_parameter_of_studies(enlarged: Path) -> None:
    listed = run(enlarged, "-m", "sweeps", "params", "horkd_order_ablation")
    assert "\nNear\n" in listed and "near.rows = 1" in listed and "Of embeddings." in listed
    shown = run(enlarged, "-m", "sweeps", "show", "horkd_order_ablation", "--set", "method=horkd+near")
    assert "horkd_order_ablation" in shown
