"""One task of a job array, without a Ray network."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from slurm.driver import Driver
from slurm.job import AGAIN, Job, Signals, job_number, requeue_this_job, say

SOME_FAILED = 10  # An array task's exit code when all is done but what failed for good; 1 is also that of a crash.


@dataclass
class ArrayTask(Job):
    """One task of an array without a Ray network: a loop over the plan's ready stages."""

    command: Sequence[str] = ()

    def __call__(self) -> int:
        """Run the loop; a warned task goes back into the queue once its stages are saved."""
        signals = Signals()
        signals.listen()
        rendezvous = self.rendezvous
        rendezvous.check()
        over = rendezvous.over()
        if over is not None:
            say(f"the run ended already, with code {over.get('code')}")
            return int(over.get("code", 0))
        code = Driver(**self.common(), command=self.command).once(signals)
        if code in (0, SOME_FAILED):
            code = 1 if code else 0
            with contextlib.suppress(OSError):
                rendezvous.end(code)
        if code == AGAIN and not signals.ended and not rendezvous.is_asked_to_leave(job_number()):
            requeue_this_job(signals)
        return code
