"""What the specs of all stage kinds share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.errors import UsageError, did_you_mean
from trainables.spec import registry
from trainables.spec.components import Versions
from trainables.spec.fields import Fields, from_plain
from trainables.spec.values import bounded, choice
from trainables.spec.work import KEPT_BYTES, Sizes, Work


@dataclass(frozen=True, kw_only=True)
class StageSpec(Fields):
    """What every stage has. Subclasses add the fields that change their numbers."""

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1  # Raise when the same spec would now give other numbers.
    leaves_network: ClassVar[bool] = False  # Whether others may read a network of it; it is a `TrainingSpec` then.
    is_given: ClassVar[bool] = False  # Whether that network comes from a file; it is a `GivenSpec` then.
    learns: ClassVar[bool] = False  # Whether it can be told to learn from a frozen teacher: a `DistillationSpec`.
    reads_test: ClassVar[bool] = False  # Whether it reads the test split, which may be of other data.
    drawn_once: ClassVar[bool] = False  # Whether the trials of a sampled study are taken to share it.
    computes: ClassVar[bool] = True  # Whether it has any use for a GPU.
    plural: ClassVar[str] = ""  # What several of them are called where an s behind the role will not do.
    data: str = ""  # Fingerprint of the packed data set.
    threads: int = bounded(1, 1, 256)  # One and two threads give different bits; never taken from the machine.
    precision: str = choice("float32", ("float32", "bfloat16", "float16"))

    def components(self) -> Versions:
        """Versions of the parts this stage's numbers rest on."""
        return {}

    def resources(self) -> dict[str, float]:
        """What Ray is asked for: cpus, gpu share, memory in bytes. Changes no numbers."""
        return {"cpu": float(self.threads)}

    @property
    def distils(self) -> bool:
        """Whether any of its losses reads a frozen teacher."""
        return False

    @property
    def reads_logits(self) -> bool:
        """Whether it is of no use on a network without logits."""
        return False

    def work(self, sizes: Sizes, guide: StageSpec | None) -> Work:
        """What it will take, before anything runs.

        Args:
            sizes: Of the data.
            guide: The first network among its parents.
        """
        return Work(seconds=0.1, bytes=KEPT_BYTES + sizes.data.get("test_images", 0) * 9)


def stage_entry(
    spec: type[StageSpec], run: Callable[..., Any], *, frozen: Callable[..., Any] | None = None
) -> registry.Entry:
    """The declaration of a built-in stage kind, which its file calls ENTRY.

    Args:
        spec: Its spec.
        run: The generator function of (spec, parents, context) that runs it.
        frozen: A function of (artifact, spec) that gives the network others learn from, where that is not simply the
            one of the spec with the weights of the artifact.
    """
    facts = {"spec": spec, "frozen": frozen}
    return registry.Entry(group="stage", name=spec.kind, implementation=run, version=spec.version, facts=facts)


def spec_classes() -> dict[str, type[StageSpec]]:
    """Stage kind -> its spec."""
    return {name: registry.get("stage", name).facts["spec"] for name in registry.names("stage")}


def spec_from(kind: str, plain: Mapping[str, Any]) -> StageSpec:
    """The spec of a stage kind from the plain fields in a manifest or a Ray configuration."""
    entry = registry.find("stage", kind)
    if entry is None:
        kinds = registry.names("stage")
        raise UsageError(f"No stage kind named '{kind}'.{did_you_mean(kind, kinds)} There are {', '.join(kinds)}.")
    made: StageSpec = from_plain(entry.facts["spec"], plain)
    return made
