"""Each mistake gets its message and exit code, no traceback, and nothing is started."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import said, sweeps
from PIL import Image

ABLATION = "horkd_order_ablation"


BAD_WORDS = [
    (
        ["run", "horkd_order_ablatoin"],
        2,
        "There is no study 'horkd_order_ablatoin'. Did you mean 'horkd_order_ablation'?",
    ),
    (["rnu", ABLATION], 2, "There is no command 'rnu'. Did you mean 'run'?"),
    (
        ["run", ABLATION, "--set", "resolutoin=16"],
        2,
        "'resolutoin' is not a parameter of horkd_order_ablation. Did you mean 'resolution'?",
    ),
    (["run", ABLATION, "--set", "orders=1+4"], 2, "orders: '4' is not an order. Use any of 1, 2, 3, C joined by +"),
    (["run", ABLATION, "--set", "resolution=0"], 2, "resolution must be a whole number from 4 to 1024, got 0"),
    (["run", ABLATION, "--set", "resolution=16"], 2, "resolution must be at most 8, the size of digits, got 16"),
    (["run", ABLATION, "--set", "epochs=1.5"], 2, "epochs must be a whole number, got '1.5'"),
    (["run", ABLATION, "--set", "learning_rate=nan"], 2, "learning_rate must be a finite number, got 'nan'"),
    (["run", ABLATION, "--set", "architecture=resnet19"], 2, "Did you mean 'resnet18'?"),
    (["run", ABLATION, "--set", "epochs"], 2, "--set takes name=value, got 'epochs'"),
    (["run", ABLATION, "--set", "epochs="], 2, "epochs needs a value"),
    (["run", ABLATION, "--set", "seed=3"], 2, "Seeds are set with --seeds"),
    (
        ["run", ABLATION, "--set", "train_images=5000"],
        2,
        "train_images must be at most 1132, what validation leaves of digits, got 5000",
    ),
    (["run", ABLATION, "--preset", "papr"], 2, "has no preset 'papr'. Did you mean 'paper'?"),
    (["run", ABLATION, "--seeds", "none"], 2, "--seeds must be a number (5 means 0 to 4), a range (100-104) or a list"),
    (["run", ABLATION, "--seeds", "0"], 2, "at least one seed"),
    (["run", ABLATION, "--trials", "5"], 2, "--trials is for studies that draw their cells"),
    (["run", "horkd_loss_weights", "--trials", "0"], 2, "--trials must be a whole number from 1"),
    (["run", "horkd_loss_weights", "--set", "alpha=1,2"], 2, "horkd.alpha is drawn by this study"),
    (["run", ABLATION, "--jobs", "1000"], 2, "--jobs must be from 1 to"),
    (["run", ABLATION, "--data", "cifar1000"], 2, "cifar100"),
    (["status", "nothing-here"], 2, "There is no run"),
    (["report"], 2, "There is no run"),
    (["resume", "no/such/run"], 2, "is not a run"),
    (["logs"], 2, "There is no run"),
    (["store", "discard", "0123456789abcdef"], 2, "no artifact"),
    (["data", "show", "digit"], 2, "Did you mean 'digits'?"),
]


@pytest.mark.parametrize(("words", "code", "text"), BAD_WORDS, ids=[" ".join(w)[-45:] for w, _, _ in BAD_WORDS])
def test_a_wrong_word_is_answered_before_anything_starts(
    words: list[str], code: int, text: str, tmp_path: Path
) -> None:
    result = sweeps(*words, SWEEPS_OUT=str(tmp_path / "out"))
    assert result.returncode == code, result.stderr
    assert text in said(result)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out" / "runs").exists() or not list((tmp_path / "out" / "runs").iterdir())


def test_two_mistakes_are_told_at_once(tmp_path: Path) -> None:
    result = sweeps("run", ABLATION, "--set", "resolutoin=16", "--set", "epochs=-1", "--out", str(tmp_path))
    assert result.returncode == 2
    assert "Did you mean 'resolution'?" in said(result) and "epochs must be" in said(result)


def test_a_mistake_with_json_is_one_json_object(tmp_path: Path) -> None:
    result = sweeps("run", ABLATION, "--set", "epochs=0", "--json", "--out", str(tmp_path))
    answer = json.loads(result.stdout)
    assert answer["exit_code"] == result.returncode == 2
    assert "epochs must be" in answer["error"]


def test_an_out_folder_that_is_a_file_or_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", Path("/proc/nowhere")):
        result = sweeps("run", ABLATION, "--preset", "tiny", "--out", str(out))
        assert result.returncode == 3, result.stderr
        assert "must be" in said(result) and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: None, "cifar100"),
        (lambda p: (p / "cifar-100-python").mkdir(parents=True), "train"),
        (lambda p: _cifar(p, b""), "meta"),
        (lambda p: _cifar(p, b"\x80\x02}q\x01(X\x04"), "meta is damaged"),
    ],
    ids=["missing", "empty folder", "empty file", "truncated"],
)
def test_missing_or_damaged_cifar_names_what_was_expected_where(make: object, text: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    make(root)  # type: ignore[operator]
    words = ["run", ABLATION, "--preset", "tiny", "--data", "cifar100", "--data-root", str(root)]
    result = sweeps(*words, "--out", str(tmp_path / "out"))
    assert result.returncode == 4, result.stderr
    assert text in said(result) and str(root) in said(result)
    assert "Traceback" not in result.stderr


def _cifar(root: Path, content: bytes) -> None:
    (root / "cifar-100-python").mkdir(parents=True)
    for name in ("train", "test", "meta"):
        (root / "cifar-100-python" / name).write_bytes(content)


def test_folders_of_images_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    def folder(name: str, **classes: int) -> str:
        for label, count in classes.items():
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / name / label / f"{i}.png")
        (tmp_path / name).mkdir(exist_ok=True)
        return f"folder:{tmp_path / name}"

    bad = folder("undecodable", a=4, b=4)
    (tmp_path / "undecodable" / "a" / "0.png").write_bytes(b"not an image")
    for data in (f"folder:{tmp_path / 'missing'}", folder("empty"), folder("one", a=5), folder("few", a=1, b=5), bad):
        result = sweeps("run", ABLATION, "--preset", "tiny", "--data", data, "--out", str(tmp_path / "out"))
        assert result.returncode == 4, (data, result.stderr)
        assert "Traceback" not in result.stderr


def test_a_cut_packed_file_is_named_before_the_start_and_packed_again(tmp_path: Path) -> None:
    assert sweeps("data", "pack", "digits", "--out", str(tmp_path)).returncode == 0
    (packed,) = (tmp_path / "store" / "data").glob("*.arrow")
    size = packed.stat().st_size
    os.truncate(packed, size // 2)
    result = sweeps("run", ABLATION, "--preset", "tiny", "--dry-run", "--out", str(tmp_path))
    assert result.returncode == 0
    assert packed.name in said(result) and "was cut" in said(result)
    assert packed.stat().st_size == size // 2, "a mere look writes nothing"
    assert sweeps("data", "check", "digits", "--out", str(tmp_path)).returncode == 4
    assert sweeps("data", "pack", "digits", "--out", str(tmp_path)).returncode == 0
    assert packed.stat().st_size == size


def test_too_little_space_for_the_plan_is_refused(tmp_path: Path) -> None:
    words = ["run", ABLATION, "--preset", "tiny", "--out", str(tmp_path)]
    wide = ["--set", "architecture=resnet50", "--set", "width=16", "--seeds", "1000", "--set", "resolution=8"]
    result = sweeps(*words, *wide)
    assert result.returncode == 3
    assert "MB" in said(result) and "are free" in said(result)


def test_a_run_without_a_finished_trial_has_nothing_to_report(tmp_path: Path) -> None:
    words = ["run", ABLATION, "--preset", "tiny", "--seeds", "1", "--set", "learning_rate=1e9"]
    result = sweeps(*words, "--out", str(tmp_path))
    assert result.returncode == 1, result.stderr
    report = sweeps("report", "--out", str(tmp_path))
    assert report.returncode == 5
    assert "Traceback" not in report.stderr


def test_a_run_json_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "horkd_order_ablation-00000000"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{ half")
    for command in ("status", "resume", "report"):
        result = sweeps(command, run.name, "--out", str(tmp_path))
        assert result.returncode in (3, 5), (command, result.stderr)
        assert "run.json" in said(result) and "Traceback" not in result.stderr


def test_show_and_dry_run_write_nothing(tmp_path: Path) -> None:
    for words in (["show", ABLATION], ["run", ABLATION, "--dry-run"], ["list"], ["doctor"], ["data", "list"]):
        result = sweeps(*words, SWEEPS_OUT=str(tmp_path / "out"))
        assert result.returncode == 0, result.stderr
    assert not (tmp_path / "out").exists()


def test_paper_preset_is_shown_without_its_data(tmp_path: Path) -> None:
    result = sweeps("show", ABLATION, "--preset", "paper", "--json", "--out", str(tmp_path))
    answer = json.loads(result.stdout)
    assert answer["stages"]["distinct"] == {"teacher": 5, "assistant": 80, "evaluation": 80}
    assert answer["gpu_hours"] > 1
