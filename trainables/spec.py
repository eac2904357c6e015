"""Specs: everything that changes a stage's numbers, and the key made of it. No torch, no ray.

A stage's key is 16 hex digits over the canonical JSON of its kind, version and fields, the versions of the components
it uses, the fingerprint of its data and its parents' keys. Equal keys mean equal numbers, so equal stages are trained
once. What does not change the numbers (device, workers, paths, verbosity) is not here; it travels in the context.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from trainables import plugged
from trainables.errors import UsageError, did_you_mean

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet34_thin", "resnet_thin", "vgg11")
OUTSIDE = ("torchvision:", "timm:")  # Beginnings of the names of other libraries' networks.
FAMILIES = ("iresnet", "vggface2", "facenet", "plain")  # Of files of weights; see `trainables.pretrained`.
OF_FAMILIES = {
    "iresnet": ("iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200"),
    "vggface2": ("vggface2_resnet50", "vggface2_senet50"),
    "facenet": ("inception_resnet_v1",),
}
FILTERS = ("bicubic", "area", "bilinear")
AUGMENTATIONS = ("none", "flip", "crop", "crop_flip")
STEMS = ("small", "large")
LARGE_STEMS = ("resnet18", "resnet34", "resnet50")  # Networks that can have the large one.
TASKS = ("classification", "verification", "identification", "retrieval")
ORDERS = ("1", "2", "3", "C")
METHODS = ("horkd", "kd", "fitnet", "at", "rkd", "pkt", "sp", "darkrank", "mkd", "crd")
# Method -> its terms, as histories name them; those of HORKD follow from its orders.
TERMS: dict[str, tuple[str, ...]] = {
    "kd": ("kd",),
    "fitnet": ("fitnet",),
    "at": ("at",),
    "rkd": ("rkd_distance", "rkd_angle"),
    "pkt": ("pkt",),
    "sp": ("sp",),
    "darkrank": ("darkrank",),
    "mkd": ("mkd_absolute", "mkd_relative"),
    "crd": ("crd",),
}
ON_MAPS = ("fitnet", "at", "sp")  # Methods that read feature maps, which are too large to keep for every view.
TEACHER_OUTPUTS = ("live", "cached", "cached_epochs")
MOST_VIEWS = 1000  # An augmentation with more views counts as unbounded: nobody could keep its outputs.

# Raise a number when the same spec would now give other numbers; it enters the key of every stage that uses the
# component and earns a line under "Changed results" in the changelog.
COMPONENTS: dict[str, int] = {
    "degrade": 1,
    "augment": 1,
    "batches": 1,
    "batches.balanced": 1,  # Groups of one class; joins `batches` where `images_per_class` asks for it.
    "loop": 1,
    "guide": 3,  # The images it sees, as its own training normalised them, and its network; 1 was counted in `loop`.
    "outputs": 1,
    "loss.cross_entropy": 1,
    "loss.point": 1,
    "loss.pair": 2,
    "loss.angle": 2,
    "loss.center": 2,
    "network.resnet18": 2,
    "network.resnet34": 2,
    "network.resnet50": 2,
    "network.resnet34_thin": 2,
    "network.resnet_thin": 2,
    "network.vgg11": 2,
    "network.pixels": 1,
    "network.iresnet": 1,
    "network.vggface2": 1,
    "network.facenet": 1,
    "pretrained": 1,  # How files are read as weights, and images made what their networks want.
    "loss.kd": 1,
    "loss.fitnet": 1,
    "loss.at": 1,
    "loss.rkd": 2,
    "loss.pkt": 1,
    "loss.sp": 1,
    "loss.darkrank": 2,
    "loss.mkd": 2,
    "loss.crd": 1,
    "loss.triplet": 2,
    "protocol.classification": 1,
    "protocol.verification": 1,
    "protocol.identification": 1,
    "protocol.retrieval": 1,
}

# A component of a plug-in has no number but the beginning of its file's digest: each edit makes other keys.
Versions = dict[str, int | str]


def version_of(component: str) -> int | str:
    """The version of a component, built in or of a plug-in; networks of other libraries are all at 1."""
    if component.startswith(tuple(f"network.{library}" for library in OUTSIDE)):
        return 1  # The library's own version stands in the manifest.
    return plugged.version(component) or COMPONENTS[component]


ORDER_LOSS = {"1": "loss.point", "2": "loss.pair", "3": "loss.angle", "C": "loss.center"}


MOST_WHOLE = 2**31 - 1
MOST_FLOAT = 3.4e38  # Of float32.


def bounded(default: Any, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A field with limits (both included), checked when the spec is made."""
    return field(default=default, metadata={"low": low, "high": high, **more})


def choice(default: str, options: tuple[str, ...], **more: Any) -> Any:
    """A field that takes one of `options`."""
    return field(default=default, metadata={"options": options, **more})


def later(default: Any, **more: Any) -> Any:
    """A field added after a release: left out of the key while it has its neutral default, so old keys stay."""
    return field(default=default, metadata={"neutral": True, **more})


@functools.lru_cache(maxsize=256)
def canonical_orders(text: str) -> str:
    """`C+3` -> `3+C`; `none` or nothing stands for cross-entropy alone.

    Raises:
        UsageError: If a part is none of 1, 2, 3, C.
    """
    parts = [part.strip().upper() for part in str(text).replace(" ", "+").split("+") if part.strip()]
    if not parts or parts == ["NONE"]:
        return "none"
    for part in parts:
        if part not in ORDERS:
            raise UsageError(
                f"orders: '{part.lower() if part == 'NONE' else part}' is not an order. "
                "Use any of 1, 2, 3, C joined by +, or 'none' for cross-entropy only."
            )
    return "+".join(order for order in ORDERS if order in parts)


@functools.lru_cache(maxsize=256)
def orders_of(text: str) -> tuple[str, ...]:
    """The orders switched on, in the order 1, 2, 3, C."""
    canonical = canonical_orders(text)
    return () if canonical == "none" else tuple(canonical.split("+"))


def methods() -> tuple[str, ...]:
    """The distillation losses there are: METHODS, and those of plug-ins by name."""
    return (*METHODS, *plugged.names("loss"))


def canonical_method(text: str) -> str:
    """`MKD+at` -> `at+mkd`, the order of METHODS, then plug-ins; `none` or nothing stands for labels alone.

    Raises:
        UsageError: If a part is no distillation loss.
    """
    return "+".join(methods_of(text)) or "none"


def methods_of(text: str) -> tuple[str, ...]:
    """The distillation losses switched on, in the order of `methods()`."""
    return _methods_of(str(text), plugged.generation())


def reads_maps(method: str) -> bool:
    """Whether a distillation loss reads feature maps, which are never kept."""
    offer = plugged.find("loss", method)
    return method in ON_MAPS or (offer is not None and bool(offer.facts["maps"]))


@functools.lru_cache(maxsize=256)
def _methods_of(text: str, generation: int) -> tuple[str, ...]:
    parts = [part.strip().lower() for part in text.replace(" ", "+").split("+") if part.strip()]
    if not parts or parts == ["none"]:
        return ()
    known = methods()
    for part in parts:
        if part not in known:
            raise UsageError(
                f"method: '{part}' is not a distillation loss.{did_you_mean(part, known)} "
                f"Use any of {', '.join(known)} joined by +, or 'none' for labels only."
            )
    return tuple(method for method in known if method in parts)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _leaves(cls: Any) -> tuple[tuple[str, Any, Any, Mapping[str, Any]], ...]:
    hints = _hints(cls)
    return tuple((f.name, hints[f.name], f.default, f.metadata) for f in dataclasses.fields(cls))


def coerce(value: Any, kind: Any, name: str) -> Any:
    """`value` as the declared type `kind`: 1 and 1.0 are one, floats are finite, -0.0 is 0.0.

    Raises:
        UsageError: If it cannot be done without changing the value.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        options = [k for k in typing.get_args(kind) if k is not type(None)]
        if value is None or str(value).strip().lower() in ("none", "native"):
            return None
        kind = options[0]
    if kind is PluginOptions:
        return value if isinstance(value, PluginOptions) else PluginOptions.of(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        if isinstance(value, Mapping):
            return from_plain(kind, value)
        raise UsageError(f"{name} must be a group of parameters, got {value!r}.")
    if kind is bool:
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in ("true", "yes", "on", "1"):
            return True
        if word in ("false", "no", "off", "0"):
            return False
        raise UsageError(f"{name} must be true or false, got {value!r}.")
    if kind is int:
        if isinstance(value, bool):
            raise UsageError(f"{name} must be a whole number, got {value!r}.")
        try:
            # Not through a float where that can be avoided: digits beyond 2^53 would change.
            if isinstance(value, (int, str)):
                return int(value)
        except ValueError:
            pass  # "3.0" and "1e3" are whole numbers, too.
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"{name} must be a whole number, got {value!r}.") from None
        if not math.isfinite(number) or number != int(number):
            raise UsageError(f"{name} must be a whole number, got {value!r}.")
        return int(number)
    if kind is float:
        if isinstance(value, bool):
            raise UsageError(f"{name} must be a number, got {value!r}.")
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{name} must be a number, got {value!r}.") from None
        if not math.isfinite(number):
            raise UsageError(f"{name} must be a finite number, got {value!r}.")
        return number + 0.0  # -0.0 + 0.0 is 0.0.
    if kind is str:
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise UsageError(f"{name} must be text, got {value!r}.")
        return str(value)
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if isinstance(value, str):
            value = [part for part in value.replace("/", " ").replace(";", " ").split() if part]
        if not isinstance(value, (list, tuple)):
            value = [value]
        return tuple(coerce(part, inner, name) for part in value)
    raise TypeError(f"spec field {name} has a type no key can hold: {kind}")


def check(value: Any, metadata: Mapping[str, Any], name: str) -> None:
    """Refuse a value outside a field's limits or options."""
    options = metadata.get("options")
    if options and "plugged" in metadata:
        options = (*options, *plugged.names(metadata["plugged"]))
    if options and value not in options and not _outside(value, metadata):
        raise UsageError(
            f"{name} must be one of {', '.join(options)}, got '{value}'.{did_you_mean(str(value), options)}"
        )
    low, high = metadata.get("low"), metadata.get("high")
    _check_size(value, high, name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):  # noqa: SIM102
        if (low is not None and value < low) or (high is not None and value > high):
            kind = "a whole number" if isinstance(value, int) else "a number"
            if low is not None and high is not None:
                span = f"from {_shown(low)} to {_shown(high)}"
            else:
                span = f"of at least {_shown(low)}" if low is not None else f"of at most {_shown(high)}"
            raise UsageError(f"{name} must be {kind} {span}, got {_shown(value)}.")


def _check_size(value: Any, high: float | None, name: str) -> None:
    """Refuse a number that tensors of float32 or sizes of 32 bits do not hold, where a field says no limit of its own."""
    for number in value if isinstance(value, tuple) else (value,):
        if high is None and isinstance(number, (int, float)) and not isinstance(number, bool):
            most = MOST_WHOLE if isinstance(number, int) else MOST_FLOAT
            if abs(number) > most:
                raise UsageError(f"{name} must be a number of at most {most:g}, got {_shown(number)}.")


def _outside(value: Any, metadata: Mapping[str, Any]) -> bool:
    """Whether a name is one that another library knows: what follows the colon is looked up when it is built."""
    library, colon, name = str(value).partition(":")
    return f"{library}{colon}" in metadata.get("prefixes", ()) and re.fullmatch(r"[\w.\-]+", name) is not None


def _shown(number: Any) -> str:
    """The digits of whole numbers, of huge ones the first; a few of others."""
    if not isinstance(number, int):
        return f"{number:g}"
    if abs(number).bit_length() > 4000:
        return f"one of about {round(abs(number).bit_length() * 0.30103)} digits"  # Python itself refuses to write it.
    return str(number)


class Fields:
    """What specs and their nested groups share: coercion and checks on construction."""

    def __post_init__(self) -> None:
        values = self.__dict__
        for name, kind, default, metadata in _leaves(type(self)):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
            value = values[name]
            # Most values are the default's own; plans of 10,000 cells feel the difference.
            if value is default:
                continue
            if type(value) is not kind or kind is float:
                value = coerce(value, kind, name)
                object.__setattr__(self, name, value)
            if metadata:
                check(value, metadata, name)
        self.validate()

    def validate(self) -> None:
        """Checks that span several fields; raises UsageError."""

    def unused(self) -> tuple[str, ...]:
        """Fields that the others switch off: they change no number and so do not enter the key."""
        return ()


def to_plain(spec: Any, *, only_used: bool = False) -> dict[str, Any]:
    """The fields as JSON values, nested groups as objects; later fields at their neutral default are left out.

    Args:
        spec: A spec or a group of fields.
        only_used: Leave out what the other fields switch off, as a key does.
    """
    plain: dict[str, Any] = {}
    unused = spec.unused() if only_used else ()
    values = spec.__dict__
    for name, _, default, metadata in _leaves(type(spec)):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
        value = values[name]
        if name in unused or (metadata and "neutral" in metadata and value == default):
            continue
        if isinstance(value, Fields):
            value = to_plain(value, only_used=only_used)
        elif isinstance(value, PluginOptions):
            value = dict(value.values)
            if not value:
                continue
        elif isinstance(value, tuple):
            value = list(value)
        plain[name] = value
    return plain


def from_plain(cls: type, plain: Mapping[str, Any]) -> Any:
    """The spec that `to_plain` wrote.

    Raises:
        UsageError: If a field is unknown.
    """
    names = {name for name, *_ in _leaves(cls)}
    for name in plain:
        if name not in names:
            raise UsageError(f"'{name}' is not a field of {cls.__name__}.{did_you_mean(name, names)}")
    return cls(**plain)


def variant(base: Any, changes: Mapping[str, Any]) -> Any:
    """A spec equal to `base` but for some fields, coerced and checked as on construction.

    What `dataclasses.replace` gives, several times faster: plans of 10,000 cells are made of these.

    Raises:
        UsageError: If a value does not fit.
    """
    leaves = {name: (kind, metadata) for name, kind, _, metadata in _leaves(type(base))}  # type: ignore[arg-type]
    values = dict(base.__dict__)
    for name, value in changes.items():
        if name not in leaves and plugged.find("loss", name):
            own = {f"{name}.{option}": chosen for option, chosen in value.items()}
            values["plugin"] = PluginOptions.of(dict(values["plugin"].values) | own)
            continue
        kind, metadata = leaves[name]
        if type(value) is not kind or kind is float:
            value = coerce(value, kind, name)
        if metadata:
            check(value, metadata, name)
        values[name] = value
    made = object.__new__(type(base))
    made.__dict__.update(values)
    made.validate()
    return made


def flatten(spec: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of every field, nested groups included: `{"horkd.alpha": 0.02, ...}`."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        if isinstance(value, PluginOptions):
            flat.update((f"{prefix}{path}", chosen) for path, chosen in value.values)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat.update(flatten(value, f"{prefix}{f.name}."))
        else:
            flat[f"{prefix}{f.name}"] = value
    return flat


def field_paths(cls: type, prefix: str = "") -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """Dotted name -> (declared type, field) of every leaf of a spec class."""
    hints = _hints(cls)
    paths: dict[str, tuple[Any, dataclasses.Field[Any]]] = {}
    for f in dataclasses.fields(cls):
        kind = hints[f.name]
        if kind is PluginOptions:
            paths.update((f"{prefix}{path}", entry) for path, entry in PluginOptions.paths().items())
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            paths.update(field_paths(kind, f"{prefix}{f.name}."))
        else:
            paths[f"{prefix}{f.name}"] = (kind, f)
    return paths


@dataclass(frozen=True)
class PluginOptions:
    """What was set of the losses that plug-ins bring: (`loss.option`, value), sorted.

    Defaults are left out: the file that holds them is in the key by its digest.
    """

    values: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def paths(cls) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        """`loss.option` -> (type, field) of every loss that is there."""
        found = {}
        for name in plugged.names("loss"):
            for option, default in plugged.get("loss", name).options.items():
                limits = {"low": 0.0} if option == "weight" else {}
                found[f"{name}.{option}"] = (type(default), later(default, plugin=True, **limits))
        return found

    @classmethod
    def of(cls, given: Any) -> PluginOptions:
        """Options coerced to the types of their defaults.

        Raises:
            UsageError: If a loss or an option is unknown, or a value does not fit.
        """
        if not isinstance(given, Mapping):
            raise UsageError(f"plugin must be a group of parameters, got {given!r}.")
        known, chosen = cls.paths(), {}
        for path, value in given.items():
            if path not in known:
                raise UsageError(
                    f"'{path}' is not an option of a loss that is loaded.{did_you_mean(path, known)} "
                    "Name the file that brings the loss with --plugins."
                )
            kind, declared = known[path]
            coerced = coerce(value, kind, path)
            check(coerced, declared.metadata, path)
            if coerced != declared.default:
                chosen[path] = coerced
        return cls(tuple(sorted(chosen.items())))

    def of_loss(self, name: str) -> dict[str, Any]:
        """Every option of one loss, defaults where nothing was set."""
        own = {path.partition(".")[2]: value for path, value in self.values if path.partition(".")[0] == name}
        return dict(plugged.get("loss", name).options) | own


@dataclass(frozen=True, kw_only=True)
class HorkdSpec(Fields):
    """The loss of HORKD (Eq. 8): point + alpha pair + beta angle + gamma centre, each switched on by `orders`."""

    orders: str = "1+2+3+C"  # Any of 1, 2, 3, C joined by +; none = cross-entropy only.
    w_1st: float = bounded(1.0, 0.0)  # Weight of the point term; the paper has no factor there.
    alpha: float = bounded(0.02, 0.0)  # Pair term; 0.02 in HORKD, Sec. 4.4 (by order of appearance).
    beta: float = bounded(0.01, 0.0)  # Angle term; 0.01 there.
    gamma: float = bounded(1.0, 0.0)  # Centre term; 1 there.
    reduction: str = choice("mean", ("mean", "sum_over_anchors_mean", "reference"))
    point_distance: str = choice("mse", ("mse", "squared_l2", "l2", "cosine", "smooth_l1"))
    centers: str = choice("running", ("running", "batch", "epoch"))
    center_momentum: float = bounded(0.9, 0.0, 1.0)
    center_warmup: float = bounded(0.3, 0.0, 1.0)  # Share of training over which gamma rises from 0.
    pair_distance: str = choice("square", ("square", "huber"))
    feature_norm: str = choice("bn", ("none", "l2", "bn"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", canonical_orders(self.orders))
        super().__post_init__()

    def unused(self) -> tuple[str, ...]:
        """What belongs to orders that are off; weights of absent terms must not make equal trainings differ."""
        on = orders_of(self.orders)
        names: list[str] = [] if on else ["reduction"]
        if "1" not in on:
            names += ["w_1st", "point_distance", "feature_norm"]
        if "2" not in on:
            names += ["alpha"]
        if "3" not in on:
            names += ["beta"]
        if "C" not in on:
            names += ["gamma", "centers", "center_momentum", "center_warmup"]
        if "2" not in on and "C" not in on:
            names += ["pair_distance"]
        return tuple(names)


@dataclass(frozen=True, kw_only=True)
class KdSpec(Fields):
    """Softened class probabilities (Hinton et al. 2015): weight x T^2 x KL(teacher || student)."""

    weight: float = bounded(0.9, 0.0)  # RepDistiller and mdistiller: 0.9, beside 0.1 of cross-entropy.
    temperature: float = bounded(4.0, 0.01)  # 4 there.


@dataclass(frozen=True, kw_only=True)
class FitnetSpec(Fields):
    """A hint: the student's map of one stage regressed onto the teacher's (Romero et al. 2015)."""

    weight: float = bounded(100.0, 0.0)  # RepDistiller.
    layer: int = bounded(2, 1, 5)  # Stage of the trunk, counted from 1.
    regressor: str = choice("conv_bn", ("conv_bn", "conv"))  # 1x1 convolution, with or without normalisation.
    align: str = choice("pool", ("pool", "upsample"))  # Larger map pooled to the smaller, or the smaller enlarged.


@dataclass(frozen=True, kw_only=True)
class AtSpec(Fields):
    """Attention maps of every stage (Zagoruyko and Komodakis 2017)."""

    weight: float = bounded(1000.0, 0.0)  # RepDistiller; so large because of the mean over pixels.
    power: float = bounded(2.0, 0.1)


@dataclass(frozen=True, kw_only=True)
class RkdSpec(Fields):
    """Relations of pairs and triplets under a Huber loss (Park et al. 2019)."""

    distance: float = bounded(25.0, 0.0)  # CIFAR: 25 and 50; metric learning: 1 and 2.
    angle: float = bounded(50.0, 0.0)
    form: str = choice("mean", ("mean", "reference"))  # Mean over valid tuples, or over B^2 and B^3 as in public code.


@dataclass(frozen=True, kw_only=True)
class PktSpec(Fields):
    """Probabilistic knowledge transfer (Passalis and Tefas 2018): conditional similarities of a batch."""

    weight: float = bounded(30_000.0, 0.0)  # RepDistiller; it undoes the mean over B^2.


@dataclass(frozen=True, kw_only=True)
class SpSpec(Fields):
    """Similarity preserving (Tung and Mori 2019): row-normalised Gram matrices of the last maps."""

    weight: float = bounded(3000.0, 0.0)  # RepDistiller.


@dataclass(frozen=True, kw_only=True)
class DarkrankSpec(Fields):
    """The teacher's order of the neighbours (Chen et al. 2018)."""

    weight: float = bounded(1.0, 0.0)
    kind: str = choice("hard", ("hard", "soft"))  # ListMLE of the teacher's order, or KL over all orders.
    scale: float = bounded(3.0, 0.0)  # The paper's alpha.
    power: float = bounded(3.0, 0.0)  # The paper's beta.
    length: int = bounded(4, 2, 6)  # Neighbours in a list; "soft" goes over length! orders.


@dataclass(frozen=True, kw_only=True)
class MkdSpec(Fields):
    """Learning metrics from teachers (Yu et al. 2019): embeddings and their distances, raw."""

    absolute: float = bounded(1.0, 0.0)  # CUB: 1 and 0.3.
    relative: float = bounded(0.3, 0.0)
    form: str = choice("mean", ("mean", "reference"))  # Mean over pairs, or the public code's Frobenius norm.


@dataclass(frozen=True, kw_only=True)
class CrdSpec(Fields):
    """Contrastive representation distillation (Tian et al. 2020), with a memory bank of the training set."""

    weight: float = bounded(0.8, 0.0)  # RepDistiller.
    temperature: float = bounded(0.07, 0.001)
    negatives: int = bounded(4096, 1)  # 16384 in the paper; at most what the training set holds.
    width: int = bounded(128, 1)
    momentum: float = bounded(0.5, 0.0, 1.0)
    negatives_from: str = choice("other_classes", ("all", "other_classes"))


@dataclass(frozen=True, kw_only=True)
class TripletSpec(Fields):
    """Triplet loss on labels (no distillation), on L2-normalised embeddings."""

    weight: float = bounded(0.0, 0.0)
    margin: float = bounded(0.2, 0.0)
    mining: str = choice("hard", ("hard", "all"))  # Hardest positive and negative of each anchor, or all triplets.


@dataclass(frozen=True, kw_only=True)
class StageSpec(Fields):
    """What every stage has. Subclasses add the fields that change their numbers."""

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1  # Raise when the same spec would now give other numbers.
    data: str = ""  # Fingerprint of the packed data set.
    threads: int = bounded(1, 1, 256)  # One and two threads give different bits; never taken from the machine.
    precision: str = choice("float32", ("float32", "bfloat16", "float16"))

    def components(self) -> Versions:
        """Versions of the parts this stage's numbers rest on."""
        return {}

    def resources(self) -> dict[str, float]:
        """What Ray is asked for: cpus, gpu share, memory in bytes. Changes no numbers."""
        return {"cpu": float(self.threads)}


SEED_MARK = 2_147_483_646  # Stands for any seed in a key template; no spec may use it.


class KeyTemplate:
    """Makes the keys of one spec under many seeds: what they share is hashed once."""

    def __init__(self, spec: StageSpec, roles: tuple[str, ...]) -> None:
        # Marks are numbers, because no text of a field can read like a name and a number: its quotes are escaped.
        marked = identity(spec, dict.fromkeys(roles, SEED_MARK))
        if "seed" in marked["fields"]:
            marked["fields"]["seed"] = SEED_MARK
        text = canonical_json(marked)
        marks = {f'"{name}":{SEED_MARK}': name for name in ("seed", *roles)}
        parts = re.split("(" + "|".join(re.escape(mark) for mark in marks) + ")", text)
        self._start = hashlib.sha256(parts[0].encode())
        self._rest = [(marks.get(part), part.encode()) for part in parts[1:]]

    def key(self, seed: int, parents: Mapping[str, str]) -> str:
        """What `stage_key` gives for the spec under `seed` with `parents`."""
        digest = self._start.copy()
        for name, text in self._rest:
            if name is None:
                digest.update(text)
            elif name == "seed":
                digest.update(f'"seed":{seed}'.encode())
            else:
                digest.update(f'"{name}":"{parents[name]}"'.encode())
        return digest.hexdigest()[:16]


def identity(spec: StageSpec, parents: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a key is made of."""
    return {
        "kind": spec.kind,
        "version": spec.version,
        "fields": to_plain(spec, only_used=True),
        "components": spec.components(),
        "parents": dict(parents),
    }


def stage_key(spec: StageSpec, parents: Mapping[str, str]) -> str:
    """16 hex digits: equal for equal numbers, and only then.

    Args:
        spec: What the stage does.
        parents: Role -> key of the artifacts it reads.
    """
    return hashlib.sha256(canonical_json(identity(spec, parents)).encode()).hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, no NaN: equal values give equal text."""
    return _CANONICAL.encode(value)


# Made once: building an encoder takes longer than encoding a spec.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def short_hash(value: Any, digits: int = 8) -> str:
    """The first hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:digits]


def _check_groups(spec: TrainingSpec | OutputsSpec) -> None:
    """Refuse groups of images of one class that are no groups, or of which no two fit into a batch."""
    wanted = spec.images_per_class
    if wanted and not 2 <= wanted <= spec.batch_size // 2:
        raise UsageError(
            f"images_per_class must be 0 (off) or from 2 to half of batch_size, which is {spec.batch_size}, got {wanted}."
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(StageSpec):
    """A stage that trains a network: data, network, optimiser and schedule."""

    seed: int = bounded(0, 0, 2**31 - 2)  # Initialisation, order of the data, augmentation.
    # Data. The split is the same for every seed; `train_images` are drawn from what validation leaves.
    validation_fraction: float = bounded(0.1, 0.0, 0.9)
    split_seed: int = bounded(0, 0, 2**31 - 2)
    train_images: int = bounded(0, 0)  # 0 means all.
    augment: str = choice("none", AUGMENTATIONS)
    pad: int = bounded(4, 0, 64)  # Pixels the crop may shift.
    resolution: int | None = bounded(None, 4, 1024)  # Side in pixels of what the network reads; None: the data's own.
    filter: str = choice("bicubic", FILTERS)  # How resolution is lost.
    blur: float = bounded(0.0, 0.0, 16.0)  # Sigma in pixels of the high-resolution image, before decimation.
    # Network.
    architecture: str = choice("resnet18", ARCHITECTURES, prefixes=OUTSIDE, plugged="network")
    width: float = bounded(1.0, 0.01, 16.0)  # Multiplies every channel count.
    embedding: int = bounded(0, 0, 8192)  # Width of the embedding layer; 0 means the pooled features.
    # Optimisation.
    epochs: int = bounded(100, 1, 100_000)
    batch_size: int = bounded(64, 1, 65_536)
    optimizer: str = choice("sgd", ("sgd", "adamw"))
    learning_rate: float = bounded(0.05, 0.0)
    momentum: float = bounded(0.9, 0.0, 1.0)  # First beta for AdamW.
    nesterov: bool = False
    weight_decay: float = bounded(5e-4, 0.0)
    schedule: str = choice("cosine", ("cosine", "steps", "constant"))
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)  # Shares of training: 150, 180, 210 of 240 epochs.
    decay: float = bounded(0.1, 0.0, 1.0)  # What a step multiplies the rate with.
    warmup_epochs: float = bounded(0.0, 0.0)
    label_smoothing: float = bounded(0.0, 0.0, 0.999)
    ema: float = bounded(0.0, 0.0, 0.99999)  # Decay per step of the averaged weights; 0 means none.
    clip_norm: float = bounded(0.0, 0.0)  # Largest norm of the gradient; 0 means unlimited.
    select: str = choice("last", ("last", "best"))  # Which epoch is kept: the last, or the best on validation.
    # What the network is for. Tasks other than classification train on other classes than they test.
    task: str = later("classification", options=TASKS)
    held_out: float = later(0.5, low=0.0, high=0.95)  # Share of the classes that is tested, where the data names none.
    folds: tuple[int, ...] = later(())  # Verification: tested folds, whose people are not trained on; () means all.
    min_images: int = later(0, low=0)  # Classes with fewer images are not trained on.
    subjects: int = later(0, low=0)  # Identification: number of people tested; 0 means all that are held out.
    stem: str = later(
        "small", options=STEMS
    )  # 3x3 of stride 1, or 7x7 of stride 2 and pooling, for 96 pixels and more.
    upsample_to: int | None = later(None, low=4, high=1024)  # Enlarge to this side after the loss of resolution.
    triplet: TripletSpec = later(TripletSpec())
    start_weights: str = later("")  # Weights from a file that training begins with; the command line takes the path.
    # Batches of groups of at least so many images of one class, as metric learning wants them; 0: drawn from all alike.
    images_per_class: int = later(0, low=0)

    def validate(self) -> None:
        """Refuses groups of which no two fit into a batch."""
        super().validate()
        _check_groups(self)

    def unused(self) -> tuple[str, ...]:
        """Splits of other tasks, and a triplet loss without weight."""
        names = [] if self.triplet.weight > 0 else ["triplet"]
        if self.task == "classification":
            names += ["held_out", "folds", "min_images", "subjects"]
        if self.task != "verification":
            names += ["folds"]
        if self.task != "identification":
            names += ["subjects"]
        return tuple(names)

    def components(self) -> Versions:
        """The loop, the data path, the label losses, the network, and the protocol that splits the classes."""
        names = ["loop", "batches", "degrade", "augment", "loss.cross_entropy", f"network.{self.architecture}"]
        if self.task != "classification":
            names.append(f"protocol.{self.task}")
        if self.triplet.weight > 0:
            names.append("loss.triplet")
        if self.start_weights:
            names.append("pretrained")
        if self.images_per_class:
            names.append("batches.balanced")
        return {name: version_of(name) for name in sorted(names)}


@dataclass(frozen=True, kw_only=True)
class TeacherSpec(TrainingSpec):
    """A network trained on labels alone, at its own resolution; the source of what is distilled."""

    kind: ClassVar[str] = "teacher"


_OF_TRAINING = (
    *("epochs", "batch_size", "optimizer", "learning_rate", "momentum", "nesterov", "weight_decay", "schedule"),
    *("milestones", "decay", "warmup_epochs", "label_smoothing", "ema", "clip_norm", "select", "augment", "pad"),
    *("triplet", "precision", "start_weights", "images_per_class"),
)


@dataclass(frozen=True, kw_only=True)
class UntrainedSpec(TrainingSpec):
    """A network as it is drawn, or raw pixels: the floor that a trained one has to leave behind."""

    kind: ClassVar[str] = "untrained"
    architecture: str = choice("pixels", (*ARCHITECTURES, "pixels"), prefixes=OUTSIDE, plugged="network")

    def unused(self) -> tuple[str, ...]:
        """All of training; pixels have no seed either."""
        names = [*_OF_TRAINING]
        if self.architecture == "pixels":
            names += ["seed", "width", "embedding", "stem"]
        return (*super().unused(), *names)

    def components(self) -> Versions:
        """The network, and the protocol that says how many classes it has."""
        names = [f"network.{self.architecture}"]
        if self.task != "classification":
            names.append(f"protocol.{self.task}")
        return {name: version_of(name) for name in names}


@dataclass(frozen=True, kw_only=True)
class PretrainedSpec(TrainingSpec):
    """A teacher whose weights come from a file: it is checked on the data, not trained, and has no seed."""

    kind: ClassVar[str] = "pretrained"
    weights: str = ""  # First 16 hex digits of the file's SHA-256; the command line takes the path.
    family: str = choice("auto", ("auto", *FAMILIES))  # Layout of the file; auto: as recognised.
    architecture: str = choice(
        "auto", ("auto", *ARCHITECTURES, *(name for names in OF_FAMILIES.values() for name in names)), prefixes=OUTSIDE
    )
    head: str = choice("none", ("none", "keep"))  # keep: its logits, where they are of the data's own classes.
    # What images it wants; each family has its own, which plain files may be given.
    order: str = choice("auto", ("auto", "rgb", "bgr"))
    mean: tuple[float, ...] = ()  # Of pixels from 0 to 1; () means the architecture's own.
    std: tuple[float, ...] = ()
    side: int = bounded(0, 0, 1024)  # Side in pixels that the network reads; 0 means the architecture's own.

    def unused(self) -> tuple[str, ...]:
        """All of training, the seed included."""
        return (*super().unused(), *_OF_TRAINING, "seed")

    def components(self) -> Versions:
        """How files are read, the data path, the network, and the protocol that splits the classes."""
        of = {name: family for family, names in OF_FAMILIES.items() for name in names}
        names = ["degrade", "pretrained", f"network.{of.get(self.architecture, self.architecture)}"]
        if self.task != "classification":
            names.append(f"protocol.{self.task}")
        return {name: version_of(name) for name in sorted(names) if name != "network.auto"}


@dataclass(frozen=True, kw_only=True)
class DistillationSpec(TrainingSpec):
    """A network trained on labels and on the knowledge of a frozen guide; `method` says which losses join.

    With the default method it is HORKD's Eq. 8 plus cross-entropy.
    """

    cross_entropy: float = bounded(1.0, 0.0)  # Weight of the label term; the paper adds it as it is.
    horkd: HorkdSpec = HorkdSpec()
    # Whether the guide runs beside the student (live), or its outputs are computed once and kept: for every view of the
    # augmentation (cached), or for those that a seed draws in each epoch (cached_epochs).
    teacher_outputs: str = choice("live", TEACHER_OUTPUTS)
    outputs_per_shard: int = later(9, low=1)  # Views, or epochs, that one stage computes; changes no number.
    method: str = later("horkd")  # Any of METHODS joined by +; none = labels only.
    distillation: float = later(1.0, low=0.0)  # Multiplies every distillation term: one knob for all methods.
    kd: KdSpec = later(KdSpec())
    fitnet: FitnetSpec = later(FitnetSpec())
    at: AtSpec = later(AtSpec())
    rkd: RkdSpec = later(RkdSpec())
    pkt: PktSpec = later(PktSpec())
    sp: SpSpec = later(SpSpec())
    darkrank: DarkrankSpec = later(DarkrankSpec())
    mkd: MkdSpec = later(MkdSpec())
    crd: CrdSpec = later(CrdSpec())
    plugin: PluginOptions = later(PluginOptions())  # Of losses that plug-ins bring; set as `<loss>.<option>`.

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", canonical_method(self.method))
        super().__post_init__()

    def validate(self) -> None:
        """Forgets options of plug-ins whose losses are off: who reads the spec later need not have these plug-ins."""
        super().validate()
        on = methods_of(self.method) if self.plugin.values else ()
        used = tuple(chosen for chosen in self.plugin.values if chosen[0].partition(".")[0] in on)
        if used != self.plugin.values:
            object.__setattr__(self, "plugin", PluginOptions(used))

    @property
    def distils(self) -> bool:
        """Whether any loss reads the guide."""
        on = methods_of(self.method)
        return any(method != "horkd" or orders_of(self.horkd.orders) for method in on)

    @property
    def keeps_outputs(self) -> bool:
        """Whether it reads kept outputs of its guide, which have no feature maps."""
        return self.teacher_outputs != "live" and self.distils and not any(map(reads_maps, methods_of(self.method)))

    def unused(self) -> tuple[str, ...]:
        """Groups of the losses that are off, and how outputs are cut into stages."""
        on = methods_of(self.method)
        names = [method for method in METHODS if method not in on]
        names += ["outputs_per_shard"]
        if not on:
            names += ["teacher_outputs"]
        if not self.distils:
            names += ["distillation"]
        return (*super().unused(), *names)

    def components(self) -> Versions:
        """Those of training, the guide if it is read, and one for each loss switched on; HORKD counts by order."""
        names = ["guide"] if self.distils else []
        names += [f"loss.{method}" for method in methods_of(self.method) if method != "horkd"]
        if "horkd" in methods_of(self.method):
            names += [ORDER_LOSS[order] for order in orders_of(self.horkd.orders)]
        return dict(sorted((super().components() | {name: version_of(name) for name in names}).items()))


@dataclass(frozen=True, kw_only=True)
class AssistantSpec(DistillationSpec):
    """The high-resolution network between teacher and student (HORKD, cross-structure distillation)."""

    kind: ClassVar[str] = "assistant"


@dataclass(frozen=True, kw_only=True)
class StudentSpec(DistillationSpec):
    """The low-resolution network guided by the assistant (HORKD, cross-resolution distillation)."""

    kind: ClassVar[str] = "student"
    init_from_assistant: bool = False  # Not stated in the paper.


@dataclass(frozen=True, kw_only=True)
class OutputsSpec(StageSpec):
    """What a frozen network says about training images, kept for all that distil from it; one shard, or what they share.

    `base` holds what belongs to all shards: the mean that residuals are taken from, and the exact class centres.
    """

    kind: ClassVar[str] = "outputs"
    part: str = choice("base", ("base", "views", "epochs"))
    start: int = bounded(0, 0)  # First view, or first epoch counted from 1.
    stop: int = bounded(0, 0)  # One more than the last.
    # Which images, as the network that reads the outputs is trained on them.
    validation_fraction: float = bounded(0.1, 0.0, 0.9)
    split_seed: int = bounded(0, 0, 2**31 - 2)
    train_images: int = bounded(0, 0)
    task: str = choice("classification", TASKS)
    held_out: float = bounded(0.5, 0.0, 0.95)
    folds: tuple[int, ...] = ()
    min_images: int = bounded(0, 0)
    subjects: int = bounded(0, 0)
    # Which views of them.
    augment: str = choice("none", AUGMENTATIONS)
    pad: int = bounded(4, 0, 64)
    seed: int = bounded(0, 0, 2**31 - 2)  # Of order and augmentation.
    batch_size: int = bounded(64, 1, 65_536)
    images_per_class: int = later(0, low=0)

    def validate(self) -> None:
        """Refuses groups of which no two fit into a batch."""
        super().validate()
        _check_groups(self)

    def unused(self) -> tuple[str, ...]:
        """Views do not rest on a seed, and the base on no view."""
        names = [] if self.part == "epochs" else ["seed", "batch_size", "images_per_class"]
        if self.part == "base":
            names += ["start", "stop", "augment", "pad"]
        elif "crop" not in self.augment:
            names += ["pad"]
        if self.task == "classification":
            names += ["held_out", "folds", "min_images", "subjects"]
        if self.task != "verification":
            names += ["folds"]
        if self.task != "identification":
            names += ["subjects"]
        return tuple(names)

    def components(self) -> Versions:
        """How a guide looks at images, what is kept of it, and the protocol that says which images."""
        names = ["guide", "outputs", "degrade"]
        names += [] if self.part == "base" else ["augment"]
        names += ["batches"] if self.part == "epochs" else []
        names += ["batches.balanced"] if self.part == "epochs" and self.images_per_class else []
        names += [] if self.task == "classification" else [f"protocol.{self.task}"]
        return {name: version_of(name) for name in sorted(names)}


def view_count(augment: str, pad: int) -> int:
    """Number of distinct views of one image: (2 pad + 1)^2 crops, times 2 with flips (pad 4: 162)."""
    return ((2 * pad + 1) ** 2 if "crop" in augment else 1) * (2 if "flip" in augment else 1)


def outputs_specs(spec: DistillationSpec) -> tuple[OutputsSpec, ...]:
    """The stages that keep what `spec` reads of its guide, the base first; none where the guide runs live.

    Augmentations with more than MOST_VIEWS views are kept as each seed's epochs draw them.
    """
    if not spec.keeps_outputs:
        return ()
    names = {f.name for f in dataclasses.fields(OutputsSpec)} & {f.name for f in dataclasses.fields(spec)}
    base = OutputsSpec(**{name: getattr(spec, name) for name in names})
    views = view_count(spec.augment, spec.pad)
    by_epochs = spec.teacher_outputs == "cached_epochs" or views > MOST_VIEWS
    first, last, part = (1, spec.epochs + 1, "epochs") if by_epochs else (0, views, "views")
    cuts = range(first, last, spec.outputs_per_shard)
    shards = [
        variant(base, {"part": part, "start": cut, "stop": min(cut + spec.outputs_per_shard, last)}) for cut in cuts
    ]
    return (base, *shards)


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec(StageSpec):
    """The one reading of the test split, by a finished network."""

    kind: ClassVar[str] = "evaluation"
    resolution: int | None = bounded(None, 4, 1024)
    filter: str = choice("bicubic", FILTERS)
    blur: float = bounded(0.0, 0.0, 16.0)
    batch_size: int = bounded(256, 1, 65_536)
    protocol: str = choice("classification", TASKS)
    upsample_to: int | None = later(None, low=4, high=1024)  # As in training.
    test_resolution: int | None = later(None, low=1, high=1024)  # Side the test images are reduced to before the
    # network's own resolution; None: only the latter. Fills the cross-evaluation matrix.
    flip: bool = later(False)  # Verification: add the embedding of the mirrored image.
    reader: str = later("logits", options=("logits", "nearest"))  # Classification: by logits, or by nearest neighbour.
    similarity: str = later("cosine", options=("cosine", "euclidean"))
    gallery: int = later(0, low=0)  # Identification: known images per person; 0 means 80 % of them.
    head: str = later("softmax", options=("softmax", "nearest"))  # Identification: new softmax layer, or nearest.

    def unused(self) -> tuple[str, ...]:
        """What belongs to other protocols."""
        names = [] if self.protocol == "verification" else ["flip"]
        # Images that are not smaller than what the network reads are reduced to that at once.
        if None not in (self.test_resolution, self.resolution) and self.test_resolution >= self.resolution:  # type: ignore[operator]
            names += ["test_resolution"]
        if self.protocol != "classification":
            names += ["reader"]
        if self.protocol != "identification":
            names += ["gallery", "head"]
        by_layer = {"classification": self.reader == "logits", "identification": self.head == "softmax"}
        if by_layer.get(self.protocol, False):
            names += ["similarity"]
        return tuple(names)

    def components(self) -> Versions:
        """The protocol and the data path."""
        names = ["degrade", f"protocol.{self.protocol}"]
        return {name: version_of(name) for name in names}


@dataclass(frozen=True, kw_only=True)
class SleepSpec(StageSpec):
    """A stage that only sleeps: for tests of the engine and for its benchmark."""

    kind: ClassVar[str] = "sleep"
    seed: int = bounded(0, 0)
    label: str = ""
    epochs: int = bounded(3, 1)
    seconds: float = bounded(0.1, 0.0)  # Of one epoch.
    fail_at: int = bounded(0, 0)  # Epoch that raises; 0 means none.
    value: float = 0.5  # What it claims as validation accuracy.


SPECS: dict[str, type[StageSpec]] = {
    spec.kind: spec
    for spec in (
        *(TeacherSpec, AssistantSpec, StudentSpec, UntrainedSpec, PretrainedSpec),
        *(OutputsSpec, EvaluationSpec, SleepSpec),
    )
}


def spec_from(kind: str, plain: Mapping[str, Any]) -> StageSpec:
    """The spec of a stage kind from the plain fields in a manifest or a Ray configuration."""
    if kind not in SPECS:
        raise UsageError(f"No stage kind named '{kind}'.{did_you_mean(kind, SPECS)} There are {', '.join(SPECS)}.")
    return from_plain(SPECS[kind], plain)
