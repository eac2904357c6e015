"""A place in which the commands of the documents work: what they name lies there, made up and small."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
SECONDS = 300  # For one command, on a machine that is busy with other things.


def sh_lines(text: str) -> list[str]:
    """Every command line of the sh blocks."""
    found = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for block in found for line in block.splitlines() if line.strip()]


def generator(name: str) -> ModuleType:
    """docs/<name>.py as a module."""
    plan = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert plan and plan.loader
    module = importlib.util.module_from_spec(plan)
    plan.loader.exec_module(module)
    return module


def own_study() -> tuple[str, str]:
    """Name and source of the README's own-study example."""
    (source,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    named = re.search(r"`search_spaces/(\w+)\.py`", README)
    assert named
    return named[1], source


class Desk:
    """A place of one's own: a copy of the studies with the README's example, data, plug-ins, weights, an empty store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.typed: dict[str, subprocess.CompletedProcess[str]] = {}
        overlay = folder / "overlay"
        shutil.copytree(ROOT / "search_spaces", overlay / "search_spaces", ignore=shutil.ignore_patterns("__pycache__"))
        name, source = own_study()
        (overlay / "search_spaces" / f"{name}.py").write_text(source, encoding="utf-8")
        for room in (
            "sweeps",
            "trainables",
            "system",
            "analysis",
            "slurm",
        ):  # Studies are found beside `sweeps`, as in a checkout.
            (overlay / room).symlink_to(ROOT / room)
        write_own_images(folder / "my_images")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SWEEPS_")}
        self.environment = kept | {
            "SWEEPS_OUT": str(self.out),
            "SWEEPS_CORES_DIR": str(folder / "cores"),
            "SWEEPS_DATA_ROOT": str(folder / "DIR"),
            "PYTHONPATH": str(overlay),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
        }

    def furnish(self) -> None:
        """Bring what the documents take for granted: data sets under DIR, plug-ins, weights, a SLURM profile."""
        write_lfw(self.folder / "DIR")
        write_cifar100(self.folder / "DIR")
        examples = dict(re.findall(r"^`(\w+\.py)`\n\n```python\n(.*?)^```$", PLUGINS, re.DOTALL | re.MULTILINE))
        (self.folder / "mine").mkdir()
        for name, source in examples.items():
            (self.folder / "mine" / name).write_text(source, encoding="utf-8")
        (self.folder / "mine.py").write_text(examples["variance.py"].replace('"variance"', '"mine"'), encoding="utf-8")
        write_weights(self.folder / "backbone.pth")
        (line,) = re.findall(r"^printf '(.*)' > ~/.config/sweeps/profiles/mine.toml$", CLUSTER, re.MULTILINE)
        profile = self.folder / "config" / "sweeps" / "profiles" / "mine.toml"
        profile.parent.mkdir(parents=True)
        profile.write_text(line.replace("\\n", "\n"), encoding="utf-8")

    def type(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command of ours, each once."""
        words = [sys.executable, *words[1:]]
        typed = shlex.join(words)
        if typed not in self.typed:
            self.typed[typed] = subprocess.run(
                words,
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        return self.typed[typed]

    def type_small(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """The same, but `run` and `show` get the preset that takes seconds."""
        small = words[3] in ("run", "show") and "--preset" not in words
        return self.type([*words, "--preset", "tiny"] if small else words)


CLUSTER = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def write_own_images(folder: Path) -> None:
    """Two classes of 160 grey images: enough for the demo's 200 beside what is tested and held back."""
    random = np.random.default_rng(0)
    for shade, bird in enumerate(("blackbird", "wren")):
        (folder / bird).mkdir(parents=True)
        for number in range(160):
            pixels = random.integers(0, 128, (16, 16), dtype=np.uint8) + np.uint8(100 * shade)
            Image.fromarray(pixels).save(folder / bird / f"{number}.png")


def write_lfw(root: Path, people: int = 60, images: int = 5, folds: int = 10) -> None:
    """`lfw/<Person>/` in colours and `pairs.txt` beside it: each fold has people of its own, as in the real set."""
    random = np.random.default_rng(1)
    names = [f"Person_{number:02d}" for number in range(people)]
    for name, number in itertools.product(names, range(1, images + 1)):
        path = root / "lfw" / name / f"{name}_{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    each = people // folds
    lines = [f"{folds}\t{each}"]
    for fold in range(folds):
        own = names[fold * each : (fold + 1) * each]
        lines += [f"{name}\t1\t2" for name in own]
        lines += [f"{name}\t1\t{other}\t1" for name, other in zip(own, [*own[1:], own[0]], strict=True)]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_cifar100(root: Path, each: int = 5) -> None:
    """`cifar-100-python/`: 100 classes of a few images."""
    random = np.random.default_rng(2)
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for file, count in (("train", each), ("test", 2)):
        content = {
            b"data": random.integers(0, 256, (100 * count, 3072), dtype=np.uint8),
            b"fine_labels": list(range(100)) * count,
            b"filenames": [f"{file}_{number}.png".encode() for number in range(100 * count)],
        }
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    names = [f"class {number}".encode() for number in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=2))


def write_weights(path: Path) -> None:
    """A file of weights as people have them: a network of ours, drawn and not trained."""
    import torch

    from trainables.models import build

    torch.manual_seed(0)
    torch.save(build("resnet_thin", channels=3, classes=10).state_dict(), path)
