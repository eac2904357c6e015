"""The claims of the paper about methods: the assistant, resolutions, baselines, the teacher, equal compute.

Every test pairs by seed. Where a claim is about several settings (resolutions, networks), a seed counts once, with its
mean over the settings; a seed that lacks one of them is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from analysis import statistics
from analysis.claims.orders import (
    INCONCLUSIVE,
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    Claim,
    judged,
    not_checked,
    read_asked,
    settled,
    spread_words,
)
from analysis.frames.arms import DISTILLED, EQUAL_COMPUTE, FLOOR, METHOD, TEACHER, Arm, equal_compute_of, our_arm
from analysis.frames.methods import Setting, is_side
from analysis.printed import duration, p_value
from analysis.statistics import Summary, many_to_one

MARGIN = 0.01  # Of a fraction: what counts as little.


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the claims are checked on."""

    settings: Sequence[Setting]
    arms: Mapping[str, Arm]
    native: int | None  # Side of the data set's images.
    on: str  # 'on digits, not the paper's data'.

    @property
    def ours(self) -> str | None:
        """The arm that stands for the paper's method, whether or not it has a result yet."""
        return our_arm(self.arms, list(self.arms))

    def title(self, arm: str) -> str:
        return self.arms[arm].title if arm in self.arms else arm


Found = Callable[..., Claim]


def _blank(evidence: Evidence, name: str, claim: str, test: str) -> Found:
    return partial(Claim, name=name, claim=claim, test=test, source="HORKD", on=evidence.on)


def differences(evidence: Evidence, ours: str, theirs: str) -> tuple[dict[int, float], list[Setting]]:
    """Difference of two arms by seed, the mean over the settings where they have seeds in common; and those."""
    own = []
    for setting in evidence.settings:
        left, right = setting.scores(ours), setting.scores(theirs)
        pairs = {seed: left[seed] - right[seed] for seed in left.keys() & right.keys()}
        if pairs and not _other_teacher(setting, ours, theirs):
            own.append((setting, pairs))
    seeds = sorted(set.intersection(*(set(pairs) for _, pairs in own))) if own else []
    return {s: math.fsum(pairs[s] for _, pairs in own) / len(own) for s in seeds}, [setting for setting, _ in own]


def _other_teacher(setting: Setting, *names: str) -> bool:
    """Whether two distilled arms hang from different teachers under some seed."""
    seen: dict[int, set[str]] = {}
    kinds = dict(setting.rows.select("arm", "kind").iter_rows())
    for name in names:
        if kinds.get(name) in DISTILLED:
            frame = setting.trials.filter(cell=setting.cells[name])
            for seed, teacher in frame.select("seed", "teacher").iter_rows():
                if teacher:
                    seen.setdefault(seed, set()).add(teacher)
    return any(len(teachers) > 1 for teachers in seen.values())


def _over(settings: Sequence[Setting]) -> str:
    titles = [setting.title for setting in settings if setting.title]
    return f", mean over {len(settings)} settings" if len(settings) > 1 else (f", {titles[0]}" if titles else "")


def _verdict(s: Summary) -> str:
    return judged(s)


def _pair(evidence: Evidence, row: Found, ours: str | None, theirs: str | None) -> Claim:
    """Verdict on one arm against another by the t-interval of the paired difference."""
    lacking = [f"'{name}'" for name in (ours, theirs) if name not in evidence.arms]
    if ours is None or theirs is None or lacking:
        words = " and ".join(lacking) if lacking and None not in (ours, theirs) else "needed"
        return row(estimate=f"the study has no arm {words}", verdict=NOT_TESTED, n=0)
    by_seed, settings = differences(evidence, ours, theirs)
    s = statistics.summarise(by_seed.values())
    if s.mean is None:
        return row(
            estimate=f"no pair under the same seed yet: {_seeds(evidence, ours, theirs)}", verdict=NOT_TESTED, n=0
        )
    estimate = f"{evidence.title(ours)} − {evidence.title(theirs)}: {spread_words(s)}{_over(settings)}"
    p = statistics.mean_p(s)
    return row(estimate=estimate, verdict=_verdict(s), n=s.n, value=s.mean, low=s.low, high=s.high, p=p)


def _seeds(evidence: Evidence, *names: str) -> str:
    """'HORKD has 0 seeds, KD 5': how many seeds have a result, in the setting that has most."""
    counts = [max((len(setting.scores(name)) for setting in evidence.settings), default=0) for name in names]
    words = [f"{evidence.title(name)} {n}" for name, n in zip(names, counts, strict=True)]
    return f"seeds with a result: {', '.join(words)}"


PAIRED = "paired difference by seed; t-interval"


def assistant_helps(evidence: Evidence) -> Claim:
    """Distilling through an assistant beats distilling directly (HORKD, Sec. 4.4: 3.03 points)."""
    row = _blank(evidence, "assistant_helps", "Two steps through an assistant are better than one.", PAIRED)
    return _pair(evidence, row, "horkd", "horkd_direct")


def init_helps(evidence: Evidence) -> Claim:
    """A student that starts with the assistant's weights is better; the paper does not say which it does."""
    claim = "A student that starts as its assistant is better than one that starts anew."
    return _pair(evidence, _blank(evidence, "init_helps", claim, PAIRED), "horkd_init", "horkd")


def distillation_survives_equal_compute(evidence: Evidence) -> Claim:
    """Ours against labels alone with as many multiply-adds (not time); the paper compares at equal epochs only."""
    claim = "Distillation is better than labels alone that are given as many multiply-adds."
    row = _blank(evidence, "distillation_survives_equal_compute", claim, PAIRED)
    ours = evidence.ours
    if ours is None:
        return row(estimate="the study has no arm of ours", verdict=NOT_TESTED, n=0)
    against = equal_compute_of(evidence.arms[ours], evidence.arms)
    if against is None:
        any_control = any(arm.kind == EQUAL_COMPUTE for arm in evidence.arms.values())
        lacking = f"with the multiply-adds of '{ours}'" if any_control else f"of kind {EQUAL_COMPUTE}"
        return row(estimate=f"the study has no arm {lacking}", verdict=NOT_TESTED, n=0)
    claim_row = _pair(evidence, row, ours, against)
    if claim_row.value is None:
        return claim_row
    _, settings = differences(evidence, ours, against)
    return replace(claim_row, estimate=f"{claim_row.estimate}; equal multiply-adds{_times(settings, ours, against)}")


def _times(settings: Sequence[Setting], ours: str, theirs: str) -> str:
    """', mean training 12.0 s against 14.0 s': what was measured, over the settings that the records tell it of."""
    rows = [(setting.row(ours), setting.row(theirs)) for setting in settings]
    pairs = [(a["train_seconds"], b["train_seconds"]) for a, b in rows if a is not None and b is not None]
    clock = next((f" ({a['train_clock']} time)" for a, _ in rows if a is not None and a["train_clock"]), "")
    known = [pair for pair in pairs if None not in pair]
    if not known:
        return ""
    left, right = (math.fsum(column) / len(known) for column in zip(*known, strict=True))
    return f", mean training {duration(left)} against {duration(right)}{clock}"


def accuracy_falls_with_resolution(evidence: Evidence) -> Claim:
    """'The accuracy consistently decreases after the resolution is reduced' (HORKD, Sec. 4.2)."""
    claim = "The score falls with the resolution."
    test = "slope of the score on the number of halvings within each arm and network, per seed; t-interval over seeds"
    row = _blank(evidence, "accuracy_falls_with_resolution", claim, test)
    lines: dict[str, dict[int, dict[int, float]]] = {}  # Arm and network -> side -> scores by seed.
    for setting in evidence.settings:
        rest = json.dumps({k: v for k, v in setting.values.items() if not is_side(k)}, sort_keys=True)
        for name, arm in evidence.arms.items():
            found = setting.row(name)
            if arm.kind not in (TEACHER, FLOOR) and found is not None and found["resolution"]:
                lines.setdefault(f"{name} {rest}", {})[found["resolution"]] = setting.scores(name)
    lines = {line: sides for line, sides in lines.items() if len(sides) > 1}
    if not lines:
        return row(estimate="no arm was read at two resolutions", verdict=NOT_TESTED, n=0)
    seeds = set.intersection(*(set(scores) for sides in lines.values() for scores in sides.values()))
    slopes = []
    for seed in sorted(seeds):
        seen = [
            (-math.log2(side), scores[seed], float(index))
            for index, sides in enumerate(lines.values())
            for side, scores in sides.items()
        ]
        slope = statistics.slope([(x, y) for x, y, _ in seen], [group for *_, group in seen])
        assert slope is not None  # Every line has two sides.
        slopes.append(slope)
    s = statistics.summarise(slopes)
    if s.mean is None:
        return row(estimate="no seed has all resolutions", verdict=NOT_TESTED, n=0)
    verdict = {SUPPORTED: NOT_SUPPORTED, NOT_SUPPORTED: SUPPORTED}.get(_verdict(s), INCONCLUSIVE)
    estimate = f"{spread_words(s, 'points per halving')}, {len(lines)} {'line' if len(lines) == 1 else 'lines'}"
    p = statistics.mean_p(s)
    return row(estimate=estimate, verdict=verdict, n=s.n, value=s.mean, low=s.low, high=s.high, p=p)


def little_above_a_quarter(evidence: Evidence) -> Claim:
    """Down to a quarter of the side little is lost: equivalence with the largest resolution within one point.

    Both one-sided tests are made at 2.5 %, which is the 95 % interval inside the margin, so that a loss of exactly one
    point is called little or not little in 5 % of the studies together.
    """
    claim = "Down to a quarter of the full side, little is lost (within 1 point)."
    test = "two one-sided paired t-tests (margin 1 point, each at 2.5%) of the largest side with each one down to a quarter"
    row = _blank(evidence, "little_above_a_quarter", claim, test)
    ours = evidence.ours
    by_side: dict[int, list[dict[int, float]]] = {}
    for setting in evidence.settings:
        found = setting.row(ours) if ours else None
        if found is not None and found["resolution"]:
            by_side.setdefault(found["resolution"], []).append(setting.scores(ours or ""))
    if len(by_side) < 2 or ours is None:
        return row(estimate="ours has no result at two resolutions", verdict=NOT_TESTED, n=0)
    full = max(by_side)
    quarter = (evidence.native or full) / 4
    low = [side for side in sorted(by_side, reverse=True) if quarter <= side < full]
    if not low:
        return row(estimate=f"no side from {quarter:g} to below {full} was run", verdict=NOT_TESTED, n=0)
    losses = [_mean_difference(by_side[side], by_side[full]) for side in low]
    results = [(side, statistics.summarise(own)) for side, own in zip(low, losses, strict=True)]
    little, much = _margin_p(losses)
    verdict = INCONCLUSIVE
    if little is not None and little < statistics.ALPHA:
        verdict = SUPPORTED
    elif much is not None and much < statistics.ALPHA:
        verdict = NOT_SUPPORTED
    known = [p for p in (little, much) if p is not None]
    words = [f"{side}×{side} {'no pair yet' if s.mean is None else spread_words(s)}" for side, s in results]
    worst = min((s for *_, s in results if s.mean is not None), key=lambda s: s.mean or 0.0, default=Summary(n=0))
    estimate = f"{evidence.title(ours)} against {full}×{full}: {'; '.join(words)}"
    n = min(s.n for *_, s in results)
    if not any(s.n for *_, s in results):
        return row(estimate=estimate, verdict=NOT_TESTED, n=0)
    p = min(known, default=None)
    return row(estimate=estimate, verdict=verdict, n=n, value=worst.mean, low=worst.low, high=worst.high, p=p)


def _margin_p(losses: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    """Two p-values: of 'within the margin at every side', and of 'more than it lost at some side'; None if unknown.

    Each is twice a one-sided p, so that 5 % is 2.5 % on its side. The first is the largest over the sides, as all are
    needed; the second is Holm's smallest.
    """
    within = [statistics.equivalence(own, MARGIN).p for own in losses]
    beyond: list[float | None] = []
    for s in map(statistics.summarise, losses):
        p = statistics.mean_p(s, -MARGIN)
        beyond.append(1.0 if p is not None and s.mean is not None and s.mean >= -MARGIN else p)
    known = [p for p in within if p is not None]
    little = min(1.0, 2 * max(known)) if known and len(known) == len(within) else None
    return little, min((p for p in statistics.holm(beyond) if p is not None), default=None)


def _mean_difference(left: Sequence[Mapping[int, float]], right: Sequence[Mapping[int, float]]) -> list[float]:
    """Difference by seed; of several networks at a side the mean over those that have the seed at both."""
    seeds = sorted(set.intersection(*(set(scores) for scores in (*left, *right))))
    return [math.fsum(x[s] for x in left) / len(left) - math.fsum(x[s] for x in right) / len(right) for s in seeds]


def ours_beats_baselines(evidence: Evidence) -> Claim:
    """Ours is better than every other distillation method (HORKD, Tab. 1 and 4)."""
    claim = "Ours is better than every other method of distillation."
    test = "paired difference to each baseline by seed; Dunnett-type over the baselines"
    row = _blank(evidence, "ours_beats_baselines", claim, test)
    ours = evidence.ours
    rivals = [n for n, arm in evidence.arms.items() if ours and arm.kind == METHOD and not _is_ours(evidence, n)]
    if ours is None or not rivals:
        return row(estimate="the study has no baseline beside ours", verdict=NOT_TESTED, n=0)
    pairs = {name: differences(evidence, ours, name)[0] for name in rivals}
    adjusted = many_to_one.adjusted(list(pairs.values()))
    rated = [
        (evidence.title(name), statistics.summarise(by_seed.values()), p)
        for (name, by_seed), p in zip(pairs.items(), adjusted, strict=True)
    ]
    return _many(row, rated, "− {}: {}", "Dunnett", all_needed=True)


def _is_ours(evidence: Evidence, name: str) -> bool:
    """Whether an arm is ours or a part of it: called after it, or distilled by its method (with some of its orders)."""
    ours = evidence.ours
    if ours is None or name == ours or name.startswith(f"{ours}_"):
        return ours is not None
    own = evidence.arms[ours].method
    return own is not None and evidence.arms[name].method == own


def student_above_teacher(evidence: Evidence) -> Claim:
    """The student beats its teacher on some data at low resolution (HORKD, Tab. 4, Cars196 at 128 pixels)."""
    claim = "The low-resolution student is better than its teacher."
    test = "paired difference to the teacher by seed in each setting; Holm over the settings"
    row = _blank(evidence, "student_above_teacher", claim, test)
    ours = evidence.ours
    teacher = next((name for name, arm in evidence.arms.items() if arm.kind == TEACHER), None)
    if ours is None or teacher is None:
        return row(estimate="the study has no teacher arm beside ours", verdict=NOT_TESTED, n=0)
    summaries = []
    for setting in evidence.settings:
        left, right = setting.scores(ours), setting.scores(teacher)
        summaries.append(statistics.summarise(left[seed] - right[seed] for seed in sorted(left.keys() & right.keys())))
    adjusted = statistics.holm([statistics.mean_p(s) for s in summaries])
    titles = [setting.title or "student − teacher" for setting in evidence.settings]
    return _many(row, list(zip(titles, summaries, adjusted, strict=True)), "{}: {}", "Holm", all_needed=False)


def _many(
    row: Found, rated: Sequence[tuple[str, Summary, float | None]], shape: str, by: str, *, all_needed: bool
) -> Claim:
    """Several differences: each with its interval and its p, adjusted `by` a method for all of them.

    Supported when all are proven positive (or, unless all are needed, some are and none is negative); not supported
    when one is proven negative and, unless all are needed, none positive.
    """
    words = []
    for name, s, p in rated:
        shown = "no pair yet" if s.mean is None else spread_words(s) + ("" if p is None else f", {by} p {p_value(p)}")
        words.append(shape.format(name, shown))
    means = [s for _, s, _ in rated if s.mean is not None]
    if not means:
        return row(estimate="; ".join(words), verdict=NOT_TESTED, n=0)
    up = [p for _, s, p in rated if p is not None and s.mean is not None and s.mean > 0]
    down = [p for _, s, p in rated if p is not None and s.mean is not None and s.mean < 0]
    for_it, against = min(up, default=1.0), min(down, default=1.0)
    if all_needed:
        for_it = max(up) if up and len(up) == len(rated) else 1.0
    verdict = INCONCLUSIVE
    told = min(for_it, against) if up or down else None
    if all_needed and against >= statistics.ALPHA and any(p is None for *_, p in rated):
        # All are needed and some are still to come; one proven worse would settle it.
        told = None
        if any(s.mean is None for _, s, _ in rated):
            verdict = NOT_TESTED
    elif max(for_it, against) < statistics.ALPHA:
        # Not one finding, so no p of it.
        words.append("better in some, worse in others")
        told = None
    elif told is not None and told < statistics.ALPHA:
        verdict = SUPPORTED if for_it < against else NOT_SUPPORTED
    least = min(means, key=lambda s: s.mean or 0.0)
    n = max(s.n for s in means)
    estimate = "; ".join(words)
    return row(estimate=estimate, verdict=verdict, n=n, value=least.mean, low=least.low, high=least.high, p=told)


KNOWN: dict[str, Callable[[Evidence], Claim]] = {
    "assistant_helps": assistant_helps,
    "accuracy_falls_with_resolution": accuracy_falls_with_resolution,
    "little_above_a_quarter": little_above_a_quarter,
    "ours_beats_baselines": ours_beats_baselines,
    "student_above_teacher": student_above_teacher,
    "init_helps": init_helps,
    "distillation_survives_equal_compute": distillation_survives_equal_compute,
}


def check(evidence: Evidence, asked: Sequence[Any]) -> list[Claim]:
    """The claims that a study asks for; an unknown one gets a row that says no test is written for it."""
    rows = []
    for name, text, source in map(read_asked, asked):
        if name in KNOWN:
            found = KNOWN[name](evidence)
            rows.append(found.told(text, source))
        else:
            rows.append(not_checked(name, text, source))
    return settled(rows)
