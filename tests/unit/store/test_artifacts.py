"""The store: whole or not at all; leases with one owner; checkpoints that verify; full disks; hostile manifests."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from system.liveness import process_start, this_process
from trainables.errors import (
    ArtifactError,
    LeaseLostError,
    MachineError,
    is_disk_full,
)
from trainables.store import checkpoints, leases
from trainables.store.artifacts import Artifact, Store
from trainables.store.files import make_folder, write_atomically
from trainables.store.leases import Lease, LeaseObserver

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
Publish = Callable[..., Artifact]


def everything(folder: Path) -> set[str]:
    """Relative paths of all that lies under a folder, hidden or not."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def python(code: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds our packages."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
    )


# Publishing.


def test_a_published_artifact_is_whole_and_says_what_it_holds(store: Store, publish: Publish) -> None:
    artifact = publish(KEY, metrics={"top1": 0.5}, content=b"abc")
    assert store.has(KEY)
    assert store.keys() == {KEY}
    assert artifact.metrics == {"top1": 0.5}
    assert artifact.file("content.bin").read_bytes() == b"abc"
    assert artifact.manifest["files"]["content.bin"]["bytes"] == 3
    assert store.verify(KEY) is None
    assert everything(store.root) == {".work", KEY, f"{KEY}/content.bin", f"{KEY}/manifest.json"}


def test_the_digest_is_that_of_the_content_alone(store: Store, publish: Publish) -> None:
    first = publish(KEY, metrics={"seconds": 1.0}, content=b"abc")
    second = publish(OTHER, kind="teacher", metrics={"seconds": 2.0}, content=b"abc")
    assert first.digest == second.digest
    assert publish("a" * 16, content=b"abd").digest != first.digest


@pytest.mark.parametrize("raised", [ValueError("halfway"), KeyboardInterrupt(), OSError(errno.EIO, "broken disk")])
def test_a_writer_that_fails_publishes_nothing(store: Store, raised: BaseException) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_bytes(b"x" * 1000)
        raise raised

    expected = MachineError if isinstance(raised, OSError) else type(raised)  # Told in words.
    with pytest.raises(expected):
        store.publish(KEY, {"kind": "sleep"}, write)
    assert everything(store.root) == {".work"}


def test_nobody_sees_the_artifact_before_it_is_whole(store: Store) -> None:
    seen: list[tuple[bool, set[str]]] = []
    manifest = {"kind": "sleep", "spec": {}, "parents": {}, "metrics": {}}

    def write(folder: Path) -> None:
        (folder / "content.bin").write_bytes(b"x")
        seen.append((store.has(KEY), store.keys()))

    store.publish(KEY, manifest, write)
    assert seen == [(False, set())]


def test_the_second_publisher_loses_and_the_first_stays(store: Store, publish: Publish) -> None:
    first = publish(KEY, content=b"first")
    second = publish(KEY, content=b"second")
    assert second.file("content.bin").read_bytes() == b"first"
    assert second.digest == first.digest
    assert store.verify(KEY) is None
    assert [name for name in os.listdir(store.work)] == []


def test_a_discarded_artifact_is_gone_with_its_work(store: Store, publish: Publish) -> None:
    publish(KEY)
    publish(OTHER)
    store.write_failure(KEY, {"type": "X"})
    store.discard(KEY)
    assert store.keys() == {OTHER}
    assert everything(store.work) == set()
    store.discard(KEY)  # Once more does no harm.
    publish(KEY, content=b"again")
    assert store.verify(KEY) is None


@pytest.mark.parametrize("key", ["", "..", "../../etc", "0123456789ABCDEF", "0123456789abcde", KEY + "0", KEY + "\n"])
def test_what_is_no_key_is_never_made_a_path(store: Store, key: str) -> None:
    for method in (store.path, store.get, store.discard):
        with pytest.raises(ArtifactError, match="16 hex digits"):
            method(key)


def test_only_keys_are_listed(store: Store, publish: Publish) -> None:
    publish(KEY)
    (store.root / "data").mkdir()
    (store.root / ".runs").mkdir()
    (store.root / "notes.txt").write_text("x")
    assert store.keys() == {KEY}
    assert Store(store.root / "nowhere").keys() == set()


# Verification.


def test_verify_finds_altered_missing_and_swapped_files(store: Store, publish: Publish) -> None:
    artifact = publish(KEY, content=b"abc")
    artifact.file("content.bin").write_bytes(b"abd")
    assert "not what was published" in str(store.verify(KEY))
    artifact.file("content.bin").unlink()
    assert "'content.bin' is missing" in str(store.verify(KEY))
    with pytest.raises(ArtifactError, match="lost its file 'content.bin'.*store discard"):
        artifact.file("content.bin")
    (artifact.path / "content.bin").mkdir()
    assert "regular file" in str(store.verify(KEY))
    assert "no artifact" in str(store.verify(OTHER))


@pytest.mark.parametrize("name", ["manifest.json", "content.bin"])
def test_fifos_and_devices_in_an_artifact_are_named_and_never_waited_for(
    name: str, store: Store, publish: Publish
) -> None:
    path = publish(KEY).path / name
    for put in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir):
        path.unlink()
        put(path)
        assert store.verify(KEY) is not None
        with pytest.raises(ArtifactError, match="store discard"):
            store.get(KEY).file("content.bin", verify=True)
        path.rmdir() if path.is_dir() else path.unlink()
        path.touch()


def test_a_checkpoint_that_is_a_fifo_or_larger_than_any_of_ours_is_passed_over(store: Store) -> None:
    lease = Lease.take(store.work_folder(KEY))
    assert lease is not None
    store.write_checkpoint(KEY, lease, 1, b"weights")
    os.mkfifo(store.work_folder(KEY) / "checkpoint-1-2-00000000.pt")
    with open(store.work_folder(KEY) / "checkpoint-1-3-00000000.pt", "wb") as file:
        file.truncate(checkpoints.CHECKPOINT_BYTES + 1)
    (store.work_folder(KEY) / "checkpoint-1-4-00000000.pt").symlink_to("/dev/zero")
    assert store.read_checkpoint(KEY) == (1, b"weights")


def test_a_file_the_manifest_does_not_list_is_not_handed_out(store: Store, publish: Publish) -> None:
    artifact = publish(KEY)
    (artifact.path / "extra").write_text("x")
    with pytest.raises(ArtifactError, match="has no file 'extra'"):
        artifact.file("extra")


# Manifests are data.


def spoil(artifact: Artifact, **changes: Any) -> None:
    path = artifact.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": OTHER}, "says it is"),
        ({"key": None}, "must hold 'key'"),
        ({"kind": 3}, "must hold 'kind'"),
        ({"spec": []}, "must hold 'spec'"),
        ({"metrics": "none"}, "must hold 'metrics'"),
        ({"digest": None}, "must hold 'digest'"),
        ({"files": ["a"]}, "must hold 'files'"),
        ({"files": {"../../../etc/passwd": {"sha256": "0"}}}, "outside it"),
        ({"files": {"/etc/passwd": {"sha256": "0"}}}, "outside it"),
        ({"files": {"..": {}}}, "outside it"),
        ({"files": {".hidden": {}}}, "outside it"),
        ({"files": {"a/b": {}}}, "outside it"),
    ],
)
def test_a_foreign_manifest_is_refused_as_data(
    store: Store, publish: Publish, changes: dict[str, Any], message: str
) -> None:
    spoil(publish(KEY), **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        store.get(KEY)
    assert f"store discard {KEY}" in str(caught.value)
    assert message in str(store.verify(KEY))


@pytest.mark.parametrize(
    "files",
    [
        {"x" * 300: {"sha256": "0"}},
        {"é" * 200: {"sha256": "0"}},
        {"nul\0": {"sha256": "0"}},
        {"\ud800": {"sha256": "0"}},
        {"": {"sha256": "0"}},
        {"content.bin": "a digest"},
        {"content.bin": {"sha256": 3}},
        {f"{n}": {} for n in range(50_000)},
    ],
    ids=["long", "long in bytes", "nul", "surrogate", "empty", "no object", "no text", "very many"],
)
def test_impossible_files_are_found_wrong_and_nothing_crashes(
    store: Store, publish: Publish, files: dict[str, Any]
) -> None:
    spoil(publish(KEY), files=files)
    assert store.verify(KEY) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[1, 2]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"key": ' * 50_000,
        b"9" * 10_000,
        b"x" * 20_000_000,
    ],
    ids=["empty", "cut", "null", "list", "not text", "deep list", "deep object", "long number", "huge"],
)
def test_an_unreadable_manifest_is_one_whose_writer_was_killed(store: Store, publish: Publish, text: bytes) -> None:
    artifact = publish(KEY)
    (artifact.path / "manifest.json").write_bytes(text)
    with pytest.raises(ArtifactError, match="no readable manifest"):
        store.get(KEY)


def test_a_folder_without_a_manifest_is_not_there_for_readers(store: Store) -> None:
    (store.root / KEY).mkdir()
    assert not store.has(KEY)
    with pytest.raises(ArtifactError, match="its writer was probably killed"):
        store.get(KEY)


# A store of several users.


def write_a(folder: Path) -> None:
    (folder / "a").write_text("x")


@pytest.fixture
def private_umask() -> Any:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_in_a_group_shared_store_the_group_may_write_everything(nasty_path: Path, private_umask: None) -> None:
    shared = nasty_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    store = Store(shared / "store")
    store.prepare()
    lease = Lease.take(store.work_folder(OTHER))
    assert lease is not None
    store.write_checkpoint(OTHER, lease, 1, b"weights")
    store.write_failure(OTHER, {"type": "X"})
    manifest = {"kind": "sleep", "spec": {}, "parents": {}, "metrics": {}}
    store.publish(KEY, manifest, write_a)
    assert len(everything(store.root)) == 8
    for path in [store.root, *store.root.rglob("*")]:
        mode = path.stat().st_mode
        if path.is_dir():
            assert mode & 0o2070 == 0o2070, path
        else:
            assert mode & 0o060 == 0o060, path
        assert mode & 0o007 == 0, path
        assert path.stat().st_gid == shared.stat().st_gid


def test_in_a_store_of_ones_own_the_umask_holds(nasty_path: Path, private_umask: None) -> None:
    store = Store(nasty_path / "store")
    store.prepare()
    manifest = {"kind": "sleep", "spec": {}, "parents": {}, "metrics": {}}
    store.publish(KEY, manifest, write_a)
    for path in [store.root, *store.root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_file_in_the_way_of_a_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(MachineError, match="must be a folder, but a file of that name is in the way"):
        make_folder(tmp_path / "store")


# Checkpoints.


@pytest.fixture
def lease(store: Store) -> Lease:
    taken = Lease.take(store.work_folder(KEY))
    assert taken is not None
    return taken


def test_the_newest_checkpoint_wins_and_at_most_two_are_kept(store: Store, lease: Lease) -> None:
    assert store.read_checkpoint(KEY) is None
    for epoch in (1, 2, 9, 10, 11):
        store.write_checkpoint(KEY, lease, epoch, b"epoch %d" % epoch)
        assert store.read_checkpoint(KEY) == (epoch, b"epoch %d" % epoch)
    assert [epoch for _, epoch, _ in store.checkpoints(KEY)] == [11, 10]


def test_a_torn_checkpoint_is_skipped(store: Store, lease: Lease) -> None:
    store.write_checkpoint(KEY, lease, 1, b"one")
    store.write_checkpoint(KEY, lease, 2, b"two")
    newest = next(store.checkpoints(KEY))[2]
    for torn in (b"tw", b"", b"twO"):
        newest.write_bytes(torn)
        assert store.read_checkpoint(KEY) == (1, b"one")
    newest.unlink()
    newest.mkdir()
    assert store.read_checkpoint(KEY) == (1, b"one")
    next(path for _, epoch, path in store.checkpoints(KEY) if epoch == 1).write_bytes(b"")
    assert store.read_checkpoint(KEY) is None


def test_who_starts_over_after_unusable_checkpoints_keeps_its_own(store: Store, lease: Lease) -> None:
    # Another processor's checkpoints verify but must not be continued; the new owner's are younger all the same.
    store.write_checkpoint(KEY, lease, 19, b"foreign numerics")
    store.write_checkpoint(KEY, lease, 20, b"foreign numerics")
    lease.release()
    second = Lease.take(store.work_folder(KEY))
    assert second is not None
    store.write_checkpoint(KEY, second, 1, b"own")
    assert store.read_checkpoint(KEY) == (1, b"own")


def test_a_new_owner_continues_from_the_old_owners_checkpoint(store: Store, lease: Lease) -> None:
    store.write_checkpoint(KEY, lease, 4, b"four")
    lease.release()
    second = Lease.take(store.work_folder(KEY))
    assert second is not None
    assert store.read_checkpoint(KEY) == (4, b"four")
    store.write_checkpoint(KEY, second, 5, b"five")
    assert store.read_checkpoint(KEY) == (5, b"five")


def test_who_lost_the_lease_writes_no_checkpoint(store: Store, lease: Lease) -> None:
    lease.release()
    assert Lease.take(store.work_folder(KEY)) is not None
    with pytest.raises(LeaseLostError, match="taken over"):
        store.write_checkpoint(KEY, lease, 1, b"late")
    assert list(store.checkpoints(KEY)) == []


def test_names_that_only_resemble_checkpoints_are_left_alone(store: Store, lease: Lease) -> None:
    folder = store.work_folder(KEY)
    for name in ("checkpoint-1-2.pt", ".checkpoint-1-9-00000000.pt.1.ab", "checkpoint-x-2-00000000.pt"):
        (folder / name).write_bytes(b"x")
    for epoch in (1, 2, 3):
        store.write_checkpoint(KEY, lease, epoch, b"x")
    assert {"checkpoint-1-2.pt", "checkpoint-x-2-00000000.pt"} <= set(os.listdir(folder))
    assert store.read_checkpoint(KEY) == (3, b"x")


# Failures.


def test_failures_are_kept_in_order_and_can_be_forgotten(store: Store) -> None:
    for number in (1, 2, 3):
        store.write_failure(KEY, {"type": "X", "message": str(number), "time": number})
    (store.work_folder(KEY) / "failure-9.json").write_text("{half")
    assert [f["message"] for f in store.failures(KEY)] == ["1", "2", "3"]
    store.forget_failures(KEY)
    assert store.failures(KEY) == []
    assert store.failures(OTHER) == []


# A full disk.

FULL = """
import json, resource, sys
from pathlib import Path
from trainables.store.artifacts import Store
from trainables.store.files import write_atomically
from trainables.store.leases import Lease
from trainables.errors import DiskFullError, is_disk_full
store = Store(Path(sys.argv[1]))
store.prepare()
key = "0123456789abcdef"
lease = Lease.take(store.work_folder(key))
store.write_checkpoint(key, lease, 1, b"small")
(store.root / "note.json").write_text("old")
before = sorted(str(p) for p in store.root.rglob("*"))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
big = b"x" * 100_000
said = []
def expect(act):
    try:
        act()
    except DiskFullError as error:
        assert is_disk_full(error) and error.exit_code == 3
        said.append(str(error))
manifest = {"kind": "sleep", "spec": {}, "parents": {}, "metrics": {}}
expect(lambda: store.publish("a" * 16, manifest, lambda folder: (folder / "weights").write_bytes(big)))
expect(lambda: store.publish("b" * 16, manifest | {"long": "y" * 100_000}, lambda folder: None))
expect(lambda: store.write_checkpoint(key, lease, 2, big))
expect(lambda: write_atomically(store.root / "note.json", big))
expect(lambda: store.write_failure(key, {"traceback": "z" * 100_000}))
lease.update(epoch=2)
assert store.read_checkpoint(key) == (1, b"small")
assert (store.root / "note.json").read_text() == "old"
assert sorted(str(p) for p in store.root.rglob("*")) == before
print(json.dumps(said))
"""


def test_a_full_disk_fails_in_words_and_leaves_nothing_behind(nasty_path: Path) -> None:
    done = python(FULL, str(nasty_path / "store"), "4096", check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said) == 5
    assert all("No room to write" in text and "Free space" in text for text in said)


def test_a_full_disk_gives_no_lease_and_no_half_of_one(nasty_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from trainables.store.leases import Lease
from trainables.errors import DiskFullError
resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
try:
    Lease.take(Path(sys.argv[1]))
except DiskFullError:
    print("full")
"""
    folder = nasty_path / "work"
    assert python(code, str(folder)).stdout == "full\n"
    assert everything(folder) == set()


def test_an_error_that_is_not_about_room_stays_itself_and_can_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "gone" / "file", b"x")
    answers: list[bool] = []
    looking = threading.Thread(target=lambda: answers.append(is_disk_full(caught.value)), daemon=True)
    looking.start()
    looking.join(timeout=5)
    assert answers == [False]


def test_a_chain_of_causes_is_searched_for_a_full_disk_even_when_it_is_a_circle() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    answers: list[bool] = []
    looking = threading.Thread(target=lambda: answers.append(is_disk_full(first)), daemon=True)
    looking.start()
    looking.join(timeout=5)
    assert answers == [False]
    third = RuntimeError("c")
    third.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_disk_full(third)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MachineError, match="must be writable"):
        write_atomically(tmp_path / "file", b"x")
    tmp_path.chmod(0o700)


def test_writing_atomically_replaces_the_whole_file_and_leaves_no_other(nasty_path: Path) -> None:
    path = nasty_path / "a [file].json"
    write_atomically(path, "long old content")
    write_atomically(path, b"new", sync=False)
    assert path.read_bytes() == b"new"
    assert everything(nasty_path) == {path.name}


# Leases.


def foreign(folder: Path, number: int = 1, **changes: Any) -> Path:
    """A lease somebody else wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"lease.{number}"
    path.write_text(json.dumps(this_process() | {"counter": 0, "released": False} | changes))
    return path


def gone_pid() -> int:
    """The pid of a process that ended and was waited for."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_lease_has_one_owner_until_it_is_released(store: Store, lease: Lease) -> None:
    folder = store.work_folder(KEY)
    assert Lease.take(folder) is None
    assert store.held_elsewhere(KEY, LeaseObserver())
    assert lease.is_mine()
    lease.release()
    assert not store.held_elsewhere(KEY, LeaseObserver())
    second = Lease.take(folder)
    assert second is not None
    assert (lease.number, second.number) == (1, 2)
    assert not lease.is_mine()


def test_taking_over_counts_up_and_removes_nothing(store: Store) -> None:
    folder = store.work_folder(KEY)
    for number in (1, 2, 3):
        taken = Lease.take(folder)
        assert taken is not None
        assert taken.number == number
        taken.release()
    assert Lease.numbers(folder) == [1, 2, 3]
    assert sorted(os.listdir(folder)) == ["lease.1", "lease.2", "lease.3"]


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    for name in ("lease.2", "lease.10", "lease.9", "lease.x", "driver.11", ".lease.12"):
        (tmp_path / name).write_text("{}")
    assert Lease.numbers(tmp_path) == [2, 9, 10]
    assert Lease.numbers(tmp_path, "driver") == [11]
    assert Lease.numbers(tmp_path / "nowhere") == []


def test_the_lease_of_a_dead_process_is_taken_at_once(tmp_path: Path) -> None:
    foreign(tmp_path, pid=gone_pid(), started="1")
    taken = Lease.take(tmp_path)
    assert taken is not None
    assert taken.number == 2


def test_a_pid_that_was_given_to_another_process_counts_as_dead(tmp_path: Path) -> None:
    foreign(tmp_path, started="1")  # Our own pid, but a process that began at another time.
    assert Lease.take(tmp_path) is not None


def test_a_zombie_counts_as_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = foreign(tmp_path, pid=child.pid, started=process_start(child.pid))
    assert Lease.take(tmp_path) is None
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert LeaseObserver().is_dead(path)
    child.wait()


class Clock:
    """A monotonic clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(leases.time, "monotonic", made.monotonic)
    return made


@pytest.mark.parametrize("where", [{"boot": "another boot"}, {"namespace": "pid:[1]"}, {"pid": "unreadable"}])
def test_a_foreign_owner_is_judged_by_its_silence_on_our_own_clock(
    tmp_path: Path, clock: Clock, where: dict[str, Any]
) -> None:
    path = foreign(tmp_path, **where)
    observer = LeaseObserver()
    for second in range(0, 60, 10):
        clock.now = 1000.0 + second
        assert not observer.is_dead(path)
        assert Lease.take(tmp_path, observer=observer) is None
    clock.now = 1059.9
    assert not observer.is_dead(path)
    clock.now = 1060.0
    assert observer.is_dead(path)
    assert Lease.take(tmp_path, observer=LeaseObserver()) is None  # A new observer has seen no silence yet.
    assert Lease.take(tmp_path, observer=observer) is not None


def test_a_foreign_owner_that_counts_lives_whatever_its_clock_says(tmp_path: Path, clock: Clock) -> None:
    observer = LeaseObserver(silence=5)
    for counter in range(20):
        path = foreign(tmp_path, boot="another", counter=counter, time=0)
        assert not observer.is_dead(path)
        clock.now += 4.9
    clock.now += 0.2
    assert observer.is_dead(path)


def test_half_a_lease_is_not_death_but_silence_is(tmp_path: Path, clock: Clock) -> None:
    path = foreign(tmp_path, boot="another")
    observer = LeaseObserver()
    assert not observer.is_dead(path)
    path.write_text('{"host": ')
    clock.now += 100
    assert not observer.is_dead(path)  # The content changed: somebody is writing.
    clock.now += 100
    assert observer.is_dead(path)


@pytest.mark.parametrize("content", ["", "null", "[]", '{"pid": null}', '{"released": 1, "pid": "x"}', "[" * 50_000])
def test_a_foreign_lease_is_data(tmp_path: Path, clock: Clock, content: str) -> None:
    (tmp_path / "lease.1").write_text(content)
    observer = LeaseObserver()
    Lease.take(tmp_path, observer=observer)
    clock.now += 61
    assert observer.is_dead(tmp_path / "lease.1")


def test_progress_is_readable_in_the_lease_and_longer_or_shorter_content_leaves_no_rest(
    store: Store, lease: Lease
) -> None:
    lease.update(stage="teacher", note="x" * 2000)
    lease.update(note="short", epoch=3)
    held = store.lease_holder(KEY)
    assert held is not None
    assert (held["note"], held["epoch"], held["counter"], held["pid"]) == ("short", 3, 2, os.getpid())


def test_a_kept_lease_counts_until_released(store: Store, lease: Lease) -> None:
    counted = threading.Event()
    update = lease.update

    def counting(**content: Any) -> None:
        update(**content)
        counted.set()

    lease.update = counting  # type: ignore[method-assign]
    lease.keep_alive(period=0.001)
    assert counted.wait(5)
    lease.release()
    content = store.lease_holder(KEY)
    assert content is not None
    assert content["released"] is True
    assert content["counter"] >= 2


def test_a_vanished_folder_does_not_disturb_who_held_it(store: Store, lease: Lease) -> None:
    store.clear_work(KEY)
    lease.update(epoch=1)
    lease.release()
    assert not lease.is_mine()
    with pytest.raises(LeaseLostError):
        lease.require()


RACE = """
import json, multiprocessing, os, random, sys, time
from pathlib import Path
from trainables.store.leases import Lease
from system.liveness import this_process
root, rounds, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
dead = this_process() | {"pid": child, "started": "1", "counter": 0, "released": False}
# In turn: the lease of a dead process, a released one, several dead ones, none at all.
for number in range(rounds):
    folder = root / str(number)
    folder.mkdir()
    for lease in range((1, 1, 3, 0)[number % 4]):
        content = dead | {"released": number % 4 == 1}
        (folder / f"lease.{lease + 1}").write_text(json.dumps(content))
fork = multiprocessing.get_context("fork")
gate = fork.Barrier(workers)
owners = fork.Array("i", rounds * workers)
def work(me):
    draw = random.Random(me)
    for number in range(rounds):
        gate.wait(30)
        lease = Lease.take(root / str(number), pause=lambda: time.sleep(draw.choice((0, 0, draw.random() * 0.003))))
        if lease is not None:
            owners[number * workers + me] = lease.number
    gate.wait(30)  # Nobody ends before all have looked: the lease of who left would be free again.
processes = [fork.Process(target=work, args=(me,)) for me in range(workers)]
for process in processes:
    process.start()
for process in processes:
    process.join(60)
    assert process.exitcode == 0
print(json.dumps([[n for n in owners[r * workers:(r + 1) * workers] if n] for r in range(rounds)]))
"""


def test_in_200_rounds_of_six_racing_processes_each_lease_finds_exactly_one_owner(tmp_path: Path) -> None:
    rounds = 200
    owners = json.loads(python(RACE, str(tmp_path), str(rounds), "6").stdout)
    assert owners == [[(2, 2, 4, 1)[number % 4]] for number in range(rounds)]
    for number in range(rounds):
        assert not [name for name in os.listdir(tmp_path / str(number)) if name.startswith(".")]


def test_a_number_edited_in_a_manifest_is_refused_by_readers_and_found_by_verify(
    store: Store, publish: Publish
) -> None:
    artifact = publish(KEY)
    path = artifact.path / "manifest.json"
    whole = path.read_text()
    assert artifact.is_covered and store.verify(artifact.key) is None
    content = json.loads(whole)
    content["metrics"] = {**content["metrics"], "top1": 0.999}
    path.write_text(json.dumps(content, indent=1, sort_keys=True))
    assert "checksum" in str(store.verify(artifact.key))
    with pytest.raises(ArtifactError, match=f"store discard {artifact.key}"):
        store.get(artifact.key)
    del content["manifest_sha256"]  # As earlier versions wrote them: readable, and said to be not covered.
    path.write_text(json.dumps(content))
    old = store.get(artifact.key)
    assert old.metrics["top1"] == 0.999 and not old.is_covered and store.verify(artifact.key) is None
