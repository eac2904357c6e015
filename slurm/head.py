"""The run's Ray head as other nodes see it: what surrounds it, and the proof that the one at an address is ours.

Nothing fixed is listened on: every port is a free one, dashboards are off, and one machine may carry several nodes of
several runs and users.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import subprocess
import sys
from pathlib import Path

from slurm.errors import ClusterError
from slurm.rendezvous import Head, Rendezvous

OBJECT_STORE_BYTES = 80 * 1024 * 1024  # Trials pass only paths; this is the least Ray accepts.
PROOF_SPACE, PROOF_NAME = b"sweeps", b"proof"
ANSWER_SECONDS = 15.0


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


def environment(rendezvous: Rendezvous, temp: Path) -> dict[str, str]:
    """What every Ray process of a run sees, beside what its job has."""
    for name in ("RAY_ADDRESS", "RAY_RUNTIME_ENV_HOOK", "RAY_AUTH_TOKEN"):
        os.environ.pop(name, None)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(rendezvous.token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",
        "RAY_TMPDIR": str(temp / "r"),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def show_proof(rendezvous: Rendezvous, address: str, attempt: str) -> None:
    """Let the head at `address` prove that it belongs to this attempt of this run."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    value = rendezvous.proof(attempt).encode()
    GcsClient(address=address).internal_kv_put(PROOF_NAME, value, True, namespace=PROOF_SPACE)


def check_head(rendezvous: Rendezvous, head: Head) -> None:
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
            [sys.executable, "-m", "slurm.head", str(rendezvous.folder), rendezvous.run, head.address, head.attempt],
            env={**os.environ, **environment(rendezvous, Path("/tmp"))},
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
    rendezvous = Rendezvous(Path(folder), run)
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        found = GcsClient(address=address).internal_kv_get(PROOF_NAME, namespace=PROOF_SPACE, timeout=ANSWER_SECONDS)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if "uthenticat" in text or "oken" in text:
            print(
                f"The Ray head at {address} refuses the token of {run} ({rendezvous.token}): it is another run's head, or "
                "the token was replaced. This worker does not join; stop the run and submit it again."
            )
            return 3
        print(text.splitlines()[0][:300])
        return 4
    if found is None or not hmac.compare_digest(found, rendezvous.proof(attempt).encode()):
        print(
            f"The Ray head at {address} must be the one of {run}, attempt {attempt}, but cannot prove it: something else "
            "answers at the published address. This worker does not join."
        )
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(_check_head(*sys.argv[1:]))
