"""What a reader must know before believing the numbers of a report."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analysis import statistics
from analysis.frames.order_ablation import Panel
from analysis.load import RunData, as_object
from analysis.published import earlier
from analysis.records import EVALUATION
from analysis.report.wording import detectable_gains, n_words

FEW_SEEDS = 5  # Below this, a gain of two standard deviations is missed more often than found among 15 cells.

# What rounding alone did: another processor and another version of torch moved means of five seeds of a factorial on digits
# (preset demo) by up to this much, as one changed last digit sends a training another way.
ROUNDING_MOVES = 0.0081


def cautions(data: RunData, trials: pl.DataFrame, panels: Sequence[Panel]) -> list[str]:
    """All of them; empty when there is nothing."""
    told = [*_of_the_study(data), _of_few_seeds(trials), *(_of_power(panel) for panel in panels[:1])]
    told += [
        rounding_words() if panels else "",
        _of_lacking_trials(trials),
        *_of_mixtures(data),
        also_trained_on(trials),
    ]
    withheld = sum(int(p.rows["note"].str.contains("another teacher").fill_null(False).sum()) for p in panels)
    if withheld:
        told.append(f"{withheld} cells hang from another teacher than their reference; their gains are withheld.")
    return [words for words in (*told, *_of_files(data)) if words]


def _of_the_study(data: RunData) -> list[str]:
    """Other data or another protocol than the paper's, and where its preset departs from it."""
    run = data.run
    name = str((run.get("data") or {}).get("name") or "unknown")
    found = []
    theirs = earlier.paper_data(run)
    if run.get("factors") and theirs and name.lower() not in theirs:
        found.append(
            f"Stand-in data: {name} was used, the paper used {' and '.join(theirs)}. Numbers do not compare with it."
        )
    if (preset := run.get("preset")) and preset != "paper":
        found.append(f"Preset '{preset}', not the paper's protocol.")
    return [*found, *(str(departure) for departure in run.get("departures") or ())]


def _of_few_seeds(trials: pl.DataFrame) -> str:
    done = trials.filter(pl.col("status") == "completed")
    seeds = done.group_by("cell").len()["len"] if done.height else pl.Series([], dtype=pl.Int64)
    most = int(seeds.max()) if len(seeds) else FEW_SEEDS  # type: ignore[arg-type]
    if most >= FEW_SEEDS:
        return ""
    text = f"At most {n_words(most)} per cell."
    if most == 1:
        return f"{text} One seed has no interval, and nothing is judged."
    if most < statistics.LEAST_PAIRS:
        return f"{text} Below {statistics.LEAST_PAIRS} nothing is judged: the numbers stand, and so few show little."
    return f"{text} Read the effects and their intervals: what did not pass may still be there."


def _of_power(panel: Panel) -> str:
    power = detectable_gains(panel)
    if power is None:
        return ""
    words = f"With {power['pairs']} pairs this design finds gains of {100 * power['alone']:.2f} points or more "
    words += "with 80 % power in a single comparison"
    if power["tests"] > 1:
        words += f", and of {100 * power['after_dunnett']:.2f} points among {power['tests']} tested together"
    return f"{words}."


def _of_lacking_trials(trials: pl.DataFrame) -> str:
    lacking = {s: int((trials["status"] == s).sum()) for s in ("failed", "missing")}
    text = " and ".join(f"{count} {status}" for status, count in lacking.items() if count)
    if not text:
        return ""
    return f"{text} of {trials.height} trials: means are over those that finished, and failing may not be chance."


def _of_mixtures(data: RunData) -> list[str]:
    """Stages of several machines' arithmetic, or of several data sets, under one comparison."""
    finished = data.records.filter(pl.col("status") == "completed")
    # What is tested is another set than what is trained on, where the run says so: then each must be one.
    tested = pl.col("stage") == EVALUATION
    parts = [finished.filter(tested), finished.filter(~tested)] if data.run.get("test_data") else [finished]
    found = []
    for column, what, frames in (
        ("numerics", "numerics (versions or processors)", [finished]),
        ("data", "data fingerprints", parts),
    ):
        if (kinds := max(frame[column].drop_nulls().n_unique() for frame in frames)) > 1:
            found.append(f"The stages compared mix {kinds} {what}.")
    return found


def _of_files(data: RunData) -> list[str]:
    """Record files that could not be read, or were read and are strange."""
    found = []
    if data.unreadable:
        found.append(
            f"{len(data.unreadable)} of {data.files_listed} record files could not be read: "
            + "; ".join(f"{file} ({why})" for file, why in list(data.unreadable.items())[:5])
            + ("; and more" if len(data.unreadable) > 5 else "")
            + "."
        )
    if data.odd:
        found.append(
            "Strange record files: " + "; ".join(f"{f} ({why})" for f, why in list(data.odd.items())[:5]) + "."
        )
    return found


def rounding_words() -> str:
    """What no seed averages out: the same command on another machine gives other last digits, and then other means."""
    return (
        "Rounding alone moves results: on the digits' demo another processor and version moved means of five seeds by up to "
        f"{100 * ROUNDING_MOVES:.2f} points. Which of two close cells is higher is settled by their intervals, not by "
        "their order in a table."
    )


def also_trained_on(trials: pl.DataFrame) -> str:
    """How many of the classes tested have the name of one that was trained on; '' where none has."""
    values = [as_object(text).get("classes_also_trained_on") for text in trials["metrics"].unique(maintain_order=True)]
    counts = sorted({value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0})
    if not counts:
        return ""
    count = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts[-1] == 1:
        return "1 tested class has the name of a class that was trained on."
    return f"{count} tested classes have the name of a class that was trained on."
