"""How plug-ins come in: files that somebody names, and entry points of installed distributions."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from trainables.errors import ArtifactError, SweepsError, UsageError
from trainables.plugins.alone import not_alone, refuse_neighbours
from trainables.plugins.names import check_name
from trainables.plugins.reading import Reading, begun, enter, read, reason_of
from trainables.spec import registry
from trainables.spec.registry import Origin

GROUP = "sweeps.plugins"  # Of entry points.
_LARGEST = 16 << 20

_loaded: dict[tuple[str, str], Origin] = {}  # By digest and entry point, in the order of loading.
_modules: dict[tuple[str, str], set[str]] = {}  # The same -> names in sys.modules of what was run for it.


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
            reason = "no such file or folder" if isinstance(error, FileNotFoundError) else reason_of(error)
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
    content = read(path, f"The plug-in {path}")
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
    reading = Reading(origin.where, file=origin, path=str(path), modules={module.__name__})
    with _taking_in(reading):
        before = set(sys.modules)
        code = compile(content, str(path), "exec", dont_inherit=True)
        sys.modules[module.__name__] = module  # Dataclasses look their module up.
        exec(code, module.__dict__)
        refuse_neighbours(path, before)
        _take_study(module)
    return origin


def _known(digest: str) -> Origin | None:
    """What was read of those bytes by running them, as a file or as a module; functions of modules offer their own."""
    return next((o for o in _loaded.values() if o.sha256 == digest and ":" not in o.entry), None)


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
    reading = Reading(where, entry=value, modules={name})
    own = ""
    try:
        with _taking_in(reading):
            found = importlib.util.find_spec(name)  # Imports the packages it lies in, which may import it in turn.
            if found is None or not found.has_location:
                raise UsageError(f"There is no module {name}. Install its distribution here, too.")
            reading.path = str(found.origin)
            own = hashlib.sha256(read(Path(reading.path), reading.title)).hexdigest()
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
def _taking_in(reading: Reading) -> Iterator[None]:
    """Whatever is offered inside comes from `reading`; nothing of it stays when something goes wrong."""
    before = set(sys.modules)
    try:
        with begun(reading):
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
    for mark, origin in reading.taken.items():
        _loaded.setdefault(mark, origin)
        _modules.setdefault(mark, set()).update(reading.modules)


def _explained(error: BaseException, reading: Reading) -> SweepsError:
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
            return UsageError(f"{reading.title} fails{at}: {not_alone(beside.name, beside.parent)}")
    return UsageError(f"{reading.title} fails{at}: {type(error).__name__}: {error}")


def _take_study(module: ModuleType) -> None:
    study = getattr(module, "STUDY", None)
    if study is None:
        return
    name = getattr(study, "name", None)
    if not all(hasattr(study, part) for part in ("name", "recipe", "presets", "question")):
        raise UsageError(f"STUDY must be a `search_spaces.study.Study`, but is {type(study).__name__}.")
    check_name("study", name, {})
    enter("study", str(name), study)


def _take_back(origin: Origin) -> None:
    for entry in registry.plugins(origin=origin):
        registry.remove(entry)


def forget() -> None:
    """Take every plug-in out again: for tests, and for programs that check several."""
    for mark, origin in list(_loaded.items()):
        _take_back(origin)
        for module in _modules.pop(mark):
            sys.modules.pop(module, None)
        del _loaded[mark]
