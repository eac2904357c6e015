"""What the command line prints of a report: its best cells, or the methods of every setting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.commands.outcome import WIDTH, say_rows


def cell(name: str, mean: float | None, gain: float | None = None, **changes: Any) -> dict[str, Any]:
    """A row of a grid."""
    interval = {"low": None, "high": None} if gain is None else {"low": gain - 0.01, "high": gain + 0.01}
    p = None if gain is None else 0.0001
    return {"cell": name, "mean": mean, "gain": gain, **interval, "p": p, "n": 5, "reference": False} | changes


def method(name: str, mean: float | None, gain: float | None = None, **changes: Any) -> dict[str, Any]:
    """A row of a comparison of methods."""
    known = {"setting": "16×16 pixels", "method": name, "kind": "method"}
    spans = {"mean_low": None if mean is None else mean - 0.1, "mean_high": None if mean is None else mean + 0.1}
    return cell(name, mean, gain) | known | spans | changes


def said(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], score: str = "test") -> list[str]:
    say_rows(SimpleNamespace(rows=rows, score=score))
    return capsys.readouterr().out.splitlines()


def test_only_the_reference_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, [cell("1+2", 0.9, 0.02), cell("none", 0.88, reference=True), cell("3", None)])
    assert lines[0].split() == ["CELL", "TEST", "%", "GAIN", "95", "%", "CI", "P", "DUNNETT", "SEEDS"]
    assert [("reference" in line) for line in lines[1:]] == [False, True, False]
    assert "+2.00" in lines[1] and "[+1.00, +3.00]" in lines[1] and "<0.001" in lines[1]


def test_a_long_grid_is_cut_and_a_search_shows_validation(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [cell(f"c{index}", 0.9) for index in range(8)]
    lines = said(capsys, rows)
    assert len(lines) == 8 and lines[-1] == "... 2 more in the report"
    assert said(capsys, rows[:1], "validation")[0].split()[:3] == ["CELL", "VALIDATION", "%"]


def test_every_setting_has_its_block(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [method("HORKD", 0.9, 0.02), method("chance", 0.1, kind="chance", n=0, mean_low=None)]
    lines = said(capsys, rows + [row | {"setting": "8×8 pixels"} for row in rows])
    assert [line for line in lines if "pixels" in line] == ["16×16 pixels", "8×8 pixels"] and lines.count("") == 1
    assert lines[1].split() == [
        "METHOD",
        "SCORE",
        "%",
        "95",
        "%",
        "CI",
        "GAIN",
        "95",
        "%",
        "CI",
        "P",
        "DUNNETT",
        "SEEDS",
    ]
    assert lines[2].split() == ["HORKD", "90.00", "[80.00,", "100.00]", "+2.00", "[+1.00,", "+3.00]", "<0.001", "5"]
    assert lines[3].split() == ["chance", "10.00"]
    assert said(capsys, [row | {"setting": ""} for row in rows])[0].startswith("METHOD")


def test_of_many_methods_the_best_are_shown_and_never_without_reference_floors_and_chance(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [method(f"m{index}", 0.9 - index / 100, 0.01) for index in range(14)]
    rows += [method("labels (reference)", 0.5, kind="plain", reference=True)]
    rows += [method("pixels (floor)", 0.4, kind="floor"), method("chance", 0.1, kind="chance")]
    lines = said(capsys, rows)
    names = [line.split()[0] for line in lines[2:-1]]
    assert names == [*(f"m{index}" for index in range(9)), "labels", "pixels", "chance"]
    assert lines[-1] == "... 5 more"


def test_a_block_fits_whatever_the_methods_are_called(capsys: pytest.CaptureFixture[str]) -> None:
    beside = {"beside": {"heading": "top-1 error %", "mean": 1.0}}
    rows = [method("Labels only, for as long as a direct student (floor, reads 112×112)" * 2, 1.0, -0.1, **beside)]
    rows += [method("KD", 0.9, 0.1, **beside), method("chance", 0.1, kind="chance")]
    lines = said(capsys, rows)
    assert max(map(len, lines)) <= WIDTH == 110
    assert lines[1].endswith("TOP-1 ERROR %") and lines[2].startswith("Labels only") and "... " in lines[2]
    assert lines[2].endswith("100.00")


def test_a_method_without_a_result_keeps_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, [method("KD", 0.9, 0.1), method("AT", None, n=0)])
    assert lines[3].split() == ["AT"]
