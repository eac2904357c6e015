"""What a plug-in's file says: decorators and functions that offer a part."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, TypeVar

from trainables import spec as specs
from trainables.errors import SweepsError, UsageError, did_you_mean
from trainables.plugins.names import check_name, taken_losses, taken_networks
from trainables.plugins.reading import enter, reading_now
from trainables.spec import networks, registry
from trainables.spec.fields import made_of
from trainables.spec.losses import KNOWN, loss_facts

_WEIGHTED = "_weighted"  # So ends the column of a term times its weight.
_NOT_OPTIONS = ("method", "orders", "student", "teacher", "labels", *KNOWN)

Thing = TypeVar("Thing")


def loss(
    name: str,
    *,
    weight: float = 1.0,
    logits: bool = False,
    maps: bool = False,
    same_width: bool = False,
    zero: bool = False,
) -> Callable[[Thing], Thing]:
    """Offer a distillation loss: a function of (student, teacher, labels) that gives a scalar, or an `nn.Module` class.

    Both outputs have `embedding` [B, D], in float32 or wider; the teacher's are constant. Keyword-only parameters with
    defaults (of the constructor, for a class) are options: `--set student.<name>.<option>=...`, `weight` among them.
    A class may ask its constructor for student_width, teacher_width, student_maps, teacher_maps and classes.

    Args:
        name: What `method` calls it.
        weight: Default factor of the term; 0 switches it off.
        logits: Whether it reads `logits` [B, C]; the teacher must know the student's classes then.
        maps: Whether it reads `maps`, one [B, F, h, w] per stage; both networks must have some then.
        same_width: Whether both embeddings must have one width; a study that gives it others is refused.
        zero: Whether it is 0 where student and teacher agree, for `python -m sweeps check`.
    """

    def offer(thing: Thing) -> Thing:
        chosen = _options(name, thing)
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
            raise UsageError(f"`weight` of the loss '{name}' must be a number of at least 0, but got {weight!r}.")
        options = made_of(f"options of {name}", {"weight": float(weight), **chosen}, {"weight": {"low": 0.0}})
        reads = tuple(word for word, read in (("logits", logits), ("maps", maps), ("same_width", same_width)) if read)
        facts = {"code": thing, **loss_facts(name, reads=reads, zero=zero)}
        enter("loss", name, "trainables.losses.of_plugins:PluginTerm", options, **facts)
        return thing

    check_name("loss", name, taken_losses())
    if name.endswith(_WEIGHTED):
        raise UsageError(
            f"The loss '{name}' of {reading_now().where} cannot be called so: in histories, what ends in {_WEIGHTED} is the "
            f"term {name.removesuffix(_WEIGHTED)} times its weight. Choose another."
        )
    return offer


def _options(name: str, thing: Any) -> dict[str, Any]:
    """Names and defaults of what can be set of a loss."""
    found: dict[str, Any] = {}
    parameters = list(inspect.signature(thing).parameters.values())
    if not inspect.isclass(thing):
        places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(places) != 3 and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            raise UsageError(
                f"The loss '{name}' must be a function of (student, teacher, labels), with options after a `*`, but takes "
                f"({', '.join(map(str, parameters))})."
            )
        parameters = [p for p in parameters if p not in places]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if inspect.isclass(thing) and parameter.name in KNOWN:
            continue
        default = parameter.default
        if type(default) not in (bool, int, float, str) or parameter.name in (*_NOT_OPTIONS, "weight"):
            raise UsageError(
                f"The option '{parameter.name}' of the loss '{name}' must have a default that is a number, text or a truth "
                f"value, and another name than {', '.join((*_NOT_OPTIONS, 'weight'))}; got {parameter}."
            )
        found[parameter.name] = default
    return found


def network(name: str, *, least: int = 8) -> Callable[[Thing], Thing]:
    """Offer a network: a function of channels, classes and, if it can, width and embedding, that gives a `Network`.

    Anything else with `embedding_width`, `map_widths` and a forward of (images, maps=False) giving `Outputs` will do.
    Its weights are drawn from torch's global generator, which is seeded for it.

    Args:
        name: What `architecture` calls it.
        least: Side in pixels of the smallest image it can read.
    """

    def offer(thing: Thing) -> Thing:
        enter("network", name, thing, least=int(least), size=functools.cache(lambda: _size(name, int(least))))
        return thing

    check_name("network", name, taken_networks())
    return offer


def _size(name: str, least: int) -> networks.Size:
    from trainables.models.registry import measure

    sides = dict.fromkeys((max(32, least), least))  # At 32 as our own, unless it reads its one size only.
    for side in sides:
        try:
            return networks.Size(*measure(name, side=side))
        except SweepsError:
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    raise UsageError(
        f"The network '{name}' of {registry.get('network', name).where} must read images of "
        f"{' or '.join(map(str, sides))} pixels, so that its cost can be counted, but got {failure[:300]}\nSay by "
        f'@plugins.network("{name}", least=...) from which side on it works.'
    )


def dataset(
    name: str, *, summary: str = "", terms: str = "", watch: Iterable[str] = ("*",), **facts: Any
) -> Callable[[Thing], Thing]:
    """Offer a data set: a function that gives a mapping with `images`, `labels` and, if it has them, more.

    `images` are uint8 [N, C, H, W] or [N, H, W] with C 1 or 3, `labels` whole numbers [N] from 0. Optional are `split`
    [N] (0 training, 1 test; without it 20 % of each class are drawn for test), `classes` (names), `names` (of items) and
    `pairs` as in `trainables.data.packed.Packed`. A parameter `root` of the function is given the data root, a Path.

    Args:
        name: What `--data` calls it.
        summary: One line for `data list`.
        terms: Licence and origin.
        watch: Patterns under the data root whose files' sizes and times tell whether the set must be packed anew.
        facts: `images`, `classes`, `train`, `test`, `side`, `protocols` and `layout`, as far as they are known before
            the set is read.
    """

    def offer(thing: Thing) -> Thing:
        from trainables.data import datasets

        patterns = (watch,) if isinstance(watch, str) else tuple(watch)
        for pattern in patterns:
            parts = PurePath(pattern).parts if isinstance(pattern, str) else ()
            if not parts or ".." in parts or PurePath(pattern).is_absolute():
                raise UsageError(
                    f"`watch` of the data set '{name}' must be patterns of files under the data root, such as '*.npy' or "
                    f"'images/**/*.png', but got {pattern!r}."
                )
        root = "root" in inspect.signature(thing).parameters  # type: ignore[arg-type]
        info = datasets.of_plugin(name, summary, terms, dict(facts), root=root)
        enter("dataset", name, thing, info=info, root=root, watch=patterns)
        return thing

    from trainables.data import datasets

    taken = dict.fromkeys((n for n in datasets.DATASETS if registry.plugin("dataset", n) is None), "a data set")
    check_name("dataset", name, taken | {datasets.FOLDER_PREFIX[:-1]: "how folders of images are asked for"})
    return offer


def stage(spec: type[specs.StageSpec], run: Callable[..., Any]) -> None:
    """Offer a stage: its spec, a frozen dataclass with a `kind` of its own, and the generator that runs it.

    Every stage of that kind has `stage.<kind>` among the components of its key, with the digest of the file.
    """
    if not (isinstance(spec, type) and issubclass(spec, specs.StageSpec)):
        raise UsageError(f"A stage needs a subclass of StageSpec, but got {spec!r}.")
    name = spec.kind
    taken = (known for known in registry.names("stage") if registry.plugin("stage", known) is None)
    check_name("stage", name, dict.fromkeys(taken, "a kind of stage"))
    if not inspect.isgeneratorfunction(run):
        raise UsageError(f"The stage '{name}' must be run by a generator function of (spec, parents, context).")
    enter("stage", name, run, spec=spec, frozen=_frozen_of(spec))
    own = spec.components

    def components(self: specs.StageSpec) -> specs.Versions:
        return dict(sorted((own(self) | {f"stage.{name}": specs.version_of(f"stage.{name}")}).items()))

    spec.components = components  # type: ignore[method-assign]


def _frozen_of(spec: type[specs.StageSpec]) -> Any:
    """How others read the network of a stage, where its spec is derived from a kind that says it; else None."""
    for base in spec.__mro__[1:]:
        entry = registry.find("stage", getattr(base, "kind", ""))
        if entry is not None and entry.facts["spec"] is base:
            return entry.facts["frozen"]
    return None


def recipe(made: Thing) -> Thing:
    """Offer a recipe, for studies in other files."""
    taken = (known for known in registry.names("recipe") if registry.plugin("recipe", known) is None)
    name: Any = getattr(made, "name", None)
    check_name("recipe", name, dict.fromkeys(taken, "a recipe"))
    enter("recipe", name, made)
    return made


def recipe_of(name: str) -> Any:
    """The recipe of that name, built in or of a plug-in loaded before.

    Raises:
        UsageError: If there is none.
    """
    entry = registry.find("recipe", name)
    if entry is None:
        known = registry.names("recipe")
        raise UsageError(f"There is no recipe '{name}'.{did_you_mean(name, known)} There are {', '.join(known)}.")
    return entry.load()
