"""Help, completion, names that others use, and the table of parameters: what a new user tries first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from helpers import requests, typed

import search_spaces
from sweeps.commands import completion
from sweeps.commands.app import cli
from sweeps.planning import parameter_words, parameters
from sweeps.planning.resolve import resolve
from trainables.errors import UsageError
from trainables.recipes import HORKD_ASSISTANT
from trainables.recipes.distillation import DISTILLATION

ROOT = Path(__file__).resolve().parents[2]
CLASSIFICATION = "horkd_classification"
TINY = ("horkd_order_ablation", "--preset", "tiny")


# Help.


@pytest.mark.parametrize("words", [(), ("data",), ("store",), ("teachers",)])
def test_naming_no_command_prints_help_and_is_no_error(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(capsys, *words)
    assert (code, err) == (0, "") and "Commands:" in out and "Error" not in out
    assert out == typed(capsys, *words, "--help")[1]


def test_help_is_a_word_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "help") == typed(capsys, "--help")
    assert typed(capsys, "help", "run") == typed(capsys, "run", "--help")
    assert typed(capsys, "store", "help", "gc") == typed(capsys, "store", "gc", "--help")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "horkd_order_ablation"), "Did you mean 'run'?"),
        (("kill",), "Did you mean 'stop'?"),
        (("store", "rm", "x"), "Did you mean 'discard'?"),
        (("horkd_order_ablation",), "It is a study: python -m sweeps run horkd_order_ablation"),
        (("rnu",), "Did you mean 'run'?"),
    ],
)
def test_a_command_of_another_tool_is_led_to_ours(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = typed(capsys, *words)
    assert code == 2 and said in err


@pytest.mark.parametrize("command", ["run", "show", "params"])
def test_naming_no_study_lists_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed(capsys, command)
    assert code == 2 and out == ""
    for name in search_spaces.names():
        assert name in err and search_spaces.load(name).title in err
    assert f"python -m sweeps {command} horkd_order_ablation" in err


@pytest.mark.parametrize(("columns", "most"), [("60", 60), ("100", 100), ("300", 110)])
def test_help_uses_the_width_of_the_terminal_within_reason(
    columns: str, most: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    widest = max(map(len, typed(capsys, "show", "--help")[1].splitlines()))
    assert most - 15 < widest <= most
    assert max(map(len, typed(capsys, "params", CLASSIFICATION)[1].splitlines())) <= most


# Completion.


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        ([], "ru", ["run"]),
        (["run"], "horkd_order", ["horkd_order_ablation"]),
        (["run", "horkd_order_ablation", "--preset"], "", ["demo", "own", "paper", "tiny"]),
        (["show", "horkd_loss_weights", "--preset"], "pareto", ["pareto"]),
        (["run", CLASSIFICATION, "--data"], "cif", ["cifar10", "cifar100"]),
        (["run", CLASSIFICATION, "--data"], "fol", ["folder:"]),
        (["data", "check"], "lf", ["lfw"]),
        (["run", CLASSIFICATION, "--set"], "arm=horkd_v", ["arm=horkd_vgg"]),
        (["run", "horkd_order_ablation", "--set"], "assistant.learning", ["assistant.learning_rate="]),
        (["run", "no_such_study", "--set"], "a", []),
        (["run", CLASSIFICATION, "--profile"], "gp", ["gpu"]),
        (["resume"], "horkd_o", ["horkd_order_ablation-0123abcd"]),
        (["logs"], "lat", ["latest"]),
        (["resume", "--out", "nowhere"], "horkd", []),
    ],
)
def test_the_shell_offers_names(
    words: list[str], incomplete: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "horkd_order_ablation-0123abcd"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWEEPS_OUT", raising=False)
    found = ShellComplete(cli, {}, "sweeps", completion.VARIABLE).get_completions(words, incomplete)
    assert sorted(item.value for item in found) == sorted(offered)


def test_the_script_is_completed_as_the_documents_say(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), completion.VARIABLE: "bash_source"}
    script = [sys.executable, "-c", "import sys; sys.argv[0] = 'sweeps'; from sweeps.commands.app import main; main()"]
    source = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert source.returncode == 0 and source.stderr == ""
    assert f"{completion.VARIABLE}=bash_complete" in source.stdout and "_sweeps_completion sweeps" in source.stdout
    environment |= {completion.VARIABLE: "bash_complete", "COMP_WORDS": "sweeps show horkd_face_v", "COMP_CWORD": "2"}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["plain,horkd_face_verification"]
    assert "_SWEEPS_COMPLETE=bash_source sweeps" in (ROOT / "README.md").read_text(encoding="utf-8")


# Names.


def test_no_other_name_is_one_of_ours_and_each_leads_to_one() -> None:
    recipes = (DISTILLATION, HORKD_ASSISTANT)
    ours = {name for recipe in recipes for name in (*recipe.parameters, *recipe.short_names)}
    assert set(parameter_words.ALIASES) & ours == set() == set(parameter_words.FLAGS) & ours
    assert set(parameter_words.ALIASES) & set(parameter_words.FLAGS) == set()
    reached = {name.split(".", 1)[-1] for name in DISTILLATION.parameters} | set(DISTILLATION.parameters)
    assert set(parameter_words.ALIASES.values()) <= reached


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("lr", "learning_rate"),
        ("student.lr", "student.learning_rate"),
        ("wd", "weight_decay"),
        ("bs", "batch_size"),
        ("scheduler", "schedule"),
        ("res", "resolution"),
        ("arch", "architecture"),
        ("teacher.arch", "teacher.architecture"),
        ("teacher.checkpoint", "teacher.weights"),
        ("Learning-Rate", "learning_rate"),
        ("arms", "arm"),
        # Ours stay as they are, the short ones too; what is nothing is refused later.
        ("learning_rate", "learning_rate"),
        ("alpha", "alpha"),
        ("momentum", "momentum"),
        ("nonsense", "nonsense"),
        ("lr.lr", "lr.lr"),
    ],
)
def test_other_names_are_understood(name: str, ours: str) -> None:
    assert parameters.meant(search_spaces.load(CLASSIFICATION), name) == ours


@pytest.mark.parametrize(
    ("name", "flag"), [("seed", "--seeds"), ("dataset", "--data"), ("n_trials", "--trials"), ("num_workers", "--jobs")]
)
def test_what_a_flag_says_is_led_to_the_flag(name: str, flag: str) -> None:
    with pytest.raises(UsageError, match=f"{flag}.*for example {flag} "):
        parameters.meant(search_spaces.load(CLASSIFICATION), name)


def test_a_name_that_was_understood_is_said_and_kept_as_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = requests(monkeypatch)
    _, _, err = typed(capsys, "show", *TINY, "--set", "lr=0.1,0.2", "--set", "wd=0")
    assert asked[0].settings == ["learning_rate=0.1,0.2", "weight_decay=0"]
    assert "--set lr is understood as learning_rate." in err and "weight_decay" in err
    typed(capsys, "show", *TINY, "--set", "learning_rate=0.1,0.2")
    assert asked[0].settings[0] == asked[1].settings[0]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("learing_rate", ["'learning_rate'"]),
        ("rate", ["'learning_rate'"]),
        ("warmup_steps", ["'warmup_epochs'"]),
        ("asistant.epochs", ["'assistant.epochs'"]),
        ("xyzzy", []),
    ],
)
def test_an_unknown_name_gets_a_few_near_ones_and_the_way_to_all(name: str, near: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        resolve(search_spaces.load("horkd_order_ablation"), settings=[f"{name}=1"])
    said = str(refused.value)
    assert "python -m sweeps params horkd_order_ablation" in said and len(said) < 250
    assert all(one in said for one in near)
    assert ("Did you mean" in said) == bool(near)


# The table.


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_parameter_is_described(name: str) -> None:
    study = search_spaces.load(name)
    groups = parameters.described(study, "demo")
    rows = {row["name"]: row for members in groups.values() for row in members}
    common = {n for n in study.recipe.parameters if n.split(".")[0] not in study.recipe.roles}
    decided = {"route", "method"} if study.arms else set()
    assert common - decided <= set(rows)
    assert [row["name"] for row in rows.values() if not row["description"]] == [], (
        "say it in sweeps/planning/parameter_words.py"
    )
    assert "other" not in groups
    assert all(group in parameters.titles() for group in groups)


def test_the_table_has_types_limits_units_and_the_presets_values() -> None:
    study = search_spaces.load(CLASSIFICATION)
    rows = {row["name"]: row for members in parameters.described(study, "demo").values() for row in members}
    preset = study.presets["demo"].parameters
    epochs = rows["epochs"]
    assert (epochs["type"], epochs["low"], epochs["high"], epochs["unit"]) == ("whole number", 1, 100_000, "epochs")
    assert epochs["default"] == preset["epochs"] and epochs["only"] == {"teacher": preset["teacher.epochs"]}
    assert epochs["default_from"] == "preset demo" and {"teacher", "assistant", "student"} <= set(epochs["stages"])
    assert rows["momentum"]["default"] == 0.9 and rows["momentum"]["default_from"] == "spec"
    assert rows["resolution"]["axis"] == [8, 4] and rows["arm"]["options"] == list(study.arms)
    assert "torchvision:" not in rows["architecture"]["options"] and "resnet18" in rows["architecture"]["options"]
    assert rows["teacher.weights"]["unit"] == "path"
    search = search_spaces.load("horkd_loss_weights")
    drawn = {row["name"]: row for members in parameters.described(search, "demo").values() for row in members}
    assert drawn["horkd.alpha"]["drawn"] == "0.001 to 100, log"
    assert parameters.default_words(drawn["horkd.alpha"]) == "drawn: 0.001 to 100, log"
    assert parameters.default_words(epochs) == "30 (teacher 8)"


def test_params_prints_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "params", CLASSIFICATION, "--preset", "paper")
    assert code == 0 and "  epochs = 240" in out and "teacher.weights" in out
    code, out, _ = typed(capsys, "params", CLASSIFICATION, "--preset", "paper", "--json")
    told: dict[str, Any] = json.loads(out)
    assert (code, told["study"], told["preset"]) == (0, CLASSIFICATION, "paper")
    names = {row["name"]: row for group in told["groups"] for row in group["parameters"]}
    assert names["epochs"]["default"] == 240
    code, _, err = typed(capsys, "params", CLASSIFICATION, "--preset", "papr")
    assert code == 2 and "Did you mean 'paper'?" in err


# What was let pass without a word.


def test_gpus_that_are_not_there_are_refused_before_a_run_and_a_dry_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for more in ((), ("--dry-run",)):
        code, _, err = typed(capsys, "run", *TINY, "--gpus", "1", *more)
        assert code == 2 and "--gpus must be from 0 to 0" in err and "got 1" in err
    code, _, err = typed(capsys, "run", *TINY, "--gpus", "-1", "--dry-run")
    assert code == 2 and "got -1" in err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert typed(capsys, "run", *TINY, "--gpus", "2", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((CLASSIFICATION, "--set", "arm=kd"), "--set arm=ce,kd"),
        (("horkd_order_ablation", "--set", "orders=1,2"), "--set horkd.orders=none,1,2"),
        ((CLASSIFICATION, "--set", "arm=ce,kd"), ""),
        (("horkd_order_ablation",), ""),
        (("horkd_loss_weights",), ""),
    ],
)
def test_a_plan_without_its_reference_says_how_to_have_it(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(capsys, "show", *words, "--out", str(tmp_path))
    assert code == 0
    assert ("is not in this plan" in err) == bool(said) == ("not in this plan" in out)
    assert said in err
    told = json.loads(typed(capsys, "show", *words, "--out", str(tmp_path), "--json")[1])
    assert bool(told["remarks"]) == bool(said)
