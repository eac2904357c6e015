"""What SLURM says about jobs, and what it is told about them: `squeue`, `scancel`, `scontrol`.

`sacct` is not needed. Jobs that ended are forgotten by `squeue` after some minutes (`MinJobAge`), so what is not here
any more has ended; how, only the job's own files can tell.
"""

from __future__ import annotations

import os
import re
import shutil
import signal as signals
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm.errors import ClusterError

# A job's name may hold any character that people type, so fields end with one that they do not.
_FIELD, _RECORD = "\x1f", "\x1e"
# Id, state, reason, nodes, start, elapsed, left, number, name. A width would truncate; none does not.
_FORMAT = _RECORD + _FIELD.join(("%i", "%T", "%r", "%N", "%S", "%M", "%L", "%A", "%j"))
_IDS_AT_ONCE = 500

# A state that is not here is one of a newer SLURM: taken for living, as a mistake there only costs waiting.
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
_ENDED |= {"PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"}
_WAITING = {"CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}


@dataclass(frozen=True)
class QueuedJob:
    """One job, or one task of an array, as `squeue` shows it."""

    id: str  # As submitted: "12", or "12_3" for a task of an array.
    state: str  # SLURM's word: PENDING, RUNNING, COMPLETING, NODE_FAIL, ...
    reason: str  # Why it waits or failed; "None" while it runs.
    name: str
    node: str  # Empty until it has one.
    start: str | None  # ISO, local time of the cluster; an estimate while it waits, None when SLURM has none.
    elapsed: str
    left: str
    number: str  # Its own SLURM_JOB_ID. Tasks of an array that wait share the array's.

    @property
    def living(self) -> bool:
        """Whether it runs, may still run, or is being ended."""
        return self.state not in _ENDED

    @property
    def waiting(self) -> bool:
        """Whether it is yet to start (again)."""
        return self.state in _WAITING


def environment() -> dict[str, str]:
    """This process's environment without what changes SLURM's commands, but for where its configuration is.

    Inside a job SLURM_* describes that job; SQUEUE_*, SCANCEL_* and SLURM_TIME_FORMAT are people's habits, which
    would filter or reshape what is read here.
    """
    spoiling = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SALLOC_", "SRUN_", "LC_", "LANGUAGE")
    # SLURM_JWT is the password where the site authenticates by tokens.
    needed = ("SLURM_CONF", "SLURM_JWT")
    kept = {key: value for key, value in os.environ.items() if key in needed or not key.startswith(spoiling)}
    return kept | {"LC_ALL": "C"}


class _Refused(ClusterError):
    """SLURM answered, with an error."""


def _run(command: Sequence[str], timeout: float, forgiven: Callable[[str], bool] = lambda words: False) -> str:
    """What the command printed.

    Args:
        command: The program and its arguments.
        timeout: Seconds it may take.
        forgiven: Whether a failure with these words is none.

    Raises:
        ClusterError: With SLURM's own words, if the command is not there, fails (`_Refused`) or takes too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, **_options())
    except OSError as error:
        raise _absent(command[0], error) from error
    except subprocess.TimeoutExpired as error:
        raise _silent(command[0], timeout, (error.stderr or b"").decode(errors="replace")) from error
    words = done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}"
    # squeue calls it no failure when the user has no name on this machine, and shows nothing.
    if (done.returncode != 0 or "Invalid user" in done.stderr) and not forgiven(words):
        raise _Refused(f"`{command[0]}` failed: {words}")
    return str(done.stdout)


def _options() -> dict[str, Any]:
    return {"env": environment(), "stdin": subprocess.DEVNULL, "encoding": "utf-8", "errors": "replace"}


def _absent(name: str, error: OSError) -> ClusterError:
    return ClusterError(f"`{name}` must be in PATH to talk to SLURM, but cannot be run: {error.strerror}.")


def _silent(name: str, timeout: float, words: str) -> ClusterError:
    said = f"\nIt said: {words.strip()}" if words.strip() else ""
    return ClusterError(f"`{name}` did not answer within {timeout:g} s; SLURM's controller may be down or busy.{said}")


def _checked(ids: Iterable[str]) -> list[str]:
    """The ids, each once.

    Raises:
        ValueError: If one is no job id; it must not reach a command line.
    """
    checked = list(dict.fromkeys(ids))
    for each in checked:
        if not re.fullmatch(r"[0-9]+(_[0-9]+)?", each):
            raise ValueError(f"A job id must be a number, or two with '_' between, but got {each!r}.")
    return checked


def missing() -> str | None:
    """Why SLURM cannot be used from here, or None when it can."""
    for command in ("sbatch", "squeue", "scancel", "scontrol"):
        if shutil.which(command) is None:
            return f"no `{command}` in PATH"
    try:
        jobs()
    except ClusterError as error:
        return str(error)
    return None


def parse(printed: str) -> dict[str, QueuedJob]:
    """`squeue`'s output in our format, by job id."""
    found = {}
    # Only where an id follows does a job begin: names may hold the separator too.
    for record in re.split(f"{_RECORD}(?=[0-9][^{_FIELD}]*{_FIELD})", printed)[1:]:
        fields = record.removesuffix("\n").split(_FIELD, 8)
        if len(fields) < 9:
            raise ClusterError(f"`squeue` must print nine fields for a job, but printed {record!r}.")
        id_, state, reason, node, start, elapsed, left, number, name = fields
        started = None if start in ("N/A", "") else start
        found[id_] = QueuedJob(id_, state, reason, name, node, started, elapsed, left, number)
    return found


def _squeue(timeout: float, *whose: str) -> dict[str, QueuedJob]:
    return parse(_run(["squeue", "-h", "-r", "-t", "all", *whose, "-o", _FORMAT], timeout))


def _known(ids: Sequence[str], timeout: float) -> dict[str, QueuedJob]:
    """The jobs of these ids, whoever's, that SLURM still knows."""
    try:
        return _squeue(timeout, "-j", ",".join(ids))
    except _Refused as error:
        if "Invalid job id" in str(error):
            return {}
        raise


def jobs(timeout: float = 20) -> dict[str, QueuedJob]:
    """Every job of this user that SLURM still knows, by id; each task of an array by itself.

    Raises:
        ClusterError: If SLURM cannot be asked.
    """
    return _squeue(timeout, "-u", str(os.getuid()))


def of(ids: Iterable[str], known: Mapping[str, QueuedJob] | None = None) -> list[QueuedJob]:
    """The jobs of these ids that SLURM still knows, in order of id; an array's id stands for all its tasks.

    Args:
        ids: As submitted: "12" is job 12 and every "12_k".
        known: What `jobs` gave; None asks now.

    Raises:
        ValueError: If one is no job id.
        ClusterError: If SLURM cannot be asked.
    """
    wanted = set(_checked(ids))
    found = jobs() if known is None else known
    mine = [job for job in found.values() if job.id in wanted or job.id.partition("_")[0] in wanted]
    return sorted(mine, key=lambda job: [int(part) for part in re.findall(r"[0-9]+", job.id)])


def is_alive(id: str, timeout: float = 20) -> bool | None:
    """Whether this job (or any task of this array), of whatever user, is living; None when SLURM cannot be asked.

    Where the site hides other users' jobs (`PrivateData=jobs`), theirs look as if they had ended.

    Raises:
        ValueError: If it is no job id.
    """
    checked = _checked([id])
    try:
        return any(job.living for job in _known(checked, timeout).values())
    except ClusterError:
        return None


def cancel(ids: Iterable[str], signal: str | None = None, full: bool = False, timeout: float = 60) -> None:
    """Cancel jobs, or signal those of them that run; those that are gone already are fine.

    Args:
        ids: Jobs, arrays or single tasks.
        signal: Such as "USR2"; None cancels.
        full: Signal the batch script and its children as well as the steps.
        timeout: Seconds for each command.

    Raises:
        ValueError: If an id or the signal is none.
        ClusterError: If SLURM cannot be asked, or refuses.
    """
    if signal is not None and not re.fullmatch(r"[A-Z0-9]+", signal):
        raise ValueError(f"A signal must be a name such as USR2, but got {signal!r}.")
    options = ["--full"] if full else []
    checked = _checked(ids)
    for first in range(0, len(checked), _IDS_AT_ONCE):
        some = checked[first : first + _IDS_AT_ONCE]
        if signal is None:
            _run(["scancel", *options, *some], timeout, _is_gone)
            continue
        # scancel would try for a minute and a half to signal a job that waits.
        for job in _known(some, timeout).values():
            if job.state == "RUNNING":
                _signal(job.id, [f"--signal={signal}", *options], timeout)


def _is_gone(words: str) -> bool:
    """Whether scancel complains of nothing but jobs that have ended, or are ending: what was wanted."""
    gone = ("Invalid job id", "already completing or completed")
    return bool(words) and all(any(each in line for each in gone) for line in words.splitlines())


def _signal(id: str, options: Sequence[str], timeout: float) -> None:
    """Signal one running job or task.

    While other tasks of its array wait, scancel (22.05) delivers the signal, takes the answer for a "transitional
    state" and delivers it again ten times within 95 s; it is stopped before the second.
    """
    try:
        scancel = subprocess.Popen(
            ["scancel", "-v", *options, id], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **_options()
        )
    except OSError as error:
        raise _absent("scancel", error) from error
    said = []
    timer = threading.Timer(timeout, scancel.kill)
    timer.start()
    try:
        for line in scancel.stderr or ():
            if "retrying" in line:
                return
            said.append(line)
        code = scancel.wait()
    finally:
        timer.cancel()
        scancel.kill()
        with scancel:
            pass
    words = "".join(line for line in said if "error" in line).strip()
    if code == -signals.SIGKILL:
        raise _silent("scancel", timeout, words)
    if code != 0 and not _is_gone(words):
        raise _Refused(f"`scancel` failed: {words or f'exit {code}'}")


def requeue(id: str, hold: bool = False, timeout: float = 60) -> None:
    """Have a job end and wait in the queue again under the same id; with `hold`, until `release`.

    A job that has ended already starts anew too, as long as SLURM knows it. The wait takes as long as a credential
    lives (120 s unless the site says otherwise), and `release` does not shorten it.

    Raises:
        ValueError: If it is no job id.
        ClusterError: If SLURM cannot be asked, or refuses.
    """
    _run(["scontrol", "requeuehold" if hold else "requeue", *_checked([id])], timeout)


def release(ids: Iterable[str], timeout: float = 60) -> None:
    """Let held jobs start.

    Raises:
        ValueError: If one is no job id.
        ClusterError: If SLURM cannot be asked, or refuses.
    """
    checked = _checked(ids)
    for first in range(0, len(checked), _IDS_AT_ONCE):
        _run(["scontrol", "release", ",".join(checked[first : first + _IDS_AT_ONCE])], timeout)
