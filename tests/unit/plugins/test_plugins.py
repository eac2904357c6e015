"""Plug-ins: how files come in, what is refused, what enters keys, and what the parts do once they are there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import search_spaces
from search_spaces.claims import BestIsNot, Better, Claim
from sweeps.commands import contracts
from sweeps.engine.machines import LocalMachine
from sweeps.engine.queue import StageQueue
from sweeps.engine.state import EngineState
from sweeps.planning.checks import check_against_data
from sweeps.planning.cost import Counts, seconds_of
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.identity import plugins as plugins_of
from sweeps.planning.identity import run_id
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from sweeps.planning.resolve import resolve
from sweeps.runs import plugin_files
from sweeps.runs.datasets import stand_in
from sweeps.runs.folder import RunFolder
from trainables import plugins
from trainables import spec as specs
from trainables.attempts.attempt import attempt
from trainables.attempts.failures import verdict
from trainables.attempts.manifest import describe
from trainables.contracts import Broken
from trainables.contracts.networks import OF_NETWORKS
from trainables.data import catalog
from trainables.data.packed import open_packed
from trainables.errors import ArtifactError, DataError, UsageError
from trainables.losses.distiller import Distiller
from trainables.models import Outputs, build
from trainables.recipes import HORKD_ASSISTANT
from trainables.recipes.distillation import DISTILLATION
from trainables.spec import AssistantSpec, StudentSpec, TeacherSpec, registry, stage_key, to_plain
from trainables.spec.networks import families, of_files
from trainables.stages.base import Context
from trainables.store.artifacts import Store

LOSS = """
from trainables import plugins

@plugins.loss("nearness", weight=0.5, zero=True)
def nearness(student, teacher, labels, *, power: float = 2.0, squared: bool = False):
    return (student.embedding.mean(1) - teacher.embedding.mean(1)).abs().pow(power).mean()
"""

NETWORK = """
from torch import nn
from trainables import plugins
from trainables.models import Network

@plugins.network("small")
def small(channels, classes, width=1.0, embedding=0):
    wide = max(1, round(8 * width))
    trunk = nn.Sequential(nn.Conv2d(channels, wide, 3, stride=2, padding=1), nn.ReLU())
    return Network(trunk, wide, classes=classes, embedding=embedding, stages=[(1, wide)])
"""

OWN_MODULE = """
from torch import nn
from trainables import plugins
from trainables.models import Outputs

class Mine(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU())
        self.top = nn.Linear(8, classes)
        self.embedding_width, self.map_widths = 8, (8,)

    def forward(self, images, maps=False):
        seen = self.body(images)
        embedding = seen.mean((2, 3))
        return Outputs(embedding, self.top(embedding), (seen,) if maps else ())

@plugins.network("mine")
def mine(channels, classes):
    return Mine(channels, classes)
"""

DATA = """
import numpy as np
from trainables import plugins

@plugins.dataset("halves", summary="bright or dark", side=8, protocols=("classification",))
def halves():
    random = np.random.RandomState(0)
    labels = np.arange(60) % 2
    return {"images": (random.randint(0, 100, (60, 8, 8)) + 100 * labels[:, None, None]).astype("uint8"), "labels": labels}
"""

STAGE = """
import json, time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from search_spaces.study import Preset, Study
from trainables import plugins
from trainables.recipes import Recipe, Step
from trainables.spec import StageSpec, bounded
from trainables.stages.base import Progress, Result

@dataclass(frozen=True, kw_only=True)
class CountSpec(StageSpec):
    kind: ClassVar[str] = "count"
    seed: int = bounded(0, 0)
    epochs: int = bounded(3, 1)

def run(spec, parents, context):
    saved = context.saved()
    rows = json.loads(saved[1]) if saved and RESUMES else []
    while len(rows) < spec.epochs:
        rows.append({"epoch": len(rows) + 1, "value": float(spec.seed + len(rows)) + MORE})
        context.save(len(rows), json.dumps(rows).encode())
        yield Progress(len(rows), spec.epochs)
    return Result(metrics={"top1": 0.5, "last": rows[-1]["value"]}, history=rows)

RESUMES, MORE = True, 0.0
plugins.stage(CountSpec, run)
COUNT = plugins.recipe(Recipe("count", (Step("teacher", CountSpec), Step("evaluation", CountSpec, {"network": ("teacher",)}))))
STUDY = Study(
    name="counting", title="Counts", question="Does it count?", paper="none", figure="none", recipe=COUNT,
    axes={"teacher.epochs": (2, 3)}, presets={name: Preset(seeds=2, parameters={}) for name in ("demo", "tiny")},
)
"""


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No plug-in outlives its test."""
    yield
    plugins.forget()
    assert registry.plugins() == [] and plugins.loaded() == []


@pytest.fixture
def desk(nasty_path: Path) -> Any:
    """Writes files and loads them."""

    def write(name: str, source: str) -> Path:
        path = nasty_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    return SimpleNamespace(
        folder=nasty_path, write=write, load=lambda source, name="mine.py": plugins.load(write(name, source))
    )


# How files come in.


def test_what_a_file_offers_is_found_by_name_and_says_where_it_is_from(desk: Any) -> None:
    origin = desk.load(LOSS)
    offer = registry.get("loss", "nearness")
    assert offer.origin == origin and origin.file == "mine.py" and origin.where == str(desk.folder / "mine.py")
    assert vars(offer.options()) == {"weight": 0.5, "power": 2.0, "squared": False}
    assert [row["name"] for row in plugin_files.described()] == ["nearness"]


def test_the_same_bytes_are_one_plug_in_wherever_they_lie(desk: Any) -> None:
    first = desk.load(LOSS)
    before = registry.generation()
    assert desk.load(LOSS, "copy.py") is first and desk.load(LOSS) is first
    assert registry.generation() == before and len(plugins.loaded()) == 1


def test_two_files_with_one_name_are_refused_with_both_places(desk: Any) -> None:
    desk.load(LOSS)
    with pytest.raises(UsageError) as caught:
        desk.load(LOSS + "\n# Edited.\n", "other.py")
    assert str(desk.folder / "mine.py") in str(caught.value) and str(desk.folder / "other.py") in str(caught.value)
    assert "line 4" in str(caught.value)
    assert [origin.file for origin in plugins.loaded()] == ["mine.py"]


@pytest.mark.parametrize(
    ("kind", "source", "name"),
    [
        ("loss", LOSS.replace('"nearness"', '"{}"'), "kd"),
        ("loss", LOSS.replace('"nearness"', '"{}"'), "student"),
        ("loss", LOSS.replace('"nearness"', '"{}"'), "epochs"),
        ("loss", LOSS.replace('"nearness"', '"{}"'), "none"),
        ("network", NETWORK.replace('"small"', '"{}"'), "resnet18"),
        ("network", NETWORK.replace('"small"', '"{}"'), "pixels"),
        ("dataset", DATA.replace('"halves"', '"{}"'), "digits"),
        ("stage", STAGE.replace('= "count"', '= "{}"'), "teacher"),
        ("recipe", STAGE.replace('Recipe("count"', 'Recipe("{}"'), "horkd"),
    ],
)
def test_a_name_that_is_built_in_is_refused(desk: Any, kind: str, source: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"The {kind} '{name}' of .*built in"):
        desk.load(source.replace("{}", name))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *[(name, "a term of horkd, loss.") for name in ("point", "pair", "angle", "center")],
        *[(name, f"a term of {name[:3]}") for name in ("rkd_distance", "rkd_angle", "mkd_absolute", "mkd_relative")],
        *[(name, "a column of histories") for name in ("loss", "top1", "spread", "cross_entropy", "triplet")],
        *[(name, "a word with a meaning") for name in ("plugin", "auto", "outputs", "none")],
        ("horkd", "a method"),
        ("learning_rate", "a parameter of stages"),
        ("kd_weighted", "is the term kd times its weight"),
    ],
)
def test_a_loss_cannot_take_a_name_of_keys_histories_or_the_command_line(desk: Any, name: str, told: str) -> None:
    before = key(), stage_key(TeacherSpec(data="d"), {})
    with pytest.raises(UsageError, match=f"The loss '{name}' of .*cannot be called so: .*{told}"):
        desk.load(LOSS.replace('"nearness"', f'"{name}"'))
    assert (key(), stage_key(TeacherSpec(data="d"), {})) == before and registry.plugins() == []


@pytest.mark.parametrize("name", [*of_files(), *families(), *specs.ARCHITECTURES, "pixels", "auto", "none"])
def test_a_network_cannot_take_a_name_of_keys_or_of_a_family_of_weights(desk: Any, name: str) -> None:
    with pytest.raises(UsageError, match=f"The network '{name}' of .*the name is built in, "):
        desk.load(NETWORK.replace('"small"', f'"{name}"'))


def test_no_component_of_ours_can_be_taken_by_a_plug_in(desk: Any) -> None:
    sources = {"loss": LOSS.replace('"nearness"', '"{}"'), "network": NETWORK.replace('"small"', '"{}"')}
    for component in specs.built_in():
        kind, _, name = component.partition(".")
        if kind in sources:
            with pytest.raises(UsageError, match="cannot be called so"):
                desk.load(sources[kind].replace("{}", name))


def test_a_data_set_cannot_be_called_as_folders_are_asked_for(desk: Any) -> None:
    with pytest.raises(UsageError, match="how folders of images are asked for"):
        desk.load(DATA.replace('"halves"', '"folder"'))


@pytest.mark.parametrize("name", ["Near", "2near", "near-ness", "timm:near", "", "a b"])
def test_a_name_that_cannot_be_typed_as_a_word_is_refused(desk: Any, name: str) -> None:
    with pytest.raises(UsageError, match="must be lower-case letters"):
        desk.load(LOSS.replace('"nearness"', repr(name)))


def test_a_study_with_a_built_in_name_is_refused(desk: Any) -> None:
    path = desk.write("mine.py", STAGE.replace('name="counting"', 'name="horkd_order_ablation"'))
    with pytest.raises(UsageError, match=r"search_spaces/horkd_order_ablation.py and in .*mine.py"):
        plugin_files.load_files([str(path)])


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import no_such_module\n", "fails at line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n\ndef f(:\n", "cannot be read: line 3: "),
        ("def f():\n    return 1 / 0\n\nf()\n", "fails at line 2: ZeroDivisionError"),
        ("raise SystemExit(3)\n", "fails at line 1: SystemExit: 3"),
        ("x = 1\n", "offers nothing"),
        ("", "offers nothing"),
        ("STUDY = 3\n", "STUDY must be a `search_spaces.study.Study`, but is int"),
        (LOSS.replace("labels, *,", "labels, margin, *,"), "must be a function of (student, teacher, labels)"),
        (LOSS.replace("power: float = 2.0", "power"), "The option 'power' of the loss 'nearness' must have a default"),
        (LOSS.replace("power: float = 2.0", "method=2.0"), "The option 'method'"),
        (LOSS.replace("weight=0.5", "weight=-1"), "`weight` of the loss 'nearness' must be a number of at least 0"),
        (DATA.replace("side=8", "sides=8"), "'sides' is not known of a data set. Did you mean 'side'?"),
        (DATA.replace('("classification",)', '("clasification",)'), "Did you mean 'classification'?"),
        (STAGE.replace("plugins.stage(CountSpec, run)", "plugins.stage(CountSpec, print)"), "a generator function"),
    ],
)
def test_a_file_that_cannot_be_taken_in_says_why_and_leaves_nothing(desk: Any, source: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        desk.load(source)
    assert told in str(caught.value) and "mine.py" in str(caught.value)
    assert registry.plugins() == [] and not [name for name in sys.modules if name.startswith("sweeps_plugin_")]
    assert "count" not in specs.SPECS and "halves" not in catalog.DATASETS


def test_what_a_file_registered_before_it_failed_is_taken_back(desk: Any) -> None:
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        desk.load(DATA + STAGE + LOSS + "\n1 / 0\n")
    assert registry.plugins() == [] and "count" not in specs.SPECS and "halves" not in catalog.DATASETS
    assert HORKD_ASSISTANT.canonical("epochs") == "epochs"
    with pytest.raises(UsageError, match="not a distillation loss"):
        AssistantSpec(method="nearness")


def test_a_folder_is_all_its_files_but_hidden_and_private_ones(desk: Any) -> None:
    for name, source in (("b.py", LOSS), ("a.py", DATA), ("_helper.py", "1 / 0"), (".x.py", "1 / 0"), ("n.txt", "")):
        desk.write(name, source)
    assert [origin.file for origin in plugin_files.load_files([str(desk.folder)])] == ["a.py", "b.py"]


def test_what_is_not_there_or_no_plug_in_is_refused(desk: Any) -> None:
    (desk.folder / "empty").mkdir()
    (desk.folder / "folder.py").mkdir()
    desk.write("mine.txt", LOSS)
    for word, told in (
        ("nowhere.py", "no such file or folder"),
        ("empty", "must hold plug-ins"),
        ("folder.py", "must hold plug-ins"),
        ("mine.txt", "must be a .py file"),
    ):
        with pytest.raises(UsageError, match=told):
            plugin_files.load_files([str(desk.folder / word)])


def test_a_decorator_outside_of_a_plug_in_says_how_it_is_meant() -> None:
    with pytest.raises(UsageError, match="give its file to --plugins"):
        plugins.network("mine")(lambda channels, classes: None)


def test_files_of_the_environment_and_entry_points_come_in_too(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site = desk.folder / "site"
    desk.write("site/brought_by_a_package.py", f"def register():\n{textwrap.indent(LOSS, '    ')}")
    desk.write("site/brought-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    desk.write(
        "site/brought-1.0.dist-info/entry_points.txt", "[sweeps.plugins]\nnear = brought_by_a_package:register\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("SWEEPS_PLUGINS", str(desk.write("data.py", DATA)))
    plugin_files.load([])
    by = {offer.name: offer.origin for offer in registry.plugins()}
    assert by["nearness"].where == "the entry point near of brought"
    assert by["nearness"].entry == "brought_by_a_package:register" and by["halves"].entry == ""
    run = RunFolder(desk.folder / "run")
    plugin_files.keep(run, plugins.loaded())
    carried = plugin_files.carried(run)
    assert [sorted(row) for row in carried] == [
        ["entry", "file", "sha256", "where"],
        ["file", "path", "sha256", "where"],
    ]
    plugins.forget()
    plugins.use(carried)
    assert registry.plugin_names("loss") == ("nearness",) and registry.plugin_names("dataset") == ("halves",)
    plugins.forget()
    desk.write("site/brought_by_a_package.py", "# Another version.\n")
    with pytest.raises(ArtifactError, match="another version is installed"):
        plugins.use(carried)


@pytest.fixture
def site(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs distributions: entry points by name, files by path; their modules are gone afterwards."""

    def install(name: str, entries: dict[str, str], files: dict[str, str]) -> Path:
        root = desk.folder / f"site of {name}"
        for path, source in files.items():
            desk.write(f"{root.name}/{path}", source)
        about = f"{root.name}/{name}-1.0.dist-info"
        desk.write(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{entry} = {value}\n" for entry, value in entries.items())
        desk.write(f"{about}/entry_points.txt", f"[sweeps.plugins]\n{lines}")
        monkeypatch.syspath_prepend(str(root))
        return Path(root)

    before = set(sys.modules)
    yield install
    for module in set(sys.modules) - before:
        if str(desk.folder) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def called(name: str) -> str:
    """A loss of that name."""
    return LOSS.replace('"nearness"', f'"{name}"')


def inside(function: str, source: str) -> str:
    """A function with `source` as its body."""
    return f"def {function}():\n{textwrap.indent(source, '    ')}\n"


def test_two_entry_points_of_one_module_are_both_called(site: Any, desk: Any) -> None:
    source = inside("one", LOSS) + inside("other", called("farness"))
    site("two", {"a": "in_one:one", "b": "in_one:other"}, {"in_one.py": source})
    plugin_files.load([])
    assert registry.plugin_names("loss") == ("farness", "nearness")
    first, second = plugins.loaded()
    assert first.sha256 == second.sha256 and [first.entry, second.entry] == ["in_one:one", "in_one:other"]
    assert [offer.name for offer in registry.plugins(origin=second)] == ["farness"]
    carried = plugin_files.carried(RunFolder(desk.folder / "run"))
    plugins.forget()
    plugins.use(carried[1:])
    assert registry.plugin_names("loss") == ("farness",)
    plugins.use(carried)
    assert registry.plugin_names("loss") == ("farness", "nearness")


def test_a_loss_of_a_package_has_the_digest_of_the_file_that_says_it(site: Any, desk: Any) -> None:
    twice = "from parts.b import nearness\n" + called("twice")
    files = {"parts/__init__.py": "", "parts/a.py": twice, "parts/b.py": LOSS}
    root = site("parts", {"a": "parts.a", "b": "parts.b"}, files)
    plugin_files.load([])
    origins = {offer.name: offer.origin for offer in registry.plugins()}
    assert {name: origin.file for name, origin in origins.items()} == {"nearness": "b.py", "twice": "a.py"}
    carried = plugin_files.carried(RunFolder(desk.folder / "run"))
    before = key(method="nearness"), key(method="twice")
    plugins.forget()
    plugins.use(carried)
    assert (key(method="nearness"), key(method="twice")) == before
    plugins.forget()
    desk.write(f"{root.name}/parts/b.py", LOSS + "# Edited.\n")
    plugin_files.load([])
    assert key(method="nearness") != before[0] and key(method="twice") == before[1]
    plugins.forget()
    with pytest.raises(ArtifactError, match="another version is installed"):
        plugins.use(carried)
    assert registry.plugins() == []


def test_a_package_may_import_its_plug_in_by_itself(site: Any) -> None:
    site("eager", {"a": "eager.part"}, {"eager/__init__.py": "from eager import part\n", "eager/part.py": LOSS})
    plugin_files.load([])
    assert registry.get("loss", "nearness").origin.file == "part.py"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"bad/__init__.py": "1 / 0", "bad/part.py": LOSS}, "ZeroDivisionError"),
        ({"bad/__init__.py": "raise SystemExit(0)", "bad/part.py": LOSS}, "SystemExit"),
        ({"bad/__init__.py": ""}, "There is no module bad.part"),
        ({}, "No module named 'bad'"),
        ({"bad/__init__.py": "", "bad/part.py": "import not_there"}, "No module named 'not_there'"),
        ({"bad/__init__.py": "", "bad/part.py": "x = 1"}, "offers nothing"),
    ],
)
def test_a_broken_distribution_is_named_and_stops_nothing(
    site: Any, files: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site("bad", {"z": "bad.part"}, files)
    site("good", {"a": "good_part"}, {"good_part.py": called("farness")})
    plugin_files.load([])
    said = capsys.readouterr().err
    assert said.startswith("Warning: Nothing of the entry point z of bad is known: ") and told in said
    assert registry.plugin_names("loss") == ("farness",)


def test_a_broken_distribution_that_a_run_rests_on_stops_it(site: Any) -> None:
    with pytest.raises(UsageError, match="There is no module|No module named 'bad'"):
        plugins.use([{"entry": "bad.part", "sha256": "0" * 64, "where": "the entry point z of bad"}])


def test_a_file_that_imports_its_neighbour_is_refused(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("lies_beside.py", "SCALE = 1\n")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"(?s)mine.py fails at line 1: A plug-in must stand alone.*`lies_beside`"):
            desk.load("from lies_beside import SCALE\n" + LOSS)
    monkeypatch.syspath_prepend(str(desk.folder))  # As Python has the current folder.
    for _ in range(2):
        with pytest.raises(UsageError, match="A plug-in must stand alone, .* imports `lies_beside`"):
            desk.load("from lies_beside import SCALE\n" + LOSS)
    assert registry.plugins() == []
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # Now it is installed, too.
    desk.load("from lies_beside import SCALE\n" + LOSS)
    sys.modules.pop("lies_beside")


def test_a_file_cannot_offer_what_another_one_says(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("says_it.py", LOSS)
    monkeypatch.setattr(sys, "path", ["", str(desk.folder), *sys.path])
    with pytest.raises(UsageError, match=r"must itself say all that it offers.*says_it.py, which it imports"):
        desk.load("import says_it\n")
    assert "says_it" not in sys.modules


@pytest.mark.parametrize(
    ("word", "told"), [("~nosuchuser/x.py", "determine home"), ("x" * 5000, "too long"), ("a\0b.py", "null")]
)
def test_a_path_that_no_system_can_look_at_is_refused(word: str, told: str) -> None:
    with pytest.raises(UsageError, match=f"There is no plug-in .*{told}"):
        plugin_files.load_files([word])


# Keys.


def key(**fields: Any) -> str:
    """Of a student."""
    return stage_key(StudentSpec(data="d", **fields), {"guide": "0" * 16})


def test_keys_that_use_no_plug_in_stay_and_others_change_with_every_byte(desk: Any) -> None:
    plain = key(), key(method="kd")
    desk.load(LOSS)
    assert (key(), key(method="kd")) == plain
    first, again = key(method="nearness"), key(method="nearness+kd")
    assert first != plain[0] and again not in (first, plain[1])
    assert StudentSpec(method="nearness").components()["loss.nearness"] == plugins.loaded()[0].sha256[:8]
    plugins.forget()
    desk.load(LOSS + "# Edited.\n")
    assert key(method="nearness") != first and (key(), key(method="kd")) == plain
    plugins.forget()
    desk.load(LOSS)
    assert key(method="nearness") == first


def test_options_enter_the_key_only_when_their_loss_is_on_and_they_are_not_the_default(desk: Any) -> None:
    desk.load(LOSS)
    heavy = {"nearness.weight": 2.0}
    assert key(plugin=heavy) == key() and key(method="kd", plugin=heavy) == key(method="kd")
    assert key(method="nearness", plugin=heavy) != key(method="nearness")
    assert key(method="nearness", plugin={"nearness.weight": 0.5}) == key(method="nearness")
    assert key(method="nearness", plugin={"nearness.power": "3"}) == key(
        method="nearness", plugin={"nearness.power": 3.0}
    )


def test_a_spec_with_options_survives_its_plain_form(desk: Any) -> None:
    desk.load(LOSS)
    spec = StudentSpec(data="d", method="kd+nearness", plugin={"nearness.power": 3, "nearness.squared": "yes"})
    plain = to_plain(spec)
    assert plain["plugin"] == {"nearness.power": 3.0, "nearness.squared": True}
    assert specs.spec_from("student", plain) == spec
    assert specs.flatten(spec)["nearness.power"] == 3.0
    assert vars(spec.options_of("nearness")) == {"weight": 0.5, "power": 3.0, "squared": True}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"nearness.wieght": 1}, "Did you mean 'nearness.weight'"),
        ({"other.weight": 1}, "not an option of a loss that is loaded"),
        ({"nearness.weight": "heavy"}, "nearness.weight must be a number, got 'heavy'"),
        ({"nearness.weight": -1}, "nearness.weight must be a number of at least 0, got -1"),
        ({"nearness.squared": "perhaps"}, "nearness.squared must be true or false"),
        (3, "plugin must be a group"),
    ],
)
def test_options_that_do_not_fit_are_refused(desk: Any, given: Any, told: str) -> None:
    desk.load(LOSS)
    with pytest.raises(UsageError, match=told):
        StudentSpec(method="nearness", plugin=given)


def test_options_are_parameters_of_recipes_as_those_of_our_own_losses_are(desk: Any) -> None:
    before = dict(DISTILLATION.short_names)
    desk.load(LOSS)
    cell = {
        DISTILLATION.canonical(name): DISTILLATION.coerce(name, value)
        for name, value in (("route", "direct"), ("method", "nearness"), ("student.nearness.weight", "3"))
    }
    made = DISTILLATION.specs(cell, "d")
    assert made["student"].plugin.values == (("nearness.weight", 3.0),)  # type: ignore[attr-defined]
    assert HORKD_ASSISTANT.specs({"method": "nearness", "nearness.power": 1.0}, "d")["assistant"].plugin.values == (  # type: ignore[attr-defined]
        ("nearness.power", 1.0),
    )
    with pytest.raises(UsageError, match="Did you mean 'nearness.weight'"):
        DISTILLATION.canonical("nearness.wieght")
    assert dict(DISTILLATION.short_names) == before
    plugins.forget()
    with pytest.raises(UsageError, match="is not a parameter"):
        DISTILLATION.canonical("nearness.weight")


def test_methods_have_one_order_whatever_file_was_read_first(desk: Any) -> None:
    desk.load(LOSS.replace('"nearness"', '"zeal"'), "z.py")
    desk.load(LOSS, "n.py")
    assert specs.canonical_method("zeal+nearness+KD+horkd") == "horkd+kd+nearness+zeal"
    with pytest.raises(UsageError, match="Did you mean 'nearness'"):
        specs.canonical_method("nearnes")


def test_an_edited_plug_in_makes_another_run_and_an_unused_one_does_not(desk: Any) -> None:
    def run(*settings: str) -> str:
        return run_id(planner_in("horkd_order_ablation", *settings))

    before = run()
    desk.load(LOSS)
    assert run() == before
    mine = run("method=nearness")
    plugins.forget()
    desk.load(LOSS + "# Edited.\n")
    assert run("method=nearness") not in (before, mine) and run() == before


SAMPLED = """
from search_spaces.study import Preset, Study
from trainables.recipes import HORKD_ASSISTANT

def space(trial):
    chosen = trial.suggest_categorical("assistant.architecture", ["resnet_thin", "vgg11"])
    method = trial.suggest_categorical("method", ["horkd", "kd"] if chosen == "resnet_thin" else ["horkd", "nearness"])
    return {"assistant.architecture": chosen, "method": method}

STUDY = Study(
    name="drawn", title="t", question="q", paper="none", figure="none", recipe=HORKD_ASSISTANT, space=space,
    presets={name: Preset(seeds=2, trials=3, parameters={}) for name in ("demo", "tiny")},
)
"""


def drawn_run() -> Planner:
    return planner_in("drawn")


def test_a_sampled_study_never_mixes_versions_of_what_it_may_draw(desk: Any) -> None:
    study = desk.write("study.py", SAMPLED)
    found = set()
    for edit in ("", "# Edited.\n"):
        plugins.load(study)
        desk.load(LOSS + edit)
        found.add(run_id(drawn_run()))
        plugins.forget()
    assert len(found) == 2


def test_a_run_records_the_entry_points_that_it_uses_and_no_others(site: Any, desk: Any) -> None:
    site("used", {"a": "brings_nearness"}, {"brings_nearness.py": LOSS})
    site("unused", {"b": "brings_farness"}, {"brings_farness.py": called("farness")})
    plugin_files.load([str(desk.write("study.py", SAMPLED))])
    ids = [run_id(planner_of(method)) for method in ("horkd", "farness")]
    assert ids[0] != ids[1]

    def recorded(study: str, planner: Planner) -> list[str]:
        return [origin.file for origin in plugin_files.used(study, ["digits"], plugins_of(planner))]

    grid = "horkd_order_ablation"
    assert recorded(grid, planner_of("horkd")) == ["study.py"]
    assert recorded(grid, planner_of("horkd+farness")) == ["brings_farness.py", "study.py"]
    assert recorded("drawn", drawn_run()) == ["brings_nearness.py", "study.py"]


def planner_of(method: str) -> Planner:
    """Of a grid with a method."""
    return planner_in("horkd_order_ablation", f"method={method}")


def planner_in(study: str, *settings: str) -> Planner:
    resolved = resolve(search_spaces.load(study), preset="tiny", settings=settings)
    return Planner(Plan(resolved, {"fingerprint": "f" * 16, "height": 8}))


def test_a_run_records_the_entry_point_whose_recipe_its_study_has(site: Any) -> None:
    site("recipes", {"a": "brings_a_stage"}, {"brings_a_stage.py": STAGE})
    plugin_files.load([])
    assert [origin.file for origin in plugin_files.used("counting", [], ())] == ["brings_a_stage.py"]


DIGITS = {"name": "digits", "fingerprint": "d" * 16, "classes": 10, "channels": 1, "height": 8, "width": 8} | {
    "train_images": 1258,
    "test_images": 539,
}


def planned(method: str, *settings: str) -> None:
    """Check a grid against its data."""
    study = search_spaces.load("horkd_order_ablation")
    resolved = resolve(study, preset="tiny", settings=[f"method={method}", *settings])
    check_against_data(Planner(Plan(resolved, DIGITS)))


def test_unequal_widths_are_refused_before_anything_starts(desk: Any) -> None:
    desk.load(BETWEEN.replace("zero=True", "zero=True, same_width=True"))
    widths = ("teacher.architecture=resnet_thin", "assistant.architecture=resnet_thin", "teacher.width=1")
    planned("horkd+nearness", *widths, "assistant.width=1")
    with pytest.raises(UsageError, match=r"assistant's has 32 and the teacher's 64. Set `embedding` of one"):
        planned("horkd+nearness", *widths, "assistant.width=0.5")
    planned("horkd+nearness", *widths, "assistant.width=0.5", "assistant.embedding=64")
    planned("horkd+nearness", *widths, "assistant.width=0.5", "assistant.nearness.weight=0")


def test_a_network_without_maps_is_refused_beside_a_loss_on_maps(desk: Any) -> None:
    desk.load(NETWORK.replace(", stages=[(1, wide)]", ""))
    planned("kd", "assistant.architecture=small")
    with pytest.raises(UsageError, match="needs feature maps, but small gives none"):
        planned("at", "assistant.architecture=small")


# The parts.


def distiller(teacher_width: int = 4, **fields: Any) -> Distiller:
    """For embeddings of 4 and, mostly, 4."""
    from contextlib import nullcontext

    return Distiller(
        StudentSpec(**fields),
        student_width=4,
        teacher_width=teacher_width,
        student_maps=(2,),
        teacher_maps=(2,),
        classes=4,
        item_labels=torch.arange(6) % 4,
        seed_module=lambda purpose: nullcontext(),
    )


def outputs(seed: int) -> Outputs:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    return Outputs(rows.clone().requires_grad_(), rows.clone(), (torch.zeros(6, 2, 1, 1),))


def apply(loss: Distiller) -> tuple[Any, Any, Outputs, Outputs]:
    """Total, terms and what went in."""
    student, teacher = outputs(0), outputs(1)
    total, terms = loss(student, teacher, torch.arange(6) % 4, torch.arange(6), progress=0.5)
    return total, terms, student, teacher


def test_a_loss_is_weighed_reported_and_beside_others_as_ours_are(desk: Any) -> None:
    desk.load(LOSS)
    loss = distiller(method="kd+nearness", plugin={"nearness.weight": 3.0, "nearness.power": 1.0}, distillation=2.0)
    total, terms, student, teacher = apply(loss)
    gap = (student.embedding.mean(1) - teacher.embedding.mean(1)).abs().mean()
    torch.testing.assert_close(terms["nearness"], gap)
    torch.testing.assert_close(total, 2.0 * (3.0 * gap + 0.9 * terms["kd"]))
    assert loss.weights(0.5) == {"kd": 1.8, "nearness": 6.0}
    total.backward()
    assert student.embedding.grad is not None and teacher.embedding.grad is None
    assert "nearness" not in apply(distiller(method="kd+nearness", plugin={"nearness.weight": 0}))[1]


def test_a_loss_with_weights_of_its_own_gets_the_widths_it_asks_for(desk: Any) -> None:
    desk.load(
        """
        from torch import nn
        from trainables import plugins

        @plugins.loss("hint")
        class Hint(nn.Module):
            def __init__(self, student_width, teacher_width, *, bias: bool = True):
                super().__init__()
                self.layer = nn.Linear(student_width, teacher_width, bias=bias)

            def forward(self, student, teacher, labels):
                return (self.layer(student.embedding) - teacher.embedding).pow(2).mean()
        """
    )
    loss = distiller(method="hint", plugin={"hint.bias": False})
    assert [name for name, _ in loss.named_parameters()] == ["of_plugins.loss_hint.inner.layer.weight"]
    apply(loss)[0].backward()
    assert all(weight.grad is not None for weight in loss.parameters())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return 3.0", "must give a scalar tensor .* but gave 3.0"),
        ("return student.embedding", r"but gave a tensor of shape \(6, 4\)"),
        ("return student.embedding.detach().mean()", "must let gradients reach the student"),
        ("return student.logits.mean()", "reads logits and must say so: .*logits=True"),
        ("return student.maps[0].mean()", "reads maps and must say so"),
        ("return student.embedding.argmax(1).sum()", "of floating point"),
    ],
)
def test_a_loss_that_gives_something_else_is_refused(desk: Any, body: str, told: str) -> None:
    desk.load(
        f"from trainables import plugins\n\n@plugins.loss('bad')\ndef bad(student, teacher, labels):\n    {body}\n"
    )
    with pytest.raises(UsageError, match=told):
        apply(distiller(method="bad"))


def test_outputs_are_kept_for_losses_that_read_no_maps(desk: Any) -> None:
    desk.load(LOSS.replace("zero=True", "maps=True").replace('"nearness"', '"seen"'), "a.py")
    desk.load(LOSS)
    assert StudentSpec(method="nearness", teacher_outputs="cached").keeps_outputs
    assert not StudentSpec(method="nearness+seen", teacher_outputs="cached").keeps_outputs


def test_a_loss_says_what_it_reads_and_the_networks_must_have_it(desk: Any) -> None:
    desk.load(
        """
        from trainables import plugins

        @plugins.loss("seen", logits=True, maps=True)
        def seen(student, teacher, labels):
            return (student.logits - teacher.logits).mean() + (student.maps[0] - student.maps[0]).sum() + student.embedding.sum()
        """
    )
    loss = distiller(method="seen")
    assert loss.needs_maps and loss.needs_logits
    apply(loss)
    assert not distiller(method="rkd").needs_logits


def test_a_network_is_built_by_name_counted_and_priced(desk: Any) -> None:
    desk.load(NETWORK)
    spec = TeacherSpec(architecture="small", width=2.0)
    network = build("small", channels=1, classes=3, width=2.0, embedding=5)
    assert network(torch.zeros(2, 1, 9, 9)).logits.shape == (2, 3) and network.embedding_width == 5
    assert spec.components()["network.small"] == plugins.loaded()[0].sha256[:8]
    counts = Counts({"height": 8, "width": 8, "train_images": 100, "test_images": 10})
    size = registry.get("network", "small").facts["size"]()
    assert (size.embedding, size.layers) == (8, 2)
    assert (size.macs, size.parameters) == (16 * 16 * 8 * 27 + 8 * 10, 8 * 27 + 8 + 8 * 10 + 10)
    assert seconds_of(spec, counts, None) > 0 and spec.work(counts, None).bytes > 0
    with pytest.raises(UsageError, match="Did you mean 'small'"):
        TeacherSpec(architecture="smal")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            NETWORK.replace(", width=1.0", "").replace("* width", ""),
            "takes no `width`, so that must be 1.0, but got 0.5",
        ),
        (NETWORK.replace("embedding=embedding", "embedding=0"), "must have an embedding of 5, as asked, but has 4"),
        (NETWORK.replace("return Network(", "return trunk; Network("), "but is Sequential without embedding_width"),
        (NETWORK.replace("return Network(", "return 3; Network("), "but is int"),
        (NETWORK.replace("wide = ", "wide = 1 / 0; "), "cannot be built: ZeroDivisionError"),
    ],
)
def test_a_network_that_cannot_be_what_is_asked_is_refused(desk: Any, source: str, told: str) -> None:
    desk.load(source)
    with pytest.raises(UsageError, match=told):
        build("small", channels=1, classes=3, width=0.5, embedding=5)


def test_a_data_set_is_packed_once_and_anew_when_its_file_changes(desk: Any) -> None:
    desk.load(DATA)
    folder = desk.folder / "packed"
    source = catalog.locate("halves", data_root=None)
    assert catalog.find_packed(source, folder) is None
    info = catalog.pack(source, folder)
    packed = open_packed(info.path)
    assert (info.train_images, info.test_images, info.channels, info.height) == (48, 12, 1, 8)
    assert catalog.protocols_of(info) == ("classification",)
    assert np.bincount(packed.labels[packed.split == 1]).tolist() == [6, 6]
    assert catalog.find_packed(catalog.locate("halves", data_root=None), folder) == info
    plugins.forget()
    assert "halves" not in catalog.DATASETS
    desk.load(DATA + "# Edited.\n")
    edited = catalog.locate("halves", data_root=None)
    assert edited.identity != source.identity and catalog.find_packed(edited, folder) is None
    assert catalog.pack(edited, folder).fingerprint == info.fingerprint


def test_a_data_set_that_reads_files_wants_a_data_root_and_notices_their_change(desk: Any) -> None:
    desk.load(
        """
        import numpy as np
        from trainables import plugins

        @plugins.dataset("rows", watch="*.npy")
        def rows(root):
            images = np.load(root / "images.npy")
            return {"images": images, "labels": np.arange(len(images)) % 3, "classes": "abc", "names": range(len(images))}
        """
    )
    with pytest.raises(DataError, match="reads from a data root. Name the folder with --data-root"):
        catalog.locate("rows", data_root=None)
    with pytest.raises(DataError, match="is no folder"):
        catalog.locate("rows", data_root=desk.folder / "nowhere")
    with pytest.raises(DataError, match="FileNotFoundError"):
        catalog.pack(catalog.locate("rows", data_root=desk.folder), desk.folder / "packed")
    np.save(desk.folder / "images.npy", np.zeros((30, 3, 5, 5), np.uint8))
    source = catalog.locate("rows", data_root=desk.folder)
    assert open_packed(catalog.pack(source, desk.folder / "packed").path).info.classes == ("a", "b", "c")
    np.save(desk.folder / "images.npy", np.zeros((31, 3, 5, 5), np.uint8))
    assert catalog.locate("rows", data_root=desk.folder).identity != source.identity
    with pytest.raises(UsageError, match="comes at its own size"):
        catalog.locate("rows", data_root=desk.folder, size=7)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[1]", "must give a mapping with images, labels"),
        ("{'images': x}", "must give images and labels, but gave no labels"),
        ("{'images': x, 'labels': y, 'label': y}", "must give no other parts than .* but gave 'label'"),
        ("{'images': x / 2, 'labels': y}", r"must give images as uint8 .* but gave float64 of shape \(6, 1, 4, 4\)"),
        ("{'images': x[:0], 'labels': y[:0]}", "must give images, but gave"),
        ("{'images': x[0, 0], 'labels': y}", "must give images as uint8"),
        ("{'images': x.repeat(2, 1), 'labels': y}", "must give images of 1 or 3 channels"),
        ("{'images': x, 'labels': y[1:]}", r"must give labels as whole numbers \[6\]"),
        ("{'images': x, 'labels': y + 0.5}", "must give labels as whole numbers"),
        ("{'images': x, 'labels': y - 1}", "must give labels from 0, but gave -1"),
        ("{'images': x, 'labels': y, 'classes': 'a'}", "must give labels below 1, the number of its classes"),
        ("{'images': x, 'labels': y, 'classes': 'aa'}", "must give classes of different names"),
        ("{'images': x, 'labels': y, 'split': y + 1}", "must give split as 0 .training. or 1 .test."),
        ("{'images': x, 'labels': y, 'names': 'abc'}", "must give names of all 6 items, but gave 3"),
        ("1 / 0", "cannot be read: ZeroDivisionError"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(desk: Any, given: str, told: str) -> None:
    desk.load(
        "import numpy as np\nfrom trainables import plugins\n\n@plugins.dataset('odd')\ndef odd():\n"
        f"    x, y = np.zeros((6, 1, 4, 4), np.uint8), np.arange(6) % 2\n    return {given}\n"
    )
    with pytest.raises(DataError, match=told):
        catalog.pack(catalog.locate("odd", data_root=None), desk.folder / "packed")
    assert not list((desk.folder / "packed").glob("*.arrow"))


def test_a_stage_runs_under_its_kind_with_its_file_in_key_and_manifest(desk: Any, store: Store) -> None:
    origin = desk.load(STAGE)
    spec = specs.spec_from("count", {"seed": 4, "epochs": 2})
    assert spec.components() == {"stage.count": origin.version}
    mark = stage_key(spec, {})
    context = Context(store=store, key=mark, core_locks=False)
    assert list(attempt("count", to_plain(spec), {}, context))[-1]["outcome"] == "done"
    manifest = store.get(mark).manifest
    assert manifest["metrics"]["last"] == 5.0
    assert manifest["plugins"] == [{"name": "stage.count", "file": "mine.py", "sha256": origin.sha256}]
    assert plugins.recipe_of("count").name == "count" and plugins.recipe_of("horkd") is HORKD_ASSISTANT
    with pytest.raises(UsageError, match="Did you mean 'count'"):
        plugins.recipe_of("coumt")


def test_a_manifest_without_plug_ins_says_nothing_of_them(store: Store) -> None:
    from trainables.stages.base import Result

    assert "plugins" not in describe(TeacherSpec(), {}, Context(store=store, key="k"), Result(metrics={}), "r")


# Workers and runs.


def carried_by(desk: Any, source: str) -> tuple[RunFolder, list[dict[str, str]]]:
    """A run with a copy of a plug-in, and what its orders say."""
    desk.load(source)
    run = RunFolder(desk.folder / "runs" / "one-12345678")
    plugin_files.keep(run, plugins.loaded())
    return run, plugin_files.carried(run)


def test_a_worker_takes_the_copy_of_the_run_and_refuses_another_file(desk: Any, store: Store) -> None:
    run, carried = carried_by(desk, STAGE)
    plain = to_plain(specs.spec_from("count", {"epochs": 2}))
    marks = [stage_key(specs.spec_from("count", {"epochs": 2, "seed": seed}), {}) for seed in (0, 1)]
    plugins.forget()
    context = Context(store=store, key=marks[0], core_locks=False, plugins=tuple(carried))
    assert list(attempt("count", plain, {}, context))[-1]["outcome"] == "done"
    plugins.forget()
    Path(carried[0]["path"]).write_text(STAGE + "# Edited.\n")
    context = Context(store=store, key=marks[1], core_locks=False, plugins=tuple(carried))
    said = list(attempt("count", plain | {"seed": 1}, {}, context))
    assert said[-1]["outcome"] == "failed" and "it was altered" in said[-1]["message"]
    assert store.failures(marks[1])[0]["hopeless"] is False and not store.has(marks[1])
    assert verdict(store.failures(marks[1])) is None  # Another run's copy may be whole.


def test_a_copy_that_appears_late_is_waited_for(desk: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, carried = carried_by(desk, STAGE)
    spec = specs.spec_from("count", {"epochs": 1})
    mark, plain = stage_key(spec, {}), to_plain(spec)
    plugins.forget()
    path = Path(carried[0]["path"])
    path.unlink()
    monkeypatch.setattr("trainables.plugins.loading.time.sleep", lambda seconds: path.write_text(STAGE))
    context = Context(store=store, key=mark, core_locks=False, patience=60.0, plugins=tuple(carried))
    assert list(attempt("count", plain, {}, context))[-1]["outcome"] == "done"


def test_an_order_carries_what_its_stage_and_its_parents_use_and_nothing_else(desk: Any, store: Store) -> None:
    for name, source in (("a.py", NETWORK), ("b.py", DATA), ("c.py", LOSS), ("d.py", STAGE)):
        desk.load(source, name)
    run = RunFolder(desk.folder / "runs" / "one-12345678")
    run.prepare()
    plugin_files.keep(run, plugins.loaded())

    def node(key: str, spec: Any, **parents: str) -> StageNode:
        return StageNode(key, spec.kind, spec, 0, parents, ["cell"])

    nodes = [
        node("1" * 16, TeacherSpec(data="d")),
        node("2" * 16, TeacherSpec(data="d", architecture="small")),
        node("3" * 16, StudentSpec(data="d"), guide="1" * 16),
        node("4" * 16, StudentSpec(data="d"), guide="2" * 16),
        node("5" * 16, StudentSpec(data="d", method="nearness"), guide="1" * 16),
        node("6" * 16, specs.EvaluationSpec(data="d"), network="4" * 16),
        node("7" * 16, specs.spec_from("count", {})),
    ]
    queue = StageQueue(EngineState(StageGraph(nodes), LocalMachine(1)), store, run, Any, revision="")  # type: ignore[arg-type]
    carried = {node.key[0]: [row["file"] for row in queue.order(node)["plugins"]] for node in nodes}
    everything = ["a.py", "b.py", "c.py", "d.py"]
    alone = {"1": [], "2": ["a.py"], "3": [], "4": ["a.py"], "6": ["a.py"]}
    assert carried == alone | {"5": everything[:3], "7": everything}  # Files may rest on those read before them.


def test_a_spec_forgets_options_of_losses_that_are_off_so_that_it_can_be_read_without_them(desk: Any) -> None:
    desk.load(LOSS)
    plain = to_plain(StudentSpec(data="d", plugin={"nearness.weight": 2.0}))
    plugins.forget()
    assert specs.spec_from("student", plain) == StudentSpec(data="d")


def test_a_run_keeps_what_was_read_even_if_the_file_is_edited_meanwhile(desk: Any) -> None:
    desk.load(LOSS)
    desk.write("mine.py", "1 / 0")
    run = RunFolder(desk.folder / "run")
    plugin_files.keep(run, plugins.loaded())
    (row,) = plugin_files.rows(plugins.loaded(), {})
    assert (run.path / row["copy"]).read_text() == LOSS and row["offers"] == ["loss nearness"]
    plugins.forget()
    plugin_files.use_those_of(run, {"plugins": [row]})
    (again,) = plugin_files.rows(plugins.loaded(), {"plugins": [row]})
    assert again == row


def test_a_run_goes_on_with_its_own_copy_and_refuses_an_edited_one(desk: Any) -> None:
    run, _ = carried_by(desk, LOSS)
    content = {"plugins": plugin_files.rows(plugins.loaded(), {})}
    edited = desk.write("mine.py", LOSS + "# Edited.\n")
    plugins.forget()
    plugin_files.use_those_of(run, content)
    plugin_files.load_more(run, [])
    with pytest.raises(UsageError, match=r"(?s)must come from one place.*continues with its own copies"):
        plugin_files.load_more(run, [str(edited)])
    plugins.forget()
    plugin_files.load_files([str(edited)])
    with pytest.raises(UsageError, match=r"(?s)must come from one place.*that starts another run"):
        plugin_files.use_those_of(run, content)
    plugins.forget()
    plugin_files.copy_of(
        run, registry.Origin(file="mine.py", sha256=content["plugins"][0]["sha256"], where="")
    ).write_text("x")
    with pytest.raises(ArtifactError, match="it was altered"):
        plugin_files.use_those_of(run, content)


# Checks.


def checked(*paths: Path) -> dict[str, str]:
    """Contract -> why it does not hold, of what does not."""
    plugin_files.load_files([str(path) for path in paths])
    return {f"{row.what}: {row.contract}": row.why for row in contracts.check(contracts.offered()) if not row.ok}


def test_good_plug_ins_pass_every_contract(desk: Any) -> None:
    paths = [desk.write(f"{n}.py", source) for n, source in enumerate((LOSS, NETWORK, DATA, STAGE))]
    assert checked(*paths) == {}


def test_a_module_whose_head_has_another_name_can_be_a_guide(desk: Any) -> None:
    desk.load(OWN_MODULE)
    for contract in OF_NETWORKS.values():
        contract("mine")


BETWEEN = LOSS.replace("embedding.mean(1)", "embedding")


def test_a_loss_that_needs_equal_widths_says_so_or_is_told(desk: Any) -> None:
    found = checked(desk.write("mine.py", BETWEEN))
    assert list(found) == ["loss nearness: embeddings of student and teacher may differ in width"]
    assert "a student's embedding of 6 beside a teacher's of 4" in found[next(iter(found))]
    assert "same_width=True" in found[next(iter(found))]
    plugins.forget()
    assert checked(desk.write("mine.py", BETWEEN.replace("zero=True", "zero=True, same_width=True"))) == {}
    apply(distiller(method="nearness"))
    with pytest.raises(UsageError, match=r"(?s)needs embeddings of one width, but the student's has 4 and the .* 6"):
        distiller(method="nearness", teacher_width=6)


def test_losses_on_logits_and_maps_are_checked_with_differing_widths_too(desk: Any) -> None:
    source = LOSS.replace("zero=True", "zero=True, logits=True, maps=True").replace(
        "(student.embedding.mean(1) - teacher.embedding.mean(1))",
        "(student.logits - teacher.logits + (student.maps[0] - teacher.maps[0]).mean() + student.embedding.sum() * 0)",
    )
    assert checked(desk.write("mine.py", source)) == {}


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        ("side=32", "side is 8, not 32"),
        ("side=8, train=5", "train is 48, not 5"),
        ("side=8, test=5, images=61", "images is 60, not 61; test is 12, not 5"),
        ("classes=77", "classes is 2, not 77"),
    ],
)
def test_a_data_set_that_is_not_what_it_declares_is_found(desk: Any, fact: str, told: str) -> None:
    found = checked(desk.write("mine.py", DATA.replace("side=8", fact)))
    assert found == {"dataset halves: it is as it declares": told}


@pytest.mark.parametrize("fact", ["side='8'", "side=0", "train=True", "classes=2.0", "images=-1", "test=-1"])
def test_facts_of_a_data_set_are_whole_numbers(desk: Any, fact: str) -> None:
    with pytest.raises(UsageError, match=f"`{fact.partition('=')[0]}` of `halves` must be a whole number of at least"):
        desk.load(DATA.replace("side=8", fact))


def test_a_data_set_that_does_not_say_its_size_is_shown_without_one(desk: Any) -> None:
    desk.load(DATA.replace("side=8, ", ""))
    assert catalog.DATASETS["halves"].side is None
    assert stand_in("halves", 60)["height"] == 64
    plugins.forget()
    desk.load(DATA.replace("side=8", "side=8, train=48, test=12"))
    assert {"height": 8, "train_images": 48, "test_images": 12}.items() <= stand_in("halves", 60).items()


@pytest.mark.parametrize("watch", ["'/abs'", "('*.npy', '/abs/*')", "''", "('../*',)", "(3,)"])
def test_what_a_data_set_watches_lies_under_the_data_root(desk: Any, watch: str) -> None:
    with pytest.raises(UsageError, match="`watch` of the data set 'halves' must be patterns of files under"):
        desk.load(DATA.replace("side=8", f"side=8, watch={watch}"))


def test_a_link_that_leads_nowhere_does_not_hide_the_rest_of_a_data_root(desk: Any) -> None:
    desk.load(DATA.replace("def halves():", "def halves(root):"))
    root = desk.folder / "root"
    root.mkdir()
    (root / "link").symlink_to(root / "nowhere")
    before = catalog.locate("halves", data_root=root).identity
    (root / "nowhere").write_text("there")
    assert catalog.locate("halves", data_root=root).identity != before


ONE_SIZE = OWN_MODULE.replace(
    "nn.Conv2d(channels, 8, 3, padding=1)", "nn.Flatten(), nn.Linear(SIDE**2 * channels, 8)"
).replace("seen.mean((2, 3))", "seen")


def test_a_network_that_reads_one_size_is_priced_there_or_told(desk: Any) -> None:
    desk.load(ONE_SIZE.replace("SIDE", "8").replace("(8,)", "()"))
    assert registry.get("network", "mine").facts["size"]().macs == 16 * (3 * 64 * 8 + 8 * 10)
    plugins.forget()
    desk.load(ONE_SIZE.replace("SIDE", "9").replace("(8,)", "()"))
    with pytest.raises(UsageError, match=r"'mine' of .*mine.py must read images of 32 or 8 pixels"):
        registry.get("network", "mine").facts["size"]()


def test_what_breaks_a_contract_is_named_with_the_reason(desk: Any) -> None:
    bad = LOSS.replace('"nearness"', '"bad"').replace(".abs().pow(power).mean()", ".sum() / (len(labels) - 1)")
    found = checked(desk.write("bad.py", bad))
    assert "on the batch 'one_row'" in found["loss bad: value and gradient stay finite on degenerate batches"]
    assert "loss bad: autocast changes nothing" not in found


def test_a_data_set_that_is_drawn_anew_each_time_is_found(desk: Any) -> None:
    found = checked(desk.write("mine.py", DATA.replace("RandomState(0)", "RandomState()")))
    assert list(found) == ["dataset halves: two packings are the same"]
    plugins.forget()
    found = checked(desk.write("mine.py", DATA.replace("+ 100 *", "* 0 + 100 *")))
    assert "also in training, pixel for pixel" in found["dataset halves: labels, classes and splits are well"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("RESUMES, MORE = True", "RESUMES, MORE = False"), "was stopped 1000 times and never ended"),
        (("context.save(len(rows), json.dumps(rows).encode())", "pass"), "saves nothing between its epochs"),
        (("+ MORE", "+ time.time()"), "publishes something else"),
        (("while len(rows) <", "1 / 0\n    while len(rows) <"), "ended as failed: ZeroDivisionError"),
    ],
)
def test_a_stage_that_does_not_resume_is_found(
    desk: Any, change: tuple[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "1000" in told:
        monkeypatch.setattr(contracts, "MOST_ATTEMPTS", 5)
        told = told.replace("1000", "5")
    found = checked(desk.write("mine.py", STAGE.replace(*change)))
    assert list(found) == ["stage count: stopped and continued equals uninterrupted"]
    assert told in next(iter(found.values()))


@pytest.mark.parametrize(
    ("change", "contract", "told"),
    [
        (
            ('"teacher.epochs": (2, 3)', '"teacher.epoks": (2,)'),
            "every preset gives a plan",
            "Did you mean 'teacher.epochs'",
        ),
        (('("demo", "tiny")', '("demo",)'), "its preset tiny is there and small", "there is no preset 'tiny'"),
        (
            ("presets={name", "baseline={'teacher.epochs': 7}, presets={name"),
            "its baseline is one of its cells",
            "=7 is on no axis",
        ),
        (('Step("evaluation"', 'Step("verdict"'), "its stages can be reported", "must have the role evaluation"),
    ],
)
def test_a_study_that_cannot_be_run_is_found(desk: Any, change: tuple[str, str], contract: str, told: str) -> None:
    found = checked(desk.write("mine.py", STAGE.replace(*change)))
    assert told in found[f"study counting: {contract}"]


def test_a_stage_may_have_a_role_of_its_own(desk: Any) -> None:
    source = STAGE.replace('Step("teacher"', 'Step("counter"')
    source = source.replace('("teacher",)', '("counter",)').replace('"teacher.epochs"', '"counter.epochs"')
    assert not [name for name in checked(desk.write("mine.py", source)) if "can be reported" in name]


def test_a_claim_without_a_test_is_found(desk: Any) -> None:
    own = "claims=(Claim('It rises', 'p. 3', test=type('Rise', (Test,), {'kind': 'rise'})()),), axes={"
    source = STAGE.replace("axes={", own).replace(
        "from search_spaces.study", "from search_spaces.claims import Claim, Test\nfrom search_spaces.study"
    )
    found = checked(desk.write("mine.py", source))
    assert "Did you mean 'rises'" in found["study counting: its claims have tests"]


@pytest.mark.parametrize(
    "name, test, told",
    [
        ("horkd_classification", Better("horkd", than="horkd_dirct"), "Did you mean 'horkd_direct'"),
        ("horkd_order_ablation", BestIsNot("1+4"), "no value of horkd.orders"),
    ],
)
def test_a_claim_about_what_the_study_lacks_is_found(name: str, test: Any, told: str) -> None:
    study = dataclasses.replace(search_spaces.load(name), claims=(Claim("It is so", "p. 3", test=test),))
    with pytest.raises(Broken, match=told):
        contracts.claims_are_known(study)


def test_offers_and_origins_compare_by_what_they_are() -> None:
    origin = registry.Origin(file="a.py", sha256="ab" * 32, where="x", content=b"1")
    assert origin == dataclasses.replace(origin, content=b"2") and origin.version == "abababab"


def test_a_plug_in_that_imports_a_stage_first_stands_alone_beside_the_packages(tmp_path: Path) -> None:
    source = "from trainables.stages.base import Progress\nfrom trainables import plugins\n\n\n@plugins.loss('near')\n"
    (tmp_path / "mine.py").write_text(source + "def near(student, teacher, labels):\n    return None\n")
    code = f"from trainables import plugins\nplugins.load({str(tmp_path / 'mine.py')!r})\n"
    root = Path(specs.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stage_derived_from_a_given_one_is_read_as_that_is(desk: Any) -> None:
    source = (
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom trainables import plugins\n"
        "from trainables.spec import PretrainedSpec\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass MineSpec(PretrainedSpec):\n    kind: ClassVar[str] = 'mine'\n\n\n"
        "def run(spec, parents, context):\n    yield\n\n\nplugins.stage(MineSpec, run)\n"
    )
    plugins.load(desk.write("given.py", source))
    assert registry.get("stage", "mine").facts["frozen"] is registry.get("stage", "pretrained").facts["frozen"]
