"""Estimates, intervals and tests fit for 2 to 10 seeds. Plain numbers in and out: no frames, no drawing.

`many_to_one` is imported by its name: it draws null studies, and has a `detectable` of its own.
"""

from analysis.statistics.factorial import Effect, FactorialEffects, factorial_effects, slope
from analysis.statistics.means import (
    ALPHA,
    LEAST_PAIRS,
    RATE,
    Summary,
    direction,
    mean_p,
    summarise,
)
from analysis.statistics.multiple import holm
from analysis.statistics.paired import Gain, detectable, equivalence, paired_gain
from analysis.statistics.proportions import noise_floor, wilson

__all__ = [
    "ALPHA",
    "LEAST_PAIRS",
    "RATE",
    "Effect",
    "FactorialEffects",
    "Gain",
    "Summary",
    "detectable",
    "direction",
    "equivalence",
    "factorial_effects",
    "holm",
    "mean_p",
    "noise_floor",
    "paired_gain",
    "slope",
    "summarise",
    "wilson",
]
