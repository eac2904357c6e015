"""The command line: the help of every command, its flags, exit codes, and the names in what `--json` prints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import click
import pytest

from analysis.report.write import write_report
from sweeps.commands.app import cli, main
from sweeps.runs.folder import Place
from trainables import errors

TINY = ("horkd_order_ablation", "--preset", "tiny")
# Commands that read, with `--json`: their words; OUT is an empty folder.
ASKED = {
    "list": ("list",),
    "show": ("show", *TINY, "--out", "OUT"),
    "show methods": ("show", "horkd_classification", "--preset", "tiny", "--out", "OUT"),
    "show drawn": ("show", "horkd_loss_weights", "--preset", "tiny", "--out", "OUT"),
    "params": ("params", "horkd_classification", "--preset", "tiny"),
    "dry run": ("run", *TINY, "--out", "OUT", "--dry-run"),
    "data list": ("data", "list"),
    "data show": ("data", "show", "digits"),
    "status of nothing": ("status", "--out", "OUT"),
    "wrong": ("show", "horkd_order_ablatoin"),
    "wrong value": ("show", *TINY, "--set", "epochs=x", "--out", "OUT"),
}


# The same, about a finished run of stages that sleep; OUT is where it is.
OF_A_RUN = {
    "status": ("status", "--out", "OUT"),
    "status of all": ("status", "--all", "--out", "OUT"),
    "report": ("report", "--out", "OUT"),
    "store list": ("store", "list", "--out", "OUT"),
    "store verify": ("store", "verify", "--out", "OUT"),
    "store gc": ("store", "gc", "--dry-run", "--out", "OUT"),
}


def commands(group: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words, hidden ones too."""
    yield words, group
    if isinstance(group, click.Group):
        for name in sorted(group.commands):
            yield from commands(group.commands[name], (*words, name))


COMMANDS = dict(commands(cli))


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of this machine's environment."""
    for name in [name for name in os.environ if name.startswith("SWEEPS_") and name != "SWEEPS_CORES_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0), capsys.readouterr().out


def test_the_help_of_every_command(
    pin: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ""
    for words, command in COMMANDS.items():
        # click remembers the first help option it makes, and a test may have called the command without its group.
        monkeypatch.setattr(command, "_help_option", None)
        code, out = said(capsys, *words, "--help")
        hidden = " (hidden)" if command.hidden else ""
        text += f"$ sweeps {' '.join(words)} --help{hidden}: {code}\n{out}\n"
    pin.text("help.txt", text)


def test_the_flags_of_every_command(pin: Any) -> None:
    for words, command in COMMANDS.items():
        told = {}
        for parameter in command.params:
            default = parameter.default
            plain = default if isinstance(default, str | int | float) and not isinstance(default, Enum) else None
            told["/".join([*parameter.opts, *parameter.secondary_opts])] = {
                "name": parameter.name,
                "kind": type(parameter).__name__,
                "type": parameter.type.name,
                "choices": list(getattr(parameter.type, "choices", [])),
                "default": plain,
                "required": parameter.required,
                "multiple": getattr(parameter, "multiple", False),
                "flag": getattr(parameter, "is_flag", False),
                "nargs": parameter.nargs,
                "hidden": getattr(parameter, "hidden", False),
                "environment": parameter.envvar,
            }
        pin("flags", " ".join(words) or "sweeps", told)
    pin.only("flags", {" ".join(words) or "sweeps" for words in COMMANDS})


def test_the_exit_code_of_every_error(pin: Any) -> None:
    found = {
        name: thing.exit_code
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.SweepsError)
    }
    pin("exit_codes", "errors", found)


def names(value: Any) -> Any:
    """The names inside a JSON value, and the types of what they name; of a list its members taken together."""
    if isinstance(value, dict):
        return {name: names(inner) for name, inner in value.items()}
    if isinstance(value, list):
        inner = [names(member) for member in value]
        if inner and all(isinstance(member, dict) for member in inner):
            return [{name: member[name] for member in inner for name in member}]
        return [" or ".join(sorted({str(member) for member in inner}))]
    return "number" if type(value) in (int, float) else type(value).__name__


@pytest.mark.parametrize("title", ASKED)
def test_the_names_that_json_prints(title: str, pin: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [str(tmp_path) if word == "OUT" else word for word in ASKED[title]]
    code, out = said(capsys, *words, "--json")
    pin("json_names", title, {"exit code": code, "names": names(json.loads(out))})


@pytest.fixture(scope="module")
def slept(tmp_path_factory: pytest.TempPathFactory, finished: Any) -> Path:
    folder = tmp_path_factory.mktemp("slept")
    run = finished.func(Place.of(folder, None), "_engine_check", "seconds=0", "epochs=2").run.path
    write_report(run, run / "report")
    return folder


@pytest.mark.parametrize("title", OF_A_RUN)
def test_the_names_that_json_prints_of_a_run(
    title: str, pin: Any, capsys: pytest.CaptureFixture[str], slept: Path
) -> None:
    code, out = said(capsys, *(str(slept) if word == "OUT" else word for word in OF_A_RUN[title]), "--json")
    pin("json_names", title, {"exit code": code, "names": names(json.loads(out))})
    pin.only("json_names", {*ASKED, *OF_A_RUN})
