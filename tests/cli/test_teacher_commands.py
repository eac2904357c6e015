"""The commands on teachers from files: what they print and refuse."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from sweeps.commands.teachers import teachers_group
from trainables.errors import UsageError
from trainables.models import build
from trainables.pretrained import shelf
from trainables.spec import PretrainedSpec


def thin(path: Path) -> Path:
    torch.manual_seed(0)
    network = build("resnet_thin", channels=3, classes=4, width=0.5)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def test_check_says_what_a_file_is_and_how_to_use_it_and_keeps_nothing(nasty_path: Path) -> None:
    path = thin(nasty_path / "my teacher.safetensors")
    text = CliRunner().invoke(teachers_group, ["check", str(path)]).output
    lines = {line.partition(" ")[0]: line for line in text.splitlines()}
    assert "my teacher.safetensors" in lines["file"] and "safetensors, " in lines["file"]
    assert "resnet_thin, width 0.5, stem small, embedding layer 0" in lines["network"]
    assert "32 wide" in lines["embedding"] and "4 classes; with teacher.head=keep" in lines["classifier"]
    assert "RGB from 0 to 1, normalised by the training split, the data's own size" in lines["reads"]
    assert shlex.split(lines["use"].partition("it")[2]) == ["--set", f"teacher.weights={path}"]
    answer = json.loads(CliRunner().invoke(teachers_group, ["check", str(path), "--json"]).output)
    assert answer["digits"] == answer["sha256"][:16] and answer["embedding_width"] == 32
    assert [entry.name for entry in nasty_path.iterdir()] == [path.name]


def test_check_refuses_what_does_not_fit(nasty_path: Path) -> None:
    path = thin(nasty_path / "teacher.safetensors")
    result = CliRunner().invoke(teachers_group, ["check", str(path), "--architecture", "resnet18"])
    assert isinstance(result.exception, UsageError) and "does not fit resnet18" in str(result.exception)


def test_list_shows_what_the_store_has(nasty_path: Path) -> None:
    words = ["list", "--store", str(nasty_path / "store")]
    assert "The store has no weights from files" in CliRunner().invoke(teachers_group, words).output
    digits = shelf.admit(str(thin(nasty_path / "t.safetensors")), nasty_path / "store", PretrainedSpec()).digits
    (nasty_path / "store" / "weights" / "stray.json").write_text("{}")
    rows = json.loads(CliRunner().invoke(teachers_group, [*words, "--json"]).output)["teachers"]
    assert [(row["digits"], row["architecture"], row["classes"]) for row in rows] == [(digits, "resnet_thin", 4)]
    assert digits in CliRunner().invoke(teachers_group, words).output
