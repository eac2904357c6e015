"""Files of weights are read without running anything in them; whatever is wrong with one is told."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainables.errors import UsageError
from trainables.pretrained.pickles import read_arrays
from trainables.pretrained.reading import TORCH_MAGIC, read

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(3)}


class Poison:
    """An object whose unpickling calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plain": lambda state: state,
    "ordered": OrderedDict,
    "of parallel training": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled, of parallel training": lambda state: {
        f"module._orig_mod.{name}": value for name, value in state.items()
    },
    "a training checkpoint": lambda state: {"epoch": 3, "state_dict_backbone": state, "optimizer": {"lr": 1.0}},
    "under model": lambda state: {"model": state, "accuracy": 0.7},
    "under state_dict, twice": lambda state: {"state_dict": {"backbone": state}},
    "double": lambda state: {
        name: value.double() if value.is_floating_point() else value for name, value in state.items()
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrappings_make_no_difference(how: str, nasty_path: Path) -> None:
    path = nasty_path / "weights.pt"
    torch.save(WRAPPED[how](STATE), path)
    found = read(path).tensors
    assert set(found) == set(STATE)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in STATE.items())


def test_all_formats_give_the_same_tensors(nasty_path: Path) -> None:
    torch.save(STATE, nasty_path / "new.pt")
    torch.save(STATE, nasty_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(STATE, nasty_path / "weights.safetensors")
    arrays = {name: value.numpy() for name, value in STATE.items()}
    for protocol in (2, 3, 4, 5):
        (nasty_path / f"protocol {protocol}.pkl").write_bytes(pickle.dumps(arrays, protocol=protocol))
    swapped = {name: value.astype(value.dtype.newbyteorder(">")) for name, value in arrays.items()}
    (nasty_path / "other order of bytes.pkl").write_bytes(pickle.dumps(swapped, protocol=2))
    formats = set()
    for path in sorted(nasty_path.iterdir()):
        contents = read(path)
        formats.add(contents.format)
        assert set(contents.tensors) == set(STATE), path.name
        assert all(torch.equal(contents.tensors[name], value) for name, value in STATE.items()), path.name
        assert len(contents.sha256) == 64 and contents.bytes == path.stat().st_size
    assert formats == {"torch", "safetensors", "numpy pickle"}
    assert TORCH_MAGIC in (nasty_path / "old.pt").read_bytes()[:24]


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # Written by hand: strings of Python 2 (opcode U), which hold the raw bytes of an array in latin1.
    raw = np.array([1.5, -2.0], "<f4").tobytes()
    body = b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    body += b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
    body += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + raw + b"tbs."
    path = tmp_path / "python 2.pkl"
    path.write_bytes(body)
    assert read_arrays(path)["a"].tolist() == [1.5, -2.0]


def poisons(folder: Path) -> dict[str, bytes]:
    """Pickles that would leave a file behind."""
    touched = str(folder / "touched")
    made: dict[str, bytes] = {}
    for name, poison in {
        "system": Poison(os.system, f"touch '{touched}'"),
        "open": Poison(open, touched, "w"),
        "eval": Poison(eval, f"open({touched!r}, 'w')"),
    }.items():
        made[name] = pickle.dumps({"conv.weight": np.zeros(3), "bn": poison}, protocol=2)
    # An attribute of something allowed, and a name with dots.
    made["attribute"] = b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93" + f"V{touched}\n".encode() + b"\x85R."
    made["getattr"] = b"\x80\x02c__builtin__\ngetattr\ncnumpy\nndarray\nU\x04dump\x86R."
    made["by name"] = b"cos\nsystem\n(V" + f"touch {touched}".encode() + b"\ntR."
    made["a reference"] = b"\x80\x02X\x03\x00\x00\x00abcQ."
    return made


@pytest.mark.parametrize("which", ["system", "open", "eval", "attribute", "getattr", "by name", "a reference"])
def test_a_poisoned_pickle_runs_nothing_and_is_refused_by_what_it_wanted(which: str, tmp_path: Path) -> None:
    path = tmp_path / "resnet50_ft_weight.pkl"
    path.write_bytes(poisons(tmp_path)[which])
    with pytest.raises(UsageError, match=r"resnet50_ft_weight.pkl is a pickle that wants to use") as caught:
        read(path)
    assert sorted(os.listdir(tmp_path)) == [path.name]
    wanted = {
        "system": "posix.system",
        "open": "open",
        "eval": "eval",
        "attribute": "f2py.os.system",
        "getattr": "getattr",
    }
    assert wanted.get(which, "") in str(caught.value)


@pytest.mark.parametrize("which", ["open", "eval", "by name"])
def test_an_ordinary_reader_would_have_run_it(which: str, tmp_path: Path) -> None:
    loaded = pickle.loads(poisons(tmp_path)[which])
    assert (tmp_path / "touched").exists()
    if isinstance(loaded, dict):
        loaded["bn"].close()


@pytest.mark.parametrize("old", [False, True])
def test_a_poisoned_file_of_torch_runs_nothing(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "backbone.pth"
    state = STATE | {"extra": Poison(os.system, f"touch '{tmp_path / 'touched'}'")}
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(UsageError, match=r"backbone.pth wants to use posix.system, which weights do not need"):
        read(path)
    assert sorted(os.listdir(tmp_path)) == [path.name]


def test_arrays_of_objects_and_unusual_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    for wrong in (np.array([None, 3], dtype=object), np.zeros(3, dtype="M8[s]"), np.zeros(2, dtype=[("a", "f4")])):
        path.write_bytes(pickle.dumps({"a": wrong}, protocol=2))
        with pytest.raises(UsageError, match="wants to use an array of type"):
            read(path)
    # A type made by the pickle itself must not change the one that all of numpy shares.
    state = b"(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    path.write_bytes(b"\x80\x02}U\x01acnumpy\ndtype\nU\x02f4K\x00K\x00\x87R" + state + b"s.")
    assert read_arrays(path) == {}
    assert np.dtype("f4").byteorder == "=" and np.arange(2, dtype="f4").tobytes() == np.arange(2, dtype="<f4").tobytes()


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def word(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


FLOATS = b"cnumpy\ndtype\n" + word("f4") + b"\x89\x88\x87R"  # The type alone; what follows sets its state.
EIGHT_BYTES = b"C\x08AAAABBBB"
MANY = 10_000_000


def type_with(part: bytes = b"N", flags: int = 0) -> bytes:
    """Floats, or a type that each item of it holds many of another."""
    sizes = number(-1) + number(-1) + number(flags)
    return FLOATS + b"(" + number(3) + word("<") + part + b"NN" + sizes + b"tb"


def array_of(kind: bytes, *shape: int) -> bytes:
    begun = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + word("b") + b"\x87R"
    return begun + b"(" + number(1) + sides(*shape) + kind + b"\x89" + EIGHT_BYTES + b"tb"


def sides(*shape: int) -> bytes:
    return b"(" + b"".join(map(number, shape)) + b"t"


MANY_FLOATS = b"(" + FLOATS + sides(MANY) + b"t"
WIDE = b"cnumpy.core.numeric\n_frombuffer\n("
# What makes numpy read or write where there is no array, or a pickle change what reads it -> what is said.
OUT_OF_BOUNDS: dict[str, tuple[bytes, str]] = {
    "a type of many parts": (array_of(type_with(MANY_FLOATS), 2), "an array of an unusual type"),
    "a buffer of such a type": (
        WIDE + EIGHT_BYTES + type_with(MANY_FLOATS) + sides(2, MANY) + word("C") + b"tR",
        "an array of an unusual type",
    ),
    "numbers said to be objects": (array_of(type_with(flags=1 | 4 | 8 | 16 | 32), 2), "an array of an unusual type"),
    "more numbers than bytes": (array_of(type_with(), 1000), "an array of 4,000 bytes, of which it has 8"),
    "a shape of no sense": (array_of(type_with(), -1), "an array of the shape"),
    "an array of nothing": (b"cnumpy\nndarray\n(" + sides(1000) + FLOATS + b"tR", "numpy.ndarray as a function"),
    "an array over a buffer": (
        b"cnumpy\nndarray\n(" + sides(1000) + FLOATS + EIGHT_BYTES + number(0) + sides(4) + b"tR",
        "numpy.ndarray as a function",
    ),
    "an array that is never filled": (array_of(type_with(), 2).partition(b"R(")[0] + b"R", "an array without contents"),
    "defaults of the reader's functions": (
        b"cnumpy\ndtype\n(N}" + word("__defaults__") + b"(NNtstb",
        "numpy.dtype as something to be changed",
    ),
}


@pytest.mark.parametrize("what", OUT_OF_BOUNDS)
def test_a_pickle_cannot_make_numpy_read_beyond_its_bytes(what: str, tmp_path: Path) -> None:
    body, said = OUT_OF_BOUNDS[what]
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x03}" + word("a") + body + b"s.")
    with pytest.raises(UsageError, match=f"wants to use {said}"):
        read(path)


def test_arrays_in_the_order_of_columns_empty_ones_and_several_of_one_type_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    kinds = ("f2", "f8", "i1", "i8", "u1", "?")
    arrays = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    arrays |= {"columns": np.asfortranarray(arrays["f8"]), "none": np.zeros((0, 3), "f4")}
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps(OrderedDict(arrays), protocol=protocol))
        found = read_arrays(path)
        assert list(found) == list(arrays)
        for name, value in arrays.items():
            assert found[name].dtype == value.dtype and np.array_equal(found[name], value), name


def test_wrapped_pickles_of_arrays_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    arrays = {f"module.{name}": value.numpy() for name, value in STATE.items()}
    path.write_bytes(pickle.dumps({"epoch": 3, "state_dict": OrderedDict(arrays)}, protocol=2))
    contents = read(path)
    assert contents.unwrapped == ("state_dict", "module.")
    assert all(torch.equal(contents.tensors[name], value) for name, value in STATE.items())


@pytest.mark.parametrize("kind", ["pt", "pkl"])
def test_a_dictionary_that_contains_itself_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{kind}"
    endless: dict[str, Any] = {"a.weight": 1}
    endless["model"] = {"state_dict": endless}
    if kind == "pt":
        torch.save(endless, path)
    else:
        path.write_bytes(pickle.dumps(endless, protocol=2))
    with pytest.raises(UsageError, match=r"model.state_dict in it contains itself"):
        read(path)


def test_tensors_without_values_or_with_more_than_the_file_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a.weight": torch.empty(3, device="meta")}, path)
    with pytest.raises(UsageError, match=r"a.weight of weights.pt must have values, but is a meta tensor"):
        read(path)
    torch.save({"a.weight": torch.zeros(1).expand(10**13)}, path)
    with pytest.raises(UsageError, match=r"must hold its values, but has [\d,]+ bytes for tensors of more than 40,000"):
        read(path)
    one = torch.zeros(100_000)
    torch.save({f"{index}.weight": one for index in range(10_000)}, path)
    with pytest.raises(UsageError, match=r"must hold its values"):
        read(path)
    # A few names may share one, and half precision grows.
    torch.save({f"{index}.weight": one.half().view(100, 1000) for index in range(3)}, path)
    assert len(read(path).tensors) == 3


@pytest.mark.parametrize("kind", ["pt", "old pt", "safetensors", "pkl"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_file_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    state = {f"layer{index}.weight": torch.randn(40, 40) for index in range(5)}
    whole = io.BytesIO()
    if kind == "safetensors":
        save_file(state, tmp_path / "whole")
        whole.write((tmp_path / "whole").read_bytes())
    elif kind == "pkl":
        pickle.dump({name: value.numpy() for name, value in state.items()}, whole, protocol=2)
    else:
        torch.save(state, whole, _use_new_zipfile_serialization=kind == "pt")
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    with pytest.raises(UsageError, match=r"cut short"):
        read(path)


def test_what_is_no_file_of_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read(tmp_path / "nowhere.pth")
    with pytest.raises(UsageError, match="is a folder"):
        read(tmp_path)
    contents = {
        "text.pth": (b"<html>404 not found</html>", "is no file of weights"),
        "empty.pth": (b"", r"is no file of weights: .*0 bytes"),
        "list.pkl": (pickle.dumps([1, 2]), "must hold a dictionary of arrays by name, but holds a list"),
        "numbers.pkl": (pickle.dumps({"a": 1}), "holds no tensors"),
    }
    for name, (content, said) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=said):
            read(tmp_path / name)
    torch.save([STATE], tmp_path / "list.pt")
    with pytest.raises(UsageError, match="must hold tensors by name .* but holds a list"):
        read(tmp_path / "list.pt")
    torch.save({"a.weight": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.pt")
    with pytest.raises(UsageError, match=r"a.weight of nan.pt has values that are not finite"):
        read(tmp_path / "nan.pt")
    torch.save({"a.weight": torch.ones(2, dtype=torch.complex64)}, tmp_path / "complex.pt")
    with pytest.raises(UsageError, match="weights must be plain numbers"):
        read(tmp_path / "complex.pt")
