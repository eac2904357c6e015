"""The graph of stages: what may run, what follows from an end."""

from __future__ import annotations

import random

import pytest

from sweeps.planning.graph import OPEN, StageGraph, StageNode
from trainables.spec import EvaluationSpec, SleepSpec


def node(key: str, *parents: str, cells: tuple[str, ...] = ("cell",), role: str = "stage") -> StageNode:
    return StageNode(key, role, SleepSpec(), 0, {f"parent {i}": p for i, p in enumerate(parents)}, list(cells))


def states(graph: StageGraph) -> dict[str, str]:
    return {key: n.state for key, n in graph.nodes.items()}


@pytest.fixture
def chain() -> StageGraph:
    """a -> b -> c -> d, and e beside b."""
    return StageGraph([node("a"), node("b", "a"), node("c", "b"), node("d", "c"), node("e", "a")])


def test_equal_stages_are_merged_and_keep_all_their_cells() -> None:
    graph = StageGraph()
    first = graph.add(node("a", cells=("one",)))
    assert graph.add(node("a", cells=("two", "one"))) is first
    assert first.cells == ["one", "two"]
    assert len(graph.nodes) == 1
    assert graph.counts == {"waiting": 0, "ready": 1}


def test_merging_a_teacher_for_every_cell_does_not_compare_each_with_all() -> None:
    class Counted(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    graph = StageGraph()
    for number in range(2000):
        graph.add(node("teacher", cells=(Counted(number),)))
    assert len(graph.nodes["teacher"].cells) == 2000
    assert Counted.compared < 10 * 2000


def test_a_merged_stage_is_handed_out_once() -> None:
    graph = StageGraph([node("a"), node("a"), node("a")])
    graph.hand_out("a")
    assert graph.next_ready() is None


def test_stages_are_handed_out_in_the_order_of_the_plan() -> None:
    graph = StageGraph([node(key) for key in "cab"])
    given = []
    while (ready := graph.next_ready()) is not None:
        assert graph.next_ready() is ready  # Asking does not hand out.
        graph.hand_out(ready.key)
        given.append(ready.key)
    assert given == ["c", "a", "b"]


def test_a_stage_is_ready_when_all_its_parents_are_done() -> None:
    graph = StageGraph([node("a"), node("b"), node("c", "a", "b")])
    graph.set("a", "done")
    assert graph.nodes["c"].state == "waiting"
    graph.set("b", "done")
    assert graph.nodes["c"].state == "ready"


def test_a_stage_that_is_present_lets_its_children_run_at_once() -> None:
    graph = StageGraph()
    graph.add(node("a"), present=True)
    graph.add(node("b", "a"))
    assert states(graph) == {"a": "done", "b": "ready"}


def test_a_failure_closes_all_descendants_in_the_same_call_and_names_its_root(chain: StageGraph) -> None:
    chain.set("a", "done")
    chain.hand_out("b")
    chain.set("b", "failed", "ValueError: x")
    assert states(chain) == {"a": "done", "b": "failed", "c": "unrunnable", "d": "unrunnable", "e": "ready"}
    assert chain.nodes["b"].why == "ValueError: x"
    assert chain.nodes["c"].why == chain.nodes["d"].why == "stage b failed"
    chain.set("e", "done")
    assert chain.finished


def test_a_child_added_under_a_failed_or_pruned_parent_is_closed_at_once(chain: StageGraph) -> None:
    chain.set("a", "failed")
    chain.add(node("late", "d"))
    assert chain.nodes["late"].state == "unrunnable"
    assert chain.nodes["late"].why == "stage a failed"
    graph = StageGraph([node("a"), node("b", "a")])
    graph.set("a", "pruned")
    graph.add(node("late", "b"))
    assert states(graph) == {"a": "pruned", "b": "pruned", "late": "pruned"}


def test_the_children_of_a_pruned_stage_are_pruned_and_others_go_on(chain: StageGraph) -> None:
    chain.set("a", "done")
    chain.set("b", "pruned")
    assert states(chain) == {"a": "done", "b": "pruned", "c": "pruned", "d": "pruned", "e": "ready"}
    assert not chain.finished


def test_with_one_parent_pruned_and_one_failed_a_stage_is_closed() -> None:
    for first, second in (("failed", "pruned"), ("pruned", "failed")):
        graph = StageGraph([node("a"), node("b"), node("c", "a", "b")])
        graph.set("a", first)
        graph.set("b", second)
        assert graph.nodes["c"].state in ("unrunnable", "pruned")
        assert graph.finished


def test_a_stage_held_elsewhere_keeps_the_graph_open_and_may_come_back() -> None:
    graph = StageGraph([node("a"), node("b", "a")])
    graph.hand_out("a")
    graph.set("a", "elsewhere")
    assert graph.next_ready() is None
    assert not graph.finished
    graph.set("a", "ready")
    assert graph.next_ready() is graph.nodes["a"]
    graph.hand_out("a")
    graph.set("a", "elsewhere")
    graph.set("a", "done")
    assert graph.nodes["b"].state == "ready"


def test_a_lost_stage_goes_behind_those_that_wait_their_turn() -> None:
    graph = StageGraph([node("a"), node("b")])
    graph.hand_out("a")
    assert graph.next_ready() is graph.nodes["b"]
    graph.set("a", "ready")
    assert graph.next_ready() is graph.nodes["b"]
    graph.hand_out("b")
    assert graph.next_ready() is graph.nodes["a"]
    graph.hand_out("a")
    assert graph.next_ready() is None


def test_stages_go_in_the_order_of_the_plan_not_in_that_of_getting_ready() -> None:
    graph = StageGraph([node("train1"), node("test1", "train1"), node("train2"), node("test2", "train2")])
    graph.hand_out("train1")
    graph.set("train1", "done")
    # The second training was ready first; the first cell's evaluation was planned before it.
    assert graph.next_ready() is graph.nodes["test1"]


def test_a_stage_that_ended_while_it_stood_in_line_is_not_handed_out() -> None:
    graph = StageGraph([node("a"), node("b")])
    graph.set("a", "failed")
    assert graph.next_ready() is graph.nodes["b"]


def test_an_empty_graph_is_finished() -> None:
    assert StageGraph().finished
    assert StageGraph().next_ready() is None


def test_setting_a_state_twice_counts_once(chain: StageGraph) -> None:
    for _ in range(3):
        chain.set("a", "done")
    assert chain.counts["done"] == 1
    assert sum(chain.counts.values()) == 5


def test_the_real_spec_carries_the_nodes_seed_where_there_is_one() -> None:
    assert StageNode("a", "x", SleepSpec(), 7, {}).spec == SleepSpec(seed=7)
    assert StageNode("a", "x", EvaluationSpec(), 7, {}).spec == EvaluationSpec()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_every_graph_comes_to_an_end_with_right_counts(seed: int) -> None:
    draw = random.Random(seed)
    graph = StageGraph()
    for number in range(40):
        parents = draw.sample(range(number), min(number, draw.randrange(3)))
        graph.add(node(str(number), *map(str, parents)), present=draw.random() < 0.1)
    for _ in range(1000):
        ready = graph.next_ready()
        if ready is None:
            break
        graph.hand_out(ready.key)
        graph.set(ready.key, draw.choice(["done", "done", "done", "failed", "pruned", "ready", "elsewhere"]))
        for other in graph.in_state("elsewhere"):
            graph.set(other.key, draw.choice(["done", "ready"]))
    assert graph.finished
    for state in OPEN:
        assert graph.in_state(state) == []
    assert {s: n for s, n in graph.counts.items() if n} == {
        s: len(graph.in_state(s)) for s in set(states(graph).values())
    }
    for n in graph.nodes.values():
        if n.state == "done":
            continue
        assert n.state in ("failed", "pruned") or any(graph.nodes[p].state != "done" for p in n.parents.values())
