"""What a stage asks of the machine it runs on. Changes no numbers, and so is no part of a key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.planning.graph import StageGraph, StageNode
from trainables.errors import MachineError, UsageError, did_you_mean
from trainables.spec import StageSpec

EVERY = "all"
KEYS = ("gpu", "cpus", "memory_gb")


@dataclass(frozen=True)
class Resources:
    """Cores, share of a GPU and memory of each stage, by role.

    Attributes:
        gpu_share: What a stage takes of a GPU when nothing else is said; 0 without GPUs.
        by_role: Role, or `all`, -> `gpu` (share or count), `cpus`, `memory_gb`.
    """

    gpu_share: float = 0.0
    by_role: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, node: StageNode) -> dict[str, float]:
        """Ray's resource -> amount: CPU, and GPU and memory (bytes) where asked for."""
        return self.of_role(node.role, node.base)

    def of_role(self, role: str, spec: StageSpec) -> dict[str, float]:
        """The same for any stage of a role."""
        said = {**self.by_role.get(EVERY, {}), **self.by_role.get(role, {})}
        gpu = said.get("gpu", self.gpu_share if spec.computes else 0.0)
        amounts = {"CPU": max(float(spec.threads), said.get("cpus", 0.0))}
        if gpu:
            amounts["GPU"] = gpu
        if said.get("memory_gb"):
            amounts["memory"] = said["memory_gb"] * 2**30
        return amounts


def parse(words: Sequence[str], roles: Iterable[str], gpu_share: float) -> Resources:
    """The resources that `--need ROLE:key=value,...` words describe.

    Raises:
        UsageError: For an unknown role or key, or an amount that cannot be had.
    """
    known = [EVERY, *roles]
    found: dict[str, dict[str, float]] = {}
    for word in words:
        role, colon, rest = word.partition(":")
        if not colon:
            raise UsageError(f"--need takes ROLE:KEY=VALUE[,KEY=VALUE], such as student:gpu=0.25,cpus=2; got '{word}'.")
        if role not in known:
            raise UsageError(f"No stage is called '{role}'.{did_you_mean(role, known)} There are {', '.join(known)}.")
        for part in rest.split(","):
            key, _, text = part.partition("=")
            if key not in KEYS:
                raise UsageError(f"--need knows no '{key}'.{did_you_mean(key, KEYS)} It knows {', '.join(KEYS)}.")
            found.setdefault(role, {})[key] = _amount(key, text, word)
    return Resources(gpu_share, found)


def _amount(key: str, text: str, word: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    whole = value == int(value) if abs(value) < 1e6 else False
    good = {
        "gpu": value == 0 or 0.01 <= value <= 1 or (value > 1 and whole),
        "cpus": value >= 1 and whole,
        "memory_gb": 0 < value < 1e5,
    }[key]
    if not good:
        allowed = {
            "gpu": "0, a share from 0.01 to 1, or a whole number of GPUs",
            "cpus": "a whole number from 1",
            "memory_gb": "a number above 0",
        }[key]
        raise UsageError(f"`{key}` must be {allowed}, got '{text}' in '{word}'.")
    return value


def resources_fit(graph: StageGraph, slots: int) -> None:
    """Refuse a stage that this machine can never hold.

    Raises:
        MachineError: If a stage asks for more cores than there are.
    """
    most = max((n.base.threads for n in graph.nodes.values() if n.state in ("waiting", "ready")), default=1)
    if most > slots:
        raise MachineError(
            f"A stage asks for {most} threads, but only {slots} cores may be used here. Use --set threads={slots} or more cores."
        )
