"""The commands on data sets: what they print, what they refuse, and how far a packing is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import sweeps
from PIL import Image

from sweeps.commands.data import data
from sweeps.runs.packing import PackingLine
from trainables.data.datasets import DATASETS


@pytest.fixture
def orl(tmp_path: Path) -> Path:
    """The layout of ORL, three people with three images of 23x28 each; gives its folder's folder."""
    root = tmp_path / "my dåta"
    for person in (1, 2, 3):
        for number in (1, 2, 3):
            path = root / "att_faces" / f"s{person}" / f"{number}.pgm"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((28, 23), 50 * person + number, np.uint8)).save(path)
    return root


def test_list_shows_every_set_with_its_protocols() -> None:
    text = CliRunner().invoke(data, ["list"]).output
    answer = json.loads(CliRunner().invoke(data, ["list", "--json"]).output)
    rows = {row["name"]: row for row in answer["data"]}
    assert list(rows) == [*DATASETS, "folder:PATH"]
    assert rows["lfw"]["protocols"] == ["verification", "identification", "retrieval"]
    assert len(rows["folder:PATH"]["protocols"]) == 4
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "verification, identification, retrieval" in lines["lfw"] and "all tasks" in lines["orl"]


@pytest.mark.parametrize("name", DATASETS)
def test_show_gives_layout_terms_and_counts(name: str) -> None:
    info = DATASETS[name]
    text = CliRunner().invoke(data, ["show", name]).output
    assert info.layout in text and info.terms in text and ", ".join(info.protocols) in text
    answer = json.loads(CliRunner().invoke(data, ["show", name, "--json"]).output)
    assert (answer["images"], answer["classes"], answer["size"]) == (info.images, info.classes, info.side)


def test_show_says_whether_a_set_lies_there(orl: Path) -> None:
    for words, found in (([str(orl)], True), ([str(orl / "none")], False)):
        shown = CliRunner().invoke(data, ["show", "orl", "--data-root", *words])
        assert shown.exit_code == 0 and ("no: `orl` is expected" in shown.output) == (not found)
        answer = json.loads(CliRunner().invoke(data, ["show", "orl", "--json", "--data-root", *words]).output)
        assert answer["path"] == (str(orl / "att_faces") if found else None) and bool(answer["problem"]) != found
    assert "path" not in json.loads(
        CliRunner().invoke(data, ["show", "orl", "--json"], env={"SWEEPS_DATA_ROOT": ""}).output
    )


def test_doubtful_data_is_a_warning_of_check_and_a_note_of_pack(orl: Path, tmp_path: Path) -> None:
    for person in (1, 2, 3):
        for number in (1, 2, 3):
            folder = tmp_path / "faces" / f"p{person}" / f"session_{number}"
            folder.mkdir(parents=True)
            (folder / f"{number}.pgm").write_bytes((orl / "att_faces" / f"s{person}" / f"{number}.pgm").read_bytes())
    (tmp_path / "faces" / "loose.png").touch()
    words = [f"folder:{tmp_path / 'faces'}", "--data-size", "8", "--out", str(tmp_path / "out")]
    checked = sweeps("data", "check", *words)
    assert checked.returncode == 0, checked.stderr
    warned = [line for line in checked.stdout.splitlines() if line.startswith("WARN")]
    assert len(warned) == 2 and "session_1" in warned[0] and "loose.png" in warned[1]
    answer = json.loads(sweeps("data", "check", *words, "--json").stdout)
    rows = answer["checks"]
    assert answer["passed_over"] == {"loose.png": "an image without a class folder"}
    assert [row["message"] for row in rows if row["warning"]] == [line.removeprefix("WARN  ") for line in warned]
    packed = sweeps("data", "pack", *words)
    assert (
        packed.stdout.startswith("folder:faces: 6 training and 3 test images, 3 classes")
        and "loose.png" in packed.stderr
    )
    assert len(json.loads(sweeps("data", "pack", *words, "--json").stdout)["notes"]) == 2


@pytest.mark.parametrize("command", ["show", "check", "pack"])
def test_names_in_the_wrong_case_get_a_hint(command: str) -> None:
    result = sweeps("data", command, "CIFAR10")
    assert result.returncode == 2 and "Did you mean 'cifar10'?" in result.stderr


def test_a_set_is_checked_packed_and_checked_again(orl: Path, tmp_path: Path) -> None:
    place = ["--data-root", str(orl), "--out", str(tmp_path / "out")]
    before = sweeps("data", "check", "orl", *place)
    assert before.returncode == 0, before.stderr
    assert "FAIL" not in before.stdout and "9 images of 3 classes, 3 to 3 each" in before.stdout
    assert "not the whole set, which has 400 images of 40 classes" in before.stdout
    packed = sweeps("data", "pack", "orl", *place)
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout.startswith("orl: 6 training and 3 test images, 3 classes, 1x23x23, ")
    assert packed.stderr == "Most images of orl have 23 pixels, so they were not enlarged to 92.\n"
    smaller = json.loads(sweeps("data", "pack", "orl", *place, "--data-size", "7", "--json").stdout)
    assert (smaller["name"], smaller["height"], smaller["train_images"]) == ("orl", 7, 6)
    after = sweeps("data", "check", "orl", *place)
    assert after.returncode == 0 and "every byte matches fingerprint" in after.stdout


def test_the_data_root_may_come_from_the_environment(orl: Path, tmp_path: Path) -> None:
    result = sweeps("data", "pack", "orl", "--out", str(tmp_path / "out"), SWEEPS_DATA_ROOT=str(orl))
    assert result.returncode == 0, result.stderr


def test_leaks_make_the_check_fail(orl: Path, tmp_path: Path) -> None:
    for person in (1, 2, 3):
        for number in (2, 3):
            folder = orl / "att_faces" / f"s{person}"
            (folder / f"{number}.pgm").write_bytes((folder / "1.pgm").read_bytes())
    result = sweeps("data", "check", "orl", "--data-root", str(orl), "--out", str(tmp_path / "out"))
    assert result.returncode == 4
    assert "FAIL  3 of 3 test files are also in training, byte for byte" in result.stdout


@pytest.mark.parametrize("command", ["check", "pack"])
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["lfw"], 4, "`lfw` is expected as <data root>/lfw/<Person>/<Person>_0001.jpg"),
        (["umdfaces", "--data-root", "ROOT"], 4, "It cannot be fetched for you; see: python -m sweeps data show umd"),
        (["lfws", "--data-root", "ROOT"], 2, "Did you mean 'lfw'?"),
        (["orl", "--data-root", "ROOT", "--data-size", "2000"], 2, "from 1 to 1024 pixels, but got 2000"),
        (["digits", "--data-size", "16"], 2, "`digits` comes at 8x8 pixels, but size 16 was asked"),
        (["sop", "--data-root", "ROOT"], 4, "cannot be read as an archive (ReadError: truncated header). Fetch"),
    ],
)
def test_what_cannot_be_is_one_paragraph_and_a_code(
    orl: Path, tmp_path: Path, command: str, words: list[str], code: int, message: str
) -> None:
    (orl / "sop.tar").write_bytes(bytes(100))
    words = [str(orl) if word == "ROOT" else word for word in words]
    result = sweeps("data", command, *words, "--out", str(tmp_path / "out"), SWEEPS_DATA_ROOT="")
    assert result.returncode == code, result.stderr
    assert message in " ".join(result.stderr.split()) and "Traceback" not in result.stderr


class Stream(io.StringIO):
    """A stream that is a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def shown(terminal: bool, calls: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a packing of 1,000 images writes, called at these seconds with so many images done."""
    monkeypatch.setenv("TERM", "xterm")
    now = [0.0]
    stream = Stream(terminal)
    line = PackingLine("birds", stream, clock=lambda: now[0])
    for seconds, done in calls:
        now[0] = seconds
        line(done, 1000)
    line.end()
    return stream.getvalue()


def test_a_packing_writes_a_line_every_ten_seconds_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [(0.0, 1), (5.0, 100), (10.0, 250), (15.0, 300), (19.9, 400), (20.0, 500), (21.0, 1000)]
    assert shown(False, calls, monkeypatch) == (
        "Packing birds: 250 of 1,000 images (25 %), 0:30 left\nPacking birds: 500 of 1,000 images (50 %), 0:20 left\n"
    )


def test_a_packing_redraws_one_line_on_a_terminal_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(True, [(0.0, 1), (1.0, 10), (1.1, 20), (2.0, 500)], monkeypatch)
    assert text == (
        "\r\x1b[KPacking birds: 10 of 1,000 images (1 %), 1:39 left"
        "\r\x1b[KPacking birds: 500 of 1,000 images (50 %), 0:02 left\r\x1b[K"
    )
    assert "\n" not in text


def test_a_packing_that_goes_on_judges_its_pace_by_what_it_does_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(False, [(0.0, 600), (10.0, 800)], monkeypatch)
    assert text == "Packing birds: 800 of 1,000 images (80 %), 0:10 left\n"


def test_a_short_packing_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(True, [(0.0, 1), (0.1, 1000)], monkeypatch) == shown(False, [(0.1, 1000)], monkeypatch) == ""
