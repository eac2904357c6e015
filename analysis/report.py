"""Writes a run's report: one HTML page with everything inlined, and beside it figures, tables and data.

The page, the tables and the pictures come from the same frames, so they cannot disagree. Equal records give
equal
bytes: no clock is read, dates come from the run.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from analysis import claims as claims_module
from analysis import (
    curves,
    figures_curves,
    figures_orders,
    figures_search,
    order_ablation,
    page,
    statistics,
    weight_search,
    wording,
)
from analysis.claims import Claim
from analysis.errors import NothingToReport
from analysis.figures import Drawn
from analysis.load import RunData, cell_table, load_run, trial_table
from analysis.method import method
from analysis.order_ablation import Panel
from analysis.report_tables import (
    MOST_SAMPLED,
    accuracy_table,
    cost_by_stage,
    effects_table,
    effects_words,
    missing_cells,
    search_table,
)
from analysis.sharing import capped, shareable
from analysis.tables import Column, Table, percent, points, to_html, write_table
from analysis.weight_search import Search
from analysis.wording import Answer

REPORT_SCHEMA = 1
MOST_PANELS = 4
MOST_FAILURES = 20


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """What the command line says after writing a report."""

    sentence: str
    rows: list[
        dict[str, Any]
    ]  # `cell`, `mean`, `gain`, `low`, `high`, `p`, `n`: the best first, as fractions.
    index: Path
    trials: int
    finished: int
    failed: int
    missing: int
    pruned: int
    score: str = "test"  # Of which split `mean` is: drawn cells are compared on validation.
    cautions: list[str] = field(default_factory=list)


@dataclass
class _Folder:
    """Files to be, by path inside the report."""

    files: dict[str, bytes] = field(default_factory=dict)

    def text(self, path: Path, content: str) -> None:
        self.files[path.as_posix()] = content.encode()

    def add(self, path: str, content: bytes) -> None:
        self.files[path] = content

    def figure(self, drawn: Drawn) -> None:
        for suffix, content in drawn.files.items():
            self.add(f"figures/{drawn.name}.{suffix}", content)
        for stem, frame in drawn.frames.items():
            self.add(f"figures/{stem}.csv", frame.write_csv().encode())

    def table(self, table: Table) -> str:
        write_table(table, Path("tables"), self.text)
        return to_html(table)

    def publish(self, folder: Path) -> None:
        """Each file appears whole, the page last; files that only an earlier report wrote are removed."""
        before = _files_of(folder)
        for path in sorted(self.files, key=lambda name: (name == "index.html", name)):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                aside.write_bytes(self.files[path])
                os.replace(aside, target)
            finally:
                aside.unlink(missing_ok=True)
        for path in before - set(self.files):
            (folder / path).unlink(missing_ok=True)


def _files_of(folder: Path) -> set[str]:
    """What an earlier report in this folder says it wrote, and nothing outside of it."""
    try:
        listed = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    kinds = ("figures/", "tables/", "data/")
    return {name for name in listed if isinstance(name, str) and name.startswith(kinds) and ".." not in name}


def write_report(run_folder: Path, out_folder: Path) -> ReportSummary:
    """Write the report of a run into `out_folder`.

    Raises:
        NothingToReport: If the run has no finished trial.
    """
    data = shareable(load_run(Path(run_folder)))
    trials = trial_table(data)
    count = {s: int((trials["status"] == s).sum()) for s in ("completed", "failed", "pruned", "missing")}
    if not count["completed"]:
        raise NothingToReport(_nothing(data, trials, count))
    folder = _Folder()
    report = _Report(data=data, trials=trials, folder=folder)
    sampled = bool(data.run.get("sampled"))
    summary = report.sampled() if sampled else report.grid()
    report.finish()
    target = Path(out_folder)
    folder.publish(target)
    return ReportSummary(
        sentence=summary.sentence,
        rows=report.summary_rows,
        index=target / "index.html",
        trials=trials.height,
        finished=count["completed"],
        failed=count["failed"],
        missing=count["missing"],
        pruned=count["pruned"],
        score="validation" if sampled else "test",
        cautions=report.cautions,
    )


def _nothing(data: RunData, trials: pl.DataFrame, count: dict[str, int]) -> str:
    name = data.run.get("run") or data.folder.name
    states = f"{trials.height} asked, {count['failed']} failed, {count['missing']} missing"
    words = f"{name} has no finished trial yet ({states})."
    if data.unreadable:
        words += f" {len(data.unreadable)} of {data.files_listed} record files could not be read."
    failed = trials.filter(pl.col("status") == "failed", pl.col("error").is_not_null())
    if failed.height:
        row = failed.row(0, named=True)
        words += f" First failure ({row['failed_stage']}): {capped(row['error'], 200)}"
    return words


class _Report:
    """The page in the making: sections in order, their anchors, and the numbers printed."""

    def __init__(self, *, data: RunData, trials: pl.DataFrame, folder: _Folder) -> None:
        self.data, self.run, self.trials, self.folder = data, data.run, trials, folder
        self.cells = cell_table(data.run)
        self.sections: list[tuple[str, str, str]] = []  # Anchor, heading, HTML.
        self.head: list[str] = []
        self.left_out: list[str] = []
        self.numbers: dict[str, Any] = {}
        self.summary_rows: list[dict[str, Any]] = []
        self.cautions: list[str] = []
        self.figures = 0
        self.cost = cost_by_stage(data.records.lazy()).collect()

    def add(self, anchor: str, heading: str, *parts: str) -> None:
        self.sections.append((anchor, heading, page.section(anchor, heading, *parts)))

    def draw(self, drawn: Drawn, least: int = 760) -> str:
        self.figures += 1
        self.folder.figure(drawn)
        return page.figure(drawn, self.figures, least)

    def top(self, answers: Sequence[Answer], panels: Sequence[Panel]) -> None:
        tiles = wording.tiles(self.data, self.trials, panels, self.cost)
        self.cautions = wording.cautions(self.data, self.trials, panels)
        self.head = [page.answer(answer.headline, answer.rest) for answer in answers]
        self.head += [page.tiles(tiles), page.care(self.cautions)]
        self.numbers.update(
            sentence=answers[0].sentence,
            answers=[answer.sentence for answer in answers],
            tiles=[{"value": value, "words": words} for value, words in tiles],
            read_with_care=self.cautions,
        )

    # A grid: one forest per panel.

    def grid(self) -> Answer:
        panels = order_ablation.panels(self.run, self.cells, self.trials)
        shown = [panel for panel in panels if not panel.rows.filter(pl.col("n") > 0).is_empty()]
        rest = len(shown) - MOST_PANELS
        factors = self.run.get("factors")
        names = [f"_{index + 1}" if len(panels) > 1 else "" for index in range(len(panels))]
        number = {id(panel): name for panel, name in zip(panels, names, strict=True)}
        checked = [self.claims(panel) if factors else [] for panel in shown]
        answers = [wording.ablation_answer(p, c) for p, c in zip(shown, checked, strict=True)][:MOST_PANELS]
        self.top(answers, panels)
        parts = (
            [
                page.paragraph(
                    f"The {MOST_PANELS} first of {len(shown)} settings are drawn; all are in the tables.",
                    "quiet",
                )
            ]
            if rest > 0
            else []
        )
        for panel in shown[:MOST_PANELS]:
            parts.append(self.draw(self.forest(panel, f"forest{number[id(panel)]}", factors)))
        self.add("findings", "Which orders help" if factors else "Gain by cell", *parts)
        parts = []
        for panel in panels:
            table = accuracy_table(panel, f"cells{number[id(panel)]}", "order set" if factors else "cell")
            html = self.folder.table(table)
            if panel in shown[:MOST_PANELS] or panel.rows["n"].sum() == 0:
                parts += [f"<h3>{page.text(panel.title)}</h3>" if panel.title else "", html]
        parts.append(page.paragraph(self.teacher(), "quiet"))
        self.add("table", "All order sets" if factors else "All cells", *parts)
        if factors:
            self.effects(shown[:MOST_PANELS], number)
            self.claim_section(shown, checked)
        else:
            self.left_out.append("Effects of single factors: the study has no on/off factors.")
        self.curves(*self.grid_groups(shown[0]))
        self.numbers["panels"] = [
            {
                "title": p.title,
                "reference": p.baseline,
                "holm_tests": p.tests,
                "rows": p.rows.to_dicts(),
                "detectable": wording.detectable_gains(p),
            }
            for p in panels
        ]
        self.frames(
            pl.concat([p.rows.with_columns(pl.lit(p.title).alias("setting")) for p in panels], how="diagonal")
        )
        ranked = shown[0].rows.sort("mean", descending=True, nulls_last=True)
        self.summary_rows = [
            {
                "cell": r["label"],
                "mean": r["mean"],
                "gain": r["gain"],
                "low": r["gain_low"],
                "high": r["gain_high"],
                "p": r["p_holm"],
                "n": r["n"],
            }
            for r in ranked.iter_rows(named=True)
        ]
        return answers[0]

    def claims(self, panel: Panel) -> list[Claim]:
        data_name = str((self.run.get("data") or {}).get("name") or "unknown data")
        return claims_module.check(panel.trials, data_name, self.run.get("claims") or ())

    def forest(self, panel: Panel, name: str, factors: Sequence[str] | None) -> Drawn:
        paired = panel.baseline is not None
        seeds = int(panel.rows["n"].max() or 0)  # type: ignore[arg-type]
        question = "Which relation orders help?" if factors else "Which cell is best?"
        size = self.run.get("data") or {}
        where = panel.title or (f"{size['height']}×{size['width']} images" if size.get("height") else "")
        title = "  ".join(
            part for part in (question, ", ".join(p for p in (where, _seeds(seeds, paired)) if p)) if part
        )
        if paired:
            caption = "Gain over the reference under the same seed. Bar: 95% t-interval over seeds"
        else:
            caption = "Accuracy; no reference has a result, so no gain. Bar: 95% t-interval over seeds"
        caption += f", n={seeds} at most." if seeds > 1 else "; with one seed there is none."
        if factors:
            caption += " Filled squares: the orders that are on."
            caption += " The paper gives no numbers for its Fig. 4, so none are shown."
        alt = wording.ablation_answer(panel).headline
        return figures_orders.forest(panel, name=name, title=title, factors=factors, caption=caption, alt=alt)

    def effects(self, panels: Sequence[Panel], number: dict[int, str]) -> None:
        parts: list[str] = []
        printed = []
        for panel in panels:
            result = panel.effects
            if result is None or not result.effects:
                note = result.note if result else ""
                parts.append(
                    page.paragraph(f"{panel.title + ': ' if panel.title else ''}No effects: {note}.", "quiet")
                )
                continue
            suffix = number[id(panel)]
            words = effects_words(result)
            heads = ", ".join(
                f"{figures_orders.effect_name(e.factors)} {points(e.mean)}"
                for e in result.effects
                if len(e.factors) == 1
            )
            caption = f"Bar: 95% t-interval over seeds, n={len(result.seeds)}. " + words
            title = "What each order adds, and where two overlap" + (
                f": {panel.title}" if panel.title else ""
            )
            drawn = figures_orders.effects(
                result,
                name=f"effects{suffix}",
                title=title,
                caption=caption,
                alt=f"Main effects in points: {heads}.",
            )
            parts.append(self.draw(drawn, 600))
            frame = drawn.frames[f"effects{suffix}"]
            self.folder.table(effects_table(frame, f"effects{suffix}"))
            printed.append(
                {
                    "title": panel.title,
                    "method": result.method,
                    "seeds": list(result.seeds),
                    "note": result.note,
                    "missing": missing_cells(result),
                    "effects": frame.to_dicts(),
                }
            )
        self.numbers["effects"] = printed
        if not printed:
            self.left_out.append(
                "What each order adds: too few cells have results to tell the effects apart."
            )
            return
        plain = "Averaged over the other orders, so every run counts in every effect. A negative interaction "
        plain += "means that two orders overlap: together they add less than the sum of what each adds."
        self.add("effects", "What each order adds", page.paragraph(plain, "quiet"), *parts)

    def claim_section(self, panels: Sequence[Panel], checked: Sequence[Sequence[Claim]]) -> None:
        rows = [(p.title, c) for p, found in zip(panels, checked, strict=True) for c in found]
        self.numbers["claims"] = [{"setting": title, **claim.as_dict()} for title, claim in rows]
        columns = [Column(heading="claim", number=False), Column(heading="test", number=False)]
        columns += [Column(heading="estimate", number=False), Column(heading="verdict", number=False)]
        columns += [Column(heading="seeds"), Column(heading="source", number=False)]
        body = [(c.claim, c.test, c.estimate, c.sentence, c.n, c.source) for _, c in rows]
        if len(panels) > 1:
            columns.insert(0, Column(heading="setting", number=False))
            body = [(title, *row) for (title, _), row in zip(rows, body, strict=True)]  # type: ignore[misc]
        caption = "Claims of the paper, checked on these data; 5% level, two-sided."
        table = Table(name="claims", caption=caption, columns=columns, rows=body)
        html = f'<div class="wrap">{self.folder.table(table)}</div>'
        self.add("claims", "Claims checked", html)

    def grid_groups(self, panel: Panel) -> tuple[str | None, dict[str, str], list[str]]:
        """The cell whose loss terms are shown (most terms, highest mean), and groups of cells by size."""
        done = panel.rows.filter(pl.col("n") > 0)
        ranked = done.sort("terms", "mean", descending=True, nulls_last=True)
        if panel.rows["terms"].null_count() < panel.rows.height:
            words = {0: "no distillation", 1: "1 order"}
            groups = {
                r["cell"]: words.get(r["terms"], f"{r['terms']} orders")
                for r in done.iter_rows(named=True)
                if r["terms"] is not None
            }
            sizes = sorted({t for t in done["terms"] if t is not None})
            return ranked["cell"][0], groups, [words.get(t, f"{t} orders") for t in sizes]
        top = done.sort("mean", descending=True, nulls_last=True).head(5)
        return (
            top["cell"][0],
            dict(zip(top["cell"], top["label"], strict=True)),
            top["label"].unique(maintain_order=True).to_list(),
        )

    # A sampled study: slices.

    def sampled(self) -> Answer:
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
        self.add("findings", "Accuracy against each weight", *parts)
        shown = self.folder.table(search_table(search))
        more = search.cells.height - MOST_SAMPLED
        note = (
            f"The best {MOST_SAMPLED} of {search.cells.height} cells; all are in data/cells.parquet. "
            if more > 0
            else ""
        )
        self.add(
            "table", "Cells by validation accuracy", shown, page.paragraph(note + self.teacher(), "quiet")
        )
        groups = {
            r["cell"]: r["status"]
            for r in search.cells.iter_rows(named=True)
            if r["status"] in ("completed", "pruned")
        }
        if search.best is not None:
            groups[search.best] = "chosen"
        self.curves(search.best, groups, ["chosen", "completed", "pruned"])
        self.left_out.append("Effects and claims of the order ablation: this study draws its cells.")
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

    # What both kinds have.

    def teacher(self) -> str:
        """The teachers' validation accuracy beside the students'."""
        seen = self.trials.filter(
            pl.col("teacher").is_not_null(), pl.col("teacher_validation_top1").is_not_null()
        )
        teachers = seen.unique("teacher", maintain_order=True).sort("teacher")["teacher_validation_top1"]
        students = self.trials.filter(pl.col("status") == "completed")["validation_top1"].drop_nulls()
        t, s = statistics.summarise(teachers), statistics.summarise(students)
        self.numbers["validation"] = {"teachers": vars(t), "students": vars(s)}
        if t.mean is None:
            return "The teacher's validation accuracy is not in the records."
        words = f"Teacher: {percent(t.mean)} % validation accuracy (n={t.n} teacher{'' if t.n == 1 else 's'})"
        return words + (
            f"; students: {percent(s.mean)} % over all cells (n={s.n})." if s.mean is not None else "."
        )

    def curves(self, cell: str | None, groups: dict[str, str], order: Sequence[str]) -> None:
        logged = curves.history_points(self.data.records.lazy()).collect().lazy()
        terms = curves.loss_terms(logged, cell or "").collect()
        validation = curves.validation_by_group(logged, groups).collect()
        if terms.is_empty() and validation.is_empty():
            self.left_out.append("Learning curves: the records hold no history.")
            return
        labels = dict(self.cells.select("cell", "label").iter_rows())
        label = labels.get(cell or "", cell or "")
        n = int(terms["n"].max() or 0)  # type: ignore[arg-type]
        caption = (
            f"Loss terms of {label}, mean of {n} seed{'' if n == 1 else 's'}, as computed and as weighted "
            "in the loss; "
            if n
            else ""
        )
        caption += "validation accuracy, mean over all trainings of a group. No interval is drawn."
        alt = f"Loss terms of {label} by epoch, and validation accuracy by epoch for {', '.join(order)}."
        drawn = figures_curves.curves(
            terms, validation, name="curves", cell=label, groups=order, caption=caption, alt=alt
        )
        self.add("curves", "Learning curves", self.draw(drawn))

    def frames(self, cells: pl.DataFrame) -> None:
        for name, frame in (("trials", self.trials), ("cells", cells)):
            target = io.BytesIO()
            frame.write_parquet(target)
            self.folder.add(f"data/{name}.parquet", target.getvalue())

    def finish(self) -> None:
        self.cost_section()
        self.failure_section()
        self.method_section()
        self.environment_section()
        self.reproduce_section()
        if self.left_out:
            self.add("left-out", "Left out", page.listing(self.left_out))
        run = self.run
        study = str(run.get("study") or "run")
        body = [f"<h1>{page.text(study)}</h1>", page.paragraph(self.subtitle(), "sub")]
        if run.get("question"):
            body.append(page.paragraph(str(run["question"]), "sub"))
        body.append(page.navigation([(anchor, heading) for anchor, heading, _ in self.sections]))
        body += self.head + [html for *_, html in self.sections]
        self.folder.text(Path("index.html"), page.page(title=f"{study}: report", body="\n".join(body)))
        count = self.trials["status"].value_counts().sort("status").rows()
        self.numbers.update(
            schema=REPORT_SCHEMA,
            run=run.get("run"),
            study=study,
            data=run.get("data"),
            preset=run.get("preset"),
            trials=dict(count),
            seeds=run.get("seeds"),
            left_out=self.left_out,
            records={
                "listed": self.data.files_listed,
                "read": self.data.files_read,
                "unreadable": self.data.unreadable,
                "odd": self.data.odd,
            },
            files=sorted([*self.folder.files, "report.json"]),
        )
        text = json.dumps(_plain(self.numbers), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        self.folder.text(Path("report.json"), text + "\n")

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
        words += [
            f"preset {run['preset']}" if run.get("preset") else None,
            str(run.get("started") or "")[:10],
        ]
        return " · ".join(str(word) for word in words if word)

    def cost_section(self) -> None:
        columns = [Column(heading="stage", number=False), Column(heading="count")]
        columns += [Column(heading=h, show=wording.duration) for h in ("time", "CPU time", "mean time")]
        rows = [
            tuple(row)
            for row in self.cost.select(
                "stage", "count", "seconds", "cpu_seconds", "mean_seconds"
            ).iter_rows()
        ]
        caption = "Distinct stages with a record; one that several trials share is counted once."
        table = Table(name="cost", caption=caption, columns=columns, rows=rows)
        self.numbers["cost"] = self.cost.to_dicts()
        self.add("cost", "Cost", self.folder.table(table), page.paragraph(caption, "quiet"))

    def failure_section(self) -> None:
        bad = self.data.records.filter(pl.col("status").is_in(["failed", "unrunnable"]))
        nonfinite = self.trials.filter(
            pl.col("error_type") == "NonFinite", pl.col("failed_stage") == "evaluation"
        )
        labels = dict(self.cells.select("cell", "label").iter_rows())
        rows = []
        for row in bad.sort("stage", "seed", "key").iter_rows(named=True):
            cells = ", ".join(labels.get(cell, cell) for cell in (row["cells"] or [])[:3])
            cells += f" and {len(row['cells']) - 3} more" if len(row["cells"] or []) > 3 else ""
            message = ": ".join(part for part in (row["error_type"], capped(row["error"])) if part)
            rows.append((row["stage"], cells, row["seed"], row["status"], message, row["log"]))
        for row in nonfinite.iter_rows(named=True):
            rows.append(("evaluation", row["label"], row["seed"], "failed", row["error"], row["log"]))
        self.numbers["failures"] = [
            dict(zip(("stage", "cells", "seed", "status", "message", "log"), row, strict=True))
            for row in rows
        ]
        if not rows:
            self.left_out.append("Failures: none.")
            return
        columns = [
            Column(heading="stage", number=False),
            Column(heading="cells", number=False),
            Column(heading="seed"),
        ]
        columns += [Column(heading=h, number=False) for h in ("status", "message", "log")]
        caption = "Stages that failed; trials that hang from them have no result."
        table = Table(name="failures", caption=caption, columns=columns, rows=rows[:MOST_FAILURES])
        more = f"{len(rows) - MOST_FAILURES} more are in report.json." if len(rows) > MOST_FAILURES else ""
        html = f'<div class="wrap">{self.folder.table(table)}</div>'
        self.add("failures", "Failures", html, page.paragraph(f"{caption} {more}".strip(), "quiet"))

    def method_section(self) -> None:
        self.add("method", "Method", page.listing(method(self.run)))

    def environment_section(self) -> None:
        versions = self.run.get("versions") or {}
        rows = [(str(name), str(value)) for name, value in sorted(versions.items())]
        for column in ("numerics", "device"):
            kinds = self.data.records[column].drop_nulls().value_counts().sort(column)
            rows += [(column, f"{value} ({count} stages)") for value, count in kinds.iter_rows()]
        self.numbers["environment"] = rows
        if not rows:
            self.left_out.append("Environment: the run recorded no versions.")
            return
        columns = [Column(heading="what", number=False), Column(heading="value", number=False)]
        table = Table(
            name="environment", caption="Versions and numerics of the run.", columns=columns, rows=rows
        )
        self.add("environment", "Environment", f'<div class="wrap">{to_html(table)}</div>')

    def reproduce_section(self) -> None:
        run = self.run
        commands = [str(c.get("command") if isinstance(c, dict) else c) for c in run.get("commands") or []]
        seeds = run.get("seeds") or sorted(set(self.trials["seed"]))
        facts = [
            f"Seeds: {', '.join(map(str, seeds))}.",
            f"Revision: {run.get('revision') or 'not recorded'}.",
        ]
        data = run.get("data") or {}
        if data.get("fingerprint"):
            facts.append(f"Data: {data.get('name')}, fingerprint {data['fingerprint']}.")
        if run.get("run"):
            facts.append(f"Run: {run['run']}.")
        self.numbers["reproduce"] = {
            "commands": commands,
            "seeds": list(seeds),
            "revision": run.get("revision"),
        }
        parts = (
            [page.lines(commands)] if commands else [page.paragraph("The run recorded no command.", "quiet")]
        )
        if parameters := run.get("parameters"):
            shown = [
                f"{name} = {json.dumps(value, ensure_ascii=False)}"
                for name, value in sorted(parameters.items())
            ]
            parts.append(f"<details><summary>{len(shown)} parameters</summary>{page.lines(shown)}</details>")
        self.add("reproduce", "Reproduce", *parts, page.paragraph(" ".join(facts), "quiet"))


def _seeds(n: int, paired: bool) -> str:
    return f"{n} {'paired ' if paired else ''}seed{'' if n == 1 else 's'}"


def _plain(value: Any) -> Any:
    """JSON knows no NaN; a number that is none becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
