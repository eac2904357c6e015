"""The page of a study that compares methods: at equal epochs and at equal compute, over resolutions and networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from analysis.claims.check import check
from analysis.claims.evidence import ArmEvidence
from analysis.figures import matrix as figures_matrix
from analysis.figures import orders as figures_orders
from analysis.figures import pareto as figures_pareto
from analysis.figures import resolution as figures_resolution
from analysis.figures import slim as figures_slim
from analysis.figures.drawing import Drawn
from analysis.frames import methods, pareto, resolutions
from analysis.frames.arms import FLOOR, arms_of, our_arm, reference_arm
from analysis.frames.methods import Setting
from analysis.frames.order_ablation import Panel
from analysis.load import native_side
from analysis.published import reading as published
from analysis.report import wording_methods
from analysis.report.pages import methods_tables as made
from analysis.report.pages.shared import MOST_PANELS, ReportPage
from analysis.report.render import html as page
from analysis.report.render import terminal as terminal_rows
from analysis.report.render.table import Table, percent, points
from analysis.report.wording import Answer, detectable_gains

MOST_OPEN = 4  # Tables; those of further settings are folded.
MOST_ROWS = 30  # Of an open table across settings.


class MethodsPage(ReportPage):
    """Which method is better, and by how much."""

    def body(self) -> Answer:
        self.arms = arms_of(self.run, self.trials)
        self.settings = methods.settings(self.run, self.cells, self.trials)
        self.reference = reference_arm(self.run, self.arms)
        self.looks = figures_resolution.arm_looks(self.arms, self.reference)
        self.beside = published.beside(self.run, self.settings, made.titles(self.arms))
        answer = wording_methods.answer(self.settings, self.arms)
        shown = [s for s in self.settings if s.rows.filter(pl.col("n") > 0).height]
        cautions = wording_methods.cautions(self.run, self.settings, self.arms)
        floors = [arm.name for arm in self.arms.values() if arm.kind == FLOOR]
        scored = self.trials.filter(~pl.col("arm").is_in(floors).fill_null(False))
        self.top([answer], [methods.panel(s) for s in shown], cautions, scored)
        self.findings(shown)
        self.tables()
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

    def findings(self, shown: Sequence[Setting]) -> None:
        parts = []
        if len(shown) > MOST_PANELS:
            words = f"The {MOST_PANELS} first of {len(shown)} settings are drawn; all are in the tables."
            parts.append(page.paragraph(words, "quiet"))
        for setting in shown[:MOST_PANELS]:
            panel = methods.panel(setting)
            if panel.rows.filter(pl.col("n") > 0).height:
                parts.append(self.draw(self.forest(setting, panel)))
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
        drawn = figures_orders.forest(
            panel,
            name=f"forest{self._suffix(setting)}",
            title=title,
            factors=None,
            caption=caption,
            alt=f"Mean {setting.measure.words} and gain in points: {', '.join(told)}.",
        )
        return replace(drawn, slim=figures_slim.forest(panel, title=title, factors=None))

    def chance(self, setting: Setting) -> float | None:
        """The evaluations say; without them a classification's is one over its classes."""
        told = setting.rows["chance"].drop_nulls()
        if len(told):
            return float(told[0])
        classes = (self.run.get("data") or {}).get("classes")
        plain = str(self.run.get("task") or "classification") == "classification"
        return 1 / classes if plain and isinstance(classes, int) and classes > 0 else None

    def tables(self) -> None:
        parts = []
        for index, setting in enumerate(self.settings):
            table = made.methods_table(setting, f"methods{self._suffix(setting)}", chance=self.chance(setting))
            html = f'<div class="fit">{self.folder.table(table)}</div>' + page.paragraph(table.caption, "quiet")
            if index < MOST_OPEN:
                parts += [f"<h3>{page.text(setting.title)}</h3>" if setting.title else "", html]
            else:
                parts.append(page.folded(setting.title, html))
        if lacking := wording_methods.without_control(self.settings, self.arms):
            parts.append(page.paragraph(lacking, "quiet"))
        self.add("table", "All methods", *parts, page.paragraph(self.teacher(), "quiet"))
        table = made.networks_table(self.settings, str(self.run.get("tuned") or ""))
        html = f'<div class="fit">{self.folder.table(table)}</div>'
        self.add("networks", "What each method trains", self.long(table, html), page.paragraph(table.caption, "quiet"))

    def long(self, table: Table, html: str) -> str:
        """The table, folded when it would push everything below it off the screen."""
        return page.folded(f"{len(table.rows)} rows", html) if len(table.rows) > MOST_ROWS else html

    def measures(self) -> None:
        self.numbers_of = made.measure_frame(self.settings, self.run.get("task"))
        table = made.measures_table(self.numbers_of, self.measure)
        if table is None:
            self.left_out.append("Other metrics: the evaluations told none.")
            return
        html = f'<div class="fit">{self.folder.table(table)}</div>'
        self.add("measures", "Other metrics", self.long(table, html), page.paragraph(table.caption, "quiet"))

    # Across settings.

    def claims(self) -> None:
        evidence = ArmEvidence(
            settings=self.settings,
            arms=self.arms,
            native=native_side(self.run),
            on=published.data_words(self.run),
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
        table = made.published_table(found, str(self.run.get("paper") or "the paper"))
        words = [table.caption]
        if any(item.data == "other data" and not item.exact and item.ours.n for item in found):
            words.append("On other data sides are matched by their share of the largest one.")
        html = f'<div class="wrap wide">{self.folder.table(table)}</div>'
        self.add("paper", "Paper beside ours", html, page.paragraph(" ".join(words), "quiet"))

    def resolution(self) -> None:
        curves = resolutions.curves(self.settings, self.arms)
        if not curves:
            self.left_out.append("Resolution: every method was read at one side.")
            return
        parts = []
        for index, curve in enumerate(curves[:MOST_PANELS]):
            name = f"resolution_{index + 1}" if len(curves) > 1 else "resolution"
            parts.append(self.draw(self._resolution_figure(curve, name)))
        if len(curves) > MOST_PANELS:
            words = f"The {MOST_PANELS} first of {len(curves)} networks are drawn; all are in the table."
            parts.append(page.paragraph(words, "quiet"))
        table = made.resolution_table([(curve.title, curve.rows) for curve in curves], self.measure)
        html = f'<div class="fit">{self.folder.table(table)}</div>'
        parts += [self.long(table, html), page.paragraph(table.caption, "quiet")]
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
        return figures_resolution.resolution(
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
        if len(names) > figures_matrix.MOST_ARMS:
            caption += f" In the CSV only: {', '.join(names[figures_matrix.MOST_ARMS :])}."
        told = [
            f"{r['label']} trained at {r['trained']}, tested at {r['tested']}: {percent(r['mean'])}"
            for r in rows.head(12).iter_rows(named=True)
        ]
        drawn = figures_matrix.matrix(
            rows,
            self.measure,
            name="cross_evaluation",
            title="Trained at one resolution, tested at another",
            caption=caption,
            alt=f"{self.measure.title} in percent. {'; '.join(told)}{' and more' if rows.height > 12 else ''}.",
        )
        table = made.matrix_table(rows, self.measure)
        listed = page.folded("The same as a table", self.folder.table(table))
        self.add("cross-evaluation", "Cross-evaluation", self.draw(drawn), listed)

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
        drawn = figures_pareto.pareto(
            frame,
            self.looks,
            costs,
            name="pareto",
            words=self.measure.words,
            title="What the score costs",
            caption=caption,
            alt=f"Front by {pareto.COSTS[costs[0]]}, cheapest first: {'; '.join(told)}.",
        )
        parts = [self.draw(drawn)]
        for cost in costs:
            table = made.front_table(frame, cost, self.measure)
            parts += [self.folder.table(table), page.paragraph(table.caption, "quiet")]
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
        self.frames(pl.concat(named) if named else pl.DataFrame(schema=methods.ROW_SCHEMA))
        for setting in self.settings:
            beside = terminal_rows.beside_score(self.run, setting, self.numbers_of)
            several = len(self.settings) > 1
            self.summary_rows += terminal_rows.of_setting(setting, several, beside, self.chance(setting))
