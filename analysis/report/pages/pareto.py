"""The page of a sampled study with two objectives: the cells that none beats in both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.figures.pareto import pareto_search
from analysis.frames import pareto
from analysis.report import leaders, wording_methods
from analysis.report.blocks import Answer, Block, quiet
from analysis.report.page import ReportPage
from analysis.report.tables_methods import pareto_search_table


class Page(ReportPage):
    """What a better score costs, among cells that were drawn."""

    score = "validation"
    stands_in = True

    @classmethod
    def suits(cls, run: Mapping[str, Any]) -> bool:
        return bool(run.get("sampled")) and len(run.get("objectives") or ()) > 1

    def body(self) -> Answer:
        search = pareto.search(self.run, self.cells, self.trials)
        answer = wording_methods.pareto_answer(search)
        self.top([answer], [])
        cost = pareto.COSTS[search.cost]
        n = int(search.cells["n"].max() or 0)  # type: ignore[arg-type]
        rated = search.cells.filter(pl.col("value").is_not_null(), pl.col(search.cost) > 0)
        parts: list[Block] = []
        if rated.height:
            caption = f"Each mark is one cell, the mean over its seeds (n={n} at most)."
            drawn = pareto_search(
                search,
                name="pareto",
                title=f"What the score costs  {search.cells.height} cells",
                caption=caption,
                alt=answer.sentence,
            )
            parts.append(self.figure(drawn))
        else:
            self.left_out.append(f"Score against {cost}: no cell has both.")
        self.add("findings", f"{self.measure.title} against {cost}", *parts)
        table = pareto_search_table(search)
        words = f"{table.caption} The other cells are in data/cells.parquet, without their test scores. "
        self.add("table", "The front", self.table(table), quiet(words + self.teacher()))
        front = search.cells.filter("front").sort("value", "cell", descending=[True, False])
        best = front["cell"].to_list()
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
        self.frames["cells"] = search.cells
        self.leaders = [leaders.of_cell(row, "value", "low", "high") for row in front.iter_rows(named=True)]
        return answer
