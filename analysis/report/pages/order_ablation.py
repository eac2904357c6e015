"""The page of a grid: a forest per panel, and of a factorial the effects of single levels and claims about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from analysis.claims.check import check
from analysis.claims.evidence import of_panel
from analysis.claims.verdict import Claim
from analysis.figures.drawing import Drawn
from analysis.figures.effects import effects
from analysis.figures.forest import forest
from analysis.figures.slim import slim_forest
from analysis.frames import order_ablation
from analysis.frames.factor import factor_of
from analysis.frames.order_ablation import Panel
from analysis.printed import points
from analysis.published import earlier
from analysis.report import leaders, wording
from analysis.report.blocks import Answer, Block, Heading, quiet
from analysis.report.page import MOST_PANELS, ReportPage
from analysis.report.tables import effects_table, effects_words, missing_cells, score_table


class Page(ReportPage):
    """Which levels help, or which cell is best."""

    stands_in = True

    @classmethod
    def suits(cls, run: Mapping[str, Any]) -> bool:
        return not run.get("sampled") and not run.get("arms")

    def body(self) -> Answer:
        panels = order_ablation.panels(self.run, self.cells, self.trials)
        shown = [panel for panel in panels if not panel.rows.filter(pl.col("n") > 0).is_empty()]
        self.factor = factor_of(self.run)
        factors = self.factor.levels
        names = [f"_{index + 1}" if len(panels) > 1 else "" for index in range(len(panels))]
        number = {id(panel): name for panel, name in zip(panels, names, strict=True)}
        checked = [self.claims(panel) if factors else [] for panel in shown]
        answers = [wording.ablation_answer(p, c) for p, c in zip(shown, checked, strict=True)][:MOST_PANELS]
        self.top(answers, panels)
        parts: list[Block] = []
        if len(shown) > MOST_PANELS:
            parts.append(quiet(f"The {MOST_PANELS} first of {len(shown)} settings are drawn; all are in the tables."))
        for panel in shown[:MOST_PANELS]:
            parts.append(self.figure(self.forest(panel, f"forest{number[id(panel)]}", factors)))
        self.add("findings", f"Which {self.factor.plural} help" if factors else "Gain by cell", *parts)
        parts = []
        for panel in panels:
            table = score_table(panel, f"cells{number[id(panel)]}", f"{self.factor.noun} set" if factors else "cell")
            table = self.table(table)
            if panel in shown[:MOST_PANELS] or panel.rows["n"].sum() == 0:
                parts += [Heading(panel.title), table]
        parts.append(quiet(self.teacher()))
        self.add("table", f"All {self.factor.noun} sets" if factors else "All cells", *parts)
        if factors:
            self.effects(shown[:MOST_PANELS], number)
            pairs = zip(shown, checked, strict=True)
            self.claim_section([(p.title if len(shown) > 1 else "", c) for p, found in pairs for c in found])
        else:
            self.left_out.append("Effects of single factors: the study has no on/off factors.")
        self.curves(*self.grid_groups(shown[0]))
        self.numbers["panels"] = [
            {
                "title": p.title,
                "reference": p.baseline,
                "holm_tests": p.tests,
                "rows": p.printed.to_dicts(),
                "detectable": wording.detectable_gains(p),
            }
            for p in panels
        ]
        titled = [p.printed.with_columns(pl.lit(p.title).alias("setting")) for p in panels]
        self.frames["cells"] = pl.concat(titled, how="diagonal")
        ranked = shown[0].rows.sort("mean", descending=True, nulls_last=True)
        self.leaders = [
            leaders.of_cell(row, "mean", "gain_low", "gain_high", compared=True) | {"reference": row["reference"]}
            for row in ranked.iter_rows(named=True)
        ]
        return answers[0]

    def claims(self, panel: Panel) -> list[Claim]:
        data_name = str((self.run.get("data") or {}).get("name") or "unknown data")
        evidence = of_panel(panel.trials, self.factor, data_name, earlier.paper_data(self.run))
        return check(evidence, earlier.claims(self.run))

    def forest(self, panel: Panel, name: str, factors: Sequence[str] | None) -> Drawn:
        paired = panel.baseline is not None
        seeds = int(panel.rows["n"].max() or 0)  # type: ignore[arg-type]
        question = self.factor.title if factors else "Which cell is best?"
        size = self.run.get("data") or {}
        where = panel.title or (f"{size['height']}×{size['width']} images" if size.get("height") else "")
        title = "  ".join(
            part for part in (question, ", ".join(p for p in (where, _seeds(seeds, paired)) if p)) if part
        )
        if paired:
            caption = "Gain over the reference under the same seed. Bar: 95% t-interval over seeds"
        else:
            caption = f"{panel.measure.title}; no reference has a result, so no gain. Bar: 95% t-interval over seeds"
        caption += f", n={seeds} at most." if seeds > 1 else "; with one seed there is none."
        if factors:
            caption += f" Filled squares: the {self.factor.plural} that are on."
            caption += f" {self.factor.note}" if self.factor.note else ""
        alt = wording.ablation_answer(panel).headline
        drawn = forest(panel, name=name, title=title, factors=factors, caption=caption, alt=alt)
        return replace(drawn, slim=slim_forest(panel, title=title, factors=factors))

    def effects(self, panels: Sequence[Panel], number: dict[int, str]) -> None:
        parts: list[Block] = []
        printed = []
        for panel in panels:
            result = panel.effects
            if result is None or not result.effects:
                note = result.note if result else ""
                parts.append(quiet(f"{panel.title + ': ' if panel.title else ''}No effects: {note}."))
                continue
            suffix = number[id(panel)]
            words = effects_words(result, self.factor)
            heads = ", ".join(
                f"{self.factor.effect(e.factors)} {points(e.mean)}" for e in result.effects if len(e.factors) == 1
            )
            caption = f"Bar: 95% t-interval over seeds, n={len(result.seeds)}. " + words
            title = f"What each {self.factor.noun} adds, and where two overlap" + (
                f": {panel.title}" if panel.title else ""
            )
            drawn = effects(
                result,
                self.factor,
                words=panel.measure.words,
                name=f"effects{suffix}",
                title=title,
                caption=caption,
                alt=f"Main effects in points: {heads}.",
            )
            parts.append(self.figure(drawn, 600))
            frame = drawn.frames[f"effects{suffix}"]
            self.table(effects_table(frame, f"effects{suffix}"))
            printed.append(
                {
                    "title": panel.title,
                    "method": result.method,
                    "seeds": list(result.seeds),
                    "note": result.note,
                    "missing": missing_cells(result, self.factor),
                    "effects": frame.to_dicts(),
                }
            )
        self.numbers["effects"] = printed
        if not printed:
            self.left_out.append(
                f"What each {self.factor.noun} adds: too few cells have results to tell the effects apart."
            )
            return
        many = self.factor.plural
        plain = f"Averaged over the other {many}, so every run counts in every effect. A negative interaction "
        plain += f"means that two {many} overlap: together they add less than the sum of what each adds."
        self.add("effects", f"What each {self.factor.noun} adds", quiet(plain), *parts)

    def grid_groups(self, panel: Panel) -> tuple[str | None, dict[str, str], list[str]]:
        """The cell whose loss terms are shown (most terms, highest mean), and groups of cells by size."""
        done = panel.rows.filter(pl.col("n") > 0)
        ranked = done.sort("terms", "mean", descending=True, nulls_last=True)
        if panel.rows["terms"].null_count() < panel.rows.height:
            groups = {
                r["cell"]: self.factor.count(r["terms"]) for r in done.iter_rows(named=True) if r["terms"] is not None
            }
            sizes = sorted({t for t in done["terms"] if t is not None})
            return ranked["cell"][0], groups, [self.factor.count(t) for t in sizes]
        top = done.sort("mean", descending=True, nulls_last=True).head(5)
        return (
            top["cell"][0],
            dict(zip(top["cell"], top["label"], strict=True)),
            top["label"].unique(maintain_order=True).to_list(),
        )


def _seeds(n: int, paired: bool) -> str:
    return f"{n} {'paired ' if paired else ''}seed{'' if n == 1 else 's'}"
