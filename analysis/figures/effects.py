"""What each level of a factor adds, and where two overlap."""

from __future__ import annotations

from typing import Any

import polars as pl

from analysis.figures import theme
from analysis.figures.drawing import (
    DOES_NOT,
    PASSES,
    UNTESTED_MARK,
    Drawn,
    new_figure,
    render,
    spaced,
    style,
    verdict,
    verdict_mark,
)
from analysis.frames.factor import Factor
from analysis.printed import points
from analysis.statistics import Effect, FactorialEffects


def effects(
    result: FactorialEffects, factor: Factor, *, words: str, name: str, title: str, caption: str, alt: str
) -> Drawn:
    """Draw main effects above a rule, interactions below; pale where they do not pass."""
    rows = result.effects
    mains = sum(1 for effect in rows if len(effect.factors) == 1)
    width, top, bottom = 7.3, 0.72, 0.62
    height = top + 0.36 * len(rows) + bottom
    with style():
        figure = new_figure(width, height)
        box = (0.95 / width, bottom / height, 4.5 / width, 0.36 * len(rows) / height)
        axes = figure.add_axes(box)
        figure.text(0.15 / width, 1 - 0.24 / height, title, size=12, weight="bold", va="center")
        words_of_key = f"{PASSES} (at 5%, Holm over the main effects; below the rule over the pairs)   {DOES_NOT}   "
        figure.text(
            0.15 / width,
            1 - 0.48 / height,
            spaced(words_of_key + UNTESTED_MARK),
            size=8.6,
            color=theme.MUTED,
            va="center",
        )
        for index, effect in enumerate(rows):
            colour = theme.BLUE if len(effect.factors) == 1 else theme.PINK
            state = verdict(effect.p_holm)
            if effect.low is not None and effect.high is not None:
                ends = [100 * effect.low, 100 * effect.high]
                axes.plot(ends, [index, index], color=colour, lw=2.6, alpha=1 if state else 0.5)
            verdict_mark(axes, 100 * effect.mean, index, "o", passes=state, colour=colour, size=8)
            axes.text(1.02, index, effect_text(effect), transform=axes.get_yaxis_transform(), va="center",
                      size=8.8, family="monospace")  # fmt: skip
        axes.set_yticks(range(len(rows)), [factor.effect(effect.factors) for effect in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        if 0 < mains < len(rows):
            axes.axhline(mains - 0.5, color=theme.RULE, linewidth=1)
        axes.axvline(0, color=theme.INK, linewidth=1.1, zorder=1.5)
        axes.margins(x=0.06)
        axes.locator_params(axis="x", nbins=8)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"change in {words}, points (averaged over the other {factor.plural})")
        files = render(figure)
    frame = effects_frame(result, factor)
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames={name: frame})


def effects_frame(result: FactorialEffects, factor: Factor) -> pl.DataFrame:
    """One row per effect: `effect`, `n`, `mean`, `low`, `high`, `p`, `p_holm`, as fractions."""
    rows = [(factor.effect(e.factors), e.n, e.mean, e.low, e.high, e.p, e.p_holm) for e in result.effects]
    schema: dict[str, Any] = {"effect": pl.String, "n": pl.Int64}
    schema |= dict.fromkeys(("mean", "low", "high", "p", "p_holm"), pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def effect_text(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return f"{points(effect.mean)} ({'n=1' if effect.n == 1 else f'n={effect.n}, all equal'})"
    return f"{points(effect.mean)} [{points(effect.low)}, {points(effect.high)}]"
