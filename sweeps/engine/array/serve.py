"""What runs in a process for stages: orders come as lines on standard input, answers go back as lines."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

from trainables.attempts.attempt import begin, tidy

# The task answers these for its stages, which save and leave when a file tells them to.
TASK_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def serve() -> None:
    """Run the stages whose orders come as lines on standard input, and answer each with a line, until it closes."""
    for number in TASK_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TASK_SIGNALS)
    ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return  # The task died before we could tie ourselves to it.
    # What a library prints goes to the log, not among the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        latest: dict[str, Any] = {}
        for said in begin(json.loads(line)):
            latest = said
        tidy()
        answer = {
            name: latest[name] for name in ("outcome", "epoch", "message", "unwritten", "unreleased") if name in latest
        }
        answers.write(json.dumps(answer | {"trained": "metrics" in latest}) + "\n")
