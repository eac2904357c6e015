"""Stages, losses and tasks that are not of the first paper are titled, drawn and worded by what their own files declare."""

import json
import re

import pytest
import synthetic

from analysis.frames.measures import words_of
from analysis.frames.roles import roles_of, terms_of
from analysis.load import load_run, trial_table
from analysis.published import earlier
from analysis.report.tables import cost_by_stage
from analysis.report.write import write_report
from sweeps.runs import part_words
from trainables.recipes import Recipe
from trainables.recipes.step import Step
from trainables.spec import registry
from trainables.spec.losses import KdSpec, loss_facts, term_titles
from trainables.stages.evaluation import EvaluationSpec
from trainables.stages.student import StudentSpec
from trainables.stages.teacher import TeacherSpec
from trainables.tasks.base import Number, Task

GDRD = Recipe(
    "gdrd",
    (
        Step("generative", TeacherSpec),
        Step("discriminative", TeacherSpec),
        Step("backbone", StudentSpec, {"guide": ("generative",)}),
        Step("head", StudentSpec, {"guide": ("discriminative",), "network": ("backbone",)}),
        Step("evaluation", EvaluationSpec, {"network": ("head",)}),
    ),
    result=("head",),
    teacher="generative",
)
NOISE = registry.Entry(
    group="loss",
    name="noise",
    implementation="nowhere:Nothing",
    options=KdSpec,
    title="noise",
    facts=loss_facts(
        "noise", terms={"noise": "weight", "noise_at_late_steps": "weight", "blur": "weight"}, titles={"blur": "smear"}
    ),
)


class Watchlist(Task):
    name = "watchlist"
    metric = "rank1"
    validation_metric = "rank1"
    unit = "faces at the gate"
    numbers = (
        Number(name="rank1", words="rank-1 rate", heading="rank-1 %"),
        Number(name="rank5", words="rank-5 rate", heading="rank-5 %", short="R5"),
        Number(name="rank1_error", words="rank-1 error", heading="rank-1 error %", error_of="rank1"),
    )
    beside = "rank5"


RENAMED = {"teacher": "generative", "student": "head"}
FOREIGN = re.compile(r"\b(?:student|teacher|assistant)-|top-1|test images|attention")


def written_as_gdrd(write):
    """The generator's writer, but for a recipe of other roles, a loss of other terms, a task of other numbers."""

    def renamed(folder, stage, key, **columns):
        for entry in columns.get("history") or ():
            entry["name"] = entry["name"].replace("train/kd", "train/noise")
        write(folder, RENAMED.get(stage, stage), key, **columns)

    return renamed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gdrd")
    registry.add(NOISE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "write", written_as_gdrd(synthetic.write))
        synthetic.methods(
            folder,
            arms=("ce", "kd", "at"),
            sides=(16,),
            seeds=(0, 1, 2),
            failed=[("at", 1)],
            missing=[("at", 2)],
            task=Watchlist.name,
            metric=Watchlist.metric,
            numbers={"rank5": 0.9},
            study="gdrd_modules",
            paper="GDRD",
            claims=[],
            paper_data=[],
            roles=part_words.of_roles(GDRD),
            terms=part_words.of_terms(GDRD, ()),
            task_words=part_words.of_task(Watchlist()),
        )
        registry.remove(NOISE)
        run = json.loads((folder / "run.json").read_text())
        for trial in run["trials"]:
            trial["stages"] = {RENAMED.get(role, role): key for role, key in trial["stages"].items()}
            if "generative" in trial["stages"]:
                trial["stages"] = {"generative": "", "backbone": f"b-{trial['seed']}"} | trial["stages"]
        for seed in run["seeds"]:
            synthetic.write(folder, "backbone", f"b-{seed}", seconds=30.0, macs=1, epochs=9)
        for cell in run["cells"]:
            cell["parameters"] = {"generative.resolution": 32, "head.resolution": 16} | {
                "arm": cell["parameters"]["arm"]
            }
        synthetic.save(folder, run)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    write_report(folder, folder / "report")
    return folder / "report"


def test_trials_are_told_by_the_roles_of_the_recipe(folder):
    rows = {(row["arm"], row["seed"]): row for row in trial_table(load_run(folder)).iter_rows(named=True)}
    done = rows["kd", 0]
    assert done["status"] == "completed" and done["network"].startswith("n-") and done["teacher"] == "teacher0"
    assert done["teacher_validation_score"] == 0.82
    failed, missing = rows["at", 1], rows["at", 2]
    assert (failed["status"], failed["failed_stage"]) == ("failed", "head")
    # Its own side, though the guide's is an axis too; no evaluation is there to tell it.
    assert failed["resolution"] == missing["resolution"] == 16


def test_what_explains_a_failure_is_what_comes_first_in_the_recipe(folder, tmp_path):
    run = json.loads((folder / "run.json").read_text())
    trial = next(trial for trial in run["trials"] if trial["cell"].startswith("kd") and trial["seed"] == 0)
    stages = trial["stages"] | {"backbone": "b-lost", "head": "n-lost"}
    # In a trial's file they may stand in any order.
    trial["stages"] = {role: stages[role] for role in ("head", "evaluation", "backbone", "generative")}
    synthetic.save(tmp_path, run | {"trials": [trial]})
    synthetic.write(tmp_path, "head", "n-lost", status="unrunnable", error="b-lost failed")
    synthetic.write(tmp_path, "backbone", "b-lost", status="failed", error="out of memory")
    (row,) = trial_table(load_run(tmp_path)).iter_rows(named=True)
    assert (row["failed_stage"], row["error"]) == ("backbone", "out of memory")


def test_stages_stand_in_the_recipes_order_in_the_table_of_costs(folder):
    data = load_run(folder)
    found = cost_by_stage(data.records.lazy(), roles_of(data.run)).collect()["stage"].to_list()
    assert found == ["generative", "backbone", "head", "evaluation"]


def test_its_terms_are_drawn_and_titled(report):
    drawn = "".join(path.read_text() for path in (report / "figures").rglob("curves*.svg"))
    for words in ("cross-entropy", "noise", "validation rank-1 rate, %"):
        assert f">{words}<" in drawn, words
    assert not FOREIGN.findall(drawn)


def test_its_task_has_its_own_words(report):
    page = re.sub(
        r"<(style|script)\b.*?</\1>|data:image[^\"]*", "", (report / "index.html").read_text(), flags=re.DOTALL
    )
    for words in ("rank-1 rate", "rank-1 %", "rank-5 %", "rank-1 error %", "faces at the gate"):
        assert words in page, words
    assert not FOREIGN.findall(page)


def test_roles_follow_from_the_recipe():
    assert part_words.of_roles(GDRD) == {
        "order": ["generative", "discriminative", "backbone", "outputs", "head", "evaluation"],
        "learners": ["backbone", "head"],
        "result": ["head"],
        "teacher": "generative",
    }
    # One network on labels alone: nothing is a teacher, and its own curves are the result's.
    alone = Recipe("alone", (Step("net", TeacherSpec), Step("evaluation", EvaluationSpec, {"network": ("net",)})))
    said = part_words.of_roles(alone)
    assert (said["order"], said["learners"], said["result"]) == (["net", "evaluation"], ["net"], ["net"])
    assert list(part_words.of_terms(alone, ())) == ["cross_entropy", "triplet"]


def test_terms_are_titled_by_their_loss_unless_it_titles_them():
    assert term_titles(NOISE) == {"noise": "noise", "noise_at_late_steps": "noise at late steps", "blur": "smear"}


@pytest.mark.parametrize("task", [entry.name for entry in registry.entries("task")])
def test_what_runs_say_now_is_what_was_said_of_them_before(task):
    """The words of earlier files are no second source: what is declared now must be the same where both speak."""
    recipe = registry.get("recipe", "distillation").implementation
    now = {
        "task": task,
        "roles": part_words.of_roles(recipe),
        "terms": part_words.of_terms(recipe, ()),
        "task_words": part_words.of_task(registry.get("task", task).load()),
    }
    before = {"task": task}
    assert list(terms_of(now).items()) == list(terms_of(before).items())
    assert (roles_of(now).order, roles_of(now).learners) == (earlier.ROLES["order"], earlier.ROLES["learners"])
    ours, theirs = words_of(now), words_of(before)
    assert (ours.unit, ours.known_classes, ours.beside) == (theirs.unit, theirs.known_classes, theirs.beside)
    for number in ours.numbers:
        other = theirs.measure(number.name)
        assert (number.words, number.heading, number.percent) == (other.words, other.heading, other.percent)
        assert (number.false_rate, number.error_of) == (other.false_rate, other.error_of)
