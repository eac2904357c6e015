"""The page of a study that compares methods: at equal epochs and at equal compute, over resolutions and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from analysis.arm_kinds import FLOOR
from analysis.claims.check import check
from analysis.claims.evidence import ArmEvidence
from analysis.figures.drawing import Drawn
from analysis.figures.forest import forest
from analysis.figures.matrix import MOST_ARMS, matrix
from analysis.figures.pareto import score_against_cost
from analysis.figures.resolution import arm_looks, resolution
from analysis.figures.slim import slim_forest
from analysis.frames import methods, pareto, resolutions
from analysis.frames.arms import arms_of, our_arm, reference_arm
from analysis.frames.methods import Setting
from analysis.frames.order_ablation import Panel
from analysis.load import native_side
from analysis.printed import percent, points
from analysis.published.reading import beside, data_words
from analysis.report import leaders, tables_methods, wording_methods
from analysis.report.blocks import Answer, Block, Folded, Heading, Table, Together, quiet
from analysis.report.page import MOST_PANELS, ReportPage
from analysis.report.wording import detectable_gains

MOST_OPEN = 4  # Tables; those of further settings are folded.
MOST_ROWS = 30  # Of an open table across settings.


class Page(ReportPage):
    """Which method is better, and by how much."""

    stands_in = True

    @classmethod
    def suits(cls, run: Mapping[str, Any]) -> bool:
        return bool(run.get("arms")) and not run.get("sampled")

    def body(self) -> Answer:
        self.arms = arms_of(self.run, self.trials)
        self.settings = methods.settings(self.run, self.cells, self.trials)
        self.reference = reference_arm(self.run, self.arms)
        self.looks = arm_looks(self.arms, self.reference)
        self.beside = beside(self.run, self.settings, tables_methods.titles(self.arms))
        answer = wording_methods.answer(self.settings, self.arms)
        shown = [s for s in self.settings if s.rows.filter(pl.col("n") > 0).height]
        cautions = wording_methods.cautions(self.run, self.settings, self.arms)
        floors = [arm.name for arm in self.arms.values() if arm.kind == FLOOR]
        scored = self.trials.filter(~pl.col("arm").is_in(floors).fill_null(False))
        self.top([answer], [methods.panel(s) for s in shown], cautions, scored)
        self.forests(shown)
        self.score_tables()
        self.measures()
        self.claims()
        self.paper()
        self.resolution()
        self.matrix()
        self.pareto()
        self.arm_curves(shown)
        self.left_out.append("Effects of single factors: this study compares methods.")
        self.keep()
        return answer

    def _suffix(self, setting: Setting) -> str:
        return f"_{self.settings.index(setting) + 1}" if len(self.settings) > 1 else ""

    # One setting.

    def forests(self, shown: Sequence[Setting]) -> None:
        parts: list[Block] = []
        if len(shown) > MOST_PANELS:
            words = f"The {MOST_PANELS} first of {len(shown)} settings are drawn; all are in the tables."
            parts.append(quiet(words))
        for setting in shown[:MOST_PANELS]:
            panel = methods.panel(setting)
            if panel.rows.filter(pl.col("n") > 0).height:
                parts.append(self.figure(self.forest(setting, panel)))
        self.add("findings", "Which method is better", *parts)

    def forest(self, setting: Setting, panel: Panel) -> Drawn:
        seeds = int(panel.rows["n"].max() or 0)  # type: ignore[arg-type]
        paired = panel.baseline is not None
        count = f"{seeds} {'paired ' if paired else ''}seed{'' if seeds == 1 else 's'}"
        if paired:
            caption = "Gain over the reference at equal epochs, under the same seed. Bar: 95% t-interval over seeds"
        else:
            caption = (
                f"{setting.measure.title}; the reference has no result, so no gain. Bar: 95% t-interval over seeds"
            )
        caption += f", n={seeds} at most." if seeds > 1 else "; with one seed there is none."
        caption += " Floors are in the table." if (setting.rows["kind"] == FLOOR).any() else ""
        told = [
            f"{row['label']} {percent(row['mean'])} %" + ("" if row["gain"] is None else f" ({points(row['gain'])})")
            for row in panel.rows.filter(pl.col("n") > 0).iter_rows(named=True)
        ]
        title = f"Which method is better?  {', '.join(part for part in (setting.title, count) if part)}"
        drawn = forest(
            panel,
            name=f"forest{self._suffix(setting)}",
            title=title,
            factors=None,
            caption=caption,
            alt=f"Mean {setting.measure.words} and gain in points: {', '.join(told)}.",
        )
        return replace(drawn, slim=slim_forest(panel, title=title, factors=None))

    def chance(self, setting: Setting) -> float | None:
        """The evaluations say; without them a classification's is one over its classes."""
        told = setting.rows["chance"].drop_nulls()
        if len(told):
            return float(told[0])
        classes = (self.run.get("data") or {}).get("classes")
        return 1 / classes if self.words.known_classes and isinstance(classes, int) and classes > 0 else None

    def score_tables(self) -> None:
        parts: list[Block] = []
        for index, setting in enumerate(self.settings):
            table = tables_methods.methods_table(
                setting, f"methods{self._suffix(setting)}", chance=self.chance(setting)
            )
            told: list[Block] = [self.table(table, "fit"), quiet(table.caption)]
            parts += [Heading(setting.title), Together(told)] if index < MOST_OPEN else [Folded(setting.title, told)]
        if lacking := wording_methods.without_control(self.settings, self.arms):
            parts.append(quiet(lacking))
        self.add("table", "All methods", *parts, quiet(self.teacher()))
        table = tables_methods.networks_table(self.settings, str(self.run.get("tuned") or ""))
        self.add("networks", "What each method trains", self.long(table), quiet(table.caption))

    def long(self, table: Table) -> Block:
        """The table, folded when it would push everything below it off the screen."""
        shown = self.table(table, "fit")
        return Folded(f"{len(table.rows)} rows", [shown]) if len(table.rows) > MOST_ROWS else shown

    def measures(self) -> None:
        self.numbers_of = tables_methods.measure_frame(self.settings, self.words)
        table = tables_methods.measures_table(self.numbers_of, self.words, self.measure)
        if table is None:
            self.left_out.append("Other metrics: the evaluations told none.")
            return
        self.add("measures", "Other metrics", self.long(table), quiet(table.caption))

    # Across settings.

    def claims(self) -> None:
        evidence = ArmEvidence(
            settings=self.settings,
            arms=self.arms,
            native=native_side(self.run),
            on=data_words(self.run),
        )
        found = check(evidence, self.run.get("claims") or ())
        if not found:
            self.numbers["claims"] = []
            self.left_out.append("Claims: the study names none.")
            return
        self.claim_section([("", claim) for claim in found])

    def paper(self) -> None:
        found = self.beside
        self.numbers["published"] = [
            {
                "number": vars(item.number),
                "arm": item.arm,
                "where": item.where,
                "ours": vars(item.ours),
                "data": item.data,
                "difference": item.difference,
            }
            for item in found
        ]
        if not found:
            self.left_out.append("Paper beside ours: the study names no printed numbers.")
            return
        table = tables_methods.published_table(found, str(self.run.get("paper") or "the paper"))
        words = [table.caption]
        if any(item.data == "other data" and not item.exact and item.ours.n for item in found):
            words.append("On other data sides are matched by their share of the largest one.")
        self.add("paper", "Paper beside ours", self.table(table, "wide"), quiet(" ".join(words)))

    def resolution(self) -> None:
        curves = resolutions.curves(self.settings, self.arms)
        if not curves:
            self.left_out.append("Resolution: every method was read at one side.")
            return
        parts: list[Block] = []
        for index, curve in enumerate(curves[:MOST_PANELS]):
            name = f"resolution_{index + 1}" if len(curves) > 1 else "resolution"
            parts.append(self.figure(self._resolution_figure(curve, name)))
        if len(curves) > MOST_PANELS:
            words = f"The {MOST_PANELS} first of {len(curves)} networks are drawn; all are in the table."
            parts.append(quiet(words))
        table = tables_methods.resolution_table([(curve.title, curve.rows) for curve in curves], self.measure)
        parts += [self.long(table), quiet(table.caption)]
        self.numbers["resolution"] = [{"title": curve.title, "rows": curve.rows.to_dicts()} for curve in curves]
        self.add("resolution", "Resolution", *parts)

    def _resolution_figure(self, curve: resolutions.Curve, name: str) -> Drawn:
        n = int(curve.rows["n"].max() or 0)  # type: ignore[arg-type]
        caption = f"Mean {curve.measure.words} by what the networks read, n={n} at most. "
        caption += "On the right a gain is filled where it passes at 5%, adjusted for the methods of its side."
        hidden = sorted(set(curve.rows["arm"]) - set(self.looks))
        if hidden:
            caption += f" In the table only: {', '.join(self.arms[arm].title for arm in hidden)}."
        told = []
        for arm in curve.rows["arm"].unique(maintain_order=True):
            own = curve.rows.filter(arm=arm).sort("resolution")
            scores = (f"{percent(r['mean'])} at {r['resolution']}" for r in own.iter_rows(named=True))
            told.append(f"{own['label'][0]}: {', '.join(scores)}")
        reference = self.arms[self.reference].title if self.reference in self.arms else ""
        printed = sorted(
            {
                (item.side, item.number.value / 100, f"{item.number.table}, {item.number.method}")
                for item in self.beside
                if item.data != "other data" and item.exact and item.side and not item.number.metric.endswith("_error")
            }
        )
        if printed:
            sources = "; ".join(dict.fromkeys(source for *_, source in printed))
            where = f"{self.run.get('paper') or 'the paper'} ({sources})"
            caption += f" Crosses: printed in {where}, by another protocol than ours, so not a pair with it."
        title = "How the score falls with the resolution" + (f"  {curve.title}" if curve.title else "")
        return resolution(
            curve,
            self.looks,
            name=name,
            title=title,
            reference=reference,
            published=[(side, value) for side, value, _ in printed],
            caption=caption,
            alt=f"{curve.measure.title} in percent by side in pixels. {'; '.join(told)}.",
        )

    def matrix(self) -> None:
        rows = resolutions.cross_evaluation(self.settings, self.arms, self.cells, self.trials)
        self.numbers["cross_evaluation"] = rows.to_dicts()
        if rows.is_empty():
            self.left_out.append("Cross-evaluation: the networks were tested at the side they were trained at only.")
            return
        n = int(rows["n"].max() or 0)  # type: ignore[arg-type]
        caption = f"Mean {self.measure.words} over seeds, n={n} at most; no interval is drawn, the CSV has them. Test "
        caption += "images are reduced to the tested side and brought to what the network reads."
        names = rows["label"].unique(maintain_order=True).to_list()
        if len(names) > MOST_ARMS:
            caption += f" In the CSV only: {', '.join(names[MOST_ARMS:])}."
        told = [
            f"{r['label']} trained at {r['trained']}, tested at {r['tested']}: {percent(r['mean'])}"
            for r in rows.head(12).iter_rows(named=True)
        ]
        drawn = matrix(
            rows,
            self.measure,
            name="cross_evaluation",
            title="Trained at one resolution, tested at another",
            caption=caption,
            alt=f"{self.measure.title} in percent. {'; '.join(told)}{' and more' if rows.height > 12 else ''}.",
        )
        table = tables_methods.matrix_table(rows, self.measure)
        listed = Folded("The same as a table", [self.table(table)])
        self.add("cross-evaluation", "Cross-evaluation", self.figure(drawn), listed)

    def pareto(self) -> None:
        frame = pareto.points_of(self.settings)
        costs = [
            cost
            for cost in ("macs", "parameters_count")
            if frame.filter(pl.col(cost) > 0)[cost].n_unique() >= pareto.LEAST_COSTS
        ]
        if not costs:
            self.left_out.append("Score against cost: fewer than three different costs.")
            return
        front = pareto.with_front(frame, costs[0]).filter("front").sort(costs[0])
        told = [f"{row['label']} {row['setting']} {percent(row['mean'])} %" for row in front.iter_rows(named=True)]
        caption = (
            "Every method in every setting; picked on test, so read the front as a description. Ringed: on the front."
        )
        drawn = score_against_cost(
            frame,
            self.looks,
            costs,
            name="pareto",
            words=self.measure.words,
            title="What the score costs",
            caption=caption,
            alt=f"Front by {pareto.COSTS[costs[0]]}, cheapest first: {'; '.join(told)}.",
        )
        parts: list[Block] = [self.figure(drawn)]
        for cost in costs:
            table = tables_methods.front_table(frame, cost, self.measure)
            parts += [self.table(table), quiet(table.caption)]
        self.numbers["pareto"] = {cost: pareto.with_front(frame, cost).to_dicts() for cost in costs}
        self.add("pareto", "Score against cost", *parts)

    def arm_curves(self, shown: Sequence[Setting]) -> None:
        if not shown:
            return
        first = shown[0]
        trained = first.rows.filter(pl.col("n") > 0, ~pl.col("apart"))
        ours = our_arm(self.arms, trained["arm"].to_list())
        best = trained.filter("best")["arm"].to_list()
        names = [name for name in dict.fromkeys([ours, self.reference, *best, *trained["arm"]]) if name in first.cells]
        names = [name for name in names if name in set(trained["arm"])][:5]
        groups = {first.cells[name]: self.arms[name].title for name in names}
        told = self.arms[names[0]].title if names else None
        looks = {self.arms[n].title: (self.looks[n][0], self.looks[n][2]) for n in names if n in self.looks}
        cell = first.cells[names[0]] if names else None
        self.curves(cell, groups, list(groups.values()), label=told, looks=looks)

    def keep(self) -> None:
        self.numbers["settings"] = [
            {
                "title": setting.title,
                "values": dict(setting.values),
                "reference": setting.baseline,
                "holm_tests": setting.tests,
                "holm_tests_at_equal_compute": setting.compute_tests,
                "chance": self.chance(setting),
                "rows": setting.rows.to_dicts(),
                "detectable": detectable_gains(methods.panel(setting)),
            }
            for setting in self.settings
        ]
        self.numbers["measures"] = self.numbers_of.to_dicts()
        named = [s.rows.with_columns(pl.lit(s.title).alias("setting")) for s in self.settings]
        self.frames["cells"] = pl.concat(named) if named else pl.DataFrame(schema=methods.ROW_SCHEMA)
        for setting in self.settings:
            beside = leaders.beside_score(self.run, setting, self.numbers_of)
            several = len(self.settings) > 1
            self.leaders += leaders.of_setting(setting, several, beside, self.chance(setting))
