"""On a real terminal: one live display that leaves the screen as it was, and an answer below it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def on_a_terminal(*words: str, interrupt_after: str = "") -> tuple[int, str]:
    """Exit code and everything a command wrote to its terminal."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps", *words],
        cwd=ROOT,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    os.set_blocking(master, False)
    seen = b""
    end = time.monotonic() + 120
    asked = False
    while time.monotonic() < end:
        try:
            seen += os.read(master, 65536)
        except BlockingIOError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        except OSError:  # The terminal is gone with its last writer.
            break
        if interrupt_after and not asked and interrupt_after.encode() in seen:
            process.send_signal(signal.SIGINT)
            asked = True
    os.close(master)
    return process.wait(timeout=30), seen.decode(errors="replace")


def test_a_run_shows_its_stages_live_and_ends_with_the_answer(tmp_path: Path) -> None:
    code, seen = on_a_terminal(
        "run", "horkd_order_ablation", "--preset", "tiny", "--seeds", "1", "--out", str(tmp_path)
    )
    assert code == 0, seen
    assert "Traceback" not in seen
    assert "assistant" in seen and "0/1" in seen
    assert "Done: 2/2 trials" in seen and "Report:" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor stayed hidden"


def test_ctrl_c_is_answered_above_the_live_display(tmp_path: Path) -> None:
    words = ["run", "horkd_order_ablation", "--preset", "tiny", "--seeds", "1", "--set", "epochs=2000"]
    code, seen = on_a_terminal(*words, "--out", str(tmp_path), interrupt_after="1 handed out")
    assert code == 130, seen
    assert "Traceback" not in seen
    assert "Draining" in seen and "Resume: python -m sweeps resume" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor stayed hidden"


@pytest.mark.parametrize("ignored", [False, True], ids=["a terminal", "under nohup"])
def test_a_terminal_that_closes_drains_the_run_unless_hang_ups_are_ignored(ignored: bool, tmp_path: Path) -> None:
    epochs = "20" if ignored else "2000"
    words = [
        "run",
        "horkd_order_ablation",
        "--preset",
        "tiny",
        "--seeds",
        "1",
        "--no-report",
        "--set",
        f"epochs={epochs}",
    ]
    child, master = pty.fork()  # The command leads the session, as a shell's does: it is told, and so is its group.
    if child == 0:
        os.environ.update({"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm"})
        # Said in both cases: whoever runs the tests under nohup has them ignored.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "sweeps", *words, "--out", str(tmp_path)])
    os.set_blocking(master, False)
    end = time.monotonic() + 120
    while time.monotonic() < end and not list(tmp_path.glob("store/.work/*/checkpoint-*")):
        with contextlib.suppress(BlockingIOError):
            os.read(master, 65536)
        time.sleep(0.05)
    os.close(master)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ignored:
        assert code == 0
        assert len(list(tmp_path.glob("store/*/manifest.json"))) == 5
        return
    assert code == 130
    (log,) = tmp_path.glob("runs/*/logs/teacher-*.log")
    assert "stopped: saved at epoch" in log.read_text()
