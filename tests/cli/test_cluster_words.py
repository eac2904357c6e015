"""The cluster's words at the command line, with no cluster to be had: answers, exit codes, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, said

from sweeps.commands.app import main

ABLATION = "horkd_order_ablation"
TINY = ["run", ABLATION, "--preset", "tiny"]
DRY = [*TINY, "--dry-run"]

# Raises in the process that imports what a login node lacks.
BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "ray"):
            raise RuntimeError(f"{name} was imported on the login node")
sys.meta_path.insert(0, Missing())
"""


def environment(**more: str) -> dict[str, str]:
    """Ours, without anybody's profiles and without a SLURM."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SWEEPS"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": "/nonexistent", **more}


def sweeps(*words: str, before: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    start = ["-c", f"{before}\nfrom sweeps.commands.app import main\nmain()"] if before else ["-m", "sweeps"]
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def no_slurm(tmp_path: Path) -> dict[str, str]:
    """A configuration that names a controller where none listens, or no SLURM at all."""
    config = tmp_path / "slurm.conf"
    config.write_text("ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nMessageTimeout=1\n")
    return {"SLURM_CONF": str(config), "SWEEPS_OUT": str(tmp_path / "out")}


def runs(environment: dict[str, str]) -> list[str]:
    folder = Path(environment["SWEEPS_OUT"], "runs")
    return os.listdir(folder) if folder.exists() else []


BAD_WORDS: list[Any] = [
    ([*TINY, "--workers", "3"], "--workers needs --on slurm, slurm-gang or slurm-array"),
    pytest.param(
        [*DRY, "--workers", "0"],
        "--workers needs --on slurm",
    ),
    ([*TINY, "--profile", "cpu", "--wait"], "--profile, --wait need --on slurm"),
    ([*TINY, "--slurm", "cpus=2"], "--slurm needs --on slurm"),
    ([*TINY, "--on", "slrum"], "slurm-gang"),
    ([*TINY, "--on", "slurm", "--jobs", "2"], "--jobs is for this machine; with --on slurm use --slurm cpus=N"),
    ([*TINY, "--on", "slurm-gang", "--gpus", "0"], "--gpus is for this machine; with --on slurm-gang use"),
    ([*TINY, "--on", "slurm", "--workers", "0"], "--workers must be from 1 to 10,000, got 0"),
    ([*TINY, "--on", "slurm", "--profile", "defalt"], "No profile named 'defalt'. Did you mean 'default'?"),
    ([*TINY, "--on", "slurm", "--profile", "cpu:0"], "--profile takes NAME or NAME:WORKERS, got 'cpu:0'"),
    pytest.param(
        [*TINY, "--on", "slurm", "--profile", "cpu:²"],
        "--profile takes NAME or NAME:WORKERS, got 'cpu:²'",
    ),
    (
        [*TINY, "--on", "slurm", "--workers", "2", "--profile", "cpu:2", "--profile", "gpu"],
        "--workers 2 and --profile cpu:2 --profile gpu must agree",
    ),
    ([*TINY, "--on", "slurm", "--slurm", "partiton=x"], "Did you mean 'partition'?"),
    ([*TINY, "--on", "slurm", "--slurm", "cpus=none"], "`cpus` must be a whole number"),
    (
        [*TINY, "--on", "slurm-gang", "--profile", "cpu", "--profile", "gpu"],
        "--on slurm-gang is one job, so it takes one --profile",
    ),
    (
        [*DRY, "--on", "slurm", "--need", "assistnat:cpus=2"],
        "No stage is called 'assistnat'. Did you mean 'assistant'?",
    ),
    ([*DRY, "--on", "slurm", "--need", "assistant:cpu=2"], "--need knows no 'cpu'. Did you mean 'cpus'?"),
    ([*DRY, "--need", "assistant:cpus=x"], "`cpus` must be a whole number from 1, got 'x'"),
    (
        [*DRY, "--on", "slurm", "--need", "assistant:cpus=5"],
        "needs CPU 5, and the profiles give default: 4 cpus, 0 gpus, 8 GB. Change --slurm, --profile or --need assistant",
    ),
    ([*DRY, "--on", "slurm", "--need", "teacher:memory_gb=9"], "needs CPU 1, memory 9 GB, and the profiles give"),
    ([*DRY, "--on", "slurm", "--need", "teacher:gpu=1"], "needs CPU 1, GPU 1, and the profiles give default"),
    ([*DRY, "--on", "slurm", "--set", "threads=8"], "Every stage must fit on a worker"),
    (
        ["run", "horkd_loss_weights", "--preset", "tiny", "--on", "slurm-array", "--dry-run"],
        "draws its cells from what earlier ones gave, which needs one driver that all workers answer to",
    ),
]


@pytest.mark.parametrize(("words", "text"), BAD_WORDS)
def test_a_wrong_word_is_answered_before_anything_is_submitted(
    words: list[str],
    text: str,
    no_slurm: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [n for n in os.environ if n.startswith(("SLURM", "SBATCH", "SWEEPS"))]:
        monkeypatch.delenv(name)
    for name, value in {**no_slurm, "XDG_CONFIG_HOME": "/nonexistent"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:  # In this process: an error that nobody expects is raised here.
        main(words)
    shown = capsys.readouterr()
    assert ended.value.code == 2, shown.err
    assert text in " ".join(shown.err.split())
    assert shown.out == ""
    assert runs(no_slurm) == []


@pytest.mark.skipif(shutil.which("squeue") is None, reason="needs the commands of SLURM (slurm-wlm)")
def test_a_cluster_that_does_not_answer_is_said_so_and_nothing_is_begun(no_slurm: dict[str, str]) -> None:
    result = sweeps(*TINY, "--on", "slurm", "--json", **no_slurm)
    assert result.returncode == 3, result.stderr
    answer = json.loads(result.stdout)
    assert answer["exit_code"] == 3
    assert "--on slurm needs SLURM here, but `squeue`" in answer["error"]
    assert "leave --on out" in answer["error"]
    assert runs(no_slurm) == []
    after = sweeps("status", "--all", **no_slurm)
    assert (after.returncode, "Traceback" in after.stderr) == (0, False)


@pytest.mark.parametrize("mode", ["slurm", "slurm-gang", "slurm-array"])
def test_a_machine_without_slurm_is_said_so_without_torch_or_ray(
    mode: str, no_slurm: dict[str, str], tmp_path: Path
) -> None:
    result = sweeps(*TINY, "--on", mode, before=BLOCKED, **{**no_slurm, "PATH": str(tmp_path)})
    assert result.returncode == 3, result.stderr
    assert f"--on {mode} needs SLURM here, but no `sbatch` in PATH" in said(result)
    assert runs(no_slurm) == []


# The dry run.


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        (["--on", "slurm"], ["1 x driver profile default", "2 x worker profile default"]),
        (["--on", "slurm", "--workers", "7"], ["1 x driver", "7 x worker profile default"]),
        (["--on", "slurm", "--profile", "gpu:3", "--profile", "cpu:4"], ["3 x worker profile gpu", "4 x worker"]),
        (["--on", "slurm-gang", "--workers", "4"], ["4 x gang profile default"]),
        (["--on", "slurm-array", "--slurm", "time=30"], ["2 x array profile default"]),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_dry_run_shows_jobs_and_scripts_and_needs_no_slurm_torch_or_ray(
    words: list[str], jobs: list[str], no_slurm: dict[str, str], tmp_path: Path
) -> None:
    result = sweeps(*DRY, *words, before=BLOCKED, **{**no_slurm, "PATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    shown = " ".join(result.stdout.split())
    for line in jobs:
        assert line in shown
    assert "#!/bin/bash" in result.stdout and "#SBATCH --time=" in result.stdout
    assert "queue shape 2 teachers -> 4 assistants -> 4 evaluations: at most 4 stages side by side" in shown
    assert re.search(
        r"expected about [\d.,]+ GPU (hours|minutes|seconds?), or [\d.,]+ core (hours|minutes|seconds?)", shown
    )
    assert "Nothing was started (dry run)." in result.stderr
    assert not Path(no_slurm["SWEEPS_OUT"]).exists()


def test_a_dry_run_is_one_json_object_with_its_scripts(no_slurm: dict[str, str]) -> None:
    words = ["--on", "slurm", "--workers", "3", "--slurm", "partition=long", "--slurm", "setup=source ~/env"]
    result = sweeps(*DRY, *words, "--json", **no_slurm)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert [(job["role"], job["count"], job["nodes"]) for job in answer["jobs"]] == [("driver", 1, 1), ("worker", 3, 1)]
    for job in answer["jobs"]:
        assert "#SBATCH --partition=long" in job["script"]
        assert "source ~/env" in job["script"]
        assert job["profile"]["partition"] == "long"
    assert "--on slurm --workers 3 --slurm partition=long --slurm 'setup=source ~/env'" in answer["command"]
    assert not Path(no_slurm["SWEEPS_OUT"]).exists()


def test_the_study_is_the_same_run_wherever_it_goes(no_slurm: dict[str, str]) -> None:
    shown = [json.loads(sweeps(*DRY, *words, "--json", **no_slurm).stdout) for words in ([], ["--on", "slurm-array"])]
    for key in ("run", "cells", "seeds", "stages", "parameters"):
        assert shown[0][key] == shown[1][key]


# A run that was never submitted.


def run_of(environment: dict[str, str], **request: Any) -> str:
    """A run's folder as a local run leaves it, with nothing trained yet."""
    folder = Path(environment["SWEEPS_OUT"], "runs", f"{ABLATION}-00000000")
    for name in ("logs", "records"):
        (folder / name).mkdir(parents=True)
    asked = {"study": ABLATION, "preset": "tiny", **request}
    content = {"schema": 1, "study": ABLATION, "request": asked, "seeds": [0, 1], "cells": [], "trials": []}
    (folder / "run.json").write_text(json.dumps(content))
    return folder.name


def test_a_run_that_was_never_submitted_is_looked_at_and_stopped_as_ever(no_slurm: dict[str, str]) -> None:
    name = run_of(no_slurm)
    (Path(no_slurm["SWEEPS_OUT"]) / "runs" / name / "logs" / "driver.log").write_text("a line\n")
    scaled = sweeps("scale", name, "--workers", "2", **no_slurm)
    assert scaled.returncode == 2
    assert "has no workers that join and leave; `scale` is for runs begun with --on slurm" in said(scaled)
    for words, text in (
        (["stop", name], "is not running"),
        (["stop", name, "--now"], "is not running"),
        (["status", name], "stopped"),
        (["logs", name], "driver.log"),
        (["logs", name, "driver"], "a line"),
    ):
        result = sweeps(*words, **no_slurm)
        assert (result.returncode, "Traceback" in result.stderr) == (0, False), (words, result.stderr)
        assert text in result.stdout, words
    missing = sweeps("logs", name, "worker", **no_slurm)
    assert missing.returncode == 2
    assert "has no log 'worker'" in said(missing)


def test_scale_wants_a_number_and_a_run(no_slurm: dict[str, str]) -> None:
    name = run_of(no_slurm)
    for words, text in (
        ([name], "Missing option '--workers'"),
        ([name, "--workers", "-1"], "--workers must be from 0 to 10,000, got -1"),
        ([name, "--workers", "many"], "'many' is not a valid integer"),
        (["nothing-here", "--workers", "2"], "There is no run 'nothing-here'"),
    ):
        result = sweeps("scale", *words, **no_slurm)
        assert result.returncode == 2, result.stderr
        assert text in said(result)


@pytest.mark.skipif(shutil.which("squeue") is None, reason="needs the commands of SLURM (slurm-wlm)")
def test_a_submitted_run_is_shown_from_its_files_when_slurm_does_not_answer(no_slurm: dict[str, str]) -> None:
    name = run_of(no_slurm, on="slurm")
    meeting = Path(no_slurm["SWEEPS_OUT"]) / "runs" / name / "slurm"
    (meeting / "jobs").mkdir(parents=True)
    kept = [{"role": "driver", "profile": {"name": "p"}, "ids": ["7"], "nodes": 1, "time": 0}]
    (meeting / "submissions.json").write_text(json.dumps(kept))
    (meeting / "jobs" / "7_0_log.out").write_text("driver of it\n")
    result = sweeps("status", name, **no_slurm)
    assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr
    assert "SLURM cannot be asked" in result.stdout
    log = sweeps("logs", name, "driver", **no_slurm)
    assert (log.returncode, log.stdout) == (0, "driver of it\n")


# From one place to another.


def resumed(name: str, words: list[str], no_slurm: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What `resume` would begin, without beginning it."""
    before = (
        "import json, dataclasses, sweeps.commands.app\n"
        "sweeps.commands.resume.begin = lambda request, *a, **k: print(json.dumps(dataclasses.asdict(request)))\n"
    )
    return sweeps("resume", name, *words, before=before, **no_slurm)


def test_a_run_begun_here_with_a_number_of_cores_goes_on_on_a_cluster(no_slurm: dict[str, str]) -> None:
    result = resumed(run_of(no_slurm, jobs=1), ["--on", "slurm"], no_slurm)
    assert result.returncode == 0, result.stderr
    asked = json.loads(result.stdout)
    assert (asked["on"], asked["jobs"]) == ("slurm", None)


def test_a_run_begun_on_a_clusters_gpus_goes_on_with_what_is_here(no_slurm: dict[str, str]) -> None:
    name = run_of(no_slurm, on="slurm", gpus=4, profiles=["gpu:2"], slurm=["time=60"])
    result = resumed(name, ["--on", "local"], no_slurm)
    assert result.returncode == 0, result.stderr
    asked = json.loads(result.stdout)
    assert (asked["on"], asked["gpus"], asked["profiles"], asked["slurm"]) == ("local", None, [], [])


def test_resume_goes_where_the_run_was_begun(no_slurm: dict[str, str]) -> None:
    name = run_of(no_slurm, on="slurm-gang", gpus=1, profiles=["gpu"], workers=3)
    asked = json.loads(resumed(name, [], no_slurm).stdout)
    assert (asked["on"], asked["workers"], asked["profiles"], asked["gpus"]) == ("slurm-gang", 3, ["gpu"], None)
    asked = json.loads(resumed(name, ["--workers", "5"], no_slurm).stdout)
    assert (asked["workers"], asked["profiles"]) == (5, ["gpu"])


def test_resume_to_an_unknown_place_is_refused(no_slurm: dict[str, str]) -> None:
    result = resumed(run_of(no_slurm), ["--on", "slrum"], no_slurm)
    assert result.returncode == 2
    assert "Did you mean 'slurm'?" in said(result)
