"""A real SLURM of two nodes on this host, private to whoever starts it: munged, slurmctld and two slurmds.

Nothing here fakes SLURM, and nothing outside the cluster's own folder is read or written: no /etc/slurm, no
/etc/munge, no fixed port. It needs root and the Debian packages `slurm-wlm` and `munge`.

`python tests/slurm/private_slurm.py` starts one by hand, prints what to export, and takes it down at Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NODES = ("n1", "n2")
BINARIES = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
# Debian keeps the daemons in /usr/sbin, which not every root shell has on its path.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])

CONFIGURATION = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket{auth}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
# No more cores than the host has would leave no room for two nodes; slurmd accepts that only when told to.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# A job starts within a second of being submitted or released, where the defaults let it wait for up to a minute.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
FirstJobId={first_job}
JobRequeue=1
MinJobAge=300
ReturnToService=2
KillWait=5
SlurmdTimeout=10
SlurmctldTimeout=10
# A busy host may take long to answer; the default of 10 seconds would call that a failure.
MessageTimeout=30
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory={memory_mb} Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} RealMemory={memory_mb} Gres=gpu:1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=small Nodes=n2 MaxTime=INFINITE State=UP
"""
GRES = "NodeName=n[1-2] Name=gpu Count=1 File=/dev/null\n"


class ClusterDidNotStart(RuntimeError):
    """The message ends with what the daemons wrote last."""


class Job(NamedTuple):
    """One line of squeue; `id` is `1234`, or `1234_5` for a task of an array."""

    id: str
    state: str
    reason: str
    nodes: str


def why_not() -> str | None:
    """Why no private SLURM can be started here, or None when it can."""
    missing = [name for name in BINARIES if shutil.which(name, path=PATH) is None]
    if missing:
        return f"no {', '.join(missing)} on this machine; `apt-get install slurm-wlm munge` brings them"
    if os.geteuid() != 0:
        return "a private SLURM (`apt-get install slurm-wlm munge`) must be started by root"
    return None


class PrivateSlurm:
    """Nodes n1 and n2 with `cpus` CPUs and one pretended GPU each; partitions `main` (both nodes, default) and `small` (n2).

    Args:
        cpus: CPUs per node, as many as asked whatever the host has.
        memory_mb: Memory per node that jobs may ask for; not enforced.
        cred_expire: Seconds a credential lives, which is also how long a requeued job waits; None is SLURM's default, 120.
        extra: Lines to add to slurm.conf, such as another partition.

    Use as a context manager, or call `start` and `stop`. When the process that started it dies, even by kill -9, the
    cluster and everything its jobs run go with it.
    """

    def __init__(
        self, cpus: int = 4, memory_mb: int = 16000, cred_expire: int | None = 10, extra: Sequence[str] = ()
    ) -> None:
        self.cpus = cpus
        self.memory_mb = memory_mb
        self.cred_expire = cred_expire
        self.extra = tuple(extra)
        self.name = f"private{secrets.token_hex(4)}"
        self.folder = Path()
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._janitor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateSlurm:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Starting and stopping.

    def start(self, timeout: float = 60) -> PrivateSlurm:
        """Start the daemons and wait until both nodes are idle.

        Raises:
            ClusterDidNotStart: If they are not after `timeout` seconds, or a daemon ended, three times over.
        """
        reason = why_not()
        if reason:
            raise ClusterDidNotStart(reason)
        # Free ports are found by asking; somebody else may take one before we do, hence more than one attempt.
        for attempts_left in (2, 1, 0):
            try:
                self._start(timeout)
                return self
            except ClusterDidNotStart:
                self.stop()
                if not attempts_left:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("not reached")

    def _start(self, timeout: float) -> None:
        # Unix sockets allow 108 characters, so the folder is not below pytest's.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-")).resolve()
        self._janitor = subprocess.Popen(
            [sys.executable, __file__, "--janitor", str(self.folder), self.name],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        # The munge socket must be reachable by every user who may run a job.
        self.folder.chmod(0o755)
        for name in ("munge", "state", "log", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        (self.folder / "slurm.conf").write_text(self._configuration(), encoding="utf-8")
        (self.folder / "gres.conf").write_text(GRES, encoding="utf-8")
        munge = self.folder / "munge"
        self._daemon(
            "munged",
            [
                *("munged", "--foreground", "--num-threads=2", f"--socket={munge}/socket", f"--key-file={key}"),
                *(f"--pid-file={munge}/pid", f"--seed-file={munge}/seed", f"--log-file={self.folder}/log/munged.log"),
            ],
        )
        self._until(lambda: (munge / "socket").exists(), timeout, "munged has no socket")
        self._daemon("slurmctld", ["slurmctld", "-D", "-i"])
        for node in NODES:
            self.start_slurmd(node)
        self._until(self._idle, timeout, "the nodes are not idle")

    def _configuration(self) -> str:
        with contextlib.ExitStack() as held:
            taken = [held.enter_context(socket.socket()) for _ in range(3)]
            for one in taken:
                one.bind(("", 0))
            ports = [one.getsockname()[1] for one in taken]
        text = CONFIGURATION.format(
            name=self.name,
            host=socket.gethostname().split(".")[0],
            ports=ports,
            folder=self.folder,
            auth="" if self.cred_expire is None else f",cred_expire={self.cred_expire}",
            # Other clusters on this host should not have jobs of the same number.
            first_job=random.SystemRandom().randrange(1, 600) * 100_000 + 1,
            cpus=self.cpus,
            memory_mb=self.memory_mb,
        )
        return text + "".join(f"{line}\n" for line in self.extra)

    def _daemon(self, name: str, command: list[str]) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C in a terminal is for the tests, which then stop the daemons in order.
            )

    def stop(self) -> None:
        """Cancel every job, end the daemons and what is left of the jobs, and remove the folder. May be called twice."""
        if self._janitor is None:
            return
        slurmctld = self.daemons.get("slurmctld")
        if slurmctld and slurmctld.poll() is None:
            with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
                self.cancel_all(timeout=8)
        for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "munged"):
            daemon = self.daemons.pop(name, None)
            if daemon:
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
        # One byte, because a forked child of ours may still hold the pipe open.
        self._janitor.communicate(b".")
        self._janitor = None

    # Asking.

    def environment(self) -> dict[str, str]:
        """The environment for commands that shall see this cluster and no other."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH_", "SALLOC_", "SRUN_"))}
        return {**kept, "PATH": PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, check: bool = True, timeout: float = 60, **options: Any) -> str:
        """What a command such as `scontrol show job 7` prints to stdout.

        Raises:
            RuntimeError: If it fails and `check` holds.
        """
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=timeout, check=False, **options
        )
        if check and done.returncode:
            raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def sbatch(self, script: str, *options: str, cwd: Path | None = None) -> str:
        """Submit a shell script and return the job's number; output goes to /dev/null unless `options` say otherwise."""
        return self.run(
            "sbatch", "--parsable", "--output=/dev/null", *options, input=f"#!/bin/sh\n{script}\n", cwd=cwd
        ).strip()

    def squeue(self, *options: str) -> list[Job]:
        """Jobs that wait, run or are ending, tasks of arrays one by one; `-t all` adds those that ended lately."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i|%T|%r|%N", *options).splitlines()
        return [Job(*line.split("|")) for line in lines]

    def state(self, job_id: int | str) -> str:
        """State of one job, also some minutes after its end: PENDING, RUNNING, COMPLETED, ..."""
        return self._field(job_id, "JobState")

    def wait_state(self, job_id: int | str, *states: str, timeout: float = 30) -> float:
        """Wait until the job is in one of `states`; returns the seconds that took.

        Raises:
            TimeoutError: If it is not in time.
        """
        return self._wait(
            lambda: self.state(job_id) in states,
            timeout,
            lambda: f"job {job_id} is {self.state(job_id)}, not {' or '.join(states)}",
        )

    def nodes(self) -> dict[str, str]:
        """State of each node as sinfo writes it: idle, mix, alloc, comp, down; with `*` when it does not answer."""
        pairs = [line.split() for line in self.run("sinfo", "-h", "-N", "-o", "%N %t").splitlines()]
        return {node: state for node, state in pairs}

    def wait_idle(self, timeout: float = 30) -> float:
        """Wait until no job is left on any node and both answer; returns the seconds that took.

        Raises:
            TimeoutError: If they are not in time, with the logs' ends.
        """
        return self._wait(self._idle, timeout, lambda: f"nodes: {self.nodes()}, jobs: {self.squeue()}\n{self.logs()}")

    def cancel_all(self, timeout: float = 20) -> None:
        """Cancel every job and wait until squeue is empty.

        Raises:
            TimeoutError: If it is not in time.
        """
        jobs = self.squeue()
        if jobs:
            # Each array once, by the number before the underscore.
            self.run("scancel", *sorted({job.id.split("_")[0] for job in jobs}), check=False)
        self._wait(lambda: not self.squeue(), timeout, lambda: f"jobs are left: {self.squeue()}")

    def logs(self, lines: int = 15) -> str:
        """The last lines of every daemon's log."""
        tails = []
        for log in sorted((self.folder / "log").iterdir()):
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            tails += [f"--- {log.name}", *tail] if tail else []
        return "\n".join(tails)

    # Hurting.

    def kill_slurmd(self, node: str) -> None:
        """kill -9 of the slurmd of `node`; the slurmstepds and processes of its jobs live on.

        SLURM takes about 30 s to call the node down and requeue its jobs, which then wait `cred_expire` longer.
        """
        daemon = self.daemons.pop(f"slurmd.{node}")
        daemon.kill()
        daemon.wait()

    def alive(self, node: str) -> bool:
        """Whether the slurmd of `node` runs."""
        daemon = self.daemons.get(f"slurmd.{node}")
        return daemon is not None and daemon.poll() is None

    def start_slurmd(self, node: str) -> None:
        """Start the slurmd of `node`; `wait_idle` tells when it is up."""
        self._daemon(f"slurmd.{node}", ["slurmd", "-D", "-N", node])

    def processes_of_job(self, job_id: int | str) -> list[int]:
        """Process ids of a job's slurmstepds and everything they or the job started, also what left their session.

        A task of an array is named `1234_5`. A process that both lost its parent and overwrote its environment
        (as setproctitle does) is not found.
        """
        if "_" in str(job_id):
            job_id = self._field(job_id, "JobId")
        return processes_of(self.folder, self.name, str(job_id))

    # Details.

    def _field(self, job_id: int | str, name: str) -> str:
        words = self.run("scontrol", "--oneliner", "show", "job", str(job_id)).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def _idle(self) -> bool:
        try:
            return self.nodes() == dict.fromkeys(NODES, "idle")
        except RuntimeError:  # slurmctld does not answer yet.
            return False

    def _until(self, condition: Callable[[], bool], timeout: float, complaint: str) -> None:
        def check() -> bool:
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    raise ClusterDidNotStart(f"{name} ended with {daemon.returncode}.\n{self.logs()}")
            return condition()

        try:
            self._wait(check, timeout, lambda: complaint)
        except TimeoutError as error:
            raise ClusterDidNotStart(f"{error}\n{self.logs()}") from error

    @staticmethod
    def _wait(condition: Callable[[], bool], timeout: float, complaint: Callable[[], str]) -> float:
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > timeout:
                raise TimeoutError(f"After {timeout:g} s {complaint()}")
            time.sleep(0.1)
        return time.monotonic() - started


class Process(NamedTuple):
    """What /proc tells about a process."""

    pid: int
    parent: int
    session: int
    title: str
    environment: list[bytes]


def processes() -> Iterator[Process]:
    """Every living process of this host; zombies are not."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace")
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # It ended meanwhile.
            continue
        # The name in parentheses may hold spaces and parentheses of its own.
        state, parent, _, session = stat.rpartition(")")[2].split()[:4]
        if state not in "ZX":
            yield Process(int(entry.name), int(parent), int(session), title, environment)


def processes_of(folder: Path, cluster: str, job_id: str | None = None) -> list[int]:
    """Process ids that belong to one job of a cluster or, without `job_id`, to all its jobs and its daemons."""
    alive = {process.pid: process for process in processes()}
    found: set[int] = set()
    for process in alive.values():
        environment = process.environment
        if job_id is None:
            ours = _is_daemon(process, folder)
        else:
            ours = process.title.startswith(f"slurmstepd: [{job_id}.") and _is_daemon(process, folder)
        if f"SLURM_CLUSTER_NAME={cluster}".encode() in environment:
            ours |= job_id is None or f"SLURM_JOB_ID={job_id}".encode() in environment
        if ours:
            found.add(process.pid)
    while True:
        # A step's processes share the slurmstepd's session, unless they made one of their own, which they then lead.
        sessions = {pid for pid in found if alive[pid].session == pid}
        sessions |= {alive[pid].session for pid in found if alive[pid].title.startswith("slurmstepd: [")}
        more = {p.pid for p in alive.values() if p.parent in found or p.session in sessions} - found
        if not more:
            return sorted(found)
        found |= more


def _is_daemon(process: Process, folder: Path) -> bool:
    """Whether it is munged or of SLURM, with a file open in `folder`: the title alone would match other clusters."""
    proc = Path("/proc", str(process.pid))
    try:
        if not Path(os.readlink(proc / "exe")).name.startswith(("munged", "slurm")):
            return False
        for descriptor in (proc / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(descriptor).startswith(f"{folder}/"):
                    return True
    except OSError:  # It ended meanwhile.
        pass
    return False


def clean(folder: Path, cluster: str) -> None:
    """Kill whatever is left of a cluster and remove its folder."""
    for _ in range(100):
        left = processes_of(folder, cluster)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpus", type=int, default=4, help="CPUs of each node (default 4)")
    parser.add_argument("--janitor", nargs=2, metavar=("FOLDER", "CLUSTER"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.janitor:
        # A byte says that the cluster was stopped, the end of the pipe that whoever started it is gone.
        os.read(0, 1)
        clean(Path(words.janitor[0]), words.janitor[1])
        return
    # Ctrl-C and kill both leave through `stop`.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), PrivateSlurm(cpus=words.cpus) as cluster:
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
