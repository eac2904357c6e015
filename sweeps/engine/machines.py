"""Where stages run: one machine with a private Ray, or the nodes of a cluster that join a private head.

The engine asks a machine for a Ray to connect to and for what its living nodes have; it knows nothing else of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from slurm import devices
from slurm.head import OBJECT_STORE_BYTES, environment, node_address, show_proof
from slurm.rendezvous import Rendezvous
from trainables.errors import MachineError

ROOT = Path(__file__).resolve().parents[2]
LOOK_SECONDS = 1.0
# A node whose raylet was killed is noticed after five missed looks of three seconds.
NODE_LOSS_SECONDS = 30.0
LATE_FILES_SECONDS = 90.0

TUNE = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "256",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class Machine(Protocol):
    """What the engine needs to know of the place where stages run."""

    is_local: bool  # Whether stages run on this machine, whose memory and files are seen from here.
    core_locks: bool  # Whether stages of several runs share the cores through locks; SLURM does that on a cluster.
    patience: float  # Seconds that another node's files may take to appear here.
    lock_patience: float  # Seconds to wait for an earlier driver to prove dead.
    lost_code: int  # Exit code when Ray dies under us.
    settle_seconds: float  # After the loss of a process, how long its node must live on for the loss to count.

    def start(self, temp: Path) -> contextlib.AbstractContextManager[None]:
        """Start Ray with its files in `temp`; what is inside the `with` may use it."""
        ...

    def room(self, wanted: Mapping[str, float]) -> int:
        """How many stages that ask for this fit on the living nodes at once."""
        ...

    def look(self) -> None:
        """Notice nodes that joined or left; called about once a second from the engine's own thread."""
        ...

    def has_node(self, name: str) -> bool:
        """Whether the node of that name lives."""
        ...


def fitting(node: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """How many stages that ask for this one node holds.

    Args:
        node: Resource -> amount, with Ray's names (CPU, GPU, memory).
        wanted: The same of one stage.
    """
    counts = [int(node.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items() if amount > 0]
    return min(counts, default=0)


def token_file(folder: Path) -> Path:
    """A token of this run alone, readable by its user alone."""
    path = folder / "token"
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def _export(more: Mapping[str, str]) -> None:
    paths = [str(ROOT), *[p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != str(ROOT)]]
    devices.tidy()
    os.environ.update(TUNE | dict(more) | {"PYTHONPATH": os.pathsep.join(paths)})


class LocalMachine:
    """This machine alone."""

    is_local = True
    core_locks, patience, lock_patience, lost_code, settle_seconds = True, 0.0, 0.0, 1, 0.0

    def __init__(self, cpus: int, gpus: int = 0) -> None:
        self.has = {"CPU": float(cpus), "GPU": float(gpus)}

    def room(self, wanted: Mapping[str, float]) -> int:
        """How many such stages this machine holds at once."""
        return fitting(self.has, {name: wanted[name] for name in ("CPU", "GPU") if name in wanted})

    def look(self) -> None:
        """One machine neither joins nor leaves."""

    def has_node(self, name: str) -> bool:
        """We are here."""
        return True

    @contextlib.contextmanager
    def start(self, temp: Path) -> Iterator[None]:
        """A private Ray; its ports are Ray's own choice, and only who has the token is answered."""
        folder = temp / "meet"
        folder.mkdir(mode=0o700)
        token_file(folder)
        _export(environment(Rendezvous(folder, ""), temp))
        # A terminal that closes tells every process of its group, and Ray's would die of it before they could save.
        with _ignoring(signal.SIGHUP):
            _init(temp, "127.0.0.1", self.has)
        yield


class ClusterMachine:
    """A head that offers nothing itself; worker nodes join and leave."""

    is_local = False
    core_locks, patience, lost_code, settle_seconds = False, LATE_FILES_SECONDS, 75, NODE_LOSS_SECONDS
    # A job outlives its slurmd: its next life waits while the last one still drives, however long that is.
    lock_patience = 7 * 86_400.0

    def __init__(self, rendezvous: Rendezvous, attempt: str, interface: str | None = None) -> None:
        self.rendezvous, self.attempt, self.interface = rendezvous, attempt, interface
        self._nodes: dict[str, dict[str, float]] = {}
        self._looked = 0.0
        self._lock = threading.Lock()

    def room(self, wanted: Mapping[str, float]) -> int:
        """How many such stages the living nodes hold at once."""
        with self._lock:
            return sum(fitting(node, wanted) for node in self._nodes.values())

    def look(self) -> None:
        """Ask the head who is there."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        import ray

        found = {n["NodeName"]: dict(n["Resources"]) for n in ray.nodes() if n["Alive"]}
        with self._lock:
            self._nodes = found

    def has_node(self, name: str) -> bool:
        """Whether the node lives, as far as the head knows."""
        with self._lock:
            return name in self._nodes

    @contextlib.contextmanager
    def start(self, temp: Path) -> Iterator[None]:
        """A head that other nodes can reach; published once it can prove whose it is."""
        self.rendezvous.check()
        _export(environment(self.rendezvous, temp))
        # SLURM's warning goes to every process of the job, and Ray's would die of it.
        with _ignoring(signal.SIGUSR1, signal.SIGUSR2):
            _init(temp, node_address(self.interface), {"CPU": 0.0, "GPU": 0.0})
        import ray

        address = ray.get_runtime_context().gcs_address
        show_proof(self.rendezvous, address, self.attempt)
        self.rendezvous.publish(address, self.attempt)
        yield


@contextlib.contextmanager
def _ignoring(*numbers: int) -> Iterator[None]:
    """Start processes that ignore these signals: that is inherited. We ourselves answer them again afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _init(temp: Path, address: str, has: Mapping[str, float]) -> None:
    try:
        # Ray puts the folder it is started in first on the path of every worker; ours holds no modules.
        with _inside(temp):
            _ray_init(temp, address, has)
    except Exception as error:
        raise MachineError(
            f"Ray must start on this machine, but: {str(error)[:500]}. `python -m sweeps doctor` looks for the reason."
        ) from error


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, then where we were, also if that was removed meanwhile and has no name any more."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(folder)
        try:
            yield
        finally:
            os.fchdir(before)
    finally:
        os.close(before)


def _ray_init(temp: Path, address: str, has: Mapping[str, float]) -> None:
    import ray

    ray.init(
        num_cpus=int(has["CPU"]),
        num_gpus=int(has["GPU"]),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=str(temp / "r"),  # Ray opens its folder to everybody; ours around it stays closed.
        _node_ip_address=address,
        configure_logging=True,
    )


def shut_down() -> None:
    """Close Ray in order."""
    import ray

    with contextlib.suppress(Exception):
        ray.shutdown()


def ray_pids() -> dict[str, int]:
    """Pids of the raylet and the GCS we started."""
    found = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError, ValueError):
                text = Path(entry.path, "stat").read_text()
                name = text[text.index("(") + 1 : text.rindex(")")]
                parent = int(text.rsplit(")", 1)[1].split()[1])
                if parent == os.getpid() and name in ("raylet", "gcs_server"):
                    found[name] = int(entry.name)
    return found
