"""Pins: values that no rearrangement of the code may move, compared with what is kept in `kept/`.

    PINS=write python -m pytest tests/pins     rewrites what differs, and prints each difference

A pin that must change is rewritten on purpose, and the commit says why. What a test hands to `pin` is compared leaf by
leaf, so that a failure names what moved.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import train_stages

from sweeps.planning.request import Request
from sweeps.runs.execute import execute
from sweeps.runs.folder import Place
from sweeps.runs.outcome import Outcome
from sweeps.runs.prepare import prepare

KEPT = Path(__file__).parent / "kept"
SHOWN = 25  # Differences that a failure lists.
_written: list[str] = []
_MISSING = object()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of everything inside that is no object with members, and no list of such."""
    if isinstance(value, list) and any(isinstance(member, dict) for member in value):
        value = {str(number): member for number, member in enumerate(value)}
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path} > {name}" if path else name)
    else:
        yield path, value


def differences(kept: Any, found: Any) -> list[str]:
    """A line for each leaf that is not as it was kept."""
    before, after = ({} if v is _MISSING else dict(leaves(v)) for v in (kept, found))
    said = []
    for path in dict.fromkeys([*before, *after]):
        old, new = before.get(path, _MISSING), after.get(path, _MISSING)
        if old == new and type(old) is type(new):
            continue
        if isinstance(old, list) and isinstance(new, list):
            gone, more = ([v for v in one if v not in other] for one, other in ((old, new), (new, old)))
            words = f"without {_short(gone)}, with {_short(more)}" if gone or more else f"in the order {_short(new)}"
        else:
            words = f"kept {_short(old)}, found {_short(new)}"
        said.append(f"{path or 'all of it'}: {words}")
    return said


def _short(value: Any) -> str:
    return "nothing" if value is _MISSING else json.dumps(value)[:300]


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


class Pins:
    """Compares with what is kept, or writes it where the environment says so."""

    writes = os.environ.get("PINS") == "write"

    def __call__(self, file: str, part: str, value: Any) -> None:
        """Hold a value, as JSON, to the one kept as `part` of `file`."""
        found = json.loads(json.dumps(value))
        kept = self.parts(file)
        changed = differences(kept.get(part, _MISSING), found)
        if not changed:
            return
        self._decide(f"{file}.json, {part}", changed)
        self._keep(file, kept | {part: found})

    def text(self, file: str, found: str) -> None:
        """Hold a text to the file of that name."""
        path = KEPT / file
        kept = path.read_text(encoding="utf-8") if path.exists() else ""
        if kept == found:
            return
        lines = difflib.unified_diff(kept.splitlines(), found.splitlines(), "kept", "found", lineterm="", n=1)
        self._decide(file, list(lines) or ["another end of a line"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")

    def parts(self, file: str) -> dict[str, Any]:
        """What is kept in a file, by part."""
        path = KEPT / f"{file}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def only(self, file: str, parts: set[str]) -> None:
        """Refuse parts that are kept and asked for by no test any more."""
        kept = self.parts(file)
        gone = sorted(set(kept) - parts)
        if not gone:
            return
        self._decide(f"{file}.json", [f"{part}: kept, but nothing asks for it" for part in gone])
        self._keep(file, {part: value for part, value in kept.items() if part in parts})

    def _keep(self, file: str, parts: dict[str, Any]) -> None:
        """One line for each member of a part: readable, and a diff names it."""
        lines = []
        for part, value in sorted(parts.items()):
            inner = value if isinstance(value, dict) and value else None
            words = (
                _line(value) if inner is None else ",\n".join(f"  {_line(n)}: {_line(inner[n])}" for n in sorted(inner))
            )
            lines.append(f" {_line(part)}: " + (words if inner is None else "{\n" + words + "\n }"))
        KEPT.mkdir(exist_ok=True)
        (KEPT / f"{file}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

    def _decide(self, what: str, changed: list[str]) -> None:
        if self.writes:
            _written.extend([what, *(f"    {line}" for line in changed)])
            return
        more = f"\n... and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        pytest.fail(
            f"{what} moved:\n" + "\n".join(changed[:SHOWN]) + more + "\nOn purpose? PINS=write rewrites.", pytrace=False
        )


@pytest.fixture(scope="session")
def pin() -> Pins:
    """What holds values to those kept."""
    if Pins.writes and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.exit("PINS=write needs one process: leave out -n.", 2)
    return Pins()


@pytest.fixture(scope="session")
def digest() -> Any:
    """The first 16 hex digits of the SHA-256 of lines, or of bytes."""

    def made(content: Any) -> str:
        data = content if isinstance(content, bytes) else "\n".join(map(str, content)).encode()
        return hashlib.sha256(data).hexdigest()[:16]

    return made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _written:
        terminalreporter.section("pins rewritten")
        for line in _written[:400]:
            terminalreporter.write_line(line)
        if len(_written) > 400:
            terminalreporter.write_line(f"... and {len(_written) - 400} more lines")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the few runs of these tests live."""
    folder = tmp_path_factory.mktemp("pins")
    return Place(runs=folder / "runs", store=folder / "store")


def finish(place: Place, study: str, *settings: str, train: bool = True, **more: Any) -> Outcome:
    """A run of the preset `tiny` whose stages are trained here, one after the other, then recorded."""
    request = Request(study=study, preset="tiny", settings=list(settings), **more)
    if train:
        train_stages(prepare(request, place, lambda line: None))
    return execute(request, place, lambda line: None, quiet=True, report=False, train=False)


@pytest.fixture(scope="session")
def finished(place: Place) -> Any:
    """`finish` in the one place."""
    return functools.partial(finish, place)
