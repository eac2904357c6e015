"""Files of weights in the layouts people have, each written once."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import layouts


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a nasty name."""
    return tmp_path_factory.mktemp("wéights of 'others' 100%")


@pytest.fixture(scope="session")
def iresnet_state() -> layouts.State:
    """The smallest backbone of insightface."""
    return layouts.iresnet()


@pytest.fixture(scope="session")
def iresnet_file(weights_folder: Path, iresnet_state: layouts.State) -> Path:
    """backbone.pth as arcface_torch saves it."""
    path = weights_folder / "ms1mv3 backbone.pth"
    torch.save(iresnet_state, path)
    return path


@pytest.fixture(scope="session")
def vggface2_state() -> layouts.State:
    """ResNet-50 of VGGFace2 with a small classifier, which is not read."""
    return layouts.vggface2(classes=9)


@pytest.fixture(scope="session")
def vggface2_file(weights_folder: Path, vggface2_state: layouts.State) -> Path:
    """resnet50_ft_weight.pkl: a pickle of numpy arrays, protocol 2 as Python 2 wrote it."""
    path = weights_folder / "resnet50_ft_weight.pkl"
    path.write_bytes(pickle.dumps({name: value.numpy() for name, value in vggface2_state.items()}, protocol=2))
    return path


@pytest.fixture(scope="session")
def facenet_state() -> layouts.State:
    """InceptionResnetV1 with a small classifier."""
    return layouts.facenet(classes=11)


@pytest.fixture(scope="session")
def facenet_file(weights_folder: Path, facenet_state: layouts.State) -> Path:
    """20180402-114759-vggface2.pt."""
    path = weights_folder / "20180402-114759-vggface2.pt"
    torch.save(facenet_state, path)
    return path
