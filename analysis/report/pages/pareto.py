"""The page of a sampled study with two objectives: the cells that none beats in both."""

from __future__ import annotations

import polars as pl

from analysis.figures import pareto as figures_pareto
from analysis.frames import pareto
from analysis.report import wording_methods
from analysis.report.pages.methods_tables import pareto_search_table
from analysis.report.pages.shared import ReportPage
from analysis.report.render import html as page
from analysis.report.wording import Answer


class ParetoPage(ReportPage):
    """What a better score costs, among cells that were drawn."""

    score = "validation"

    def body(self) -> Answer:
        search = pareto.search(self.run, self.cells, self.trials)
        answer = wording_methods.pareto_answer(search)
        self.top([answer], [])
        cost = pareto.COSTS[search.cost]
        n = int(search.cells["n"].max() or 0)  # type: ignore[arg-type]
        rated = search.cells.filter(pl.col("value").is_not_null(), pl.col(search.cost) > 0)
        parts = []
        if rated.height:
            caption = f"Each mark is one cell, the mean over its seeds (n={n} at most)."
            drawn = figures_pareto.pareto_search(
                search,
                name="pareto",
                title=f"What the score costs  {search.cells.height} cells",
                caption=caption,
                alt=answer.sentence,
            )
            parts.append(self.draw(drawn))
        else:
            self.left_out.append(f"Score against {cost}: no cell has both.")
        self.add("findings", f"{self.measure.title} against {cost}", *parts)
        table = pareto_search_table(search)
        words = f"{table.caption} The other cells are in data/cells.parquet, without their test scores. "
        self.add("table", "The front", self.folder.table(table), page.paragraph(words + self.teacher(), "quiet"))
        front = search.cells.filter("front")
        best = front.sort("value", "cell", descending=[True, False])["cell"].to_list()
        groups = {
            row["cell"]: "on the front" if row["front"] else "others" for row in search.cells.iter_rows(named=True)
        }
        self.curves(best[0] if best else None, groups, ["on the front", "others"])
        self.left_out.append("Effects and claims: this study draws its cells.")
        self.numbers["search"] = {
            "objectives": list(self.run.get("objectives") or ()),
            "cost": search.cost,
            "varied": list(search.varied),
            "cells": search.cells.to_dicts(),
        }
        self.frames(search.cells)
        self.summary_rows = [
            {
                "cell": row["label"],
                "mean": row["value"],
                "gain": None,
                "low": row["low"],
                "high": row["high"],
                "p": None,
                "n": row["n"],
            }
            for row in front.sort("value", "cell", descending=[True, False]).iter_rows(named=True)
        ]
        return answer
