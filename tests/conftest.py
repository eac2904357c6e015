"""Fixtures that several folders share: nasty paths, tiny artifacts, the packed digits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainables.store.artifacts import Artifact, Store

sys.path.insert(0, str(Path(__file__).parent))  # For `helpers`.


@pytest.fixture(autouse=True, scope="session")
def own_cores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Core locks of the tests' own: a run on the same machine must not make them wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPS_CORES_DIR", str(tmp_path_factory.mktemp("cores") / "locks"))
        yield


@pytest.fixture
def torch_as_it_was() -> Iterator[None]:
    """What training sets in the whole process is set back."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def nasty_path(tmp_path: Path) -> Path:
    """A folder whose name has spaces, quotes, brackets, a percent sign and letters beyond ASCII."""
    path = tmp_path / "my ståff 'é' [x] 100% ☃"
    path.mkdir()
    return path


@pytest.fixture
def store(nasty_path: Path) -> Store:
    """An empty store at a nasty path."""
    made = Store(nasty_path / "store")
    made.prepare()
    return made


@pytest.fixture
def publish(store: Store) -> Callable[..., Artifact]:
    """Publishes a tiny artifact of any kind into `store`."""

    def make(key: str, kind: str = "sleep", metrics: dict[str, Any] | None = None, content: bytes = b"x") -> Artifact:
        manifest = {"kind": kind, "version": 1, "spec": {}, "parents": {}, "metrics": metrics or {}}

        def write(folder: Path) -> None:
            (folder / "content.bin").write_bytes(content)

        return store.publish(key, manifest, write)

    return make


@pytest.fixture(scope="session")
def packed_digits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """scikit-learn's digits, packed once; gives the `PackedInfo`."""
    from trainables.data import catalog

    folder = tmp_path_factory.mktemp("packed digits")
    return catalog.pack(catalog.locate("digits", data_root=None), folder)


@pytest.fixture
def digits_store(packed_digits: Any, store: Store) -> Store:
    """A store of its own with the packed digits in it."""
    (store.root / "data").symlink_to(packed_digits.path.parent)
    return store
