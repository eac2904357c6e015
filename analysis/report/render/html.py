"""The page: one file, no script, no request to anywhere. Every text is escaped as it enters a template."""

from __future__ import annotations

import base64
import functools
import html
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures.drawing import darkened
from analysis.report.blocks import Block, Document

NARROW, SLIM = 640, 300  # Pixels: of a page that shows the slim picture, and what that needs at least.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
TEMPLATES = Path(__file__).parent / "templates"


def files(document: Document) -> dict[str, bytes]:
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    page = _environment().get_template("page.html").render(document=document, policy=POLICY, style=style)
    return {"index.html": page.encode()}


def of_block(block: Block) -> Markup:
    """A block by the macro of its name in `blocks.html`."""
    macros: Any = _environment().get_template("blocks.html").module
    return Markup(getattr(macros, type(block).__name__.lower())(block))


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(of_block=of_block, narrow=NARROW, slim=SLIM)
    made.filters.update(darkened=darkened, uri=_uri)
    return made


def _escaped(value: Any) -> Any:
    """Text as `html.escape` spells it; the templates' own escaping spells quotes in another way, and reports their bytes."""
    return value if hasattr(value, "__html__") else Markup(html.escape(str(value)))


def _uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
