import csv
import io

import pytest

from analysis.printed import p_value, percent, points
from analysis.report.blocks import Column, Table
from analysis.report.render import csv as as_csv
from analysis.report.render import html as as_html
from analysis.report.render import latex, markdown

NASTY = "<script>alert(1)</script> _ & % $ # | \\ {x}\n=1+1"
COLUMNS = [Column(heading="na|me & <b>", number=False), Column(heading="acc %", show=percent)]
TABLE = Table(
    name="t", caption="100% & more", columns=COLUMNS, rows=[(NASTY, 0.5), ("=1+1", None)], best=frozenset({0})
)


def test_csv_keeps_values_and_disarms_formulas():
    rows = list(csv.reader(io.StringIO(as_csv.of_table(TABLE))))
    assert rows[1:] == [[NASTY, "0.5"], ["'=1+1", ""]]
    assert as_csv.of_table(Table(name="t", caption="", columns=[Column(heading="x")], rows=[(-0.5,)])) == "x\n-0.5\n"


def test_markdown_keeps_one_row_a_line_and_no_open_tags():
    lines = markdown.of_table(TABLE).splitlines()
    assert lines[1] == "|:---|---:|" and len(lines) == 6
    assert "<script>" not in lines[2] and lines[2].replace("\\|", "").count("|") == 3
    assert lines[2].endswith("| **50.00** |") and lines[3].endswith("| – |")


def test_latex_escapes_and_prints_the_best_bold():
    text = latex.of_table(TABLE)
    assert r"\textbf{50.00}" in text and r"\toprule" in text and r"\caption{100\% \& more}" in text
    row = next(line for line in text.splitlines() if "script" in line)
    for escaped in (
        r"\_",
        r"\&",
        r"\%",
        r"\$",
        r"\#",
        r"\textbar{}",
        r"\textbackslash{}",
        r"\{x\}",
        r"\textless{}",
    ):
        assert escaped in row
    assert row.endswith(r" \\")


def test_html_escapes_everything():
    text = as_html.of_block(TABLE)
    assert "<script>" not in text and "&lt;script&gt;" in text and "<b>" not in text and "class=best" in text


@pytest.mark.parametrize("value, shown", [(0.0123, "+1.23"), (-0.00001, "+0.00"), (-0.01, "-1.00")])
def test_points_are_signed_and_never_minus_zero(value, shown):
    assert points(value) == shown


def test_a_tiny_p_is_not_zero():
    assert (p_value(1e-9), p_value(0.0314)) == ("<0.001", "0.031")
