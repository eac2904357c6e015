"""How the nodes of a run find and trust each other, and one real head that strangers and workers meet."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm import head as head_module
from slurm.errors import ClusterError
from slurm.head import check_head, environment, node_address
from slurm.reaper import descendants, processes
from slurm.rendezvous import Head, Rendezvous, mine
from slurm.temp import private_temp
from slurm.worker_node import NodeResources, WorkerNode, offer

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")


@pytest.fixture
def rendezvous(nasty_path: Path) -> Rendezvous:
    made = Rendezvous(nasty_path / "slurm", "run-a")
    made.prepare()
    return made


# The token.


def test_the_token_is_long_private_and_made_once(rendezvous: Rendezvous) -> None:
    token = rendezvous.token.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(rendezvous.token.stat().st_mode) == 0o600
    rendezvous.prepare()
    assert rendezvous.token.read_text() == token
    assert [name for name in os.listdir(rendezvous.folder) if name.startswith(".")] == []
    other = Rendezvous(rendezvous.folder.parent / "other", "run-b")
    other.prepare()
    assert other.token.read_text() != token


def test_the_token_is_private_whatever_the_umask(nasty_path: Path) -> None:
    before = os.umask(0)
    try:
        made = Rendezvous(nasty_path / "slurm", "run-a")
        made.prepare()
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.token.stat().st_mode) == 0o600


def test_processes_that_prepare_at_once_hold_the_same_token(nasty_path: Path) -> None:
    rounds = 40
    code = (
        "import sys; from pathlib import Path; from slurm.rendezvous import Rendezvous\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"for number in range({rounds}):\n"
        "    rendezvous = Rendezvous(Path(sys.argv[1], str(number)), 'r'); rendezvous.prepare()\n"
        "    print(rendezvous.token.read_text(), flush=True)\n"
    )
    several = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(nasty_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in several:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in several:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=30)[0].split() for process in several]
    assert [process.returncode for process in several] == [0, 0, 0]
    assert len(said[0]) == rounds
    assert said[0] == said[1] == said[2]
    assert len(set(said[0])) == rounds


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_token_that_others_can_read_is_refused(rendezvous: Rendezvous, mode: int) -> None:
    rendezvous.token.chmod(mode)
    for act in (rendezvous.check, rendezvous.prepare):
        with pytest.raises(ClusterError, match=f"only you can read .mode 0600.*its mode {mode:04o}"):
            act()


def test_a_token_that_is_a_link_or_a_folder_is_refused(rendezvous: Rendezvous) -> None:
    elsewhere = rendezvous.folder / "elsewhere"
    rendezvous.token.rename(elsewhere)
    rendezvous.token.symlink_to(elsewhere)
    for act in (rendezvous.check, rendezvous.prepare):
        with pytest.raises(ClusterError, match="must be a file that only you can read"):
            act()
    rendezvous.token.unlink()
    rendezvous.token.mkdir(mode=0o700)
    with pytest.raises(ClusterError, match="must be a file that only you can read"):
        rendezvous.check()


@as_root
def test_a_token_or_a_folder_of_somebody_else_is_refused(rendezvous: Rendezvous) -> None:
    os.chown(rendezvous.token, NOBODY, -1)
    with pytest.raises(ClusterError, match=f"its owner is user {NOBODY}"):
        rendezvous.check()
    os.chown(rendezvous.token, 0, -1)
    os.chown(rendezvous.folder, NOBODY, -1)
    for act in (rendezvous.check, rendezvous.prepare, lambda: mine(rendezvous.folder)):
        with pytest.raises(ClusterError, match=rf"must belong to you \(user 0\), but belongs to user {NOBODY}.*--out"):
            act()


def test_a_missing_token_is_said_so(rendezvous: Rendezvous) -> None:
    rendezvous.token.unlink()
    with pytest.raises(ClusterError, match="must be there: without it no node can join run-a"):
        rendezvous.check()


def test_a_meeting_that_was_never_prepared_is_said_so(nasty_path: Path) -> None:
    with pytest.raises(ClusterError, match="must be there"):
        Rendezvous(nasty_path / "nowhere", "run-a").check()


def test_a_file_system_without_hard_links_still_gets_a_token(nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = Rendezvous(nasty_path / "slurm", "run-a")
    made.prepare()
    token = made.token.read_text()
    made.prepare()
    assert made.token.read_text() == token
    assert stat.S_IMODE(made.token.stat().st_mode) == 0o600


def test_the_proof_is_of_this_token_this_run_and_this_attempt(rendezvous: Rendezvous) -> None:
    proof = rendezvous.proof("7-0")
    assert rendezvous.proof("7-0") == proof
    assert rendezvous.token.read_text() not in proof
    other = Rendezvous(rendezvous.folder.parent / "other", "run-a")
    other.prepare()
    differing = {rendezvous.proof("7-1"), rendezvous.proof("8-0"), Rendezvous(rendezvous.folder, "run-b").proof("7-0")}
    assert len({proof, other.proof("7-0")} | differing) == 5


# What is written into the folder.


def test_what_is_said_is_read_back(rendezvous: Rendezvous) -> None:
    assert (rendezvous.head(), rendezvous.over(), rendezvous.workers(), rendezvous.submissions()) == (
        None,
        None,
        {},
        [],
    )
    rendezvous.publish("10.0.0.1:6379", "7-0")
    assert rendezvous.head() == Head("10.0.0.1:6379", "7-0", socket.gethostname())
    rendezvous.publish("10.0.0.2:6380", "7-1")
    assert rendezvous.head() == Head("10.0.0.2:6380", "7-1", socket.gethostname())
    rendezvous.say("12", state="serving", cpus=2)
    rendezvous.say("13", state="draining")
    rendezvous.say("12", state="left")
    assert {job: said["state"] for job, said in rendezvous.workers().items()} == {"12": "left", "13": "draining"}
    rendezvous.ask_to_leave("12")
    assert (rendezvous.is_asked_to_leave("12"), rendezvous.is_asked_to_leave("1")) == (True, False)
    rendezvous.end(130, "stopped")
    over = rendezvous.over()
    assert over is not None
    assert (over["code"], over["why"]) == (130, "stopped")


def test_a_run_that_ended_well_is_over_too(rendezvous: Rendezvous) -> None:
    rendezvous.end(0)
    assert rendezvous.over() is not None


def test_a_new_submission_forgets_how_the_last_one_ended_but_not_what_was_submitted(rendezvous: Rendezvous) -> None:
    token = rendezvous.token.read_text()
    (rendezvous.folder / "submissions.json").write_text(
        json.dumps([{"role": "driver", "ids": ["7"], "profile": {"name": "cpu"}}])
    )
    rendezvous.publish("10.0.0.1:6379", "7-0")
    rendezvous.ask_to_leave("12")
    rendezvous.end(1)
    rendezvous.begin()
    assert (rendezvous.head(), rendezvous.over(), rendezvous.is_asked_to_leave("12")) == (None, None, False)
    assert rendezvous.jobs() == ["7"]
    assert rendezvous.token.read_text() == token


def test_jobs_are_found_by_their_role(rendezvous: Rendezvous) -> None:
    content = [
        {"role": "driver", "ids": ["7"], "profile": {"name": "cpu"}},
        {"role": "worker", "ids": ["8_0", "8_1"], "profile": {"name": "cpu"}},
        "no entry",
        {"role": "worker", "ids": ["9"], "profile": {"name": "cpu"}},
    ]
    (rendezvous.folder / "submissions.json").write_text(json.dumps(content))
    assert rendezvous.jobs() == ["7", "8_0", "8_1", "9"]
    assert rendezvous.jobs("worker") == ["8_0", "8_1", "9"]
    assert rendezvous.jobs("array") == []


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b'{"address": "10.0.', b"\xff\xfe", b"[1]", b"{}", b'{"code'),
        pytest.param(b"null"),
    ],
)
def test_half_a_file_reads_as_nothing(rendezvous: Rendezvous, text: bytes) -> None:
    for name in ("head.json", "over.json", "submissions.json", "workers/12.json", "workers/.13.json.7.abcd"):
        (rendezvous.folder / name).write_bytes(text)
    assert (rendezvous.head(), rendezvous.over(), rendezvous.workers(), rendezvous.jobs()) == (None, None, {}, [])


def test_readers_see_the_old_or_the_new_and_never_a_half(rendezvous: Rendezvous) -> None:
    rendezvous.publish("10.0.0.1:1", "0")
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            rendezvous.publish(f"10.0.0.1:{number}" + "0" * (number % 7), str(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(rendezvous.head() is not None for _ in range(2000))
    finally:
        ended.set()
        writer.join()


# What a node has and where it is.


def test_the_address_of_an_interface_is_its_own() -> None:
    assert node_address("lo") == "127.0.0.1"


def test_an_unknown_interface_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ClusterError, match="interface 'ib7' must exist on .*; there are ") as caught:
        node_address("ib7")
    assert all(name in str(caught.value) for _, name in socket.if_nameindex())


def test_without_an_interface_the_address_is_one_of_this_machine() -> None:
    with socket.create_server((node_address(), 0)):
        pass


@pytest.mark.parametrize(
    ("variables", "has"),
    [
        ({}, (1, 0, None)),
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8"}, (4, 0, None)),
        ({"SLURM_CPUS_ON_NODE": "8"}, (8, 0, None)),
        ({"SLURM_MEM_PER_NODE": "2048"}, (1, 0, 2048 << 20)),
        ({"SLURM_MEM_PER_NODE": "0"}, (1, 0, None)),
        ({"CUDA_VISIBLE_DEVICES": "0,3"}, (1, 2, None)),
        ({"CUDA_VISIBLE_DEVICES": "", "SLURM_GPUS_ON_NODE": "2"}, (1, 0, None)),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, (1, 0, None)),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, (1, 0, None)),
        ({"SLURM_GPUS_ON_NODE": "2"}, (1, 2, None)),
    ],
)
def test_a_node_offers_what_its_job_was_given(
    variables: dict[str, str], has: tuple[int, int, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in os.environ if n.startswith("SLURM_") or n == "CUDA_VISIBLE_DEVICES"]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = offer("lo")
    assert (found.cpus, found.gpus, found.memory_bytes, found.address) == (*has, "127.0.0.1")


def test_a_ray_of_somebody_else_is_forgotten(rendezvous: Rendezvous, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.9:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    found = environment(rendezvous, Path("/tmp/x"))
    assert "RAY_ADDRESS" not in os.environ and "RAY_AUTH_TOKEN" not in os.environ
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_AUTH_TOKEN_PATH"] == str(rendezvous.token)
    assert rendezvous.token.read_text() not in found.values()


# A head at the published address. The real one takes about six seconds, and serves the rest of this file.

HEAD = """
import json, sys
from pathlib import Path
from slurm.reaper import Reaper
from slurm.head import PROOF_NAME, PROOF_SPACE, show_proof
from slurm.rendezvous import Rendezvous
from slurm.temp import private_temp
from sweeps.engine.machines import ClusterMachine, shut_down

rendezvous = Rendezvous(Path(sys.argv[1]), "run-a")
machine = ClusterMachine(rendezvous, "7-0")
with private_temp() as temp:
    reaper = Reaper(temp)
    with machine.start(temp):
        reaper.tell()
        import os, ray
        from ray._raylet import GcsClient
        address = ray.get_runtime_context().gcs_address
        print("{}", flush=True)
        for line in sys.stdin:
            word, said = line.strip(), {}
            if word == "look":
                machine._looked = 0.0
                machine.look()
                said = {"nodes": machine._nodes, "room": machine.room({"CPU": 1.0})}
            elif word == "forget":
                GcsClient(address=address).internal_kv_del(PROOF_NAME, False, namespace=PROOF_SPACE)
            elif word == "prove":
                show_proof(rendezvous, address, "7-0")
            elif word == "task":
                said = {"pid": ray.get(ray.remote(num_cpus=1)(lambda: os.getpid()).remote(), timeout=30)}
            print(json.dumps(said), flush=True)
        shut_down()
    reaper.close()
"""


class RealHead:
    """A head as the driver's job starts it, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.rendezvous = Rendezvous(folder, "run-a")
        self.rendezvous.prepare()
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEAD, str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()
        published = self.rendezvous.head()
        assert published is not None
        self.head = published

    def ask(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=30)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHead]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        made = RealHead(tmp_path_factory.mktemp("a run's ☃") / "slurm")
        yield made
        made.end()


def test_the_head_of_the_run_is_accepted_and_trains_nothing_itself(real: RealHead) -> None:
    check_head(real.rendezvous, real.head)
    assert real.head.attempt == "7-0"
    assert real.ask("look")["room"] == 0
    assert all("CPU" not in node and "GPU" not in node for node in real.ask("look")["nodes"].values())


def test_a_head_that_refuses_our_token_is_named_with_it(real: RealHead, nasty_path: Path) -> None:
    other = Rendezvous(nasty_path / "slurm", "run-a")
    other.prepare()
    with pytest.raises(ClusterError, match="refuses the token of run-a") as caught:
        check_head(other, real.head)
    assert str(other.token) in str(caught.value)
    assert other.token.read_text() not in str(caught.value)


def test_the_head_of_an_earlier_attempt_is_refused(real: RealHead) -> None:
    with pytest.raises(ClusterError, match="must be the one of run-a, attempt 7-1, but cannot prove it"):
        check_head(real.rendezvous, Head(real.head.address, "7-1"))


def test_the_head_of_another_run_is_refused_even_with_the_same_token(real: RealHead) -> None:
    with pytest.raises(ClusterError, match="must be the one of run-b, attempt 7-0, but cannot prove it"):
        check_head(Rendezvous(real.rendezvous.folder, "run-b"), real.head)


def test_a_head_that_shows_no_proof_is_refused(real: RealHead) -> None:
    real.ask("forget")
    try:
        with pytest.raises(ClusterError, match="cannot prove it"):
            check_head(real.rendezvous, real.head)
    finally:
        real.ask("prove")
    check_head(real.rendezvous, real.head)


def test_where_nobody_listens_is_not_yet_a_refusal(rendezvous: Rendezvous) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionError):
        check_head(rendezvous, Head(f"127.0.0.1:{port}", "7-0"))


@pytest.mark.parametrize("address", ["nonsense", "", "127.0.0.1:", "127.0.0.1:x", "None"])
def test_an_address_that_is_none_is_answered_like_nobody(rendezvous: Rendezvous, address: str) -> None:
    # The worker waits on after these errors; any other would end its job.
    with pytest.raises((ClusterError, OSError)):
        check_head(rendezvous, Head(address, "7-0"))


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"], ids=["silent", "http"])
def test_a_stranger_at_the_address_is_not_joined_and_does_not_hold_us(
    rendezvous: Rendezvous, greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "ANSWER_SECONDS", 4.0)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before = set(processes())
    kept: list[socket.socket] = []

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                kept.append(server.accept()[0])
                if greeting:
                    kept[-1].sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="does not answer like a Ray head"):
            check_head(rendezvous, Head(f"127.0.0.1:{server.getsockname()[1]}", "7-0"))
        assert time.monotonic() - began < 10
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in kept:
        one.close()
    assert descendants({os.getpid()}, processes()) - before == set()


# A worker node.


def wait_for(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def started_below(temp: Path) -> set[int]:
    """Processes that were started for a node, wherever their parents went."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if str(temp / "r").encode() in Path("/proc", name, "environ").read_bytes():
                    found.add(int(name))
    return found & set(processes())


def test_a_node_joins_survives_the_warning_works_and_leaves_nothing_behind(real: RealHead) -> None:
    with private_temp() as temp:
        node = WorkerNode(real.rendezvous, real.head, "w1-0-0", temp, NodeResources(2, 0, 1 << 30, node_address()))
        assert not node.is_up()
        # As a job starts it: SLURM's warning goes to every process, and must not end Ray's.
        old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            node.start()
            wait_for(lambda: real.ask("look")["room"] == 2)
        finally:
            signal.signal(signal.SIGUSR2, old)
        try:
            assert node.is_up()
            nodes = real.ask("look")["nodes"]
            assert nodes["w1-0-0"]["CPU"] == 2.0
            assert nodes["w1-0-0"]["memory"] == 1 << 30
            assert [name for name, has in nodes.items() if has.get("CPU")] == ["w1-0-0"]
            worker = real.ask("task")["pid"]
            pids = started_below(temp)
            assert worker in pids and len(pids) >= 4
            for pid in pids:
                os.kill(pid, signal.SIGUSR2)
            time.sleep(0.5)
            assert node.is_up()
            assert pids <= set(processes())
            assert real.ask("task")["pid"] in started_below(temp)
        finally:
            node.stop()
        assert started_below(temp) == set()
        assert not node.is_up()
        node.stop()
        wait_for(lambda: real.ask("look")["room"] == 0)


def test_a_node_that_never_joins_ends_wholly_when_stopped(rendezvous: Rendezvous) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, private_temp() as temp:
        head = Head(f"127.0.0.1:{server.getsockname()[1]}", "7-0")
        node = WorkerNode(rendezvous, head, "w2-0-0", temp, NodeResources(1, 0))
        node.start()
        wait_for(lambda: bool(started_below(temp)))
        time.sleep(1.0)
        node.stop()
        assert started_below(temp) == set()


def test_a_node_counts_its_busy_stages_and_forgets_those_of_an_earlier_life(
    rendezvous: Rendezvous, tmp_path: Path
) -> None:
    node = WorkerNode(rendezvous, Head("127.0.0.1:1", "7-0"), "w3-0-0", tmp_path, NodeResources(1, 0))
    assert node.busy() == 0
    node.room.mkdir()
    (node.room / f"busy-{os.getpid()}").touch()
    (node.room / "busy-99999999").touch()  # Its process is gone.
    assert node.busy() == 1
    (node.room / "leave").touch()
    node.start()
    try:
        assert node.busy() == 0
        assert not (node.room / "leave").exists()
    finally:
        node.stop()
