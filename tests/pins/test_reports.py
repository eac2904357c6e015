"""Reports of made-up runs, byte for byte in every file that is text.

Tables in Markdown are kept in full, so that a diff can be read; of the other files a digest is kept. Not held: PNG, PDF
and Parquet, whose bytes are their libraries'. SVG files, and the pictures inside the page, are held while matplotlib is of
the version that drew what is kept. Floats of twelve digits and more are cut to nine: their last ones differ between
processors.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from analysis.report.write import write_report

TESTS = Path(__file__).resolve().parents[1]
LIBRARIES = ("matplotlib", "seaborn", "fonttools")
PICTURE = re.compile(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+|<svg\b.*?</svg>", re.DOTALL)
LONG = re.compile(r"(?<![\w.])-?\d+\.\d{11,}(?:e[-+]?\d+)?")
TEXTS = (".html", ".md", ".tex", ".csv", ".json", ".txt", ".css", ".js", ".svg")
KINDS = ("grid", "methods", "verification", "search", "pareto")


def made_up() -> ModuleType:
    """The generator of runs that lies beside the tests of the analysis, wherever these are."""
    (path,) = TESTS.rglob("synthetic.py")
    spec = importlib.util.spec_from_file_location("made_up_runs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make(kind: str, folder: Path) -> None:
    runs = made_up()
    if kind == "grid":
        runs.ablation(folder, seeds=(0, 1, 2), failed=[("1+2", 1)], missing=[("C", 2)])
    elif kind == "methods":
        runs.methods(folder, seeds=(0, 1, 2), sides=(16, 8), tests=(None, 8), tunings=2, failed=[("at", 1)])
    elif kind == "verification":
        numbers = {"tpr_at_fpr_0.1": 0.8, "eer": 0.1, "auc": 0.95}
        options = {"sides": (16,), "seeds": (0, 1), "arms": ["ce", "kd", "horkd"]}
        runs.methods(folder, task="verification", metric="verification_accuracy", numbers=numbers, **options)
    elif kind == "search":
        runs.weight_search(folder, count=9, seeds=(0, 1))
    else:
        runs.pareto_search(folder)


def rounded(text: str) -> str:
    """With floats of many digits cut."""
    return LONG.sub(lambda number: f"{float(number[0]):.9g}", text)


def without_pictures(page: str) -> str:
    """The page with a mark for each picture."""
    return PICTURE.sub("[picture]", page)


@pytest.fixture(scope="module", params=KINDS)
def report(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("it's a place") / "run"
    make(request.param, folder)
    write_report(folder, folder / "report")
    return request.param, folder / "report"


def texts(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.suffix in TEXTS
    }


def test_which_files_a_report_has(report: tuple[str, Path], pin: Any) -> None:
    kind, folder = report
    pin("report_files", kind, sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))


def test_every_text_of_a_report(report: tuple[str, Path], pin: Any, digest: Any) -> None:
    kind, folder = report
    found = {}
    for name, text in texts(folder).items():
        if name.endswith(".svg"):
            continue
        found[name] = digest(rounded(without_pictures(text)).encode())
    pin("report_texts", kind, found)


def test_the_words_of_a_report_in_full(report: tuple[str, Path], pin: Any) -> None:
    """What a person reads: tables as Markdown, and the words of the page, a line for each piece."""
    kind, folder = report
    of = texts(folder)
    tables = "".join(f"# {name}\n\n{rounded(text)}\n" for name, text in of.items() if name.endswith(".md"))
    pin.text(f"report_{kind}.md", tables)
    page = re.sub(r"<(style|script)\b.*?</\1>", "", without_pictures(of["index.html"]), flags=re.DOTALL)
    pieces = [" ".join(piece.split()) for piece in re.split(r"<[^>]+>", page)]
    pin.text(f"report_{kind}_page.txt", "\n".join(filter(None, pieces)) + "\n")


def test_every_picture_of_a_report(report: tuple[str, Path], pin: Any, digest: Any) -> None:
    kind, folder = report
    drawn_by = {name: version(name) for name in LIBRARIES}
    if not pin.writes and pin.parts("report_pictures")["drawn by"] != drawn_by:
        pytest.skip("the kept pictures are those of other versions of the libraries that draw")
    pin("report_pictures", "drawn by", drawn_by)
    of = texts(folder)
    found = {name: digest(rounded(text).encode()) for name, text in of.items() if name.endswith(".svg")}
    found["index.html"] = digest(of["index.html"].encode())
    pin("report_pictures", kind, found)


def test_another_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    make("verification", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere é" / "b")
    for folder in (tmp_path / "a", tmp_path / "elsewhere é" / "b"):
        write_report(folder, folder / "report")
    assert texts(tmp_path / "a" / "report") == texts(tmp_path / "elsewhere é" / "b" / "report")
