"""What a person sees while a run goes on: one live display on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from sweeps.engine.eta import TimeLeft
from sweeps.engine.state import EngineState
from sweeps.planning.graph import StageNode

PLAIN_SECONDS = 60.0


def duration(seconds: float) -> str:
    """`1:05` or `2 h 05 min`."""
    seconds = max(0, round(seconds))
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d}"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Shows stages by kind, running, failed, the leader and the time left."""

    def __init__(
        self,
        title: str,
        leader: Callable[[], tuple[float, str] | None],
        quiet: bool,
        seconds_of: Callable[[StageNode], float] = lambda node: 1.0,
        total: float = 0.0,
        exhausted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.title, self.leader, self.quiet = title, leader, quiet
        self._seconds_of, self._total, self._exhausted = seconds_of, total, exhausted
        self._left: TimeLeft | None = None
        self._began = time.monotonic()
        self._last_line = 0.0
        self._live: Any = None
        self._terminal: Any = None
        self._drawn = 0.0

    def start(self, state: EngineState, terminal: Any) -> None:
        """Begin to draw; `terminal` is where people look, whatever stdout is now."""
        self._terminal = terminal
        self._began = time.monotonic()
        self._left = TimeLeft(state.pace, self._seconds_of, self._total)
        if self.quiet:
            return
        if terminal.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live

            console = Console(file=terminal, no_color=bool(os.environ.get("NO_COLOR")) or None)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        else:
            terminal.write(f"{self.title}\n")
            terminal.flush()
            self._last_line = time.monotonic()

    def tick(self, state: EngineState) -> None:
        """Redraw twice a second, or write a line a minute."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= 0.5:
            self._drawn = now
            self._live.update(self._text(state), refresh=True)
        elif self._live is None and not self.quiet and now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            self._terminal.write(self.line(state) + "\n")
            self._terminal.flush()

    def say(self, line: str) -> None:
        """A line that stays, above the live display."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self._terminal is not None:
            self._terminal.write(line + "\n")
            self._terminal.flush()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def eta(self, state: EngineState) -> float | None:
        """Seconds left by the work that is left and the pace of this run; None until there is evidence of it."""
        if self._left is None or state.ended_early or state.waits:
            return None
        with state.lock:
            return self._left.seconds(state.graph, state.slots, more=not self._exhausted())

    def line(self, state: EngineState) -> str:
        """One line that says where the run is."""
        counts = state.graph.counts
        total = len(state.graph.nodes)
        parts = [
            f"{counts['done']}/{total} stages",
            f"{max(0, min(len(state.running), state.slots) - len(state.core_waits))} running",
            f"{counts['failed']} failed",
        ]
        if counts["unrunnable"]:
            parts.append(f"{counts['unrunnable']} not runnable")
        if counts["pruned"]:
            parts.append(f"{counts['pruned']} pruned")
        if counts["elsewhere"]:
            parts.append(f"{counts['elsewhere']} trained by another run")
        if state.waits:
            parts.append(f"waits for {state.waits}")
        leader = self.leader()
        if leader is not None:
            parts.append(f"leader {leader[1]} {100 * leader[0]:.1f} % (validation)")
        eta = self.eta(state)
        if eta is not None:
            parts.append(f"ETA {duration(eta)}")
        state_word = "draining" if state.draining else duration(time.monotonic() - self._began)
        return f"{state_word}  " + " · ".join(parts)

    def _text(self, state: EngineState) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_row(Text(self.title, style="bold"))
        roles: dict[str, dict[str, int]] = {}
        with state.lock:
            for node in state.graph.nodes.values():
                row = roles.setdefault(node.role, {})
                row[node.state] = row.get(node.state, 0) + 1
        for role, row in roles.items():
            total, done = sum(row.values()), row.get("done", 0)
            bar = "#" * round(24 * done / max(1, total))
            extra = "".join(f"  {row[s]} {w}" for s, w in (("out", "handed out"), ("failed", "failed")) if row.get(s))
            table.add_row(Text(f"  {role:<11}{bar:-<24}  {done}/{total}{extra}"))
        table.add_row(Text("  " + self.line(state)))
        return table
