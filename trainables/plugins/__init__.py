"""Plug-ins: a loss, network, data set, stage, recipe or study of your own, from one file outside the package.

    from trainables import plugins

    @plugins.loss("variance", weight=1.0)
    def variance(student, teacher, labels): ...

Only files that somebody names, and entry points of installed distributions, are run. A file is known by the SHA-256
of its bytes: equal bytes are one plug-in, and whatever it offers has these digits in the keys of the stages that use it.
No torch here; the file brings what it needs.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import FrameType, ModuleType
from typing import Any, TypeVar

from system.regular_files import read_bytes
from trainables import spec as specs
from trainables.errors import ArtifactError, SweepsError, UsageError, did_you_mean
from trainables.spec import networks, registry
from trainables.spec.registry import Entry, Origin

__all__ = ["dataset", "load", "loss", "network", "recipe", "recipe_of", "stage"]

GROUP = "sweeps.plugins"  # Of entry points.
GIVEN_TO_LOSSES = ("student_width", "teacher_width", "student_maps", "teacher_maps", "classes")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WORDS = (
    *("teacher", "assistant", "student", "evaluation", "untrained", "outputs", "arm", "tuning", "route"),
    *("none", "auto", "pixels", "data", "plugin"),
)
_COLUMNS = ("loss", "cross_entropy", "top1", "spread", "triplet")  # Of histories; terms stand beside them by name.
_WEIGHTED = "_weighted"  # So ends the column of a term times its weight.
_NOT_OPTIONS = ("method", "orders", "student", "teacher", "labels", *GIVEN_TO_LOSSES)
_LARGEST = 16 << 20

_loaded: dict[tuple[str, str], Origin] = {}  # By digest and entry point, in the order of loading.
_modules: dict[tuple[str, str], set[str]] = {}  # The same -> names in sys.modules of what was run for it.
_current: _Reading | None = None

Thing = TypeVar("Thing")


# What a file says.


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
        options = _options(name, thing)
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
            raise UsageError(f"`weight` of the loss '{name}' must be a number of at least 0, but got {weight!r}.")
        facts = {"logits": logits, "maps": maps, "same_width": same_width, "zero": zero}
        _add("loss", name, thing, {"weight": float(weight), **options}, **facts)
        return thing

    _check_name("loss", name, _taken_losses())
    if name.endswith(_WEIGHTED):
        raise UsageError(
            f"The loss '{name}' of {_reading().where} cannot be called so: in histories, what ends in {_WEIGHTED} is the "
            f"term {name.removesuffix(_WEIGHTED)} times its weight. Choose another."
        )
    return offer


def _taken_losses() -> dict[str, str]:
    """Names that no loss may have -> what has them: they are methods, parameters, parts of keys, columns of histories."""
    fields = {path.partition(".")[0] for spec in specs.spec_classes().values() for path in specs.field_paths(spec)}
    terms = {term: f"a term of {method}" for method, names in specs.TERMS.items() for term in names}
    terms |= {loss.partition(".")[2]: f"a term of horkd, {loss} in keys" for loss in specs.ORDER_LOSS.values()}
    return {
        **dict.fromkeys(fields - set(registry.plugin_names("loss")), "a parameter of stages"),
        **dict.fromkeys(_WORDS, "a word with a meaning of its own"),
        **_in_keys("loss"),
        **dict.fromkeys(_COLUMNS, "a column of histories"),
        **terms,
        **dict.fromkeys(specs.METHODS, "a method"),
    }


def _taken_networks() -> dict[str, str]:
    """Names that no network may have -> what has them."""
    return {
        **dict.fromkeys(("auto", "none"), "a word with a meaning of its own"),
        **_in_keys("network"),
        **dict.fromkeys(networks.families(), "a family of weights from files"),
        **dict.fromkeys(networks.of_files(), "an architecture of weights from files"),
        **dict.fromkeys((*specs.ARCHITECTURES, "pixels"), "an architecture"),
    }


def _in_keys(kind: str) -> dict[str, str]:
    """Names of our own components of a kind: a plug-in's version would stand in keys that it has no part in."""
    found = (component.partition(".") for component in specs.built_in())
    return {name: f"{kind}.{name} in keys" for of, _, name in found if of == kind}


def network(name: str, *, least: int = 8) -> Callable[[Thing], Thing]:
    """Offer a network: a function of channels, classes and, if it can, width and embedding, that gives a `Network`.

    Anything else with `embedding_width`, `map_widths` and a forward of (images, maps=False) giving `Outputs` will do.
    Its weights are drawn from torch's global generator, which is seeded for it.

    Args:
        name: What `architecture` calls it.
        least: Side in pixels of the smallest image it can read.
    """

    def offer(thing: Thing) -> Thing:
        _add("network", name, thing, least=int(least), size=functools.cache(lambda: _size(name, int(least))))
        return thing

    _check_name("network", name, _taken_networks())
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
        _add("dataset", name, thing, info=info, root=root, watch=patterns)
        return thing

    from trainables.data import datasets

    taken = dict.fromkeys((n for n in datasets.DATASETS if registry.plugin("dataset", n) is None), "a data set")
    _check_name("dataset", name, taken | {datasets.FOLDER_PREFIX[:-1]: "how folders of images are asked for"})
    return offer


def stage(spec: type[specs.StageSpec], run: Callable[..., Any]) -> None:
    """Offer a stage: its spec, a frozen dataclass with a `kind` of its own, and the generator that runs it.

    Every stage of that kind has `stage.<kind>` among the components of its key, with the digest of the file.
    """
    if not (isinstance(spec, type) and issubclass(spec, specs.StageSpec)):
        raise UsageError(f"A stage needs a subclass of StageSpec, but got {spec!r}.")
    name = spec.kind
    taken = (known for known in registry.names("stage") if registry.plugin("stage", known) is None)
    _check_name("stage", name, dict.fromkeys(taken, "a kind of stage"))
    if not inspect.isgeneratorfunction(run):
        raise UsageError(f"The stage '{name}' must be run by a generator function of (spec, parents, context).")
    _add("stage", name, run, spec=spec, frozen=None)
    own = spec.components

    def components(self: specs.StageSpec) -> specs.Versions:
        return dict(sorted((own(self) | {f"stage.{name}": specs.version_of(f"stage.{name}")}).items()))

    spec.components = components  # type: ignore[method-assign]


def recipe(made: Thing) -> Thing:
    """Offer a recipe, for studies in other files."""
    taken = (known for known in registry.names("recipe") if registry.plugin("recipe", known) is None)
    name: Any = getattr(made, "name", None)
    _check_name("recipe", name, dict.fromkeys(taken, "a recipe"))
    _add("recipe", name, made)
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


def _add(kind: str, name: str, thing: Any, options: Mapping[str, Any] | None = None, **facts: Any) -> None:
    origin = _origin(_reading().path if kind == "study" else _asking())  # A study is found in a file after it was run.
    registry.add(
        Entry(
            group=kind,
            name=name,
            version=origin.version,
            implementation=thing,
            options=options or {},
            facts=facts,
            origin=origin,
        )
    )


@dataclass
class _Reading:
    """A file, or an installed module, that is being read."""

    where: str
    file: Origin | None = None  # What is offered by a file named by a person: it comes from that file alone.
    path: str = ""  # Of the file or module.
    entry: str = ""
    modules: set[str] = field(default_factory=set)  # Those that offered something.
    taken: dict[tuple[str, str], Origin] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """How a sentence about it begins."""
        return f"The plug-in {self.where}" if self.file is not None else f"{self.where[:1].upper()}{self.where[1:]}"


def _reading() -> _Reading:
    """What is being read.

    Raises:
        UsageError: If nothing is.
    """
    if _current is None:
        raise UsageError(
            "A plug-in is read by the commands, not imported: give its file to --plugins or SWEEPS_PLUGINS, or to "
            "`trainables.plugins.load`."
        )
    return _current


def _asking() -> str:
    """The path of the code that calls a function here; what Python made up itself has none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith("<")):
        frame = frame.f_back
    reading = _reading()
    if frame is None:
        return reading.path
    reading.modules.add(str(frame.f_globals.get("__name__")))
    return frame.f_code.co_filename


def _origin(path: str) -> Origin:
    """The file that is offering something: its digest enters keys, so it must be the very file that says so.

    Raises:
        UsageError: If a file is being read and another one that it imports offers something.
    """
    reading = _reading()
    origin = reading.file
    if origin is None:
        content = _read(Path(path), reading.title)
        digest = hashlib.sha256(content).hexdigest()
        file = Path(path).name
        origin = Origin(file=file, sha256=digest, where=reading.where, entry=reading.entry, content=content)
    elif path != reading.path:
        raise UsageError(
            f"{reading.title} must itself say all that it offers, because its digest stands in keys, but {path}, which it "
            "imports, offers something. Name that file, too, and import nothing of it."
        )
    return reading.taken.setdefault(origin.mark, origin)


def _check_name(kind: str, name: Any, taken: Mapping[str, str]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"The name of a {kind} must be lower-case letters, digits and _, beginning with a letter, but got {name!r}."
        )
    if name in taken:
        raise UsageError(
            f"The {kind} '{name}' of {_reading().where} cannot be called so: the name is built in, {taken[name]}. "
            "Choose another."
        )


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
        if inspect.isclass(thing) and parameter.name in GIVEN_TO_LOSSES:
            continue
        default = parameter.default
        if type(default) not in (bool, int, float, str) or parameter.name in (*_NOT_OPTIONS, "weight"):
            raise UsageError(
                f"The option '{parameter.name}' of the loss '{name}' must have a default that is a number, text or a truth "
                f"value, and another name than {', '.join((*_NOT_OPTIONS, 'weight'))}; got {parameter}."
            )
        found[parameter.name] = default
    return found


# How files come in.


def loaded() -> list[Origin]:
    """The files that were read, in that order."""
    return list(_loaded.values())


def files_of(words: Iterable[str | Path]) -> list[Path]:
    """The files that paths name: a .py file, or those of a folder but for names that begin with `_` or a dot.

    Raises:
        UsageError: If there is none.
    """
    found: list[Path] = []
    for word in words:
        try:
            path = Path(word).expanduser()
            path.stat()
        except (RuntimeError, OSError, ValueError) as error:  # No such user; too long; forbidden; a zero byte in it.
            reason = "no such file or folder" if isinstance(error, FileNotFoundError) else _reason(error)
            raise UsageError(f"There is no plug-in {str(word)[:200]}: {reason}.") from None
        if path.is_dir():
            inside = sorted(p for p in path.glob("*.py") if p.name[0] not in "._" and p.is_file())
            if not inside:
                raise UsageError(f"{word} must hold plug-ins (files that end in .py), but has none.")
            found += inside
        elif path.is_file() and path.suffix == ".py":
            found.append(path)
        else:
            raise UsageError(f"A plug-in must be a .py file or a folder of them, but got {word}.")
    return [path.resolve() for path in found]


def load(path: str | Path, *, sha256: str = "", where: str = "", file: str = "") -> Origin:
    """Run a file once and take in what it offers; a file whose bytes are known already is not run again.

    Args:
        path: The file.
        sha256: What its digest must be, if that is known.
        where: What people are told about it; without it, the path.
        file: Its name, where the path is that of a copy.

    Raises:
        UsageError: If it fails, offers nothing, imports a file beside it, or takes a name that is taken.
        ArtifactError: If it is another file than expected.
    """
    path = Path(path)
    content = _read(path, f"The plug-in {path}")
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256:
        raise ArtifactError(
            f"The plug-in {path} must have the SHA-256 {sha256[:16]}..., but has {digest[:16]}...: it was altered. "
            "Put the file of that run back, or start another run with the new one."
        )
    known = _known(digest)
    if known is not None:
        return known
    if len(content) > _LARGEST:
        raise UsageError(f"A plug-in must have at most {_LARGEST >> 20} MiB, but {path} has {len(content) >> 20}.")
    origin = Origin(file=file or path.name, sha256=digest, where=where or str(path), content=content)
    module = ModuleType(f"sweeps_plugin_{digest[:16]}")
    module.__file__ = str(path)
    reading = _Reading(origin.where, file=origin, path=str(path), modules={module.__name__})
    with _taking_in(reading):
        before = set(sys.modules)
        code = compile(content, str(path), "exec", dont_inherit=True)
        sys.modules[module.__name__] = module  # Dataclasses look their module up.
        exec(code, module.__dict__)
        _refuse_neighbours(path, before)
        _take_study(module)
    return origin


def _read(path: Path, what: str) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise UsageError(f"{what} cannot be read: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """What the system says, without number and path."""
    said = getattr(error, "strerror", None) or str(error)
    return said[:1].lower() + said[1:].rstrip(".")


def _known(digest: str) -> Origin | None:
    """What was read of those bytes by running them, as a file or as a module; functions of modules offer their own."""
    return next((o for o in _loaded.values() if o.sha256 == digest and ":" not in o.entry), None)


_OURS = ("trainables", "sweeps", "search_spaces", "analysis", "slurm")


def _refuse_neighbours(path: Path, before: set[str]) -> None:
    """A file stands alone: workers read its copy, elsewhere, where what lies beside the original is not to be found.

    Python finds modules of the current folder by itself. What another entry of its path leads to is installed.

    Raises:
        UsageError: If the file imported one that only lies beside it or in the current folder.
    """
    places = {path.resolve().parent, Path.cwd().resolve()} - {Path(entry).resolve() for entry in sys.path[1:] if entry}
    for name in sorted({module.partition(".")[0] for module in set(sys.modules) - before} - set(_OURS)):
        found = _lies_in(sys.modules.get(name))
        if found is not None and found in places and not name.startswith("sweeps_plugin_"):
            for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[module]  # The next file that imports it must be told, too.
            raise _not_alone(name, found)


def _lies_in(module: ModuleType | None) -> Path | None:
    """The folder that holds a module or package."""
    file = getattr(module, "__file__", None)
    if file is None:
        return next((Path(place).resolve().parent for place in getattr(module, "__path__", ())), None)
    path = Path(file).resolve()
    return path.parent.parent if path.name == "__init__.py" else path.parent


def _not_alone(name: str, folder: Path) -> UsageError:
    return UsageError(
        f"A plug-in must stand alone, because workers read a copy of it elsewhere, but it imports `{name}`, which lies in "
        f"{folder}. Put what it needs into the file itself, or install `{name}` as a package."
    )


def load_entry(value: str, *, sha256: str = "", where: str = "") -> Origin:
    """Import `module`, and call its function for `module:function`, as an installed distribution asks for.

    Whatever is offered meanwhile has the digest of the file that offers it, which need not be the module's own.

    Args:
        value: As the entry point has it.
        sha256: Digest of a file that must offer something, if that is known.
        where: What people are told about it.

    Raises:
        UsageError: If it fails, offers nothing, or takes a name that is taken.
        ArtifactError: If it is another file than expected.
    """
    name, _, function = value.partition(":")
    where = where or f"the entry point {value}"
    if sha256 and (sha256, value) in _loaded:
        return _loaded[sha256, value]
    reading = _Reading(where, entry=value, modules={name})
    own = ""
    try:
        with _taking_in(reading):
            found = importlib.util.find_spec(name)  # Imports the packages it lies in, which may import it in turn.
            if found is None or not found.has_location:
                raise UsageError(f"There is no module {name}. Install its distribution here, too.")
            reading.path = str(found.origin)
            own = hashlib.sha256(_read(Path(reading.path), reading.title)).hexdigest()
            known = _known(own) if not function else _loaded.get((own, value))
            if known is None:
                module = importlib.import_module(name)
                if function:
                    getattr(module, function)()
                _take_study(module)
                if not function and not reading.taken:  # Imported by another one, which took in what it offers.
                    known = next((o for o in _loaded.values() if o.sha256 == own), None)
            if known is not None:  # Another file or entry point has brought it already.
                reading.taken.setdefault(known.mark, known)
            if sha256 and all(digest != sha256 for digest, _ in reading.taken):
                raise _other_version(where, sha256, own)
    except UsageError:
        if sha256 and own and own != sha256:
            raise _other_version(where, sha256, own) from None
        raise
    taken = list(reading.taken.values())
    return next((o for o in taken if o.sha256 == (sha256 or own)), taken[0])


def _other_version(where: str, expected: str, got: str) -> ArtifactError:
    return ArtifactError(
        f"{where} must have the SHA-256 {expected[:16]}..., but has {got[:16]}... here: another version is installed. "
        "Install that of the run, or start another run."
    )


def load_entries() -> list[str]:
    """All entry points of the group `sweeps.plugins`, by name.

    A distribution that is broken must not stop commands that have no use for it: what its entry point would have
    offered is unknown then.

    Returns:
        A sentence for each that failed.
    """
    failed = []
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        by = f" of {entry.dist.name}" if entry.dist is not None else ""
        try:
            load_entry(entry.value, where=f"the entry point {entry.name}{by}")
        except SweepsError as error:
            failed.append(f"Nothing of the entry point {entry.name}{by} is known: {error}")
    return failed


def use(carried: Iterable[Mapping[str, str]], *, patience: float = 0.0) -> None:
    """What an order or a run's folder says: rows of `path` and `file`, or `entry`; `sha256`, `where`.

    Args:
        carried: The rows.
        patience: Seconds that files may take to appear: a network file system can show another node's work late.

    Raises:
        UsageError, ArtifactError: If one cannot be loaded, or is another file than meant.
    """
    until = time.monotonic() + patience
    for row in carried:
        entry = row.get("entry") or ""
        if (row["sha256"], entry) in _loaded or (":" not in entry and _known(row["sha256"])):
            continue
        if entry:
            load_entry(entry, sha256=row["sha256"], where=row.get("where", ""))
            continue
        path = Path(row["path"])
        while not path.is_file() and time.monotonic() < until:
            with contextlib.suppress(OSError):
                os.listdir(path.parent)  # Listing the folder makes the file system look again.
            time.sleep(0.5)
        load(path, sha256=row["sha256"], where=row.get("where", ""), file=row.get("file", ""))


@contextmanager
def _taking_in(reading: _Reading) -> Iterator[None]:
    """Whatever is offered inside comes from `reading`; nothing of it stays when something goes wrong."""
    global _current
    outer, _current = _current, reading
    before = set(sys.modules)
    try:
        yield
        if not reading.taken:
            raise UsageError(
                f"{reading.title} offers nothing: decorate something with trainables.plugins, or name a Study STUDY in it."
            )
    except BaseException as error:
        for origin in reading.taken.values():
            if origin.mark not in _loaded:
                _take_back(origin)
        for module in reading.modules - before:
            sys.modules.pop(module, None)
        if isinstance(error, (Exception, SystemExit)):
            raise _explained(error, reading) from None
        raise
    finally:
        _current = outer
    for mark, origin in reading.taken.items():
        _loaded.setdefault(mark, origin)
        _modules.setdefault(mark, set()).update(reading.modules)


def _explained(error: BaseException, reading: _Reading) -> SweepsError:
    """An error in a plug-in's file as one sentence with the line."""
    path = reading.path
    if isinstance(error, SyntaxError) and error.filename == path:
        return UsageError(f"{reading.title} cannot be read: line {error.lineno}: {error.msg}.")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    at = f" at line {lines[-1]}" if lines else ""
    if isinstance(error, SweepsError):
        return type(error)(f"{error}\nIt was asked for{f'{at} of' if at else ' by'} {reading.where}.")
    if isinstance(error, ModuleNotFoundError) and error.name and reading.file is not None:
        beside = Path(path).parent / error.name.partition(".")[0]
        if beside.is_dir() or beside.with_suffix(".py").is_file():
            return UsageError(f"{reading.title} fails{at}: {_not_alone(beside.name, beside.parent)}")
    return UsageError(f"{reading.title} fails{at}: {type(error).__name__}: {error}")


def _take_study(module: ModuleType) -> None:
    study = getattr(module, "STUDY", None)
    if study is None:
        return
    name = getattr(study, "name", None)
    if not all(hasattr(study, part) for part in ("name", "recipe", "presets", "question")):
        raise UsageError(f"STUDY must be a `search_spaces.study.Study`, but is {type(study).__name__}.")
    _check_name("study", name, {})
    _add("study", str(name), study)


def _take_back(origin: Origin) -> None:
    for offer in registry.plugins(origin=origin):
        registry.remove(offer)


def forget() -> None:
    """Take every plug-in out again: for tests, and for programs that check several."""
    for mark, origin in list(_loaded.items()):
        _take_back(origin)
        for module in _modules.pop(mark):
            sys.modules.pop(module, None)
        del _loaded[mark]
