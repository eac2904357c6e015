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
from analysis.arms import DISTILLED, EQUAL_COMPUTE, FLOOR, METHOD, TEACHER, Arm, equal_compute_of, our_arm
from analysis.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, Claim, not_checked, read_asked
from analysis.methods import Setting, is_side
from analysis.statistics import Summary
from analysis.tables import p_value, points
from analysis.wording import duration

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
        """The arm that stands for the paper's method."""
        present = [name for name in self.arms if any(setting.scores(name) for setting in self.settings)]
        return our_arm(self.arms, present)

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
    if s.low is None or s.high is None:
        return INCONCLUSIVE
    return SUPPORTED if s.low > 0 else NOT_SUPPORTED if s.high < 0 else INCONCLUSIVE


def _interval(s: Summary, unit: str = "points") -> str:
    assert s.mean is not None
    if s.low is None or s.high is None:
        return f"{points(s.mean)} {unit} (n=1: no interval)"
    return f"{points(s.mean)} [{points(s.low)}, {points(s.high)}] {unit}"


def _pair(evidence: Evidence, row: Found, ours: str | None, theirs: str | None) -> Claim:
    """Verdict on one arm against another by the t-interval of the paired difference."""
    lacking = [f"'{name}'" for name in (ours, theirs) if name not in evidence.arms]
    if ours is None or theirs is None or lacking:
        words = " and ".join(lacking) if lacking and None not in (ours, theirs) else "needed"
        return row(estimate=f"the study has no arm {words}", verdict=INCONCLUSIVE, n=0)
    by_seed, settings = differences(evidence, ours, theirs)
    s = statistics.summarise(by_seed.values())
    if s.mean is None:
        return row(estimate="no pair under the same seed", verdict=INCONCLUSIVE, n=0)
    estimate = f"{evidence.title(ours)} − {evidence.title(theirs)}: {_interval(s)}{_over(settings)}"
    return row(estimate=estimate, verdict=_verdict(s), n=s.n, value=s.mean, low=s.low, high=s.high)


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
        return row(estimate="the study has no arm of ours", verdict=INCONCLUSIVE, n=0)
    against = equal_compute_of(evidence.arms[ours], evidence.arms)
    if against is None:
        any_control = any(arm.kind == EQUAL_COMPUTE for arm in evidence.arms.values())
        lacking = f"with the multiply-adds of '{ours}'" if any_control else f"of kind {EQUAL_COMPUTE}"
        return row(estimate=f"the study has no arm {lacking}", verdict=INCONCLUSIVE, n=0)
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
        return row(estimate="no arm was read at two resolutions", verdict=INCONCLUSIVE, n=0)
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
        return row(estimate="no seed has all resolutions", verdict=INCONCLUSIVE, n=0)
    verdict = {SUPPORTED: NOT_SUPPORTED, NOT_SUPPORTED: SUPPORTED}.get(_verdict(s), INCONCLUSIVE)
    estimate = f"{_interval(s, 'points per halving')}, {len(lines)} {'line' if len(lines) == 1 else 'lines'}"
    return row(estimate=estimate, verdict=verdict, n=s.n, value=s.mean, low=s.low, high=s.high)


def little_above_a_quarter(evidence: Evidence) -> Claim:
    """Down to a quarter of the side little is lost: equivalence with the largest resolution within one point."""
    claim = "Down to a quarter of the full side, little is lost (within 1 point)."
    test = (
        "two one-sided paired t-tests (margin 1 point, each at 5%) of the largest side with each one down to a quarter"
    )
    row = _blank(evidence, "little_above_a_quarter", claim, test)
    ours = evidence.ours
    by_side: dict[int, list[dict[int, float]]] = {}
    for setting in evidence.settings:
        found = setting.row(ours) if ours else None
        if found is not None and found["resolution"]:
            by_side.setdefault(found["resolution"], []).append(setting.scores(ours or ""))
    if len(by_side) < 2 or ours is None:
        return row(estimate="ours was not read at two resolutions", verdict=INCONCLUSIVE, n=0)
    full = max(by_side)
    quarter = (evidence.native or full) / 4
    low = [side for side in sorted(by_side, reverse=True) if quarter <= side < full]
    if not low:
        return row(estimate=f"no side from {quarter:g} to below {full} was run", verdict=INCONCLUSIVE, n=0)
    results = []
    for side in low:
        losses = _mean_difference(by_side[side], by_side[full])
        results.append((side, statistics.equivalence(losses, MARGIN), statistics.summarise(losses)))
    words = [_loss_words(side, same, s) for side, same, s in results]
    verdict = INCONCLUSIVE
    if all(same.within for _, same, _ in results):
        verdict = SUPPORTED
    elif any(s.high is not None and s.high < -MARGIN for *_, s in results):
        verdict = NOT_SUPPORTED
    worst = min((s for *_, s in results if s.mean is not None), key=lambda s: s.mean or 0.0, default=Summary(n=0))
    estimate = f"{evidence.title(ours)} against {full}×{full}: {'; '.join(words)}"
    n = min(s.n for *_, s in results)
    return row(estimate=estimate, verdict=verdict, n=n, value=worst.mean, low=worst.low, high=worst.high)


def _loss_words(side: int, same: statistics.Equivalence, s: Summary) -> str:
    if s.mean is None:
        return f"{side}×{side} no pair"
    p = "" if same.p is None else f", p {p_value(same.p)}"
    return f"{side}×{side} {_interval(s)}{p}"


def _mean_difference(left: Sequence[Mapping[int, float]], right: Sequence[Mapping[int, float]]) -> list[float]:
    """Difference by seed; of several networks at a side the mean over those that have the seed at both."""
    seeds = sorted(set.intersection(*(set(scores) for scores in (*left, *right))))
    return [math.fsum(x[s] for x in left) / len(left) - math.fsum(x[s] for x in right) / len(right) for s in seeds]


def ours_beats_baselines(evidence: Evidence) -> Claim:
    """Ours is better than every other distillation method (HORKD, Tab. 1 and 4)."""
    claim = "Ours is better than every other method of distillation."
    test = "paired difference to each baseline by seed; Holm over the baselines"
    row = _blank(evidence, "ours_beats_baselines", claim, test)
    ours = evidence.ours
    rivals = [n for n, arm in evidence.arms.items() if ours and arm.kind == METHOD and not _is_ours(evidence, n)]
    if ours is None or not rivals:
        return row(estimate="the study has no baseline beside ours", verdict=INCONCLUSIVE, n=0)
    rated = []
    for name in rivals:
        by_seed, _ = differences(evidence, ours, name)
        s = statistics.summarise(by_seed.values())
        rated.append((evidence.title(name), s, statistics.t_test_p(s.mean, s.sd, s.n) if s.mean and s.sd else None))
    return _many(row, rated, "− {}: {}", all_needed=True)


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
        return row(estimate="the study has no teacher arm beside ours", verdict=INCONCLUSIVE, n=0)
    rated = []
    for setting in evidence.settings:
        left, right = setting.scores(ours), setting.scores(teacher)
        s = statistics.summarise(left[seed] - right[seed] for seed in sorted(left.keys() & right.keys()))
        p = statistics.t_test_p(s.mean, s.sd, s.n) if s.mean and s.sd else None
        rated.append((setting.title or "student − teacher", s, p))
    return _many(row, rated, "{}: {}", all_needed=False)


def _many(row: Found, rated: Sequence[tuple[str, Summary, float | None]], shape: str, *, all_needed: bool) -> Claim:
    """Several differences: each with its interval, tested together.

    Supported when all are proven positive (or, unless all are needed, some are and none is negative); not supported
    when one is proven negative and, unless all are needed, none positive.
    """
    adjusted = statistics.holm([p for *_, p in rated])
    signs = [
        0 if p is None or p >= statistics.ALPHA or s.mean is None else int(math.copysign(1, s.mean))
        for (_, s, _), p in zip(rated, adjusted, strict=True)
    ]
    up, down = signs.count(1), signs.count(-1)
    verdict = INCONCLUSIVE
    if up and not down and (up == len(signs) or not all_needed):
        verdict = SUPPORTED
    elif down and (all_needed or not up):
        verdict = NOT_SUPPORTED
    words = []
    for (name, s, _), p in zip(rated, adjusted, strict=True):
        told = "no pair" if s.mean is None else _interval(s) + ("" if p is None else f", Holm p {p_value(p)}")
        words.append(shape.format(name, told))
    means = [s for _, s, _ in rated if s.mean is not None]
    least = min(means, key=lambda s: s.mean or 0.0, default=Summary(n=0))
    n = max((s.n for s in means), default=0)
    return row(estimate="; ".join(words), verdict=verdict, n=n, value=least.mean, low=least.low, high=least.high)


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
    return rows
