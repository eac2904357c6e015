"""What every page has, whatever its study asks: head, learning curves, cost, failures, method, environment."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.claims.verdict import Claim
from analysis.figures import curves as figures_curves
from analysis.figures.drawing import Drawn
from analysis.frames import curves, measures
from analysis.frames.arms import UNTESTED, arms_of
from analysis.frames.factor import factor_of
from analysis.frames.order_ablation import Panel
from analysis.load import RunData, cell_table
from analysis.report import wording
from analysis.report.cautions import cautions
from analysis.report.commands import portable
from analysis.report.folder import Folder
from analysis.report.method import method
from analysis.report.render import html as page
from analysis.report.render.table import Column, Table, percent, to_html
from analysis.report.sharing import capped
from analysis.report.tables import claims_table, cost_by_stage
from analysis.report.wording import Answer
from analysis.statistics import intervals as statistics

REPORT_SCHEMA = 1
MOST_PANELS = 4
MOST_FAILURES = 20


class ReportPage:
    """The page in the making: sections in order, their anchors, and the numbers printed."""

    score = "test"  # Of which split the summary's means are.

    def __init__(self, *, data: RunData, trials: pl.DataFrame, folder: Folder) -> None:
        self.data, self.run, self.trials, self.folder = data, data.run, trials, folder
        self.measure = measures.of_run(data.run)
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

    def top(
        self,
        answers: Sequence[Answer],
        panels: Sequence[Panel],
        first: Sequence[str] = (),
        scored: pl.DataFrame | None = None,
    ) -> None:
        """The answers, tiles and cautions; `first` are cautions of this kind of page."""
        tiles = wording.tiles(self.data, self.trials, panels, self.cost, scored)
        self.cautions = [*first, *cautions(self.data, self.trials, panels)]
        self.head = [page.answer(answer.headline, answer.rest) for answer in answers]
        self.head += [page.tiles(tiles), page.care(self.cautions)]
        self.numbers.update(
            sentence=answers[0].sentence,
            answers=[answer.sentence for answer in answers],
            tiles=[{"value": value, "words": words} for value, words in tiles],
            read_with_care=self.cautions,
        )

    def body(self) -> Answer:
        """Fill the page with what its kind of study has; returns the answer."""
        raise NotImplementedError

    def claim_section(self, rows: Sequence[tuple[str, Claim]]) -> None:
        """The claims of the paper with their settings ('' where there is only one)."""
        self.numbers["claims"] = [{"setting": title, **claim.as_dict()} for title, claim in rows]
        html = f'<div class="wrap">{self.folder.table(claims_table(rows))}</div>'
        self.add("claims", "Claims checked", html)

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
        logged = curves.read(self.data, cell or "", groups, self.measure.name)
        terms, validation = logged.terms, logged.validation
        if terms.is_empty() and validation.is_empty():
            self.left_out.append("Learning curves: the records hold no history.")
            return
        labels = dict(self.cells.select("cell", "label").iter_rows())
        label = label or labels.get(cell or "", cell or "")
        words = measures.measure(
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
        drawn = figures_curves.curves(
            terms,
            validation,
            name="curves",
            cell=label,
            groups=order,
            words=words,
            looks=looks,
            caption=caption,
            alt=alt,
        )
        self.add("curves", "Learning curves", self.draw(drawn))

    def frames(self, cells: pl.DataFrame) -> None:
        trials = self.trials.rename({"levels": factor_of(self.run).column})
        for name, frame in (("trials", trials), ("cells", cells)):
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
            test_data=run.get("test_data"),
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
        if tested := (run.get("test_data") or {}).get("name"):
            words.append(f"tested on {tested}")
        words += [
            f"preset {run['preset']}" if run.get("preset") else None,
            str(run.get("started") or "")[:10],
        ]
        return " · ".join(str(word) for word in words if word)

    def cost_section(self) -> None:
        columns = [Column(heading="stage", number=False), Column(heading="count")]
        columns += [Column(heading=h, show=wording.duration) for h in ("wall time", "CPU time", "mean wall time")]
        rows = [
            tuple(row)
            for row in self.cost.select("stage", "count", "seconds", "cpu_seconds", "mean_seconds").iter_rows()
        ]
        caption = "Distinct stages with a record; one that several trials share is counted once."
        table = Table(name="cost", caption=caption, columns=columns, rows=rows)
        self.numbers["cost"] = self.cost.to_dicts()
        self.add("cost", "Cost", self.folder.table(table), page.paragraph(caption, "quiet"))

    def failure_section(self) -> None:
        bad = self.data.records.filter(pl.col("status").is_in(["failed", "unrunnable"]))
        nonfinite = self.trials.filter(pl.col("error_type") == "NonFinite", pl.col("failed_stage") == "evaluation")
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
            dict(zip(("stage", "cells", "seed", "status", "message", "log"), row, strict=True)) for row in rows
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
        table = Table(name="environment", caption="Versions and numerics of the run.", columns=columns, rows=rows)
        self.add("environment", "Environment", f'<div class="wrap">{to_html(table)}</div>')

    def reproduce_section(self) -> None:
        run = self.run
        commands = [str(c.get("command") if isinstance(c, dict) else c) for c in run.get("commands") or []]
        commands = [portable(command) for command in commands]
        seeds = run.get("seeds") or sorted(set(self.trials["seed"]))
        facts = [
            f"Seeds: {', '.join(map(str, seeds))}.",
            f"Revision: {run.get('revision') or 'not recorded'}.",
        ]
        data = run.get("data") or {}
        for title, part in (("Data", data), ("Tested", run.get("test_data") or {})):
            if part.get("fingerprint"):
                facts.append(f"{title}: {part.get('name')}, fingerprint {part['fingerprint']}.")
        if run.get("run"):
            facts.append(f"Run: {run['run']}.")
        self.numbers["reproduce"] = {
            "commands": commands,
            "seeds": list(seeds),
            "revision": run.get("revision"),
        }
        parts = [page.lines(commands)] if commands else [page.paragraph("The run recorded no command.", "quiet")]
        if parameters := run.get("parameters"):
            shown = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(parameters.items())]
            parts.append(f"<details><summary>{len(shown)} parameters</summary>{page.lines(shown)}</details>")
        self.add("reproduce", "Reproduce", *parts, page.paragraph(" ".join(facts), "quiet"))


def _plain(value: Any) -> Any:
    """JSON knows no NaN; a number that is none becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
