"""What every page has, whatever its study asks: answers, tiles, cautions, claims, learning curves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import polars as pl

from analysis import statistics
from analysis.arm_kinds import UNTESTED
from analysis.claims.verdict import Claim
from analysis.figures.curves import learning_curves
from analysis.figures.drawing import Drawn
from analysis.frames import curves, measures
from analysis.frames.arms import arms_of
from analysis.frames.factor import factor_of
from analysis.frames.order_ablation import Panel
from analysis.frames.roles import roles_of, terms_of
from analysis.load import RunData, cell_table
from analysis.printed import percent
from analysis.report import cautions, wording
from analysis.report.blocks import Answer, Block, Caution, Document, Figure, Paragraph, Section, Table, Tiles
from analysis.report.leaders import Leader
from analysis.report.tables import claims_table, cost_by_stage

REPORT_SCHEMA = 1
MOST_PANELS = 4


class ReportPage(ABC):
    """The page in the making: sections in order, and the numbers printed. A file of `pages/` has one, called `Page`."""

    score = "test"  # Of which split the leaders' means are.
    stands_in = False  # Whether a run that names no page of ours, or one that does not suit it, may get this one.

    def __init__(self, *, data: RunData, trials: pl.DataFrame) -> None:
        self.data, self.run, self.trials = data, data.run, trials
        self.words = measures.words_of(data.run)
        self.measure = self.words.measure(data.run.get("metric"))
        self.cells = cell_table(data.run)
        self.findings: list[Block] = []
        self.sections: list[Section] = []
        self.tables: list[Table] = []
        self.figures: list[Drawn] = []
        self.frames = {"trials": trials.rename({"levels": factor_of(self.run).column})}
        self.left_out: list[str] = []
        self.numbers: dict[str, Any] = {}
        self.leaders: list[Leader] = []
        self.cautions: list[str] = []
        self.roles = roles_of(data.run)
        self.cost = cost_by_stage(data.records.lazy(), self.roles).collect()

    def add(self, anchor: str, heading: str, *blocks: Block) -> None:
        self.sections.append(Section(anchor=anchor, heading=heading, blocks=blocks))

    def figure(self, drawn: Drawn, least: int = 760) -> Figure:
        """The next figure of the page, whose files lie beside it."""
        self.figures.append(drawn)
        return Figure(drawn=drawn, number=len(self.figures), least=least)

    def table(self, table: Table, layout: Literal["", "fit", "wrap", "wide"] = "") -> Table:
        """A table whose files lie beside the page, to be shown or not."""
        self.tables.append(table)
        return replace(table, layout=layout)

    def top(
        self,
        answers: Sequence[Answer],
        panels: Sequence[Panel],
        first: Sequence[str] = (),
        scored: pl.DataFrame | None = None,
    ) -> None:
        """The answers, tiles and cautions; `first` are cautions of this kind of page."""
        tiles = wording.tiles(self.data, self.trials, panels, self.cost, scored)
        self.cautions = [*first, *cautions.cautions(self.data, self.trials, panels)]
        self.findings = [*answers, Tiles(tiles), Caution(self.cautions)]
        self.numbers.update(
            sentence=answers[0].sentence,
            answers=[answer.sentence for answer in answers],
            tiles=[{"value": value, "words": words} for value, words in tiles],
            read_with_care=self.cautions,
        )

    @classmethod
    def suits(cls, run: Mapping[str, Any]) -> bool:
        """Whether a run has what this page tells of."""
        return True

    @abstractmethod
    def body(self) -> Answer:
        """Fill the page with what its kind of study has; returns the answer."""

    def claim_section(self, rows: Sequence[tuple[str, Claim]]) -> None:
        """The claims of the paper with their settings ('' where there is only one)."""
        self.numbers["claims"] = [{"setting": title, **claim.as_dict()} for title, claim in rows]
        self.add("claims", "Claims checked", self.table(claims_table(rows), "wrap"))

    def teacher(self) -> str:
        """The teachers' validation score beside the students', each network counted once."""
        untested = [arm.name for arm in arms_of(self.run, self.trials).values() if arm.kind in UNTESTED]
        seen = self.trials.filter(pl.col("teacher").is_not_null(), pl.col("teacher_validation_score").is_not_null())
        teachers = seen.unique("teacher", maintain_order=True).sort("teacher")["teacher_validation_score"]
        done = self.trials.filter(pl.col("status") == "completed", ~pl.col("arm").is_in(untested).fill_null(False))
        # Tested at several sides, a network still has one validation score.
        done = done.with_columns(pl.coalesce("network", "key", pl.format("{} {}", "cell", "seed")).alias("network"))
        students = done.unique("network", maintain_order=True)["validation_score"].drop_nulls()
        t, s = (statistics.summarise(values, bounds=statistics.RATE) for values in (teachers, students))
        self.numbers["validation"] = {"teachers": vars(t), "students": vars(s)}
        if t.mean is None:
            return f"The teacher's validation {self.measure.words} is not in the records."
        words = (
            f"Teacher: {percent(t.mean)} % validation {self.measure.words} (n={t.n} teacher{'' if t.n == 1 else 's'})"
        )
        return words + (f"; students: {percent(s.mean)} % over all cells (n={s.n})." if s.mean is not None else ".")

    def curves(
        self,
        cell: str | None,
        groups: dict[str, str],
        order: Sequence[str],
        *,
        label: str | None = None,
        looks: Mapping[str, tuple[str, Any]] | None = None,
    ) -> None:
        """Loss terms of a cell, called `label` if that is given, and the validation score of groups of cells."""
        logged = curves.read(self.data, cell or "", groups)
        terms, validation = logged.terms, logged.validation
        if terms.is_empty() and validation.is_empty():
            self.left_out.append("Learning curves: the records hold no history.")
            return
        labels = dict(self.cells.select("cell", "label").iter_rows())
        label = label or labels.get(cell or "", cell or "")
        words = self.words.measure(
            (logged.name or "").removeprefix("validation/").replace("score", self.measure.name)
        ).words
        n = int(terms["n"].max() or 0)  # type: ignore[arg-type]
        caption = (
            f"Loss terms of {label}, mean of {n} seed{'' if n == 1 else 's'}, as computed and as weighted in the loss; "
            if n
            else ""
        )
        caption += f"validation {words}, mean over all trainings of a group. No interval is drawn."
        caption = caption[0].upper() + caption[1:]
        alt = f"Loss terms of {label} by epoch, and validation {words} by epoch for {', '.join(order)}."
        drawn = learning_curves(
            terms,
            validation,
            name="curves",
            cell=label,
            groups=order,
            words=words,
            looks=looks,
            titles=terms_of(self.run),
            caption=caption,
            alt=alt,
        )
        self.add("curves", "Learning curves", self.figure(drawn))

    def document(self) -> Document:
        """All that was added."""
        study = str(self.run.get("study") or "run")
        head = [Paragraph(self.subtitle(), "sub")]
        if self.run.get("question"):
            head.append(Paragraph(str(self.run["question"]), "sub"))
        return Document(
            title=study,
            head=head,
            findings=self.findings,
            sections=self.sections,
            tables=self.tables,
            figures=self.figures,
            frames=self.frames,
            numbers=self.numbers | self._about(),
        )

    def _about(self) -> dict[str, Any]:
        """What report.json says of the run."""
        run = self.run
        count = self.trials["status"].value_counts().sort("status").rows()
        return {
            "schema": REPORT_SCHEMA,
            "study": str(run.get("study") or "run"),
            **{name: run.get(name) for name in ("run", "data", "test_data", "preset", "seeds")},
            "trials": dict(count),
            "left_out": self.left_out,
            "records": {
                "listed": self.data.files_listed,
                "read": self.data.files_read,
                "unreadable": self.data.unreadable,
                "odd": self.data.odd,
            },
        }

    def subtitle(self) -> str:
        run, data = self.run, self.run.get("data") or {}
        seeds = run.get("seeds") or sorted(set(self.trials["seed"]))
        words = [
            run.get("title"),
            run.get("paper"),
            f"{self.trials['cell'].n_unique()} cells × {len(seeds)} seeds",
        ]
        if data.get("name"):
            size = f" {data['height']}×{data['width']}" if data.get("height") and data.get("width") else ""
            words.append(f"{data['name']}{size}")
        if tested := (run.get("test_data") or {}).get("name"):
            words.append(f"tested on {tested}")
        words += [
            f"preset {run['preset']}" if run.get("preset") else None,
            str(run.get("started") or "")[:10],
        ]
        return " · ".join(str(word) for word in words if word)
