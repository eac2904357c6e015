"""The report in a real browser: nothing is asked for, nothing scrolls sideways, light and dark."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.report.write import write_report

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.browser
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[browser]")

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def synthetic() -> Any:
    """The maker of runs with planted effects that the unit tests use."""
    path = Path(__file__).parents[1] / "unit" / "analysis" / "synthetic.py"
    spec = importlib.util.spec_from_file_location("synthetic_runs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic_runs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["order ablation", "methods", "two objectives"])
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    if request.param == "order ablation":
        synthetic().ablation(folder, failed=[("1+2", 0)], missing=[("C", 4)])
    elif request.param == "methods":
        printed = {"table": "Tab. 1", "method": "KD", "dataset": "CIFAR-100", "arm": "kd"}
        synthetic().methods(
            folder, tests=(None, 8), sides=(32, 16, 8), failed=[("at", 0)], seeds=(0, 1), published=[printed]
        )
    else:
        synthetic().pareto_search(folder)
    return write_report(folder, folder / "report").index


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_reads_without_script_request_or_sideways_scrolling(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=True
    )
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(page_file.as_uri())
    outside = [url for url in asked if not url.startswith("data:") and url != page_file.as_uri()]
    assert not outside
    assert not complaints
    sizes = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert sizes[0] <= sizes[1], f"the page is {sizes[0]} wide in a window of {sizes[1]}"
    figures = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.alt.length])")
    assert figures and all(drawn > 0 and told > 0 for drawn, told in figures)
    context.close()


def test_a_phone_shows_the_numbers_of_a_forest_without_scrolling_its_box(browser: Any, page_file: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto(page_file.as_uri())
    boxes = page.evaluate(
        "[...document.querySelectorAll('#findings figure')].filter(f => f.querySelector('source[media*=max-width]'))"
        ".map(f => { const box = f.querySelector('.scroll'); return [box.scrollWidth, box.clientWidth]; })"
    )
    if "forest" in page_file.read_text(encoding="utf-8"):
        assert boxes and all(inner <= outer for inner, outer in boxes), boxes
    context.close()


def test_the_page_has_no_script(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert "<script" not in text and "javascript:" not in text
