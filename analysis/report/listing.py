"""Pages and renderers, found by listing their folders: each is one file, and no list names it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from analysis.report import pages, render
from analysis.report.page import ReportPage


def page_names() -> list[str]:
    """What `report` of a study, and so of its runs, can name."""
    return sorted(module.name for module in pkgutil.iter_modules(pages.__path__))


def page_named(name: str) -> type[ReportPage]:
    """The class `Page` of a file in `pages/`."""
    found: type[ReportPage] = importlib.import_module(f"{pages.__name__}.{name}").Page
    return found


def page_of(run: Mapping[str, Any]) -> type[ReportPage]:
    """The page that the run's study names; where it names none that suits the run, the one that stands in."""
    name = run.get("report")
    if name in page_names() and (named := page_named(name)).suits(run):
        return named
    each = map(page_named, page_names())
    return next(page for page in each if page.stands_in and page.suits(run))


def renderers() -> Iterator[ModuleType]:
    """The files of `render/` whose `files(document)` gives content by path inside the report."""
    for module in pkgutil.iter_modules(render.__path__):
        found = importlib.import_module(f"{render.__name__}.{module.name}")
        if hasattr(found, "files"):
            yield found
