"""Every run gets its page; every block has its markup, and none lets markup in.

That a page and a format of reports are one file each is shown in `tests/contracts/test_one_file_each.py`.
"""

import json
import re
import typing

import polars as pl
import pytest
import synthetic

import search_spaces
from analysis.figures.drawing import Drawn
from analysis.report import blocks, listing
from analysis.report.blocks import Block, Column, Table
from analysis.report.render import html
from analysis.report.write import write_report

NASTY = "<script>alert('1')</script> & \"x\" {{ 7 * 7 }}"
SHOWN = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; &quot;x&quot; {{ 7 * 7 }}"
TABLE = Table(name="t", caption=NASTY, columns=[Column(heading=NASTY)], rows=[[NASTY]], layout="wide")
DRAWN = Drawn(
    name="f", alt=NASTY, caption=NASTY, files={"svg": b"<svg/>"}, slim=b"<svg/>", frames={"f_seeds": pl.DataFrame()}
)
ONE_OF_EACH = {
    "Heading": blocks.Heading(NASTY),
    "Paragraph": blocks.quiet(NASTY),
    "Answer": blocks.Answer(headline=NASTY, rest=NASTY),
    "Tiles": blocks.Tiles([(NASTY, NASTY)]),
    "Caution": blocks.Caution([NASTY]),
    "Table": TABLE,
    "Figure": blocks.Figure(drawn=DRAWN, number=1),
    "Lines": blocks.Lines([NASTY, NASTY]),
    "Listing": blocks.Listing([NASTY]),
    "Together": blocks.Together([blocks.Heading(NASTY), TABLE]),
    "Folded": blocks.Folded(NASTY, [blocks.Together([TABLE])]),
}


@pytest.mark.parametrize("kind", [block.__name__ for block in typing.get_args(Block)])
def test_every_block_has_its_markup_and_lets_none_in(kind):
    text = html.of_block(ONE_OF_EACH[kind])
    assert SHOWN in text and "<script" not in text and "{{ 7 * 7 }}" in text and "49" not in text
    opened = re.findall(r"<([a-z]\w*)\b[^>]*>", text)
    assert sorted(tag for tag in opened if tag not in ("source", "img")) == sorted(re.findall(r"</(\w+)>", text))


@pytest.mark.parametrize("block", [blocks.Heading(""), blocks.Caution(())])
def test_what_has_nothing_to_say_leaves_no_markup(block):
    assert html.of_block(block) == ""


def test_a_figure_has_four_pictures_and_a_link_to_each_file():
    text = html.of_block(ONE_OF_EACH["Figure"])
    assert text.count("data:image/svg+xml;base64,") == 4 and "--least:300px" in text
    assert re.findall(r'href="([^"]+)">([^<]+)<', text) == [
        *((f"figures/f.{suffix}", suffix.upper()) for suffix in ("svg", "pdf", "png")),
        ("figures/f_seeds.csv", "CSV (seeds)"),
    ]


def test_every_study_names_a_page_that_is_there():
    named = {name: search_spaces.load(name).report for name in search_spaces.names()}
    assert named and set(named.values()) <= set(listing.page_names())


@pytest.mark.parametrize(
    ("run", "page"),
    [
        ({}, "order_ablation"),
        ({"arms": {"ce": {}}}, "methods"),
        ({"sampled": True}, "weight_search"),
        ({"sampled": True, "objectives": ["score", "macs"]}, "pareto"),
        ({"report": "methods", "arms": {"ce": {}}}, "methods"),
        ({"report": "order_ablation", "arms": {"ce": {}}}, "methods"),
        ({"report": "weight_search", "sampled": True, "objectives": ["score", "macs"]}, "pareto"),
        ({"report": "no such page"}, "order_ablation"),
    ],
)
def test_a_run_gets_the_page_its_study_names_or_the_one_that_stands_in(run, page):
    assert listing.page_of(run) is listing.page_named(page)


def test_exactly_one_page_stands_in_for_each_run():
    for sampled in (False, True):
        for arms in (None, {"ce": {}}):
            for objectives in (None, ["score", "macs"]):
                run = {"sampled": sampled, "arms": arms, "objectives": objectives}
                each = [listing.page_named(name) for name in listing.page_names()]
                assert sum(page.stands_in and page.suits(run) for page in each) == 1, run


@pytest.fixture
def small_run(tmp_path):
    return synthetic.ablation(tmp_path / "run", seeds=(0, 1), orders=["none", "1"], epochs=0)


def _named(folder, page):
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"report": page}))


def test_a_page_that_is_not_there_is_said_and_does_not_stop_the_report(tmp_path, small_run):
    _named(small_run, "metods")
    summary = write_report(small_run, tmp_path / "out")
    left_out = json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]
    assert any("metods" in words and "methods" in words for words in left_out)
    assert "Page &#x27;metods&#x27;" in summary.index.read_text()
