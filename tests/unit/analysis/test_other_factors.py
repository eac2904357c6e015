"""A factorial over other parts than relation orders is titled, drawn and worded by its own study."""

import json
import re

import pytest
import synthetic

from analysis.report.write import write_report
from search_spaces.claims import COUNT, AllBetter, BestIsNot, Better, Claim, EquivalentWithin, OrderOfMeans, Rises
from search_spaces.study import Factor

SETS = ("none", "GEN", "DIS", "GEN+DIS")
GAIN = {"none": 0.0, "GEN": 0.001, "DIS": 0.04, "GEN+DIS": 0.06}
REPRESENTATIONS = Factor(
    parameter="student.representations",
    levels=("GEN", "DIS"),
    noun="representation",
    plural="representations",
    title="Does a generative teacher add anything?",
    none_title="labels alone",
    titles={"GEN": "generative", "DIS": "discriminative"},
    note="The paper prints these as bars.",
)
CLAIMS = (
    Claim("Both are better than one", "GDRD, Sec. III", test=AllBetter("GEN+DIS", than=("GEN", "DIS"))),
    Claim("The second adds", "GDRD, Sec. III", test=Better("GEN+DIS", than="DIS")),
    Claim("More is better", "GDRD, Sec. III", test=Rises(COUNT)),
    Claim("The two together are not the best", "nobody", test=BestIsNot("GEN+DIS")),
    Claim("They come in this order", "GDRD", test=OrderOfMeans(("GEN+DIS", "DIS", "GEN", "none"))),
    Claim("The generative one alone does nothing", "ours", test=EquivalentWithin(0.01, "GEN", to="none")),
    Claim("A third one helps", "nobody", test=Better("GEN+SR", than="GEN")),
)
FOREIGN = re.compile(r"HORKD|horkd|\borders\b|\border (?:set|\d|C)|relation order|assistant|no distillation|Fig\. 4")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gdrd")

    def score(levels, noise):
        return 0.8 + GAIN[levels] + noise

    synthetic.ablation(
        folder,
        orders=SETS,
        score=score,
        spread=0.001,
        study="gdrd_module_ablation",
        run="gdrd_module_ablation-0000",
        title="Which representations help?",
        paper="GDRD",
        question="Do generative and discriminative representations help?",
        commands=[{"command": "python -m sweeps run gdrd_module_ablation"}],
        paper_data=["casia", "tinyface"],
        factors=list(REPRESENTATIONS.levels),
        factor=REPRESENTATIONS.plain(),
        claims=[claim.plain() for claim in CLAIMS],
    )
    # The generator knows one parameter; this study's has another name.
    run = json.loads((folder / "run.json").read_text())
    run["axes"] = {REPRESENTATIONS.parameter: list(SETS)}
    for cell in run["cells"]:
        cell["parameters"] = {REPRESENTATIONS.parameter: cell["parameters"]["orders"]}
    (folder / "run.json").write_text(json.dumps(run))
    summary = write_report(folder, folder / "report")
    return summary, folder / "report"


def test_its_page_has_its_own_words_and_none_of_another_paper(report):
    summary, folder = report
    page = re.sub(
        r"<(style|script)\b.*?</\1>|data:image[^\"]*", "", (folder / "index.html").read_text(), flags=re.DOTALL
    )
    assert not FOREIGN.findall(page)
    for words in (
        *(REPRESENTATIONS.note, "Which representations help", "All representation sets"),
        *("What each representation adds", "Averaged over the other representations", "representation set"),
        *("Effect of a set T of representations", "the paper used casia and tinyface"),
    ):
        assert words in page, words
    assert summary.sentence.startswith("Representations DIS and GEN help: DIS by +")
    assert "beat labels alone" in summary.sentence


def test_its_figures_and_files_are_called_after_its_parameter(report):
    _, folder = report
    drawn = "".join(path.read_text() for path in (folder / "figures").rglob("*.svg"))
    for words in (REPRESENTATIONS.title, "averaged over the other representations", "What each representation adds"):
        assert words in drawn
    assert not FOREIGN.findall(drawn)
    assert ">generative<" in drawn and ">discriminative<" in drawn
    for path in folder.rglob("*"):
        if path.suffix in (".csv", ".md", ".tex", ".json"):
            assert not FOREIGN.findall(path.read_text()), path
    (panel,) = json.loads((folder / "report.json").read_text())["panels"]
    assert {row["representations"] for row in panel["rows"]} == set(SETS)


def test_its_claims_are_settled_by_the_tests_it_declares(report):
    _, folder = report
    found = {claim["claim"]: claim for claim in json.loads((folder / "report.json").read_text())["claims"]}
    verdicts = {text: claim["verdict"] for text, claim in found.items()}
    assert verdicts == {
        "Both are better than one": "supported",
        "The second adds": "supported",
        "More is better": "supported",
        "The two together are not the best": "not supported",
        "They come in this order": "inconclusive",  # GEN over none is a tie.
        "The generative one alone does nothing": "supported",
        "A third one helps": "not tested yet",
    }
    assert found["The second adds"]["name"] == "the_second_adds"
    assert found["A third one helps"]["estimate"] == "the study has no representation set GEN+SR"
    assert "points per added representation" in found["More is better"]["estimate"]


def test_what_a_study_declares_comes_through_run_json_as_it_was_said():
    from analysis.claims.check import TESTS, read_asked
    from analysis.frames.factor import factor_of
    from search_spaces.claims import KINDS

    assert {kind.kind for kind in KINDS} == set(TESTS)
    for claim in CLAIMS:
        asked = read_asked(json.loads(json.dumps(claim.plain())))
        assert (asked.text, asked.source, asked.kind) == (claim.text, claim.source, claim.test.kind)
    factor = factor_of({"factor": REPRESENTATIONS.plain(), "factors": list(REPRESENTATIONS.levels)})
    assert (factor.noun, factor.levels, factor.column) == ("representation", ("GEN", "DIS"), "representations")
