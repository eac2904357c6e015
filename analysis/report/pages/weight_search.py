"""The page of a sampled study: where the search found good values, and the cell it chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.figures.drawing import Drawn
from analysis.figures.search import MOST_WEIGHTS, slices
from analysis.frames import weight_search
from analysis.frames.weight_search import Search
from analysis.report import leaders, wording
from analysis.report.blocks import Answer, Block, quiet
from analysis.report.page import ReportPage
from analysis.report.tables import MOST_SAMPLED, search_table


class Page(ReportPage):
    """Which of the drawn cells is best on validation."""

    score = "validation"
    stands_in = True

    @classmethod
    def suits(cls, run: Mapping[str, Any]) -> bool:
        return bool(run.get("sampled")) and len(run.get("objectives") or ()) < 2

    def body(self) -> Answer:
        search = weight_search.search(self.run, self.cells, self.trials)
        answer = wording.search_answer(search)
        self.top([answer], [])
        parts: list[Block] = []
        if search.weights and search.cells["value"].is_not_null().any():
            parts.append(self.figure(self.weight_slices(search)))
        else:
            self.left_out.append("Slices: no numeric parameter varies between cells.")
        parts.append(quiet("Pruned cells stopped early; their value is what they had reached and enters no mean."))
        self.add("findings", f"{self.measure.title} against each weight", *parts)
        shown = self.table(search_table(search))
        more = search.cells.height - MOST_SAMPLED
        note = (
            f"The best {MOST_SAMPLED} of {search.cells.height} cells; all are in data/cells.parquet. "
            if more > 0
            else ""
        )
        self.add("table", f"Cells by validation {self.measure.words}", shown, quiet(note + self.teacher()))
        groups = {
            r["cell"]: r["status"] for r in search.cells.iter_rows(named=True) if r["status"] in ("completed", "pruned")
        }
        if search.best is not None:
            groups[search.best] = "chosen"
        self.curves(search.best, groups, ["chosen", "completed", "pruned"])
        self.left_out.append("Effects and claims of single factors: this study draws its cells.")
        self.numbers["search"] = {
            "weights": list(search.weights),
            "chosen": search.best,
            "test": vars(search.test),
            "reference": search.baseline,
            "gain": search.gain,
            "cells": search.cells.to_dicts(),
        }
        self.frames["cells"] = search.cells
        first = search.cells.head(MOST_SAMPLED)
        self.leaders = [leaders.of_cell(row, "value", "low", "high") for row in first.iter_rows(named=True)]
        return answer

    def weight_slices(self, search: Search) -> Drawn:
        n = int(search.cells["n"].max() or 0)  # type: ignore[arg-type]
        caption = f"Each mark is one cell, the mean over its seeds (n={n} at most); no interval is drawn."
        if (more := len(search.weights) - MOST_WEIGHTS) > 0:
            caption += f" {more} more varied: {', '.join(search.weights[MOST_WEIGHTS:])}."
        title = f"Where the search found good values  {search.cells.height} cells"
        return slices(search, name="slices", title=title, caption=caption, alt=wording.search_answer(search).headline)
