"""Variables of ours and of others with any value: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABLATION = "horkd_order_ablation"


def sweeps(desk: Path, *words: str, **more: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SWEEPS_")}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name, value in more.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    command = [sys.executable, "-m", "sweeps", *words]
    return subprocess.run(command, cwd=desk, env=env, capture_output=True, text=True, errors="replace", timeout=300)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"OMP_NUM_THREADS": "abc", "POLARS_MAX_THREADS": "x", "MKL_NUM_THREADS": "-1"}, 0),
        ({"HOME": None}, 0),
        ({"HOME": "/nonexistent", "XDG_CONFIG_HOME": "", "TMPDIR": "/nonexistent"}, 0),
        ({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "abc", "LINES": "x", "TERM": ""}, 0),
        ({"RAY_ADDRESS": "garbage", "RAY_memory_usage_threshold": "x", "RAY_TMPDIR": "/nonexistent"}, 0),
        ({"SLURM_CPUS_PER_TASK": "x", "SLURM_GPUS_ON_NODE": "²", "SLURM_JOB_ID": "²", "SLURM_MEM_PER_NODE": "-"}, 0),
        ({"SWEEPS_ATTEMPT": "²", "SWEEPS_NODE": "///", "SWEEPS_NODE_ROOM": "/dev/null"}, 0),
        ({"SWEEPS_PROFILES": "/dev/null:::", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
        ({"SWEEPS_OUT": "~nobodyatall/x"}, 2),
        ({"SWEEPS_STORE": "~nobodyatall/x"}, 2),
        ({"SWEEPS_DATA_ROOT": "~nobodyatall"}, 2),
        ({"SWEEPS_PLUGINS": "/nonexistent.py"}, 2),
        ({"SWEEPS_OUT": "x" * 5000}, 2),
        ({"SWEEPS_OUT": "/dev/null"}, 3),
        ({"SWEEPS_STORE": "/dev/null/x"}, 3),
    ],
    ids=str,
)
def test_a_variable_with_garbage_is_passed_over_or_answered(
    tmp_path: Path, more: dict[str, str | None], code: int
) -> None:
    result = sweeps(tmp_path, "show", ABLATION, **more)
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == code, result.stderr
    assert code == 0 or str(next(iter(more.values())))[:50] in result.stderr.replace("/dev/null/store", "/dev/null")


@pytest.mark.parametrize(
    "words", [["--out", "~nobodyatall"], ["--set", "teacher.weights=~nobodyatall/x.pt"], ["--data=folder:~nobodyatall"]]
)
def test_a_home_that_nobody_has_is_named(tmp_path: Path, words: list[str]) -> None:
    result = sweeps(tmp_path, "show", ABLATION, *words)
    assert result.returncode == 2
    assert "~nobodyatall must be the home folder" in result.stderr
