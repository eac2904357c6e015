"""The page of a sampled study: where the search found good values, and the cell it chose."""

from __future__ import annotations

from analysis.figures import search as figures_search
from analysis.figures.drawing import Drawn
from analysis.frames import weight_search
from analysis.frames.weight_search import Search
from analysis.report import wording
from analysis.report.pages.shared import ReportPage
from analysis.report.render import html as page
from analysis.report.tables import MOST_SAMPLED, search_table
from analysis.report.wording import Answer


class SearchPage(ReportPage):
    """Which of the drawn cells is best on validation."""

    score = "validation"

    def body(self) -> Answer:
        search = weight_search.search(self.run, self.cells, self.trials)
        answer = wording.search_answer(search)
        self.top([answer], [])
        parts = []
        if search.weights and search.cells["value"].is_not_null().any():
            parts.append(self.draw(self.slices(search)))
        else:
            self.left_out.append("Slices: no numeric parameter varies between cells.")
        parts.append(
            page.paragraph(
                "Pruned cells stopped early; their value is what they had reached and enters no mean.",
                "quiet",
            )
        )
        self.add("findings", f"{self.measure.title} against each weight", *parts)
        shown = self.folder.table(search_table(search))
        more = search.cells.height - MOST_SAMPLED
        note = (
            f"The best {MOST_SAMPLED} of {search.cells.height} cells; all are in data/cells.parquet. "
            if more > 0
            else ""
        )
        self.add(
            "table", f"Cells by validation {self.measure.words}", shown, page.paragraph(note + self.teacher(), "quiet")
        )
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
        self.frames(search.cells)
        self.summary_rows = [
            {
                "cell": r["label"],
                "mean": r["value"],
                "gain": None,
                "low": r["low"],
                "high": r["high"],
                "p": None,
                "n": r["n"],
            }
            for r in search.cells.head(MOST_SAMPLED).iter_rows(named=True)
        ]
        return answer

    def slices(self, search: Search) -> Drawn:
        n = int(search.cells["n"].max() or 0)  # type: ignore[arg-type]
        caption = f"Each mark is one cell, the mean over its seeds (n={n} at most); no interval is drawn."
        if (more := len(search.weights) - figures_search.MOST) > 0:
            caption += f" {more} more varied: {', '.join(search.weights[figures_search.MOST :])}."
        title = f"Where the search found good values  {search.cells.height} cells"
        return figures_search.slices(
            search, name="slices", title=title, caption=caption, alt=wording.search_answer(search).headline
        )
