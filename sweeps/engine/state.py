"""What display, signals and queue of a run share: the graph, what runs, why it ends or waits. No ray."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

from slurm.reaper import Reaper
from sweeps.engine.eta import Pace
from sweeps.engine.machines import Machine
from sweeps.engine.memory_pressure import MemoryGate
from sweeps.engine.resources import Resources
from sweeps.planning.graph import StageGraph, StageNode


@dataclass
class EngineState:
    """What display, signals and searcher share."""

    graph: StageGraph
    machine: Machine
    resources: Resources = field(default_factory=Resources)
    running: dict[str, str] = field(default_factory=dict)  # Trial id -> key.
    started: set[str] = field(default_factory=set)  # Trials that were heard of: a worker has them.
    draining: bool = False
    warned: bool = False  # The job this driver runs in is about to end; it carries on in its next life.
    halted: str = ""  # Why everything must end now, e.g. a full disk.
    lock: threading.RLock = field(default_factory=threading.RLock)
    pids: dict[str, int] = field(default_factory=dict)
    starting: bool = False  # Ray is being started: its processes are looked for, and one that vanishes ends the run.
    trained: int = 0
    reaper: Reaper | None = None  # Kept open when the run ended early.
    memory: MemoryGate = field(default_factory=MemoryGate)
    pace: Pace = field(default_factory=Pace)
    core_waits: set[str] = field(default_factory=set)  # Trials whose worker waits for cores that others hold.
    news: list[str] = field(default_factory=list)  # What a person should be told once; whoever displays takes it.
    waits: str = ""  # Why nothing more starts although stages are ready.

    def __post_init__(self) -> None:
        if not self.machine.is_local:
            self.memory = MemoryGate(lambda: None)  # Stages run on other nodes, whose memory is not seen from here.
        self.graph.regroup(lambda node: tuple(sorted(self.resources.of(node).items())))

    @property
    def slots(self) -> int:
        """How many usual stages run at once now."""
        usual = next(iter(self.graph.nodes.values()), None)
        return self.machine.room(self.resources.of(usual) if usual is not None else {"CPU": 1.0})

    def has_room(self, node: StageNode) -> bool:
        """Whether a stage should be handed out: one more than can start, so that it is there when a slot gets free."""
        wanted = self.resources.of(node)
        used: dict[str, float] = {}
        unstarted = 0
        for trial, key in self.running.items():
            other = self.resources.of(self.graph.nodes[key])
            if trial in self.started:
                for name, amount in other.items():
                    used[name] = used.get(name, 0.0) + amount
            else:
                unstarted += other == wanted
        taken = max((used.get(name, 0.0) / amount for name, amount in wanted.items()), default=0.0)
        return unstarted <= max(0, self.machine.room(wanted) - math.ceil(taken - 1e-9))

    @property
    def ended_early(self) -> bool:
        """Whether the run was drained or halted."""
        return self.draining or bool(self.halted)
