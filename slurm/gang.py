"""One job of several nodes that all train: the first node drives as well."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from slurm.driver import Driver
from slurm.job import Job, Signals, job_number
from slurm.worker import Worker


@dataclass
class Gang(Job):
    """One job of several nodes: every task is a worker, the first one drives as well."""

    command: Sequence[str] = ()

    def __call__(self) -> int:
        """Serve until the driver is through."""
        signals = Signals()
        signals.listen()
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return Worker(**self.common(), driver=job_number(), requeues=False).serve(signals)
        with signals.shielded():
            words = [sys.executable, "-m", "slurm.worker", self.rendezvous_folder, self.run, str(self.warning_seconds)]
            worker = subprocess.Popen([*words, self.scratch or "", self.interface or ""], stdin=subprocess.DEVNULL)
        try:
            return Driver(**self.common(), command=self.command).drive(signals)
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=20)
            worker.kill()
            worker.wait()
