"""Plug-ins from the command line: the examples of docs/plugins.md are checked, run, resumed and reported."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helpers
import pytest
from click.testing import CliRunner

from sweeps.commands.app import cli
from trainables import plugins
from trainables.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^`(\w+\.py)`\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def sweeps(*words: str, cwd: Path) -> dict[str, Any]:
    """What a command in a process of its own answers."""
    done = helpers.sweeps(*words, "--json", cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def here(*words: str) -> Any:
    """The same in this process; nothing of the plug-ins stays."""
    try:
        return CliRunner().invoke(cli, list(words))
    finally:
        plugins.forget()


@pytest.fixture
def desk(nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's examples in `mine/`, where commands are typed."""
    (nasty_path / "mine").mkdir()
    for name, source in EXAMPLES.items():
        (nasty_path / "mine" / name).write_text(source, encoding="utf-8")
    monkeypatch.chdir(nasty_path)
    yield nasty_path
    plugins.forget()


def test_every_example_has_fewer_than_25_lines() -> None:
    assert {name: lines for name, source in EXAMPLES.items() if (lines := len(source.splitlines())) >= 25} == {}
    assert len(EXAMPLES) == 6


def test_the_examples_pass_every_contract(desk: Path) -> None:
    done = here("check", "mine", "--json")
    answer = json.loads(done.output)
    assert [row for row in answer["checks"] if not row["ok"]] == [] and done.exit_code == 0
    kinds = {(row["kind"], row["name"]) for row in answer["offers"]}
    assert kinds == {
        *(("loss", "variance"), ("network", "tinynet"), ("dataset", "stripes"), ("stage", "pruned")),
        *(("study", "spread"), ("study", "pruning"), ("recipe", "pruning")),
    }
    assert {row["what"] for row in answer["checks"]} == {f"{k} {n}" for k, n in kinds}
    assert answer["skipped"] == 0


def test_a_run_rests_on_plug_ins_goes_on_without_them_named_and_an_edit_makes_another(desk: Path) -> None:
    words = ("spread", "--preset", "tiny", "--plugins", "mine", "--seeds", "1")
    answer = sweeps("run", *words, "--jobs", "1", cwd=desk)
    assert answer["trained"] == 5 and answer["failures"] == []
    assert {row["cell"] for row in answer["rows"]} == {"weight=0", "weight=1"}
    run = Path(answer["path"])
    kept = {row["file"]: row for row in json.loads((run / "run.json").read_text())["plugins"]}
    assert kept["variance.py"]["offers"] == ["loss variance"]
    assert all((run / row["copy"]).read_text() == EXAMPLES[name] for name, row in kept.items())
    manifests = [json.loads(path.read_text()) for path in (desk / "store").glob("*/manifest.json")]
    used = {row["name"]: row["sha256"] for m in manifests if m["kind"] == "assistant" for row in m["plugins"]}
    assert used == {
        "loss.variance": kept["variance.py"]["sha256"],
        "network.tinynet": kept["tinynet.py"]["sha256"],
    }

    shutil.move(desk / "mine", desk / "gone")
    assert sweeps("resume", "--no-report", cwd=desk)["trained"] == 0
    assert {row["file"]: row for row in json.loads((run / "run.json").read_text())["plugins"]} == kept

    shutil.move(desk / "gone", desk / "mine")
    assert json.loads(here("show", *words, "--json").output)["run"] == run.name
    (desk / "mine" / "variance.py").write_text(EXAMPLES["variance.py"] + "# Edited.\n")
    edited = json.loads(here("show", *words, "--json").output)
    assert edited["run"] != run.name and edited["stages"]["present"] == {"teacher": 1}
    refused = here("resume", run.name, "--plugins", "mine")
    assert isinstance(refused.exception, UsageError)
    assert "continues with its own copies" in str(refused.exception)


def test_lists_say_where_names_come_from(desk: Path) -> None:
    listed = json.loads(here("list", "--plugins", "mine", "--json").output)
    assert {"spread", "pruning"} <= {row["name"] for row in listed["studies"]}
    assert {"kind": "loss", "name": "variance", "from": "mine/variance.py"}.items() <= next(
        row.items() for row in listed["plugins"] if row["kind"] == "loss"
    )
    text = here("list", "--plugins", "mine").output
    assert re.search(r"^variance +loss +mine/variance\.py$", text, re.MULTILINE)
    assert "stripes" in here("data", "list", "--plugins", "mine").output
    assert "PLUG-IN" not in here("list").output and "plugins" not in json.loads(here("list", "--json").output)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "--plugins", "nowhere.py"), "There is no plug-in nowhere.py"),
        (("run", "spraed", "--plugins", "mine"), "There is no study 'spraed'. Did you mean 'spread'?"),
        (("data", "show", "stripe", "--plugins", "mine"), "Did you mean 'stripes'?"),
        (
            ("show", "spread", "--plugins", "mine", "--set", "assistant.architecture=tinynett"),
            "Did you mean 'tinynet'?",
        ),
        (("show", "spread", "--plugins", "mine", "--set", "variance.powr=1"), "Did you mean 'variance.power'?"),
        (("show", "horkd_order_ablation", "--set", "method=variance"), "'variance' is not a distillation loss"),
        (("check", "broken.py"), "The plug-in broken.py fails at line 2: ZeroDivisionError"),
    ],
)
def test_wrong_words_are_told_and_start_nothing(desk: Path, words: tuple[str, ...], told: str) -> None:
    (desk / "broken.py").write_text("x = 1\nx / 0\n")
    done = here(*words)
    assert isinstance(done.exception, UsageError) and told in str(done.exception)
    assert not (desk / "runs").exists() and not (desk / "store").exists()


def test_a_broken_contract_is_exit_code_1_with_the_reason(desk: Path) -> None:
    (desk / "bad.py").write_text(EXAMPLES["variance.py"].replace(".add(1e-6)", ""))
    done = here("check", "bad.py")
    assert done.exit_code == 1
    assert "FAIL  loss variance: value and gradient stay finite on degenerate batches" in done.output
    assert "on the batch 'one_row' in float32" in done.output


def test_what_cannot_be_checked_is_no_success_and_says_what_it_lacks(desk: Path) -> None:
    done = here("check", "mine/pruning.py")
    assert done.exit_code == 0
    assert "skip  stage pruned: stopped and continued equals uninterrupted\n      it reads other stages" in done.output
    assert "0 of 1 hold, 1 not checked: stage pruned" in done.output
    (desk / "files.py").write_text(EXAMPLES["stripes.py"].replace("def stripes():", "def stripes(root):"))
    assert re.search(
        r"^0 of \d+ hold, \d+ not checked: dataset stripes$", here("check", "files.py").output, re.MULTILINE
    )
    (desk / "files.py").unlink()


def test_a_recipe_whose_stages_read_what_is_not_there_breaks_its_contract(desk: Path) -> None:
    (desk / "mine.py").write_text(
        "from trainables import plugins\nfrom trainables.recipes import Recipe, Step\nfrom trainables.spec import TeacherSpec\n"
        'STEPS = (Step("teacher", TeacherSpec), Step("student", TeacherSpec, {"guide": ("teacher", "techer")}))\n'
        'plugins.recipe(Recipe("mine", STEPS))\n'
    )
    done = here("check", "mine.py")
    assert done.exit_code == 1 and "0 of 1 hold: recipe mine" in done.output
    assert "there must be a stage 'techer' before student" in done.output and "Did you mean 'teacher'?" in done.output


def test_a_loss_that_ends_the_process_does_not_end_its_check(desk: Path) -> None:
    (desk / "leaves.py").write_text(
        "import sys\nfrom trainables import plugins\n\n@plugins.loss('leaves')\n"
        "def leaves(student, teacher, labels):\n    sys.exit(0)\n"
    )
    done = here("check", "leaves.py")
    assert done.exit_code == 1 and "SystemExit: 0" in done.output and "0 of 7 hold: loss leaves" in done.output


def test_check_knows_what_the_environment_names(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS_PLUGINS", str(desk / "mine" / "pruning.py"))
    done = here("check", "mine/pruning_study.py", "--json")
    assert {row["what"] for row in json.loads(done.output)["checks"]} == {"recipe pruning", "study pruning"}
    assert done.exit_code == 0


def test_the_command_that_asks_for_a_run_names_the_plug_ins_of_the_environment(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = helpers.requests(monkeypatch)
    monkeypatch.setenv("SWEEPS_PLUGINS", "mine/variance.py:mine/tinynet.py")
    here("show", "horkd_order_ablation", "--plugins", "mine/stripes.py", "--plugins", "mine/variance.py")
    # By paths that mean the same in every folder.
    wanted = ["mine/variance.py", "mine/tinynet.py", "mine/stripes.py"]
    assert asked[0].plugins == [os.path.abspath(path) for path in wanted]


def test_a_loss_that_becomes_nan_fails_its_stages_and_says_so(desk: Path) -> None:
    from sweeps.planning.planner import build_graph
    from sweeps.planning.request import Request
    from sweeps.runs import plugin_files
    from sweeps.runs.folder import Place
    from sweeps.runs.prepare import prepare
    from trainables.attempts.attempt import attempt
    from trainables.spec import to_plain
    from trainables.stages.base import Context

    source = EXAMPLES["variance.py"].replace(".pow(power)", ".pow(power) * float('nan')")
    (desk / "mine" / "variance.py").write_text(source)
    plugin_files.load_files(["mine"])
    request = Request(study="spread", preset="tiny", seeds="1")
    place = Place(runs=desk / "runs", store=desk / "store")
    ready = prepare(request, place, lambda line: None)
    graph, _, _ = build_graph(ready.plan, ready.store)
    ends = {}
    for node in graph.nodes.values():
        if node.role != "evaluation":
            context = Context(store=ready.store, key=node.key, core_locks=False)
            ends[node.cells[-1], node.role] = list(attempt(node.spec.kind, to_plain(node.spec), node.parents, context))[
                -1
            ]
    failed = [said["message"] for said in ends.values() if said["outcome"] == "failed"]
    assert len(failed) == 1 and re.match(r"NonFiniteError: train/\w+ became nan in epoch 1", failed[0])
