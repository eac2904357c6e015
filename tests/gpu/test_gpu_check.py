"""The GPU check: its logic with tiny sizes on the CPU, where each part must also be able to fail; and the check itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_checks, gpu_setting, measure
from benchmarks.gpu_checks import Answer
from benchmarks.gpu_setting import TINY
from trainables.errors import NonFiniteError
from trainables.training.loop import Trainer

CPU = torch.device("cpu")
OTHER = torch.device("cpu", 0)  # The same processor under another name: stands for a device that may differ.
CHECKS = ("components", "repeatable", "no_waiting")
MISSING = ("ray", "optuna", "polars", "PIL", "sklearn", "scipy", "click", "rich", "matplotlib", "pandas", "torchvision")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Any:
    with measure.as_stages_run():
        yield


def test_the_whole_check_runs_on_a_cpu_and_every_part_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--device", "cpu", "--json", str(tmp_path / "a.json")]
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["machine"]["device"] == "CPU" and told["machine"]["tiny"] is True
    questions = {answer["question"] for answer in told["answers"]}
    assert questions == {
        *("as on the CPU", "bit-equal", "waits inside an epoch", "device", "filling", "training step", "angle loss"),
        *("several trainings", "as accurate"),
    }
    assert all(answer["holds"] is not False and answer["figure"] for answer in told["answers"])
    assert "times mean nothing" in done.stdout


def test_it_imports_nothing_that_a_bare_gpu_machine_lacks() -> None:
    loaded = f"""
import sys
from benchmarks import gpu
code = gpu.main(["--tiny", "--device", "cpu", "--only", "angles", "--only", "repeatable", "--only", "steps"])
print(sorted({set(MISSING)!r} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", loaded], cwd=measure.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_loss_that_differs_on_the_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu_checks._loss

    def moved(spec: Any, device: torch.device) -> Any:
        terms, gradient = real(spec, device)
        wrong = device == OTHER and spec is not None and spec.method == "pkt"
        return terms * (1 + 1e-3 * wrong), gradient

    monkeypatch.setattr(gpu_checks, "_loss", moved)
    answers = {answer.what: answer for answer in gpu_checks.components(TINY, OTHER)}
    (loss,) = (answer for what, answer in answers.items() if what.startswith("loss:"))
    assert loss.holds is False and "loss pkt" in loss.what
    assert all(answer.holds for answer in answers.values() if answer is not loss)


def test_what_is_not_finite_is_infinitely_far_apart() -> None:
    assert gpu_checks.apart(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 1.0])) == float("inf")
    assert gpu_checks.apart(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 2.0])) == 1.0


def test_a_training_that_is_not_repeatable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = iter(range(100))
    real = gpu_setting.student_spec
    monkeypatch.setattr(gpu_checks, "student_spec", lambda *a, **k: real(*a, **k, seed=next(seeds)))
    assert [answer.holds for answer in gpu_checks.repeatable(TINY, CPU)] == [False, False]


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("_local_scalar_dense", lambda total, labels: total.item()),
        ("nonzero", lambda total, labels: labels.nonzero()),
        ("index", lambda total, labels: labels[labels > 0]),
        ("_unique2", lambda total, labels: labels.unique()),
    ],
)
def test_a_step_that_waits_is_found(monkeypatch: pytest.MonkeyPatch, operation: str, call: Any) -> None:
    real = Trainer._add

    def reading(self: Trainer, sums: Any, outputs: Any, labels: Any, total: Any, *rest: Any) -> None:
        call(total.detach(), labels)
        real(self, sums, outputs, labels, total, *rest)

    monkeypatch.setattr(Trainer, "_add", reading)
    first = gpu_checks.no_waiting(TINY, CPU)[0]
    assert first.holds is False and operation in first.figure


def test_a_precision_that_breaks_is_a_failed_part_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Trainer) -> None:
        raise NonFiniteError("train/loss became nan in epoch 1.")

    monkeypatch.setattr(Trainer, "train_epoch", broken)
    told: list[int] = []
    answers = gpu.run(("precisions", "angles"), TINY, CPU, 100.0, lambda so_far: told.append(len(so_far)))
    assert [(a.question, a.holds) for a in answers] == [("precisions", False), ("angle loss", None)]
    assert "NonFiniteError: train/loss became nan" in answers[0].figure and told == [1, 2]
    assert "Traceback" in capsys.readouterr().err


def test_a_part_that_would_begin_too_late_says_that_it_was_not_run() -> None:
    answers = gpu.run(("angles", "steps"), TINY, CPU, -1.0, lambda so_far: None)
    assert [(a.question, a.holds) for a in answers] == [("angles", None), ("steps", None)]
    assert all("not run" in answer.what for answer in answers)


def test_the_table_is_aligned_and_says_what_does_not_hold() -> None:
    shown = gpu.table([Answer("a", "b c", "1 MiB", False), Answer("long", "d", "2", None)]).splitlines()
    assert shown == ["question  what  holds  figure", "a         b c   NO     1 MiB", "long      d     -      2"]


def test_full_sizes_on_a_cpu_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        gpu.main(["--device", "cpu"])
    assert refused.value.code == 2 and "--tiny" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("name", CHECKS)
def test_the_check_holds_on_a_gpu(name: str, tmp_path: Path) -> None:
    answers = gpu.PARTS[name](TINY, torch.device("cuda"), tmp_path)
    assert answers and [answer for answer in answers if answer.holds is not True] == []
