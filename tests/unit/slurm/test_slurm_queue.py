"""Reading squeue and telling scancel; every line SLURM says here was taken down from a SLURM 22.05."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm import queue
from slurm.errors import ClusterError
from slurm.queue import QueuedJob

ARRAY = [
    "15300001_2\x1fPENDING\x1fJobArrayTaskLimit\x1f\x1fN/A\x1f0:00\x1f1:00:00\x1f15300001\x1fwe|ird 'né\nme\x1f %j",
    "15300001_10\x1fPENDING\x1fJobArrayTaskLimit\x1f\x1fN/A\x1f0:00\x1f1:00:00\x1f15300001\x1fwe|ird 'né\nme\x1f %j",
    "15300001_0\x1fRUNNING\x1fNone\x1fn1\x1f2026-11-21T05:08:02\x1f0:02\x1f59:58\x1f15300008\x1fwe|ird 'né\nme\x1f %j",
]
ESTIMATED = "15300002\x1fPENDING\x1fResources\x1f\x1f2026-11-21T06:08:02\x1f0:00\x1fUNLIMITED\x1f15300002\x1fsbatch"
HELD = "41000002\x1fPENDING\x1fJobHeldUser\x1f\x1fN/A\x1f0:00\x1fUNLIMITED\x1f41000002\x1fsbatch"
COMPLETING = (
    "41000001_0\x1fCOMPLETING\x1fNone\x1fn1\x1f2026-11-21T05:49:56\x1f0:04\x1f364-23:59:56\x1f41000006\x1fsbatch"
)
RUNNING = "41000001_1\x1fRUNNING\x1fNone\x1fn1\x1f2026-11-21T05:49:56\x1f0:04\x1f364-23:59:56\x1f41000007\x1fsbatch"
CANCELLED = "49300005\x1fCANCELLED\x1fBeginTime\x1f\x1f2026-11-21T05:19:23\x1f0:00\x1fUNLIMITED\x1f49300005\x1fsbatch"
COMPLETED = "41000003\x1fCOMPLETED\x1fNone\x1fn1\x1f2026-11-21T05:49:56\x1f0:00\x1f365-00:00:00\x1f41000003\x1fsbatch"
SEPARATOR_IN_NAME = RUNNING.replace("sbatch", "a\x1eb")

INVALID_ID = "slurm_load_jobs error: Invalid job id specified"
UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
GONE = "scancel: error: Kill job error on job id 49300003: Invalid job id specified"
DENIED = "scancel: error: Kill job error on job id 49300002: Access/permission denied"


def printed(*records: str) -> str:
    return "".join(f"\x1e{record}\n" for record in records)


def state(word: str) -> QueuedJob:
    return QueuedJob("1", word, "None", "x", "", None, "0:00", "1:00", "1")


Replay = Callable[..., Path]


@pytest.fixture
def replay(nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Puts a command into PATH that says again what the real one said; returns the file of the words it was given."""
    monkeypatch.setenv("PATH", f"{nasty_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def put(command: str, out: str = "", error: str = "", code: int = 0, then: str = "") -> Path:
        for kind, text in (("out", out), ("error", error)):
            (nasty_path / f"{command}.{kind}").write_text(text, encoding="utf-8")
        script = nasty_path / command
        script.write_text(
            f'#!/bin/sh\necho "$*" >>"$0.words"\ncat "$0.out"\ncat "$0.error" >&2\n{then}\nexit {code}\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
        return nasty_path / f"{command}.words"

    return put


# Reading.


def test_names_with_separators_line_breaks_and_letters_beyond_ascii_come_through() -> None:
    found = queue.parse(printed(*ARRAY, ESTIMATED))
    assert list(found) == ["15300001_2", "15300001_10", "15300001_0", "15300002"]
    assert {job.name for job in found.values()} == {"we|ird 'né\nme\x1f %j", "sbatch"}
    found = queue.parse(printed(SEPARATOR_IN_NAME, HELD))
    assert [(job.id, job.name) for job in found.values()] == [("41000001_1", "a\x1eb"), ("41000002", "sbatch")]


def test_every_field_of_a_running_task_and_of_a_waiting_job_is_told() -> None:
    found = queue.parse(printed(RUNNING, ESTIMATED, HELD))
    assert found["41000001_1"] == QueuedJob(
        id="41000001_1",
        state="RUNNING",
        reason="None",
        name="sbatch",
        node="n1",
        start="2026-11-21T05:49:56",
        elapsed="0:04",
        left="364-23:59:56",
        number="41000007",
    )
    assert (found["15300002"].reason, found["15300002"].start) == ("Resources", "2026-11-21T06:08:02")
    assert (found["41000002"].node, found["41000002"].start) == ("", None)


def test_no_jobs_are_no_error() -> None:
    assert queue.parse("") == {}


def test_an_answer_of_another_shape_is_refused_and_not_half_read() -> None:
    with pytest.raises(ClusterError, match="nine fields"):
        queue.parse(printed("15300002\x1fPENDING\x1fResources"))


@pytest.mark.parametrize(
    ("word", "living", "waiting"),
    [
        ("PENDING", True, True),
        ("CONFIGURING", True, True),
        ("REQUEUED", True, True),
        ("REQUEUE_HOLD", True, True),
        ("SPECIAL_EXIT", True, True),
        ("RUNNING", True, False),
        ("COMPLETING", True, False),
        ("SUSPENDED", True, False),
        ("A_WORD_OF_A_LATER_SLURM", True, False),
        ("COMPLETED", False, False),
        ("CANCELLED", False, False),
        ("FAILED", False, False),
        ("TIMEOUT", False, False),
        ("NODE_FAIL", False, False),
        ("PREEMPTED", False, False),
        ("OUT_OF_MEMORY", False, False),
        ("BOOT_FAIL", False, False),
        ("DEADLINE", False, False),
    ],
)
def test_each_state_is_living_or_not_and_waiting_or_not(word: str, living: bool, waiting: bool) -> None:
    assert (state(word).living, state(word).waiting) == (living, waiting)


def test_an_arrays_id_stands_for_its_tasks_in_order_and_for_no_other_job() -> None:
    known = queue.parse(printed(*ARRAY, ESTIMATED, HELD, RUNNING))
    assert [job.id for job in queue.of(["15300001"], known)] == ["15300001_0", "15300001_2", "15300001_10"]
    assert [job.id for job in queue.of(["41000002", "15300001_2", "41000002"], known)] == ["15300001_2", "41000002"]
    assert queue.of(["1530000", "15300001_1", "5300001"], known) == []
    assert queue.of([], known) == []


# Asking.


def test_squeue_is_asked_for_every_task_and_state_of_this_user(replay: Replay) -> None:
    words = replay("squeue", printed(RUNNING, CANCELLED))
    assert list(queue.jobs()) == ["41000001_1", "49300005"]
    assert words.read_text(encoding="utf-8").startswith(f"-h -r -t all -u {os.getuid()} -o \x1e%i\x1f%T\x1f")


def test_a_user_without_a_name_on_the_machine_is_told_so_and_not_shown_an_empty_queue(replay: Replay) -> None:
    # squeue ends with 0 here.
    replay("squeue", error="squeue: error: Invalid user: 54321\n\n")
    with pytest.raises(ClusterError, match="Invalid user: 54321"):
        queue.jobs()


def test_a_failing_squeue_is_quoted(replay: Replay) -> None:
    replay("squeue", error=UNREACHABLE, code=1)
    with pytest.raises(ClusterError, match="Unable to contact slurm controller"):
        queue.jobs()


def test_a_squeue_that_does_not_answer_is_given_up_with_its_words(replay: Replay) -> None:
    complaint = "squeue: error: s_p_parse_file: cannot stat file /nonexistent/slurm.conf: No such file or directory"
    replay("squeue", error=complaint, then="exec sleep 60")
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=r"did not answer within 0.5 s.*\n.*cannot stat file"):
        queue.jobs(timeout=0.5)
    assert time.monotonic() - begun < 20


def test_a_job_is_alive_while_it_or_any_task_of_it_lives(replay: Replay) -> None:
    replay("squeue", printed(COMPLETED, COMPLETING))
    assert queue.is_alive("41000001") is True
    replay("squeue", printed(COMPLETED, CANCELLED))
    assert queue.is_alive("41000003") is False


def test_a_job_slurm_does_not_know_is_not_alive(replay: Replay) -> None:
    replay("squeue", error=INVALID_ID, code=1)
    assert queue.is_alive("99999999") is False


def test_nobody_is_called_dead_when_slurm_cannot_be_asked(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    replay("squeue", error=UNREACHABLE, code=1)
    assert queue.is_alive("41000001") is None
    replay("squeue", then="exec sleep 60")
    assert queue.is_alive("41000001", timeout=0.2) is None
    monkeypatch.setenv("PATH", "/nonexistent")
    assert queue.is_alive("41000001") is None


def test_what_is_missing_is_named(nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(nasty_path))
    for command in ("sbatch", "squeue", "scancel", "scontrol"):
        assert queue.missing() == f"no `{command}` in PATH"
        (nasty_path / command).write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        (nasty_path / command).chmod(0o755)
    assert queue.missing() is None


def test_slurm_that_is_there_but_does_not_answer_is_missing_with_its_words(replay: Replay) -> None:
    for command in ("sbatch", "scancel", "scontrol"):
        replay(command)
    replay("squeue", error=UNREACHABLE, code=1)
    assert queue.missing() == f"`squeue` failed: {UNREACHABLE}"


def test_habits_of_the_user_and_of_the_job_around_do_not_reach_slurms_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiling = ("SQUEUE_FORMAT", "SQUEUE_STATES", "SLURM_TIME_FORMAT", "SLURM_JOB_ID", "SLURM_CLUSTERS")
    for name in (*spoiling, "SBATCH_PARTITION", "SCANCEL_STATE", "LC_TIME", "LANGUAGE"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/some/slurm.conf")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/some/lib")
    left = queue.environment()
    assert not {*spoiling, "SBATCH_PARTITION", "SCANCEL_STATE", "LC_TIME", "LANGUAGE"} & set(left)
    assert (left["SLURM_CONF"], left["LD_LIBRARY_PATH"], left["LC_ALL"]) == ("/some/slurm.conf", "/some/lib", "C")
    assert left["PATH"] == os.environ["PATH"]


# Telling.


@pytest.mark.parametrize("bad", ["", "12;true", "--user=root", "12_", "_1", "12 13", "12\n", "12_[0-3]", "١٢", "12.0"])
def test_only_job_ids_reach_a_command_line(bad: str, replay: Replay) -> None:
    said = [replay(command) for command in ("squeue", "scancel", "scontrol")]
    calls: list[Callable[[], object]] = [
        lambda: queue.of([bad]),
        lambda: queue.is_alive(bad),
        lambda: queue.cancel(["12", bad]),
        lambda: queue.cancel([bad], signal="USR2"),
        lambda: queue.requeue(bad),
        lambda: queue.release(["12", bad]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="job id must be a number"):
            call()
    assert not any(words.exists() for words in said)


def test_a_signal_is_a_name() -> None:
    with pytest.raises(ValueError, match="a name such as USR2"):
        queue.cancel(["12"], signal="USR2 --user=root")


def test_cancelling_nothing_asks_nobody(replay: Replay) -> None:
    words = replay("scancel", error=DENIED, code=210)
    queue.cancel([])
    queue.cancel([], signal="USR2")
    queue.release([])
    assert not words.exists()


def test_many_jobs_are_cancelled_by_several_commands_of_bounded_length(replay: Replay) -> None:
    words = replay("scancel")
    ids = [str(number) for number in range(1, 1202)]
    queue.cancel(ids)
    lines = words.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert " ".join(lines).split() == ids


def test_cancelling_what_is_gone_is_fine_and_what_is_not_ours_is_not(replay: Replay) -> None:
    replay("scancel", error=f"{GONE}\n{GONE}\n", code=1)
    queue.cancel(["49300003"])
    replay("scancel", error=f"{GONE}\n{DENIED}\n", code=210)
    with pytest.raises(ClusterError, match="permission denied"):
        queue.cancel(["49300003", "49300002"])
    # As scancel ends when it gave up: not a word.
    replay("scancel", code=229)
    with pytest.raises(ClusterError, match="exit 229"):
        queue.cancel(["49300003"])


def test_a_signal_goes_to_what_runs_and_to_nothing_that_waits_or_ended(replay: Replay) -> None:
    replay("squeue", printed(*ARRAY, RUNNING, HELD, COMPLETED, COMPLETING))
    words = replay("scancel")
    queue.cancel(["15300001", "41000001", "41000002", "41000003"], signal="USR2", full=True)
    assert words.read_text(encoding="utf-8").splitlines() == [
        "-v --signal=USR2 --full 15300001_0",
        "-v --signal=USR2 --full 41000001_1",
    ]


def test_scancel_is_stopped_before_it_delivers_a_signal_again(replay: Replay) -> None:
    replay("squeue", printed(RUNNING, *ARRAY))
    said = "scancel: Signal 12 to job 41000001_1\nscancel: Job is in transitional state, retrying\n"
    replay("scancel", error=said, then="exec sleep 60")
    begun = time.monotonic()
    queue.cancel(["41000001_1"], signal="USR2", timeout=40)
    assert time.monotonic() - begun < 20


def test_a_signal_that_cannot_be_sent_says_why(replay: Replay) -> None:
    replay("squeue", printed(RUNNING))
    replay("scancel", error=f"scancel: Signal 12 to job 41000001_1\n{DENIED}\n", code=210)
    with pytest.raises(ClusterError, match=r"^`scancel` failed: scancel: error: Kill job.*permission denied$"):
        queue.cancel(["41000001_1"], signal="USR2")
    replay("scancel", then="exec sleep 60")
    with pytest.raises(ClusterError, match="did not answer within 0.3 s"):
        queue.cancel(["41000001_1"], signal="USR2", timeout=0.3)
    # It ended between the question and the signal.
    replay("scancel", error=GONE, code=1)
    queue.cancel(["41000001_1"], signal="USR2")


def test_requeue_and_release_say_what_slurm_says(replay: Replay) -> None:
    words = replay("scontrol")
    queue.requeue("41000001_1")
    queue.requeue("41000003", hold=True)
    queue.release(["41000002", "41000003"])
    assert words.read_text(encoding="utf-8").splitlines() == [
        "requeue 41000001_1",
        "requeuehold 41000003",
        "release 41000002,41000003",
    ]
    replay("scontrol", error="Job is pending execution for job 49300002\n", code=1)
    with pytest.raises(ClusterError, match="Job is pending execution for job 49300002"):
        queue.requeue("49300002")
