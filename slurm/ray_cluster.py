"""The meeting place of one run's Ray nodes: token, published address, proof of who is there, worker nodes.

    slurm/token        secret of the run, mode 0600; whoever cannot read it can neither join nor command
    slurm/head.json    where the Ray head is now, and which attempt of the driver's job that is
    slurm/over.json    the run has ended: workers leave
    slurm/leave/<job>  this worker is to leave for good

Nothing fixed is listened on: every port is a free one, dashboards are off, and one machine may carry several nodes of
several runs and users.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm import devices
from slurm.errors import ClusterError
from slurm.guard import descendants, processes
from system.regular_files import read_bytes

OBJECT_STORE_BYTES = 80 * 1024 * 1024  # Trials pass only paths; this is the least Ray accepts.
PROOF_SPACE, PROOF_NAME = b"sweeps", b"proof"
ANSWER_SECONDS = 15.0
LEFT_SECONDS = 4.0  # What a raylet gets to take its leave before it is killed.


@dataclass(frozen=True)
class Head:
    """Where a run's Ray head is."""

    address: str
    attempt: str
    host: str = ""


def _is_submission(entry: Any) -> bool:
    """Whether an entry of submissions.json is one: whatever else a damaged disk says there is passed over."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("role"), str)
        and isinstance(entry.get("ids"), list)
        and all(isinstance(each, str) and re.fullmatch(r"[0-9]+(_[0-9]+)?", each) for each in entry["ids"])
        and isinstance(entry.get("profile", {}), dict)
        and isinstance(entry.get("profile", {}).get("name", ""), str)
    )


class Meeting:
    """The folder through which the nodes of one run find each other."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = Path(folder), run
        self.token = self.folder / "token"

    def prepare(self) -> None:
        """Make the folder and, once, the token.

        Raises:
            ClusterError: If either belongs to somebody else or can be read by others.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mine(self.folder)
        self.folder.chmod(0o700)  # Jobs run what lies here, and a run's folder may be its group's.
        (self.folder / "leave").mkdir(exist_ok=True)
        (self.folder / "workers").mkdir(exist_ok=True)
        aside = self.folder / f".token.{os.getpid()}.{secrets.token_hex(4)}"
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        # A link appears whole or not at all, and never replaces a token that nodes already hold.
        try:
            with contextlib.suppress(FileExistsError):
                os.link(aside, self.token)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK):
                raise
            if not self.token.exists():
                os.rename(aside, self.token)
        finally:
            aside.unlink(missing_ok=True)
        self.check()

    def check(self) -> None:
        """See that folder and token are ours alone.

        Raises:
            ClusterError: If they are not, or are missing.
        """
        try:
            mine(self.folder)
            found = self.token.lstat()
        except FileNotFoundError:
            raise ClusterError(
                f"{self.token} must be there: without it no node can join {self.run}. Submit the run again."
            ) from None
        if found.st_uid != os.getuid() or not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            raise ClusterError(
                f"{self.token} must be a file that only you can read (mode 0600), but its owner is user {found.st_uid} "
                f"and its mode {stat.S_IMODE(found.st_mode):04o}. Remove it and submit the run again."
            )

    def proof(self, attempt: str) -> str:
        """What only a head that holds this run's token can show."""
        secret = read_bytes(self.token).strip()
        return hmac.new(secret, f"{self.run}|{attempt}".encode(), hashlib.sha256).hexdigest()

    def publish(self, address: str, attempt: str) -> None:
        """Say where the head is now."""
        self._write("head.json", {"address": address, "attempt": attempt, "host": socket.gethostname()})

    def head(self) -> Head | None:
        """Where the head is, or None while that is not published."""
        content = self._read("head.json")
        try:
            return Head(str(content["address"]), str(content["attempt"]), str(content.get("host", "")))
        except (KeyError, TypeError):
            return None

    def end(self, code: int, why: str = "") -> None:
        """Say that the run is over, so that workers leave."""
        self._write("over.json", {"code": code, "why": why, "time": time.time()})

    def over(self) -> dict[str, Any] | None:
        """How the run ended, or None while it goes on."""
        return self._read("over.json") or None

    def begin(self) -> None:
        """Forget how an earlier submission ended."""
        for name in ("over.json", "head.json"):
            (self.folder / name).unlink(missing_ok=True)
        for name in os.listdir(self.folder / "leave"):
            (self.folder / "leave" / name).unlink(missing_ok=True)

    def submissions(self) -> list[dict[str, Any]]:
        """What was submitted for this run, oldest first: role, profile, ids, nodes, time."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            value = json.loads(read_bytes(self.folder / "submissions.json"))
            return [entry for entry in value if _is_submission(entry)] if isinstance(value, list) else []
        return []

    def jobs(self, *roles: str) -> list[str]:
        """Ids of the run's jobs, of these roles if any are named."""
        return [str(i) for s in self.submissions() if not roles or s.get("role") in roles for i in s.get("ids", ())]

    def ask_to_leave(self, job: str) -> None:
        """Ask the worker of a job to leave for good."""
        (self.folder / "leave" / job).touch()

    def is_asked_to_leave(self, job: str) -> bool:
        """Whether the worker of a job was asked to leave for good."""
        return job in _listing(self.folder / "leave")

    def say(self, job: str, **content: Any) -> None:
        """What the worker of a job is doing, for people."""
        with contextlib.suppress(OSError):  # It is for people; a full disk must not end a worker.
            self._write(
                f"workers/{job}.json", {"job": job, "host": socket.gethostname(), "time": time.time(), **content}
            )

    def workers(self) -> dict[str, dict[str, Any]]:
        """What each worker last said, by job."""
        names = [name for name in _listing(self.folder / "workers") if name.endswith(".json")]
        found = {name[:-5]: self._read(f"workers/{name}") for name in names if not name.startswith(".")}
        return {job: content for job, content in found.items() if content}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        path = self.folder / name
        aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        aside.write_text(json.dumps(dict(content)))
        os.replace(aside, path)

    def _read(self, name: str) -> dict[str, Any]:
        # A network file system may hide a new name for seconds; listing its folder makes it look again.
        _listing((self.folder / name).parent)
        with contextlib.suppress(OSError, ValueError):
            value = json.loads(read_bytes(self.folder / name))
            if isinstance(value, dict):
                return value
        return {}


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def mine(folder: Path) -> None:
    """Refuse a folder that belongs to somebody else.

    Raises:
        ClusterError: With its owner.
    """
    owner = folder.stat().st_uid
    if owner != os.getuid():
        raise ClusterError(
            f"{folder} must belong to you (user {os.getuid()}), but belongs to user {owner}: its jobs and its token are "
            "theirs. Use a folder of your own with --out; --store may still be shared."
        )


def node_address(interface: str | None = None) -> str:
    """The IPv4 address other nodes reach this one by.

    Args:
        interface: Name of a network interface, such as `ib0`; without one the route to the outside decides.

    Raises:
        ClusterError: If there is no such interface or it has no address.
    """
    if interface:
        import fcntl
        import struct

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                packed = fcntl.ioctl(
                    probe.fileno(), 0x8915, struct.pack("256s", interface.encode()[:15])
                )  # SIOCGIFADDR
            except OSError:
                names = ", ".join(name for _, name in socket.if_nameindex())
                raise ClusterError(
                    f"The profile's interface '{interface}' must exist on {socket.gethostname()} and have an IPv4 "
                    f"address; there are {names}."
                ) from None
        return socket.inet_ntoa(packed[20:24])
    with contextlib.suppress(OSError):
        found = socket.gethostbyname(socket.gethostname())
        if not found.startswith("127."):
            return found
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # Nothing is sent; the kernel only chooses the way.
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def environment(meeting: Meeting, temp: Path) -> dict[str, str]:
    """What every Ray process of a run sees, beside what its job has."""
    for name in ("RAY_ADDRESS", "RAY_RUNTIME_ENV_HOOK", "RAY_AUTH_TOKEN"):
        os.environ.pop(name, None)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(meeting.token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",
        "RAY_TMPDIR": str(temp / "r"),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def show_proof(meeting: Meeting, address: str, attempt: str) -> None:
    """Let the head at `address` prove that it belongs to this attempt of this run."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    value = meeting.proof(attempt).encode()
    GcsClient(address=address).internal_kv_put(PROOF_NAME, value, True, namespace=PROOF_SPACE)


def check_head(meeting: Meeting, head: Head) -> None:
    """See that the head at the published address takes our token and is our run's.

    Runs in a process of its own, because a stranger at that address may never answer.

    Raises:
        ClusterError: If it is a stranger or refuses us.
        ConnectionError: If nobody answers there (yet).
        TimeoutError: If somebody listens there who does not answer like a head.
    """
    host, _, port = head.address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConnectionError(f"'{head.address}' is no address")
    socket.create_connection((host, int(port)), timeout=5).close()
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "slurm.ray_cluster", str(meeting.folder), meeting.run, head.address, head.attempt],
            env={**os.environ, **environment(meeting, Path("/tmp"))},
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"what listens at {head.address} does not answer like a Ray head") from None
    if answer.returncode == 0:
        return
    said = answer.stdout.strip().splitlines()[-1:] or answer.stderr.strip().splitlines()[-1:] or ["no reason given"]
    if answer.returncode == 3:
        raise ClusterError(said[0])
    raise ConnectionError(said[0])


def _check_head(folder: str, run: str, address: str, attempt: str) -> int:
    meeting = Meeting(Path(folder), run)
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        found = GcsClient(address=address).internal_kv_get(PROOF_NAME, namespace=PROOF_SPACE, timeout=ANSWER_SECONDS)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if "uthenticat" in text or "oken" in text:
            print(
                f"The Ray head at {address} refuses the token of {run} ({meeting.token}): it is another run's head, or "
                "the token was replaced. This worker does not join; stop the run and submit it again."
            )
            return 3
        print(text.splitlines()[0][:300])
        return 4
    if found is None or not hmac.compare_digest(found, meeting.proof(attempt).encode()):
        print(
            f"The Ray head at {address} must be the one of {run}, attempt {attempt}, but cannot prove it: something else "
            "answers at the published address. This worker does not join."
        )
        return 3
    return 0


@dataclass
class NodeOffer:
    """What a worker node gives to the run."""

    cpus: int
    gpus: int
    memory_bytes: int | None = None
    address: str = "127.0.0.1"


def offer(interface: str | None = None) -> NodeOffer:
    """What this job was given, from SLURM's variables; never more than that."""
    gpus = os.environ.get(devices.VISIBLE)
    count = len(devices.named(gpus)) if gpus is not None else devices.number("SLURM_GPUS_ON_NODE")
    cpus = max(1, devices.number("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", default=1))
    memory = devices.number("SLURM_MEM_PER_NODE")
    return NodeOffer(cpus, count, memory << 20 if memory else None, node_address(interface))


class WorkerNode:
    """One Ray node that joins a head and can be made to leave."""

    def __init__(self, meeting: Meeting, head: Head, name: str, temp: Path, what: NodeOffer) -> None:
        self.meeting, self.head, self.name, self.temp, self.what = meeting, head, name, temp, what
        self.room = temp / "node"  # Its stages read here whether to leave, and say here that they are busy.
        self._process: subprocess.Popen[str] | None = None
        self._drainer: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `is_up` says whether it still runs."""
        self.room.mkdir(exist_ok=True)
        for name in os.listdir(self.room):
            (self.room / name).unlink(missing_ok=True)
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={self.head.address}"]
        words += [f"--num-cpus={self.what.cpus}", f"--num-gpus={self.what.gpus}", f"--node-name={self.name}"]
        words += [f"--node-ip-address={self.what.address}", f"--temp-dir={self.temp / 'r'}"]
        words += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        words += [f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-log-monitor=false", "--disable-usage-stats"]
        if self.what.memory_bytes:
            words += [f"--memory={self.what.memory_bytes}"]
        env = {**os.environ, **environment(self.meeting, self.temp)}
        env |= {"SWEEPS_NODE": self.name, "SWEEPS_NODE_ROOM": str(self.room)}
        self._process = subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def is_up(self) -> bool:
        """Whether the node runs; what it prints goes to our log."""
        if self._process is None:
            return False
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, TypeError):
            text = self._process.stdout.read()
            if text:
                sys.stdout.write("".join(f"  ray: {line}\n" for line in text.splitlines() if line.strip()))
                sys.stdout.flush()
        return self._process.poll() is None

    def busy(self, mark: str = "busy") -> int:
        """Stages that are open here, or with the mark `step` those that compute at this moment."""
        marks = [name.partition("-") for name in _listing(self.room)]
        return sum(head == mark and Path("/proc", pid).exists() for head, _, pid in marks)

    def drain(self, seconds: float) -> None:
        """Tell the stages to save and leave, and the head to send no more."""
        (self.room / "leave").touch()
        # The head is asked from a process of its own: it may be gone, and then an answer takes a minute.
        self._drainer = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "slurm.ray_cluster",
                "drain",
                self.head.address,
                self.name,
                str(int(seconds * 1000)),
            ],
            env={**os.environ, **environment(self.meeting, self.temp)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End the node and everything below it."""
        if self._drainer is not None:
            self._drainer.kill()
            self._drainer.wait()
            self._drainer = None
        if self._process is None:
            return
        below = descendants({self._process.pid}, processes())
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=LEFT_SECONDS)
        table = processes()
        for pid in (below & set(table)) | descendants({self._process.pid} | below, table):
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _drain(address: str, name: str, deadline_ms: str) -> int:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

    client = GcsClient(address=address)
    for node_id, node in client.get_all_node_info(timeout=10).items():
        if node.node_name == name:
            why = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
            until = int(time.time() * 1000) + int(deadline_ms)
            client.drain_node(node_id.hex(), why, "the job of this node is ending", until)
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(_drain(*sys.argv[2:]) if sys.argv[1] == "drain" else _check_head(*sys.argv[1:]))
