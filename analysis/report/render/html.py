"""The HTML around a report: one file, no script, no request to anywhere. Every text is escaped here."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from analysis.figures.drawing import Drawn, darkened

NARROW, SLIM = 640, 300  # Pixels: of a page that shows the slim picture, and what that needs at least.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

STYLE = """
:root{color-scheme:light dark;--ink:#1f2430;--muted:#565d6d;--ground:#fff;--card:#f8f9fb;--rule:#dfe2e8;
--link:#0b5cad;--warn:#fff5e0;--edge:#b45309}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaee;--muted:#aab1be;--ground:#14171d;--card:#1b1f27;
--rule:#343a46;--link:#7db8f0;--warn:#2b2415;--edge:#f0a54a}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1020px;margin:0 auto;padding:28px 20px 64px;overflow-wrap:anywhere}
h1{font-size:26px;line-height:1.25;margin:0 0 4px}
h2{font-size:19px;margin:40px 0 12px;padding-top:28px;border-top:1px solid var(--rule)}
h3{font-size:16px;margin:24px 0 8px}
.sub,.quiet,figcaption{color:var(--muted);font-size:14.5px}
.sub{margin:0 0 14px}
nav a{margin-right:14px;display:inline-block}
a{color:var(--link)}
.answer{font-size:18px;margin:18px 0}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;margin:18px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:10px 12px}
.tile b{display:block;font-size:21px;line-height:1.3}
.tile span{color:var(--muted);font-size:13.5px;line-height:1.4;display:block}
.care{background:var(--warn);border-left:4px solid var(--edge);border-radius:4px;padding:12px 16px;
margin:18px 0}
.care ul{margin:4px 0 0;padding-left:20px}
figure{margin:14px 0;border:1px solid var(--rule);border-radius:6px;padding:10px}
figcaption{margin-top:6px}
.scroll{overflow-x:auto;max-width:100%}
figure img{display:block;width:100%;height:auto;min-width:var(--least,0);
max-width:max(var(--most),var(--least,0px))}
table{border-collapse:collapse;width:100%;font-size:15px}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--rule);white-space:nowrap;
vertical-align:top}
th{font-size:14px}
.n{text-align:right}
.best td{font-weight:700}
.wrap table{min-width:680px}
.wide table{min-width:960px;font-size:14px}
.wide td.n{white-space:nowrap}
.wide th,.wide td{padding:5px 7px}
.fit table{font-size:14px}
.fit th{white-space:normal;overflow-wrap:normal}
.fit td:first-child{white-space:normal;min-width:130px}
.fit th,.fit td{padding:5px 7px}
.wrap td{white-space:normal;overflow-wrap:break-word;min-width:84px}
.wide td{min-width:0}
.wide td:last-child{min-width:170px}
pre{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:10px 12px;overflow-x:auto;
font-size:13.5px}
@media (max-width:640px){.tiles{grid-template-columns:1fr 1fr}.answer{font-size:17px}
main{padding:20px 14px 48px}
h2{margin-top:28px}}
"""


def text(value: object) -> str:
    return html.escape(str(value))


def page(*, title: str, body: str) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(anchor: str, heading: str, *parts: str) -> str:
    return f'<section id="{anchor}"><h2>{text(heading)}</h2>\n' + "\n".join(parts) + "</section>"


def paragraph(words: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{text(words)}</p>"


def navigation(items: Sequence[tuple[str, str]]) -> str:
    return "<nav>" + "".join(f'<a href="#{anchor}">{text(words)}</a>' for anchor, words in items) + "</nav>"


def answer(headline: str, rest: str) -> str:
    return f'<p class="answer"><strong>{text(headline)}</strong> {text(rest)}</p>'


def tiles(items: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f'<div class="tile"><b>{text(value)}</b><span>{text(words)}</span></div>' for value, words in items)
    return f'<div class="tiles">{inner}</div>'


def care(items: Sequence[str]) -> str:
    if not items:
        return ""
    inner = "".join(f"<li>{text(item)}</li>" for item in items)
    return f'<aside class="care"><strong>Read with care.</strong><ul>{inner}</ul></aside>'


def figure(drawn: Drawn, number: int, least: int = 760) -> str:
    """A figure for light and dark pages; on a narrow one it scrolls in its box and stays readable."""
    links = " ".join(
        f'<a href="figures/{drawn.name}.{suffix}">{suffix.upper()}</a>' for suffix in ("svg", "pdf", "png")
    )
    links += " " + " ".join(
        f'<a href="figures/{stem}.csv">CSV{_part(stem, drawn.name)}</a>' for stem in sorted(drawn.frames)
    )
    slim = ""
    if drawn.slim is not None:
        least = min(least, SLIM)
        narrow = f"(max-width:{NARROW}px)"
        dark = f"{narrow} and (prefers-color-scheme: dark)"
        slim = f'<source media="{dark}" srcset="{_uri(darkened(drawn.slim))}">'
        slim += f'<source media="{narrow}" srcset="{_uri(drawn.slim)}">'
    return (
        f'<figure><div class="scroll" tabindex="0"><picture>{slim}'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_uri(drawn.dark)}">'
        f'<img style="--least:{least}px;--most:{drawn.width}px" alt="{text(drawn.alt)}" '
        f'src="{_uri(drawn.light)}"></picture></div>'
        f"<figcaption>Fig. {number}. {text(drawn.caption)} {links}</figcaption></figure>"
    )


def _part(stem: str, name: str) -> str:
    """What a frame beside the main one holds: ' (seeds)' for forest_seeds.csv."""
    rest = stem.removeprefix(name).strip("_")
    return f" ({text(rest)})" if rest else ""


def _uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def folded(heading: str, inner: str) -> str:
    """HTML that opens on a click, without script."""
    return f"<details><summary>{text(heading)}</summary>{inner}</details>"


def lines(items: Sequence[str]) -> str:
    return "<pre>" + "\n".join(text(item) for item in items) + "</pre>"


def listing(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"
