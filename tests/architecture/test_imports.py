"""Who may import whom, read from the sources; and what a light import must not load."""

from __future__ import annotations

import ast
import fnmatch
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEES = {
    "sweeps": {"search_spaces", "trainables", "analysis", "slurm", "system"},
    "search_spaces": {"trainables"},
    "trainables": {"system"},
    "analysis": {"system"},
    "slurm": {"system"},
    "system": set(),
}

# Within trainables a module imports lower numbers only, or its own group.
LEVELS = {
    "errors": 0,
    "spec": 1,
    "cores": 2,
    "store": 2,
    "data": 3,
    "losses": 3,
    "models": 3,
    "stages": 3,  # The folder itself.
    "plugins": 4,
    "metrics": 4,
    "stages.base": 5,  # What a stage is given; the loop knows its context.
    "attempts": 6,
    "pretrained": 6,
    "training": 7,
    "tasks": 8,
    "stages.*": 9,
    "recipes": 10,
    "contracts": 10,
    "tune": 11,
}

# Library -> files that may import it, anywhere in them.
DOORS = {
    "ray": (
        "trainables/tune.py",
        "sweeps/engine/ray_tune.py",
        "sweeps/engine/searcher.py",
        "sweeps/engine/machines.py",
        "slurm/head.py",
        "slurm/worker_node.py",
    ),
    "optuna": ("sweeps/engine/sampling/*", "sweeps/engine/journal_repair.py"),
    "submitit": ("slurm/submit.py",),
    "seaborn": ("analysis/figures/plotting.py",),
    "matplotlib": ("analysis/figures/plotting.py",),
    "fontTools": ("analysis/figures/drawing.py",),
    "jinja2": ("analysis/report/render/html.py",),
    "markupsafe": ("analysis/report/render/html.py",),
    "polars": ("analysis/*", "sweeps/*"),
    "scipy": ("analysis/*", "trainables/data/fine_grained.py"),
    "torch": ("trainables/*",),
    "torchvision": ("trainables/*",),
    "timm": ("trainables/models/outside.py",),
    "safetensors": ("trainables/*",),
    "streamlit": (),
    "pandas": (),
}

NO_TORCH = (
    "system/*",
    "trainables/__init__.py",
    "trainables/errors.py",
    "trainables/spec/*",
    "trainables/recipes/*",
    "trainables/plugins/*",
    "trainables/store/*",
    "trainables/cores.py",
    "trainables/tune.py",
    "trainables/stages/__init__.py",
    "trainables/stages/base.py",
    "trainables/attempts/*",
    "trainables/stages/sleep.py",
    "trainables/data/sets/*",
    *(
        f"trainables/data/{name}.py"
        for name in (
            *("__init__", "archives", "block_digests", "blocks", "catalog", "checks", "cifar", "datasets", "draws"),
            *(
                "fine_grained",
                "folder",
                "from_plugins",
                "images",
                "packed",
                "people",
                "protocols",
                "readers",
                "sources",
            ),
        )
    ),
    "trainables/pretrained/__init__.py",
    "trainables/pretrained/pickles.py",
    "trainables/pretrained/shelf.py",
)


def is_torch_free(name: str) -> bool:
    """Whether a file is one of those that must not know torch."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in NO_TORCH)


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """(path from the root, path) of the sources of all rooms."""
    for room in SEES:
        for path in sorted((root / room).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path


def module_of(name: str) -> str:
    """`trainables/data/__init__.py` -> `trainables.data`."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@functools.cache
def parsed(text: str) -> tuple[ast.AST, ...]:
    """What may be an import, at whatever depth."""
    return tuple(n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.Import, ast.ImportFrom, ast.Call)))


def imports(name: str, path: Path, known: set[str]) -> Iterator[tuple[int, str]]:
    """(line, module) of everything a file imports; a name inside a package counts as its module."""
    module = module_of(name)
    package = module if name.endswith("/__init__.py") else module.rpartition(".")[0]
    for node in parsed(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if inner in known else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def place_in_trainables(module: str) -> tuple[str, int]:
    """(group, level) of a module of trainables."""
    parts = module.split(".")[1:]
    if not parts:
        return "", 0
    if parts[0] == "stages" and len(parts) > 1:
        group = "stages.base" if parts[1] == "base" else "stages.*"
        return group, LEVELS[group]
    assert parts[0] in LEVELS, f"{module} has no place in the layers of trainables; give it one in {__file__}"
    return parts[0], LEVELS[parts[0]]


def breaches(root: Path) -> list[str]:
    """One line for each import that goes against the picture."""
    files = list(sources(root))
    known = {module_of(name) for name, _ in files}
    found = []
    for name, path in files:
        room = name.split("/")[0]
        for line, target in imports(name, path, known):
            top = target.split(".")[0]
            where = f"{name}:{line} imports {target}"
            if top in SEES and top != room and top not in SEES[room]:
                found.append(f"{where}: {room} must not see {top}")
            if top == room == "trainables":
                group, level = place_in_trainables(module_of(name))
                other, other_level = place_in_trainables(target)
                if other != group and other_level >= level:
                    found.append(f"{where}: {other} is not below {group}")
            if top in DOORS and not any(fnmatch.fnmatch(name, door) for door in DOORS[top]):
                found.append(f"{where}: the doors of {top} are {', '.join(DOORS[top]) or 'closed'}")
            if top == "torch" and is_torch_free(name):
                found.append(f"{where}: {name} must not know torch")
    return found


def test_imports_only_go_down_and_heavy_libraries_pass_their_doors() -> None:
    assert breaches(ROOT) == []


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the rooms that a test may spoil."""
    for room in SEES:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("trainables/spec/__init__.py", "import sweeps.planning.plan", "trainables must not see sweeps"),
        ("search_spaces/ranges.py", "from analysis import statistics", "search_spaces must not see analysis"),
        ("analysis/load.py", "from trainables.spec import ORDERS", "analysis must not see trainables"),
        ("analysis/load.py", "from sweeps import graph", "analysis must not see sweeps"),
        ("slurm/made_up.py", "import trainables", "slurm must not see trainables"),
        ("trainables/errors.py", "from trainables import spec", "spec is not below errors"),
        ("trainables/store/artifacts.py", "from ..data import packed", "data is not below store"),
        ("trainables/losses/horkd.py", "from ..models import build", "models is not below losses"),
        ("trainables/metrics/classification.py", "import trainables.training.loop", "training is not below metrics"),
        ("trainables/training/loop.py", "from trainables.stages import teacher", "stages.* is not below training"),
        ("trainables/stages/base.py", "from trainables import training", "training is not below stages.base"),
        ("trainables/stages/teacher.py", "from trainables.recipes import Step", "recipes is not below stages.*"),
        ("trainables/tasks/base.py", "from trainables.stages.evaluation import run", "stages.* is not below tasks"),
        ("trainables/spec/__init__.py", "import torch.nn", "must not know torch"),
        ("trainables/cores.py", "def later():\n    from torch import nn", "must not know torch"),
        ("trainables/stages/base.py", "def later():\n    import torch", "must not know torch"),
        ("trainables/training/loop.py", "import ray", "the doors of ray"),
        ("sweeps/runs/execute.py", "def later():\n    from ray import tune", "the doors of ray"),
        ("sweeps/planning/plan.py", "import optuna.trial", "the doors of optuna"),
        ("sweeps/planning/plan.py", "import torch", "the doors of torch"),
        ("search_spaces/ranges.py", "import importlib\nimportlib.import_module('optuna')", "the doors of optuna"),
        ("analysis/report/write.py", "import matplotlib.pyplot", "the doors of matplotlib"),
        ("analysis/figures/forest.py", "from matplotlib.axes import Axes", "the doors of matplotlib"),
        ("analysis/report/render/markdown.py", "import seaborn", "the doors of seaborn"),
        ("analysis/report/write.py", "import jinja2", "the doors of jinja2"),
        ("trainables/data/packed.py", "import polars", "the doors of polars"),
        ("sweeps/engine/ray_tune.py", "import submitit", "the doors of submitit"),
        ("analysis/report/write.py", "import streamlit", "the doors of streamlit are closed"),
    ],
)
def test_a_planted_breach_is_found(copied: Path, file: str, line: str, complaint: str) -> None:
    with open(copied / file, "a", encoding="utf-8") as handle:
        handle.write(f"\n\n{line}\n")
    before = set(breaches(ROOT))
    found = [text for text in breaches(copied) if text not in before]
    assert len(found) == 1
    assert complaint in found[0]
    assert file in found[0]


def circles(root: Path) -> set[frozenset[str]]:
    """Groups of modules that import each other, at the top of a file or inside a function."""
    files = list(sources(root))
    known = {module_of(name) for name, _ in files}
    reads = {
        module_of(name): {target for _, target in imports(name, path, known)} & known - {module_of(name)}
        for name, path in files
    }
    reached = {module: reachable(module, reads) for module in reads}
    groups = {module: frozenset(m for m in reached[module] if module in reached[m]) for module in reads}
    return {group for group in groups.values() if group}


def reachable(module: str, reads: dict[str, set[str]]) -> set[str]:
    """All that a module imports, itself or through others; itself only where it is in a circle."""
    seen: set[str] = set()
    ahead = [module]
    while ahead:
        new = reads[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def test_no_two_modules_import_each_other_not_even_inside_functions() -> None:
    assert circles(ROOT) == set()


@pytest.mark.parametrize(
    ("lines", "group"),
    [
        (
            {"sweeps/planning/cells.py": "def later():\n    from sweeps.planning.plan import Plan"},
            {"sweeps.planning.cells", "sweeps.planning.plan", "sweeps.planning.resolve"},
        ),
        (
            {"system/made_up.py": "from system import more", "system/more.py": "import system.made_up"},
            {"system.made_up", "system.more"},
        ),
        (
            {
                "sweeps/planning/request.py": "if False:\n    from sweeps.planning.resolve import Resolved",
                "sweeps/planning/rough.py": "import sweeps",  # No circle: a package that imports nothing back.
            },
            {"sweeps.planning.request", "sweeps.planning.resolve", "sweeps.planning.weight_files"},
        ),
    ],
)
def test_a_planted_circle_is_found(copied: Path, lines: dict[str, str], group: set[str]) -> None:
    for file, line in lines.items():
        with open(copied / file, "a", encoding="utf-8") as handle:
            handle.write(f"\n\n{line}\n")
    assert circles(copied) - circles(ROOT) == {frozenset(group)}


HEAVY = ("torch", "ray", "scipy", "seaborn", "matplotlib", "optuna", "submitit", "sklearn", "polars", "pandas")


def loaded_by(*modules: str) -> list[str]:
    """Heavy libraries in memory after importing modules in a fresh interpreter."""
    code = (
        f"import json, sys\nfor name in {modules!r}:\n    __import__(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return list(json.loads(done.stdout))


def test_commands_answer_without_loading_a_heavy_library() -> None:
    wanted = [
        "search_spaces",
        "sweeps.planning.planner",
        "sweeps.planning.bind",
        "sweeps.runs.folder",
        "sweeps.runs.execute",
        "sweeps.runs.prepare",
        "sweeps.planning.survey",
        "sweeps.commands.app",
        "sweeps.commands.plan_words",
    ]
    present = [name for name in wanted if importlib.util.find_spec(name) is not None]
    assert len(present) >= 6
    assert loaded_by(*present) == []


def test_every_study_loads_without_a_heavy_library() -> None:
    studies = [f"search_spaces.{p.stem}" for p in (ROOT / "search_spaces").glob("*.py") if p.stem != "__init__"]
    assert loaded_by(*studies) == []


def test_stage_kinds_and_tasks_are_listed_without_a_heavy_library() -> None:
    folders = [ROOT / "trainables" / name for name in ("stages", "tasks")]
    names = [f"trainables.{folder.name}.{path.stem}" for folder in folders for path in folder.glob("[!_]*.py")]
    assert len(names) >= 12
    assert loaded_by(*names) == []


def test_what_must_not_know_torch_does_not_load_it_through_others_either() -> None:
    names = [module_of(name) for name, _ in sources(ROOT) if is_torch_free(name) and name != "trainables/tune.py"]
    assert len(names) > 40
    assert loaded_by(*names) == []


def test_the_engine_and_its_worker_load_ray_but_not_torch() -> None:
    assert "torch" not in loaded_by("sweeps.engine.ray_tune")
    assert loaded_by("sweeps.engine.ray_tune") == []


def test_what_is_run_next_is_decided_without_ray() -> None:
    """Not even inside a function: the queue's files are read."""
    files = {name: path for name, path in sources(ROOT)}
    known = {module_of(name) for name in files}
    pure = [f"sweeps/engine/{name}.py" for name in ("order", "state", "listener", "queue")]
    seen = {target.partition(".")[0] for name in pure for _, target in imports(name, files[name], known)}
    assert "sweeps" in seen and not seen & {"ray", "torch", "optuna"}
