"""A copy of the code, the lines before Python, and the script each job would get; nothing is submitted here."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slurm import answer, queue, submit
from slurm.array_task import ArrayTask
from slurm.driver import Driver
from slurm.errors import ClusterError
from slurm.gang import Gang
from slurm.profile_files import load
from slurm.profiles import Profile
from slurm.rendezvous import Rendezvous
from slurm.submit import WorkerJob, note, script, setup_lines, snapshot
from slurm.worker import Worker
from sweeps.engine import submission, submitted, worker_jobs
from sweeps.planning.request import Request
from sweeps.runs import continuation, provenance
from sweeps.runs.folder import Place, RunFolder
from system.rooms import ROOMS
from trainables.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
with_sbatch = pytest.mark.skipif(shutil.which("sbatch") is None, reason="needs `sbatch` (slurm-wlm)")


@pytest.fixture
def nasty_path(tmp_path: Path) -> Path:
    """As nasty as SLURM's patterns and Python's path allow."""
    path = tmp_path / "my ståff 'é' [x] ☃"
    path.mkdir()
    return path


@pytest.fixture
def rendezvous(nasty_path: Path) -> Rendezvous:
    made = Rendezvous(nasty_path / "slurm", "run-a")
    made.prepare()
    return made


@pytest.fixture
def code(nasty_path: Path) -> Path:
    """A small project with the rooms of this one."""
    root = nasty_path / "project"
    for room in ROOMS:
        (root / room / "__pycache__").mkdir(parents=True)
        (root / room / "__init__.py").write_text(f'ROOM = "{room}"\n')
        (root / room / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"x")
    (root / "slurm" / "profiles").mkdir()
    (root / "slurm" / "profiles" / "default.toml").write_text("cpus = 1\n")
    (root / "runs").mkdir()
    (root / "runs" / "big").write_text("no code")
    return root


# The copy.


def test_equal_code_is_copied_once_and_holds_no_leftovers(rendezvous: Rendezvous, code: Path) -> None:
    place = snapshot(code, rendezvous, "abc")
    assert place.parent == rendezvous.folder / "code"
    assert sorted(os.listdir(place)) == sorted([*ROOMS, "REVISION"])
    assert (place / "slurm" / "profiles" / "default.toml").read_text() == "cpus = 1\n"
    assert list(place.rglob("__pycache__")) == []
    mark = place / "mark"
    mark.touch()
    shutil.rmtree(code / "sweeps" / "__pycache__")
    assert snapshot(code, rendezvous, "abc") == place
    assert mark.exists()
    assert os.listdir(rendezvous.folder / "code") == [place.name]


@pytest.mark.parametrize("change", ["content", "name", "new", "gone", "revision", "data"])
def test_other_code_gets_another_copy_and_the_first_stays(rendezvous: Rendezvous, code: Path, change: str) -> None:
    first = snapshot(code, rendezvous, "abc")
    kept = {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()}
    file = code / "sweeps" / "__init__.py"
    if change == "content":
        file.write_text("ROOM = 1\n")
    elif change == "name":
        file.rename(file.with_name("other.py"))
    elif change == "new":
        (code / "sweeps" / "new.py").touch()
    elif change == "gone":
        file.unlink()
    elif change == "data":
        (code / "slurm" / "profiles" / "default.toml").write_text("cpus = 2\n")
    second = snapshot(code, rendezvous, "abd" if change == "revision" else "abc")
    assert second != first
    assert {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()} == kept
    assert sorted(os.listdir(rendezvous.folder / "code")) == sorted([first.name, second.name])


def test_what_lies_beside_the_rooms_changes_nothing(rendezvous: Rendezvous, code: Path) -> None:
    first = snapshot(code, rendezvous, "abc")
    (code / "runs" / "more").write_text("of a run")
    assert snapshot(code, rendezvous, "abc") == first


def test_a_copy_that_another_made_meanwhile_is_taken(
    rendezvous: Rendezvous, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def slow(aside: Path, place: Path) -> None:
        shutil.copytree(aside, place)
        rename(aside, place)

    monkeypatch.setattr(os, "rename", slow)
    place = snapshot(code, rendezvous, "abc")
    assert (place / "REVISION").read_text() == "abc"
    assert os.listdir(rendezvous.folder / "code") == [place.name]


def test_the_copy_of_this_project_runs_and_knows_its_revision(rendezvous: Rendezvous, tmp_path: Path) -> None:
    place = snapshot(ROOT, rendezvous, "0123456789ab+changes")
    asked = "import sweeps, sweeps.runs.provenance as p; print(p.revision()); print(sweeps.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    revision, where = done.stdout.splitlines()
    assert revision == "0123456789ab+changes"
    assert Path(where).is_relative_to(place)
    assert (place / "slurm" / "profiles" / "default.toml").read_bytes() == (
        ROOT / "slurm" / "profiles" / "default.toml"
    ).read_bytes()


def test_the_revision_of_a_copy_is_read_from_it(nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nasty_path / "REVISION").write_text("abc+changes\n")
    monkeypatch.setattr(provenance, "ROOT", nasty_path)
    assert provenance.revision() == "abc+changes"


# The lines before Python.


def run_lines(lines: Sequence[str], asked: str, **more: str) -> list[str]:
    """What a shell prints after these lines."""
    text = "\n".join(["set -eu", *lines, asked])
    done = subprocess.run(
        ["bash", "-c", text], env={**os.environ, **more}, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.splitlines()


NASTY = ["my ståff 'é' [x] 100% ☃", "$HOME", "a;touch x", "`id`", 'quo"te', "back\\slash", "-dash", "~", "&& false"]


@pytest.mark.parametrize("name", NASTY)
def test_any_path_survives_the_shell(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / name
    place.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / name / 'more'}")
    profile = Profile(name="p", source="here")
    lines = setup_lines(profile, place)
    assert run_lines(lines, 'pwd; echo "$PYTHONPATH"') == [str(place), f"{place}:{place / 'more'}"]


def test_the_copy_comes_before_all_else_and_the_project_itself_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/opt/site::{ROOT}:/opt/more")
    lines = setup_lines(Profile(name="p", source="here"), tmp_path)
    assert run_lines(lines, 'echo "$PYTHONPATH"') == [f"{tmp_path}:/opt/site:/opt/more"]


def test_a_relative_path_of_modules_means_the_same_on_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "lib")
    (said,) = run_lines(setup_lines(Profile(name="p", source="here"), tmp_path / "code"), 'echo "$PYTHONPATH"')
    assert said == f"{tmp_path / 'code'}:{tmp_path / 'lib'}"


def test_modules_and_setup_come_first_and_what_sites_set_is_answered(tmp_path: Path) -> None:
    profile = Profile(name="p", source="here", modules=("cuda/12.4",), setup=("export SITE='a b'",))
    lines = setup_lines(profile, tmp_path)
    assert lines[:2] == ["module load cuda/12.4", "export SITE='a b'"]
    asked = 'echo "$SITE|$SRUN_CPUS_PER_TASK|${RAY_ADDRESS-none}"'
    assert run_lines(lines[1:], asked, SLURM_CPUS_PER_TASK="3", RAY_ADDRESS="x") == ["a b|3|none"]
    assert run_lines(lines[1:], asked, SLURM_CPUS_PER_TASK="", RAY_ADDRESS="x") == ["a b|1|none"]


# The script.


def worker_job(role: str = "worker", jobs: int = 2, profile: Profile | None = None, **more: Any) -> WorkerJob:
    made = Worker("/m", "run-a")
    return WorkerJob(role, profile or Profile(name="p", source="here"), [made] * jobs, **more)


def options(text: str) -> dict[str, str]:
    """The #SBATCH lines of a script, as the shell's words."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#SBATCH "):
            words = shlex.split(line.removeprefix("#SBATCH "))
            assert len(words) == 1, line
            name, _, value = words[0].removeprefix("--").partition("=")
            assert name not in found, line
            found[name] = value
    return found


def test_a_worker_script_asks_for_what_the_profile_says(rendezvous: Rendezvous, tmp_path: Path) -> None:
    profile = Profile(
        name="p",
        source="here",
        partition="gpu,long",
        account="mine",
        qos="high",
        gpus=2,
        gpu_type="a100",
        cpus=6,
        memory_gb=12.5,
        time_minutes=90,
        constraint="skylake",
        exclude="node07",
        reservation="course",
        warning_seconds=60,
        extra={"nice": 100, "exclusive": True, "mail-type": False},
    )
    asked = options(script(rendezvous, worker_job(jobs=3, profile=profile, after="77"), tmp_path))
    assert asked["array"] == "0-2%3"
    assert asked["partition"] == "gpu,long"
    assert (asked["account"], asked["qos"], asked["constraint"]) == ("mine", "high", "skylake")
    assert (asked["exclude"], asked["reservation"], asked["nice"]) == ("node07", "course", "100")
    assert asked["gpus-per-node"] == "a100:2"
    assert (asked["cpus-per-task"], asked["nodes"], asked["ntasks-per-node"]) == ("6", "1", "1")
    assert asked["time"] == "90"
    assert asked["signal"] == "USR2@60"
    assert asked["dependency"] == "after:77"
    assert {"requeue", "exclusive"} <= set(asked)
    assert "mail-type" not in asked
    assert asked["job-name"] == "worker-run-a"
    assert asked["open-mode"] == "append"
    assert asked["mem"] == "12800MB"


def test_a_driver_script_asks_for_little_and_never_for_a_gpu(rendezvous: Rendezvous, tmp_path: Path) -> None:
    profile = load("gpu")
    asked = options(script(rendezvous, worker_job("driver", 1, profile), tmp_path))
    assert (asked["cpus-per-task"], asked["mem"], asked["time"]) == ("1", "4GB", "2880")
    assert not [name for name in asked if "gpu" in name or "gres" in name or name == "array"]
    assert options(script(rendezvous, worker_job("worker", 1, profile), tmp_path))["gpus-per-node"] == "1"


def test_a_gang_is_one_job_of_several_nodes(rendezvous: Rendezvous, tmp_path: Path) -> None:
    asked = options(script(rendezvous, worker_job("gang", 1, nodes=4), tmp_path))
    assert (asked["nodes"], asked["ntasks-per-node"]) == ("4", "1")
    assert "array" not in asked and "dependency" not in asked


def test_every_script_runs_our_python_in_the_copy_with_all_variables(rendezvous: Rendezvous, tmp_path: Path) -> None:
    profile = Profile(name="p", source="here", python="/opt/my python/bin/python", setup=("source ~/env",))
    text = script(rendezvous, worker_job(profile=profile), tmp_path / "co py")
    (command,) = [line for line in text.splitlines() if line.startswith("srun ")]
    words = shlex.split(command)
    assert "--export=ALL" in words
    assert "/opt/my python/bin/python" in words
    assert words[-1] == str(rendezvous.folder / "jobs")
    lines = text.splitlines()
    assert lines.index("source ~/env") < lines.index(f"cd {shlex.quote(str(tmp_path / 'co py'))}")
    assert lines.index("export PYTHONUNBUFFERED=1") < lines.index(command)
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    unsaid = script(rendezvous, worker_job(), tmp_path)
    assert sys.executable in shlex.split(next(line for line in unsaid.splitlines() if line.startswith("srun ")))


@pytest.mark.parametrize("name", ["100%j of it", "a:b"])
def test_a_folder_whose_name_means_something_else_to_slurm_or_python_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="must hold none of"):
        plan(Place(tmp_path / name / "runs", tmp_path / "store"), on="slurm")


def test_a_script_is_made_without_submitting_or_leaving_anything(rendezvous: Rendezvous, tmp_path: Path) -> None:
    script(rendezvous, worker_job(), tmp_path)
    assert [path.name for path in (rendezvous.folder / "jobs").glob("*")] == []
    assert rendezvous.submissions() == []


def test_a_machine_without_slurm_can_still_show_the_script(
    rendezvous: Rendezvous, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert options(script(rendezvous, worker_job(), tmp_path))["array"] == "0-1%2"


# Submitting.


@with_sbatch
def test_a_refused_submission_is_said_in_slurms_words_and_not_noted(
    rendezvous: Rendezvous, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real sbatch, with a configuration of no cluster: it refuses at once.
    config = tmp_path / "slurm.conf"
    config.write_text("ClusterName=none\nNonsense=1\n")
    monkeypatch.setenv("SLURM_CONF", str(config))
    before = dict(os.environ)
    with pytest.raises(ClusterError, match="SLURM refused the worker job of profile 'p': .*--dry-run shows the script"):
        submit.submit(rendezvous, worker_job(jobs=1), tmp_path)
    assert rendezvous.submissions() == []
    assert dict(os.environ) == before


ANSWERS = {
    "Submitted batch job 123": "123",
    "Submitted batch job 123 on cluster north": "123",
    "123": "123",
    "123;north": "123",
    "site: job 5 of 10 this week\nSubmitted batch job 123\nsite: see job 7": "123",
    "lua: partition gpu has 4 nodes\n123": "123",
    "lua: 2 hours left of your account\n123;north\n": "123",
    "Your job 123 has been queued": "123",
    "SUBMITTED BATCH JOB 123": "123",
    "": None,
    "ok": None,
    "job 5, job 6": None,
    "Stapelverarbeitungsauftrag 123 eingereicht": None,  # The queue is asked.
    "12345678901234567890123": None,
}


@pytest.mark.parametrize("said", ANSWERS)
def test_every_accepted_form_of_sbatchs_answer_names_the_job(said: str) -> None:
    assert answer.job_id_in(said) == ANSWERS[said]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """An sbatch that answers as told, and a queue that shows one job where `waits` names it."""
    bin = tmp_path / "bin"
    bin.mkdir()

    def make(sbatch: str, waits: tuple[str, str] | None = None, queue_fails: bool = False) -> Path:
        fields = [waits[0], "PENDING", "Priority", "", "N/A", "0:00", "1:00", waits[0], waits[1]] if waits else []
        shown = "\x1e" + "\x1f".join(fields) + "\n" if waits else ""
        (tmp_path / "shown").write_text(shown)
        squeue = (
            "echo 'Unable to contact slurm controller' >&2; exit 1" if queue_fails else f"cat '{tmp_path / 'shown'}'"
        )
        texts = {"sbatch": sbatch, "squeue": squeue, "scancel": f"echo \"$@\" >> '{tmp_path / 'cancelled'}'"}
        for name, text in texts.items():
            (bin / name).write_text(f"#!/bin/sh\n{text}\n")
            (bin / name).chmod(0o755)
        return tmp_path / "cancelled"

    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    return make


@pytest.mark.parametrize("said", ["77", "77;north", "lua: note\nSubmitted batch job 77\nlua: bye"])
def test_a_job_is_noted_whatever_form_the_answer_has(
    rendezvous: Rendezvous, tmp_path: Path, cluster: Callable[..., Path], said: str
) -> None:
    cluster(f"printf '%s\\n' '{said}'")
    assert submit.submit(rendezvous, worker_job("driver", 1), tmp_path) == ["77"]
    assert rendezvous.jobs() == ["77"]


def test_an_answer_without_an_id_is_looked_up_in_the_queue_by_the_jobs_name(
    rendezvous: Rendezvous, tmp_path: Path, cluster: Callable[..., Path]
) -> None:
    cluster("echo 'Auftrag eingereicht'", ("77", "driver-run-a"))
    assert submit.submit(rendezvous, worker_job("driver", 1), tmp_path) == ["77"]


@pytest.mark.parametrize(
    "failure", ["echo 'Socket timed out on send/recv operation' >&2; exit 1", "kill -9 $$", "echo ok"]
)
def test_a_submission_of_unknown_outcome_is_not_called_refused(
    rendezvous: Rendezvous, tmp_path: Path, cluster: Callable[..., Path], failure: str
) -> None:
    cancelled = cluster(failure)
    with pytest.raises(answer.UnclearError, match="not known.*squeue --me --name=driver-run-a") as caught:
        submit.submit(rendezvous, worker_job("driver", 1), tmp_path)
    assert "refused" not in str(caught.value)
    assert rendezvous.submissions() == []
    assert answer.unclear(rendezvous.folder) == ["driver-run-a"]
    assert not cancelled.exists()
    # It shows up late: nothing is submitted beside it.
    cluster(failure, ("78", "driver-run-a"))
    with pytest.raises(UsageError, match="78 bear that name.*scancel --me --name=driver-run-a"):
        submission._refuse_a_second_submission(RunFolder(rendezvous.folder.parent / "run-a"), rendezvous)
    cluster(failure)
    submission._refuse_a_second_submission(RunFolder(rendezvous.folder.parent / "run-a"), rendezvous)
    assert answer.unclear(rendezvous.folder) == []


def test_a_job_that_a_failed_sbatch_left_in_the_queue_is_taken_back(
    rendezvous: Rendezvous, tmp_path: Path, cluster: Callable[..., Path]
) -> None:
    cancelled = cluster("echo 'Socket timed out on send/recv operation' >&2; exit 1", ("79", "worker-run-a"))
    with pytest.raises(answer.UnclearError, match="was cancelled \\(job 79\\). Give the command again"):
        submit.submit(rendezvous, worker_job("worker", 2), tmp_path)
    assert cancelled.read_text().split() == ["79"]
    assert answer.unclear(rendezvous.folder) == []


def test_a_queue_that_cannot_be_asked_is_said_too(
    rendezvous: Rendezvous, tmp_path: Path, cluster: Callable[..., Path]
) -> None:
    cluster("kill -9 $$", queue_fails=True)
    with pytest.raises(answer.UnclearError, match="cannot be asked.*squeue --me --name=driver-run-a"):
        submit.submit(rendezvous, worker_job("driver", 1), tmp_path)
    assert answer.unclear(rendezvous.folder) == ["driver-run-a"]


def test_a_plain_refusal_is_one(rendezvous: Rendezvous, tmp_path: Path, cluster: Callable[..., Path]) -> None:
    cluster("echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; exit 1")
    with pytest.raises(ClusterError, match="SLURM refused the driver job .*Invalid partition"):
        submit.submit(rendezvous, worker_job("driver", 1), tmp_path)
    assert answer.unclear(rendezvous.folder) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b'[{"role": 3}]',
        b'[{"role": "driver", "ids": ["x; rm"], "profile": {"name": "a"}}]',
        b"[" * 99999,
    ],
)
def test_damaged_submissions_are_passed_over(rendezvous: Rendezvous, content: bytes) -> None:
    (rendezvous.folder / "submissions.json").write_bytes(content)
    assert rendezvous.submissions() == []
    assert rendezvous.jobs() == []


def test_jobs_travel_to_their_node_as_they_were(rendezvous: Rendezvous) -> None:
    common: dict[str, Any] = {"rendezvous_folder": str(rendezvous.folder), "run": "run-a", "scratch": "$TMPDIR"}
    for job in (
        Driver(**common, command=("-m", "sweeps")),
        Worker(**common, driver="7"),
        Gang(**common, command=("-m", "sweeps")),
        ArrayTask(**common, command=("-m", "sweeps")),
    ):
        assert pickle.loads(pickle.dumps(job)) == job


def test_the_scratch_folder_is_that_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/local/7")
    assert Worker("/m", "r", scratch="$SOMEWHERE/x").place() == "/local/7/x"
    assert Worker("/m", "r").place() is None


def test_what_was_submitted_is_noted_with_its_whole_profile(rendezvous: Rendezvous) -> None:
    profile = load("gpu", ["cpus=3"])
    note(rendezvous, worker_job("driver", 1, profile), ["7"])
    note(rendezvous, worker_job("worker", 2, profile, nodes=1), ["8_0", "8_1"])
    assert [entry["role"] for entry in rendezvous.submissions()] == ["driver", "worker"]
    assert rendezvous.jobs() == ["7", "8_0", "8_1"]
    assert Profile.from_dict(rendezvous.submissions()[0]["profile"]) == profile
    assert [name for name in os.listdir(rendezvous.folder) if name.startswith(".")] == []


def test_the_profiles_kept_are_those_of_the_last_submission(rendezvous: Rendezvous) -> None:
    with pytest.raises(UsageError, match="was never submitted"):
        submitted.kept_profiles(rendezvous)
    old, new, more = (Profile(name=name, source="here") for name in ("old", "new", "more"))
    for role, profile in (("driver", old), ("worker", old), ("driver", new), ("worker", new), ("worker", more)):
        note(rendezvous, worker_job(role, 1, profile), ["1"])
    assert [one.name for one in submitted.kept_profiles(rendezvous)] == ["new", "new", "more"]


def plan(place: Place, **fields: Any) -> submission.Submission:
    request = Request(study="horkd_order_ablation", preset="tiny", **fields)
    return submission.plan_submission(request, place, lambda line: None, pack=False)


def test_an_elastic_run_is_a_driver_and_an_array_of_workers_per_profile(nasty_path: Path) -> None:
    place = Place(nasty_path / "runs", nasty_path / "store")
    found = plan(place, on="slurm", profiles=["gpu:3", "cpu"], workers=5)
    assert [(o.role, o.profile.name, len(o.tasks), o.nodes) for o in found.worker_jobs] == [
        ("driver", "gpu", 1, 1),
        ("worker", "gpu", 3, 1),
        ("worker", "cpu", 2, 1),
    ]
    assert found.workers == 5
    driver = found.worker_jobs[0].tasks[0]
    assert isinstance(driver, Driver)
    assert list(driver.command) == ["-m", "sweeps", "drive", str(found.path), "--store", str(place.store)]


def test_a_gang_is_one_order_and_an_array_has_a_task_for_each_worker(nasty_path: Path) -> None:
    place = Place(nasty_path / "runs", nasty_path / "store")
    (gang,) = plan(place, on="slurm-gang", workers=3).worker_jobs
    assert (gang.role, len(gang.tasks), gang.nodes) == ("gang", 1, 3)
    (array,) = plan(place, on="slurm-array").worker_jobs
    assert (array.role, len(array.tasks), array.nodes) == ("array", worker_jobs.WORKERS, 1)


def test_workers_wait_for_the_drivers_start_and_half_a_cluster_is_taken_back(
    rendezvous: Rendezvous, nasty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(Place(nasty_path / "runs", nasty_path / "store"), on="slurm", profiles=["default:1", "cpu:1"])
    seen: list[WorkerJob] = []
    cancelled: list[str] = []

    def accept_two(rendezvous: Rendezvous, worker_job: WorkerJob, code: Path) -> list[str]:
        seen.append(worker_job)
        if len(seen) == 3:
            raise ClusterError("no such partition")
        return [str(6 + len(seen))]

    monkeypatch.setattr(submission, "submit", accept_two)
    monkeypatch.setattr(queue, "cancel", lambda ids, **more: cancelled.extend(ids))
    with pytest.raises(ClusterError, match="no such partition"):
        submission._submit_jobs(found, rendezvous, nasty_path)
    assert [one.after for one in seen] == [None, "7", "7"]
    assert all(isinstance(job, Worker) and job.driver == "7" for one in seen[1:] for job in one.tasks)
    assert cancelled == ["7", "8"]


def test_a_disk_that_is_full_while_submitting_leaves_no_job_behind(
    rendezvous: Rendezvous, nasty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(Place(nasty_path / "runs", nasty_path / "store"), on="slurm")
    cancelled: list[str] = []

    def full(rendezvous: Rendezvous, worker_job: WorkerJob, code: Path) -> list[str]:
        if worker_job.role == "worker":
            raise OSError(28, "No space left on device")
        return ["7"]

    monkeypatch.setattr(submission, "submit", full)
    monkeypatch.setattr(queue, "cancel", lambda ids, **more: cancelled.extend(ids))
    with pytest.raises(Exception, match="No space left"):
        submission._submit_jobs(found, rendezvous, nasty_path)
    assert cancelled == ["7"]


def test_paths_in_a_request_mean_the_same_on_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = worker_jobs.absolute(Request("s", data="folder:pictures", data_root="root"))
    assert (found.data, found.data_root) == (f"folder:{tmp_path / 'pictures'}", str(tmp_path / "root"))
    tested = worker_jobs.absolute(Request("s", test_data="folder:faces", test_data_root="other"))
    assert (tested.test_data, tested.test_data_root) == (f"folder:{tmp_path / 'faces'}", str(tmp_path / "other"))
    assert dataclasses.replace(worker_jobs.absolute(Request("s", data="digits"))) == Request("s", data="digits")


def test_what_a_run_json_asks_is_read_as_data(nasty_path: Path) -> None:
    from sweeps.runs.folder import RunFolder

    run = RunFolder(nasty_path / "run")
    kept = {"request": {"study": "s", "on": "slurm", "of_a_newer_version": 1}, "seeds": [0, 1, 5]}
    found = continuation.request_of(run, kept)
    assert (found.study, found.on, found.seeds) == ("s", "slurm", "0,1,5")
    assert continuation.request_of(run, {**kept, "seeds": [3]}).seeds == "3-3"
    worse: list[dict[str, Any]] = [{}, {"request": None}, {"request": []}, {"request": {}}, {**kept, "seeds": 5}]
    for bad in worse:
        with pytest.raises(UsageError, match="does not say what was asked"):
            continuation.request_of(run, json.loads(json.dumps(bad)))
