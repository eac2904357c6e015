"""The methods that studies compare, each as an arm: what it trains, from whom, with which published weights.

Weights are those of the paper or of the public code named in `trainables.spec`; presets on other data multiply them by
`distillation`, one knob for every method, chosen for all of them in the same number of trials (`tuning`).
"""

from __future__ import annotations

from search_spaces.study import Arm

# What `--preset tuning` tries: each distilling arm by its overall weight, labels alone by the learning rate.
WEIGHTS = tuple({"student.distillation": factor} for factor in (0.01, 0.1, 0.3, 1.0, 3.0))
RATES = tuple({"student.learning_rate": rate} for rate in (0.0125, 0.025, 0.05, 0.1, 0.2))

HORKD = ("horkd", "horkd_direct")  # Which arm its studies are about, and what stands for it where it is not run.

RESOLUTION = "resolution"  # Of the student and of the floors; presets pin that of teacher and assistant.


def _direct(title: str, method: str, **parameters: object) -> Arm:
    """A student taught by the teacher itself, without an assistant."""
    given = {"route": "direct", "student.method": method, **parameters}
    return Arm(title=title, kind="method", parameters=given, tuning=WEIGHTS)


def _order(title: str, orders: str) -> Arm:
    return _direct(title, "horkd", **{"student.horkd.orders": orders})


ARMS = {
    "teacher": Arm(title="Teacher", kind="teacher", parameters={"route": "teacher"}, ignores=(RESOLUTION,)),
    "ce": Arm(title="Labels only", kind="plain", parameters={"route": "plain", "student.method": "none"}, tuning=RATES),
    "ce_equal_compute": Arm(
        title="Labels only, equal compute",
        kind="equal_compute",
        parameters={"route": "plain", "student.method": "none"},
        compute_of="horkd",
    ),
    "ce_equal_compute_direct": Arm(
        title="Labels only, compute of a direct student",
        kind="equal_compute",
        parameters={"route": "plain", "student.method": "none"},
        compute_of="horkd_direct",
    ),
    "kd": _direct("KD", "kd", **{"student.cross_entropy": 0.1}),
    "fitnet": _direct("FitNet", "fitnet"),
    "at": _direct("AT", "at"),
    "rkd": _direct("RKD", "rkd"),
    "pkt": _direct("PKT", "pkt"),
    "sp": _direct("SP", "sp"),
    "darkrank": _direct("DarkRank", "darkrank"),
    "mkd": _direct("MKD", "mkd"),
    "mkd_at": _direct("MKD + AT", "mkd+at"),
    "crd": _direct("CRD", "crd"),
    "l1": _order("Points (1)", "1"),
    "l2": _order("Pairs (2)", "2"),
    "l3": _order("Angles (3)", "3"),
    "lc": _order("Centres (C)", "C"),
    "horkd_direct": Arm(
        title="HORKD, no assistant",
        kind="method",
        parameters={"route": "direct", "student.method": "horkd"},
        tuning=WEIGHTS,
    ),
    "horkd_cross": Arm(
        title="HORKD, full resolution",
        kind="ours",
        parameters={"route": "cross_structure"},
        ignores=(RESOLUTION,),
    ),
    "horkd": Arm(
        title="HORKD",
        kind="ours",
        parameters={"route": "assistant", "student.method": "horkd"},
        tuning=WEIGHTS,
    ),
    "horkd_init": Arm(
        title="HORKD, begun from the assistant",
        kind="ours",
        parameters={"route": "assistant", "student.method": "horkd", "student.init_from_assistant": True},
    ),
    "horkd_vgg": Arm(
        title="HORKD, VGG-11",
        kind="ours",
        parameters={"route": "assistant", "assistant.architecture": "vgg11", "student.architecture": "vgg11"},
    ),
    "horkd_cross_vgg": Arm(
        title="HORKD, VGG-11, full resolution",
        kind="ours",
        parameters={"route": "cross_structure", "assistant.architecture": "vgg11"},
        ignores=(RESOLUTION,),
    ),
    "pixels": Arm(
        title="Raw pixels, nearest",
        kind="floor",
        parameters={
            "route": "untrained",
            "untrained.architecture": "pixels",
            "evaluation.reader": "nearest",
            "evaluation.similarity": "euclidean",
            "evaluation.head": "nearest",
        },
    ),
    "random": Arm(
        title="Network as drawn",
        kind="floor",
        parameters={"route": "untrained", "evaluation.reader": "nearest", "evaluation.head": "nearest"},
    ),
}


def pick(*names: str) -> dict[str, Arm]:
    """Some of the arms, in this order."""
    return {name: ARMS[name] for name in names}
