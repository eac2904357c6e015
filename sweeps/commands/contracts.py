"""What every stage and study must do, and running all contracts over what a file offers."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import search_spaces
from analysis.records import EVALUATION
from search_spaces.study import Study
from sweeps.planning.graph import StageNode
from sweeps.planning.planner import build_graph
from sweeps.planning.request import Request
from sweeps.runs.folder import Place
from sweeps.runs.prepare import Prepared, prepare
from trainables.attempts.attempt import attempt
from trainables.contracts import Broken, broken
from trainables.contracts.datasets import OF_DATASETS
from trainables.contracts.losses import OF_LOSSES, OF_LOSSES_OF_ANY_WIDTHS, OF_ZERO_LOSSES, loss_of
from trainables.contracts.networks import OF_NETWORKS
from trainables.errors import DataError, DrainedError, NoParentError, SweepsError, did_you_mean
from trainables.recipes import Recipe
from trainables.spec import registry, spec_classes, stage_key, to_plain
from trainables.spec.registry import Entry
from trainables.stages.base import Context
from trainables.store.artifacts import Store

MOST_ATTEMPTS = 1000


@dataclass(frozen=True)
class Checked:
    """One line of a check."""

    what: str  # `loss variance`.
    contract: str
    why: str = ""  # What does not hold; nothing where it does.
    skipped: bool = False  # `why` tells the reason.

    @property
    def ok(self) -> bool:
        """Whether it holds, or was not asked."""
        return not self.why or self.skipped


# Studies.


def silent(line: str) -> None:
    """Says nothing."""


def plans_in_every_preset(study: Study) -> None:
    """Every preset resolves to cells and stages."""
    for name in study.presets:
        with tempfile.TemporaryDirectory() as folder:
            ready = _prepared(study, name, Path(folder))
        if ready.survey.asked == 0 or not ready.resolved.seeds:
            broken(f"preset {name} plans nothing")


def has_a_tiny_preset(study: Study) -> None:
    """A `tiny` preset exists and is small."""
    if "tiny" not in study.presets:
        broken(f"there is no preset 'tiny', which tests need; there are {', '.join(study.presets)}")
    with tempfile.TemporaryDirectory() as folder:
        stages = _prepared(study, "tiny", Path(folder)).survey.asked
    if not 0 < stages <= 2000:
        broken(f"preset tiny has {stages:,} stages")


def claims_are_known(study: Study) -> None:
    """Every claim is one that the analysis has a test for, and names what the study has."""
    from analysis.claims.check import TESTS

    for claim in study.claims:
        declared = claim.test.plain()
        if declared["kind"] not in TESTS:
            broken(
                f"no test is written for claims of kind '{declared['kind']}'.{did_you_mean(declared['kind'], TESTS)}"
            )
        named = [value for value in (declared.get("arm"), declared.get("than"), declared.get("to")) if value]
        named += declared.get("arms", [])
        flat = [name for value in named for name in (value if isinstance(value, list) else [value])]
        for name in flat:
            if study.arms and name not in study.arms and not name.startswith("("):
                broken(f"the claim '{claim.text}' is about '{name}', which is no arm.{did_you_mean(name, study.arms)}")
            if study.factor is not None and name not in study.axes[study.factor.parameter]:
                broken(f"the claim '{claim.text}' is about '{name}', which is no value of {study.factor.parameter}")


def baseline_is_a_cell(study: Study) -> None:
    """What the others are compared with is among the cells."""
    for name, value in (study.baseline or {}).items():
        if name not in study.axes or value not in study.axes[name]:
            broken(f"the baseline {name}={value} is on no axis")


def roles_can_be_reported(study: Study) -> None:
    """The last stage of the recipe is an evaluation."""
    roles = study.recipe.roles
    if roles[-1] != EVALUATION:
        broken(f"the last stage must have the role {EVALUATION}, but has {roles[-1]}")


def _prepared(study: Study, preset: str, folder: Path) -> Prepared:
    place = Place(runs=folder / "runs", store=folder / "store")
    return prepare(Request(study=study.name, preset=preset), place, silent, pack=False)


def stages_come_after_what_they_read(recipe: Recipe) -> None:
    """Every parent that a stage names, and every role that it takes fields from, is a stage before it."""
    before: list[str] = []
    for step in recipe.steps:
        read = [
            (role, f"reads it as its parent '{inside}'") for inside, roles in step.parents.items() for role in roles
        ]
        read += [(role, "takes fields from it") for roles in step.inherits for role in roles]
        for role, how in read:
            if role not in before:
                broken(
                    f"there must be a stage '{role}' before {step.role}, which {how}, but there is "
                    f"{', '.join(before) or 'none'}.{did_you_mean(role, before)}"
                )
        before.append(step.role)


OF_RECIPES: dict[str, Callable[[Recipe], None]] = {
    "its stages come after those that they read": stages_come_after_what_they_read,
}
OF_STUDIES: dict[str, Callable[[Study], None]] = {
    "every preset gives a plan": plans_in_every_preset,
    "its preset tiny is there and small": has_a_tiny_preset,
    "its claims have tests": claims_are_known,
    "its baseline is one of its cells": baseline_is_a_cell,
    "its stages can be reported": roles_can_be_reported,
}


# Stages.


class Interrupted(Context):
    """Lets a stage get no further than its next checkpoint."""

    def save(self, epoch: int, payload: bytes) -> None:
        """Keep the checkpoint, then leave."""
        super().save(epoch, payload)
        raise DrainedError(f"stopped by the check at epoch {epoch}")


def stopped_and_continued_equals_uninterrupted(nodes: Sequence[StageNode], store: Store) -> None:
    """A stage that is stopped after each checkpoint publishes the digest of one that runs through.

    Args:
        nodes: The stage, last, behind those it reads, which are run if the store lacks them.
        store: With the packed data.
    """
    *before, node = nodes
    for other in before:
        if not store.has(other.key):
            _run(other, Context(store=store, key=other.key, core_locks=False))
    twin = Store(store.root.parent / f"{store.root.name}-twin")
    twin.prepare()
    try:
        for name in ("data", *(other.key for other in before)):
            if not (twin.root / name).exists() and (store.root / name).exists():
                (twin.root / name).symlink_to((store.root / name).resolve(), target_is_directory=True)
        if not store.has(node.key):
            _run(node, Context(store=store, key=node.key, core_locks=False))
        stops = 0
        while not twin.has(node.key):
            said = _run(node, Interrupted(store=twin, key=node.key, core_locks=False), may_stop=True)
            stops += said["outcome"] == "stopped"
            if stops > MOST_ATTEMPTS:
                broken(
                    f"it was stopped {MOST_ATTEMPTS} times and never ended: it does not go on from `context.saved()`"
                )
        if stops == 0 and store.get(node.key).manifest["epochs"] > 1:
            broken("it saves nothing between its epochs; call `context.save` after each")
        if store.get(node.key).digest != twin.get(node.key).digest:
            broken(f"stopped {stops} times and continued, it publishes something else than when it runs through")
    finally:
        shutil.rmtree(twin.root, ignore_errors=True)


def _run(node: StageNode, context: Context, *, may_stop: bool = False) -> dict[str, Any]:
    said = list(attempt(node.spec.kind, to_plain(node.spec), node.parents, context))[-1]
    if said.get("outcome") not in (("done", "stopped") if may_stop else ("done",)):
        broken(f"the stage '{node.role}' ended as {said.get('outcome')}: {said.get('message', '')}")
    return said


def nodes_of(kind: str, studies: Sequence[Study], folder: Path) -> tuple[list[StageNode], Store]:
    """A stage of a kind behind what it reads: from the smallest preset of a study, else by itself on the digits."""
    place = Place(runs=folder / "runs", store=folder / "store")
    place.prepare()
    for study in studies:
        if study.sampled or not any(step.spec is spec_classes()[kind] for step in study.recipe.steps):
            continue
        request = Request(study=study.name, preset="tiny" if "tiny" in study.presets else "demo")
        ready = prepare(request, place, silent)
        graph, _, _ = build_graph(ready.plan, ready.store)
        node = next((n for n in graph.nodes.values() if n.spec.kind == kind), None)
        if node is not None:
            return _with_ancestors(node, graph.nodes), ready.store
    from trainables.data import catalog

    store = Store(place.store)
    info = catalog.pack(catalog.locate("digits", data_root=None), store.root / "data")
    spec = spec_classes()[kind](data=info.fingerprint)
    return [StageNode(stage_key(spec, {}), kind, spec, 0, {}, [])], store


def _with_ancestors(node: StageNode, nodes: Any) -> list[StageNode]:
    family: dict[str, StageNode] = {}

    def visit(one: StageNode) -> None:
        for parent in one.parents.values():
            visit(nodes[parent])
        family[one.key] = one

    visit(node)
    return list(family.values())


# All of them.


class Skipped(Exception):
    """Something cannot be checked here; the message tells the reason."""


def check(offers: Sequence[Entry], data_root: Path | None = None) -> Iterator[Checked]:
    """Every contract over everything that was offered, a line each.

    Args:
        offers: What to check.
        data_root: Where data sets that read files find them.
    """
    for offer in offers:
        for sentence, contract in contracts_of(offer, data_root).items():
            yield _one(f"{offer.group} {offer.name}", sentence, contract)


def contracts_of(entry: Entry, data_root: Path | None = None) -> dict[str, Callable[[], None]]:
    """Sentence -> the contract of one part, built in or of a plug-in, ready to be called.

    Args:
        entry: The part. Tasks and label losses have no contract that suits any of them.
        data_root: As in `check`.
    """
    made: Mapping[str, Callable[..., None]] = {}
    subject: tuple[Any, ...] = (entry.name,)
    if entry.group == "loss":
        of_widths = {} if entry.facts["same_width"] else OF_LOSSES_OF_ANY_WIDTHS
        made, subject = OF_LOSSES | of_widths | (OF_ZERO_LOSSES if entry.facts["zero"] else {}), (loss_of(entry),)
    elif entry.group == "network":
        made = OF_NETWORKS
    elif entry.group == "dataset":
        made, subject = OF_DATASETS, (entry.name, data_root)
        if data_root is None and _reads_files(entry):
            made = dict.fromkeys(OF_DATASETS, _without_files)
    elif entry.group == "stage":
        made, subject = {"stopped and continued equals uninterrupted": _stage}, (entry.name, _studies(entry))
    elif entry.group == "recipe":
        made, subject = OF_RECIPES, (entry.load(),)
    elif entry.group == "study":
        made, subject = OF_STUDIES, (search_spaces.load(entry.name),)
    return {sentence: functools.partial(contract, *subject) for sentence, contract in made.items()}


def _reads_files(entry: Entry) -> bool:
    """Whether a data set cannot be had without a data root."""
    if entry.origin is not None:
        return bool(entry.facts["root"])
    try:
        entry.load().locate(None, None)
    except DataError:
        return True
    return False


def _without_files(name: str, data_root: Path | None) -> None:
    raise Skipped("needs its files: name them with --data-root")


def _studies(entry: Entry) -> list[Study]:
    """Those that may have a stage of that kind: of plug-ins, or for a built-in one of ours."""
    names = [offer.name for offer in offered(("study",))] if entry.origin else search_spaces.names()
    return [search_spaces.load(name) for name in names]


def _stage(kind: str, studies: Sequence[Study]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        nodes, store = nodes_of(kind, studies, Path(folder))
        try:
            stopped_and_continued_equals_uninterrupted(nodes, store)
        except Broken:
            alone = len(nodes) == 1 and not nodes[0].parents
            said = store.failures(nodes[0].key)[-1:] if alone else []
            if any(failure["type"] == NoParentError.__name__ for failure in said):
                raise Skipped("it reads other stages: name a file with a study that has it, too") from None
            raise


def _one(what: str, sentence: str, contract: Callable[[], None]) -> Checked:
    try:
        contract()
    except Skipped as error:
        return Checked(what, sentence, str(error), skipped=True)
    except SweepsError as error:
        return Checked(what, sentence, str(error))
    except (Exception, SystemExit) as error:  # The user's own code: whatever it raises is the answer.
        return Checked(what, sentence, f"{type(error).__name__}: {error}")
    return Checked(what, sentence)


def offered(kinds: Sequence[str] = registry.GROUPS) -> list[Entry]:
    """All that plug-ins offer, by kind."""
    return [offer for kind in kinds for offer in registry.plugins() if offer.group == kind]
