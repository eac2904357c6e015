"""The numbers that a paper prints, beside ours: with table, data set and protocol, and never as if they were paired.

A paper has two files here, called after it. `horkd.csv` holds what tables and text of HORKD print (Ge et al., "Look One and
More: Distilling Hybrid Order Relational Knowledge for Cross-Resolution Image Recognition", AAAI 2020): one row per number,
in percent as there; errors stay errors, and `note` says what the paper tells of the protocol. `horkd_data.csv` says what
its data sets are called here, and how large they are as a whole.
"""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import statistics
from analysis.frames.methods import Setting
from analysis.load import as_object
from analysis.published import earlier
from analysis.statistics import Summary

NEAR = 1.1  # Shares of the full side that differ by less count as the same.

FOLDS = 10  # Of LFW's pairs; fewer are a part of them.

FOLDER = Path(__file__).parent

# Metric of a table -> our number and whether it is told as an error.
METRICS = {
    "top1_accuracy": ("top1", False),
    "top1_error": ("top1", True),
    "top5_error": ("top5", True),
    "verification_accuracy": ("verification_accuracy", False),
    "recall_at_1": ("recall_at_1", False),
}


@dataclass(frozen=True, kw_only=True)
class PaperSet:
    """A data set of the paper: our name for it, and how large it is as a whole."""

    name: str
    classes: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Number:
    """One printed number."""

    table: str
    method: str
    dataset: str
    resolution: str
    metric: str
    value: float  # As printed, in percent.
    note: str


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A printed number and ours; `ours` has n=0 where it was not run."""

    number: Number
    arm: str  # Title.
    where: str  # Setting of ours.
    ours: Summary  # Fractions, of the paper's metric (an error where the paper prints errors).
    data: str  # 'the paper's data', 'part of it', 'other data'.
    difference: float | None  # In percent points as printed; only on the paper's data.
    exact: bool  # Whether ours reads the paper's resolution.
    side: int | None = None  # Side that ours reads.


def paper_of(run: Mapping[str, Any]) -> str:
    """How the files of a run's paper are called: 'horkd' of 'HORKD, Fig. 4'; of one without files those of then."""
    name = re.sub(r"\W", "", str(run.get("paper") or "").partition(",")[0].lower())
    return name if name in {path.stem for path in FOLDER.glob("*.csv")} else earlier.PAPER


@functools.cache
def numbers(paper: str) -> tuple[Number, ...]:
    """All printed numbers of a paper."""
    return tuple(
        Number(
            table=row["table_or_figure"],
            method=row["method"],
            dataset=row["dataset"],
            resolution=row["resolution"],
            metric=row["metric"],
            value=float(row["value"]),
            note=row["note"],
        )
        for row in _rows(f"{paper}.csv")
    )


@functools.cache
def paper_sets(paper: str) -> Mapping[str, PaperSet]:
    """The data sets of a paper, as it calls them; none where nothing is said of them."""
    if not (FOLDER / f"{paper}_data.csv").is_file():
        return {}
    return {
        row["dataset"]: PaperSet(name=row["name"], classes=int(row["classes"]), images=int(row["images"]))
        for row in _rows(f"{paper}_data.csv")
    }


def _rows(file: str) -> list[dict[str, str]]:
    with open(FOLDER / file, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def tested_data(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """What run.json says of the data that scores are of: of another set where the run tests on one."""
    return run.get("test_data") or run.get("data") or {}


def data_relation(run: Mapping[str, Any], dataset: str) -> str:
    """Whether the data tested are those of a printed number: 'the paper's data', 'part of it' or 'other data'."""
    data, paper = tested_data(run), paper_sets(paper_of(run)).get(dataset)
    if paper is None or str(data.get("name") or "").lower() != paper.name:
        return "other data"
    images = sum(int(data.get(name) or 0) for name in ("train_images", "test_images"))
    limited = any(_limits(name.split(".")[-1], value, paper) for name, value in (run.get("parameters") or {}).items())
    whole = data.get("classes") == paper.classes and images == paper.images and not limited
    return "the paper's data" if whole else "part of it"


def _limits(name: str, value: Any, paper: PaperSet) -> bool:
    """Whether a parameter leaves out some of the training images, of the folds, or of the people recognised."""
    if not value:
        return False
    if name == "folds":
        return len({str(fold) for fold in value}) < FOLDS if isinstance(value, list | tuple) else True
    if name == "subjects":
        return not isinstance(value, int) or value < paper.classes
    return name == "train_images"


def data_words(run: Mapping[str, Any]) -> str:
    """'on digits, not the paper's data' for the verdicts of claims."""
    name = str(tested_data(run).get("name") or "unknown data")
    dataset = next((known for known, own in paper_sets(paper_of(run)).items() if own.name == name.lower()), "")
    relation = data_relation(run, dataset)
    if relation == "the paper's data":
        return f"on {name}"
    return f"on part of {name}" if relation == "part of it" else f"on {name}, not the paper's data"


def _same(left: str, right: str) -> bool:
    return re.sub(r"\W", "", left.lower()) == re.sub(r"\W", "", right.lower())


def find(entry: Mapping[str, Any], paper: str) -> list[Number]:
    """The numbers that an entry of a study means: by table, method, and where given data set and resolution."""
    found = [
        number
        for number in numbers(paper)
        if _same(number.table, str(entry.get("table") or ""))
        and _same(number.method, str(entry.get("method") or ""))
        and number.metric in METRICS
        and (not entry.get("dataset") or _same(number.dataset, str(entry["dataset"])))
    ]
    side = _side(entry.get("resolution"))
    same = [number for number in found if _side(number.resolution) == side]
    return same if side is not None and same else found


def _side(text: Any) -> int | None:
    """The (shorter) side in '152x152', '55x47' or 16."""
    sides = [int(part) for part in re.findall(r"\d+", str(text or ""))]
    return min(sides) if sides else None


def beside(run: Mapping[str, Any], settings: Sequence[Setting], titles: Mapping[str, str]) -> list[Beside]:
    """Each printed number that the study names, with ours; on a data set of the paper those for it alone.

    On the paper's data ours is read at the resolution named. On other data the sides differ: a side is matched by its
    share of the largest one that the study names for that data set, and where no side of ours has that share it was not
    run.
    """
    entries = [entry for entry in run.get("published") or () if isinstance(entry, Mapping)]
    near = [entry for entry in entries if data_relation(run, str(entry.get("dataset"))) != "other data"]
    entries = near or entries
    found = []
    for entry in entries:
        arm = str(entry.get("arm") or "")
        for number in find(entry, paper_of(run)):
            relation = data_relation(run, number.dataset)
            setting, exact = _match(entry, number, entries, settings, relation)
            ours = Summary(n=0) if setting is None else _ours(setting, arm, number.metric)
            difference = None
            if relation == "the paper's data" and exact and ours.mean is not None:
                difference = 100 * ours.mean - number.value
            found.append(
                Beside(
                    number=number,
                    arm=titles.get(arm, arm),
                    where=_where(setting, arm),
                    ours=ours,
                    data=relation,
                    difference=difference,
                    exact=exact,
                    side=None if setting is None or (row := setting.row(arm)) is None else row["resolution"],
                )
            )
    return found


def _match(
    entry: Mapping[str, Any],
    number: Number,
    entries: Sequence[Mapping[str, Any]],
    settings: Sequence[Setting],
    relation: str,
) -> tuple[Setting | None, bool]:
    """The setting of ours for an entry, and whether it reads the resolution of the paper."""
    arm, architecture = str(entry.get("arm") or ""), str(entry.get("architecture") or "")
    able: dict[int | None, Setting] = {}
    for setting in settings:
        if architecture and not _has_architecture(setting, architecture):
            continue
        row = setting.row(arm)
        if row is not None:
            able.setdefault(row["resolution"], setting)
    wanted = _side(entry.get("resolution"))
    if not able:
        return None, False
    if wanted in able:
        return able[wanted], True
    largest = max(able, key=lambda side: side or 0)
    if wanted is None:
        return able[largest], _side(number.resolution) in (None, largest)
    ours = [side for setting in settings for side in setting.rows["resolution"].drop_nulls()]
    if relation != "other data" or not ours:
        return None, False
    same_data = [other for other in entries if other.get("dataset") == entry.get("dataset")]
    theirs = max(side for other in same_data if (side := _side(other.get("resolution"))))
    due = wanted / theirs * max(ours)
    nearest = min((side for side in able if side), key=lambda side: abs(math.log(side / due)), default=None)
    if nearest is None or abs(math.log(nearest / due)) > math.log(NEAR):
        return None, False
    return able[nearest], False


def _has_architecture(setting: Setting, architecture: str) -> bool:
    """False only where the setting names another architecture."""
    own = [str(value) for name, value in setting.values.items() if name.split(".")[-1] == "architecture"]
    return not own or architecture in own


def _ours(setting: Setting, arm: str, metric: str) -> Summary:
    name, error = METRICS[metric]
    own = setting.trials.filter(cell=setting.cells[arm], status="completed")
    values = []
    for row in own.unique("key", maintain_order=True).iter_rows(named=True):
        value = as_object(row["metrics"]).get(name, row["score"] if setting.measure.name == name else None)
        if isinstance(value, int | float):
            values.append(1 - value if error else float(value))
    return statistics.summarise(values, bounds=statistics.RATE)


def _where(setting: Setting | None, arm: str) -> str:
    if setting is None or (row := setting.row(arm)) is None:
        return "not run"
    side = row["resolution"]
    return f"{side}×{side}" if side else setting.title
