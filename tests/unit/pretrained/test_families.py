"""A teacher of each family, from a file in exactly its layout, gives what its names say."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import layouts
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.errors import UsageError
from trainables.models import build
from trainables.models.network import Network
from trainables.pretrained import shelf
from trainables.pretrained.families import PREPROCESSING, Found, assemble, identify
from trainables.pretrained.frozen import open_from_store
from trainables.spec import PretrainedSpec


def opened(path: Path, root: Path, **asked: Any) -> tuple[Network, Found]:
    """A file through the store to a network, as a stage gets it."""
    spec = PretrainedSpec(**asked)
    admitted = shelf.admit(str(path), root, spec)
    whole = PretrainedSpec(weights=admitted.digits, **layouts.fields_of(admitted.found) | asked)
    network, found, _, _ = open_from_store(root, whole)
    return network, found


def equal(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4 * float(theirs.abs().max()))


def images(side: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_an_iresnet_gives_what_its_names_say(iresnet_file: Path, iresnet_state: layouts.State, tmp_path: Path) -> None:
    network, found = opened(iresnet_file, tmp_path)
    with torch.no_grad():
        outputs = network(images(112), maps=True)
        equal(outputs.embedding, layouts.iresnet_forward(iresnet_state, images(112)))
    assert (found.family, found.architecture, found.embedding_width, found.classes) == ("iresnet", "iresnet18", 512, 0)
    assert outputs.logits.shape == (2, 0)
    assert [tuple(m.shape[1:]) for m in outputs.maps] == [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert found.parameters == 24_025_600
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_senet_of_vggface2_is_read_in_the_layout_of_caffe(tmp_path: Path) -> None:
    state = layouts.vggface2(squeeze=True, classes=9)
    path = tmp_path / "senet50_ft_weight.pkl"
    path.write_bytes(pickle.dumps({name: value.numpy() for name, value in state.items()}, protocol=2))
    network, found = opened(path, tmp_path)
    with torch.no_grad():
        outputs = network(images(224)[:1], maps=True)
        equal(outputs.embedding, layouts.vggface2_forward(state, images(224)[:1]))
    assert found.architecture == "vggface2_senet50"
    assert (found.classes, found.embedding_width, outputs.logits.shape[1]) == (9, 2048, 0)
    assert found.left_out == ("fc.bias", "fc.weight")
    assert [m.shape[-1] for m in outputs.maps] == [56, 28, 14, 7]


def test_torchvisions_network_accepts_the_names_of_vggface2_and_differs(vggface2_file: Path, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    caffe, found = opened(vggface2_file, tmp_path)
    assert (found.family, found.architecture) == ("vggface2", "vggface2_resnet50")
    weights = {name: value for name, value in caffe.state_dict().items() if not name.startswith("classifier.")}
    other = torchvision.models.resnet50(weights=None).eval()
    assert not other.load_state_dict(weights, strict=False).unexpected_keys
    other.fc = torch.nn.Identity()
    with torch.no_grad():
        seen = images(224)[:1]
        ours, plain = caffe(seen).embedding, other(seen)
        # With the stride moved and the pooling unpadded torchvision's is an independent oracle.
        other.maxpool = torch.nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
        for stage in (other.layer2, other.layer3, other.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        equal(ours, other(seen))
    assert float((ours - plain).norm() / ours.norm()) > 0.02


def test_facenets_embeddings_have_length_one_and_its_classifier_reads_them_before(
    facenet_file: Path, facenet_state: layouts.State, tmp_path: Path
) -> None:
    network, found = opened(facenet_file, tmp_path, head="keep")
    with torch.no_grad():
        raw = layouts.facenet_forward(facenet_state, images(160))
        outputs = network(images(160), maps=True)
    equal(outputs.embedding, F.normalize(raw))
    equal(outputs.logits, raw @ facenet_state["logits.weight"].T + facenet_state["logits.bias"])
    assert (found.architecture, found.embedding_width, found.classes) == ("inception_resnet_v1", 512, 11)
    assert tuple(m.shape[1] for m in outputs.maps) == network.map_widths == (256, 896, 1792)
    assert shelf.admit(str(facenet_file), tmp_path, PretrainedSpec()).found.left_out == ("logits.bias", "logits.weight")


@pytest.mark.parametrize(
    ("architecture", "tensors", "parameters"),
    [
        ("iresnet18", 187, 24_025_600),
        ("iresnet34", 331, 34_139_328),
        ("iresnet50", 475, 43_590_848),
        ("iresnet100", 925, 65_156_160),
        ("iresnet200", 1807, 118_833_920),
    ],
)
def test_iresnets_have_the_published_numbers_of_tensors_and_parameters(
    architecture: str, tensors: int, parameters: int
) -> None:
    from trainables.models.iresnet import DEPTHS, IResNet

    with torch.device("meta"):
        network = IResNet(DEPTHS[architecture])
    assert len(network.state_dict()) == tensors
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_a_training_checkpoint_of_insightface_is_unwrapped(iresnet_state: layouts.State, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_gpu_0.pt"
    counted = {n: v.half() if v.is_floating_point() else v for n, v in iresnet_state.items()}
    bare = {f"module.{n}": v for n, v in counted.items() if not n.endswith("num_batches_tracked")}
    torch.save({"epoch": 3, "state_dict_backbone": bare, "state_dict_softmax_fc": {"weight": torch.zeros(2, 2)}}, path)
    network, found = opened(path, tmp_path)
    assert found.architecture == "iresnet18"
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, counted[name].float())


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("resnet18", {"width": 0.125}),
        ("resnet50", {"width": 0.0625, "stem": "large"}),
        ("resnet34_thin", {"width": 0.125, "embedding": 24}),
        ("resnet_thin", {"width": 0.5, "channels": 1}),
        ("vgg11", {"width": 0.0625}),
    ],
)
def test_a_network_of_ours_is_recognised_with_its_width_stem_and_embedding(
    name: str, choices: dict[str, Any], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(1)
    made = build(name, **{"channels": 3, "classes": 5} | choices).eval()
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in made.state_dict().items()}, path)
    network, found = opened(path, tmp_path, head="keep")
    assert (found.family, found.architecture, found.classes) == ("plain", name, 5)
    assert (found.width, found.embedding) == (choices.get("width", 1.0), choices.get("embedding", 0))
    some = images(64)[:, : choices.get("channels", 3)]
    with torch.no_grad():
        ours, theirs = network(some, maps=True), made(some, maps=True)
    assert torch.equal(ours.embedding, theirs.embedding) and torch.equal(ours.logits, theirs.logits)
    assert len(ours.maps) == len(theirs.maps) and found.preprocessing.mean == ()


def test_a_resnet_of_torchvision_is_recognised(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    made = torchvision.models.resnet18(weights=None, num_classes=7).eval()
    path = tmp_path / "resnet18.pth"
    torch.save({"model": made.state_dict()}, path)
    network, found = opened(path, tmp_path, head="keep")
    assert (found.architecture, found.embedding_width, found.classes) == ("torchvision:resnet18", 512, 7)
    assert found.preprocessing.sentence().startswith("RGB from 0 to 1, minus 0.485 0.456 0.406")
    with torch.no_grad():
        outputs = network(images(64), maps=True)
        torch.testing.assert_close(outputs.logits, made(images(64)))
    assert network.map_widths == (64, 128, 256, 512) and len(outputs.maps) == 4


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_other_networks_of_torchvision_are_read_when_named(name: str, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    made = torchvision.models.get_model(name, weights=None, num_classes=4).eval()
    path = tmp_path / "weights.pth"
    torch.save(made.state_dict(), path)
    network, found = opened(path, tmp_path, architecture=f"torchvision:{name}")
    seen: list[Tensor] = []
    if name == "squeezenet1_1":
        made.features.register_forward_hook(lambda layer, x, y: seen.append(y.mean((2, 3))))
    else:
        made.classifier[-1].register_forward_hook(lambda layer, x, y: seen.append(x[0]))
    with torch.no_grad():
        made(images(64))
        torch.testing.assert_close(network(images(64)).embedding, seen[0])
    assert found.classes == (4 if name == "mobilenet_v3_small" else 0)
    with pytest.raises(UsageError, match=r"does not fit torchvision:resnet18: \d+ names are missing"):
        opened(path, tmp_path, architecture="torchvision:resnet18")


def test_a_network_of_timm_is_read_when_named(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is optional and not installed")
    made = timm.create_model("resnet10t", pretrained=False, num_classes=6).eval()
    path = tmp_path / "weights.pth"
    torch.save(made.state_dict(), path)
    network, found = opened(path, tmp_path, architecture="timm:resnet10t", head="keep")
    with torch.no_grad():
        torch.testing.assert_close(network(images(64)).logits, made(images(64)))
    assert (found.classes, found.preprocessing.side) == (6, made.pretrained_cfg["input_size"][-1])


def test_channels_are_those_of_the_first_convolution_whatever_layers_come_first_by_name(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    # Its depthwise convolutions, which read one channel each, come before its stem in the alphabet.
    made = torchvision.models.maxvit_t(weights=None, num_classes=4).eval()
    path = tmp_path / "weights.pth"
    torch.save(made.state_dict(), path)
    network, found = opened(path, tmp_path, architecture="torchvision:maxvit_t", head="keep")
    assert (found.preprocessing.channels, found.classes) == (3, 4)
    with torch.no_grad():
        torch.testing.assert_close(network(images(224)[:1]).logits, made(images(224)[:1]))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_timm_with_depthwise_convolutions_is_read(channels: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is optional and not installed")
    made = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=6, in_chans=channels).eval()
    path = tmp_path / "weights.pth"
    torch.save(made.state_dict(), path)
    network, found = opened(path, tmp_path, architecture="timm:mobilenetv3_small_050", head="keep")
    assert (found.preprocessing.channels, found.classes) == (channels, 6)
    seen = images(64)[:, :channels]
    with torch.no_grad():
        torch.testing.assert_close(network(seen).logits, made(seen))
    again = shelf.admit(shelf.known(tmp_path)[0]["digits"], tmp_path, PretrainedSpec(architecture=found.architecture))
    assert again.found is not None and again.found.preprocessing == found.preprocessing


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_networks_that_learned_from_minus_one_to_one_see_what_torchvision_shows_them(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    made = torchvision.models.get_model(name, weights=None, init_weights=False, num_classes=5).eval()
    made.transform_input = True  # As where torchvision loads its own weights.
    found = identify(shapes_of(made), PretrainedSpec(architecture=f"torchvision:{name}", head="keep"), name="f.pth")
    network = assemble(made.state_dict(), found, keep_head=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    read: list[Tensor] = []  # By the first convolutions: drawn weights leave little of an image further on.
    for whole in (network, made):
        first = next(layer for layer in whole.modules() if isinstance(layer, torch.nn.Conv2d))
        first.register_forward_hook(lambda layer, x, y: read.append(x[0]))
    seen = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        network(found.preprocessing(seen, torch.zeros(0), torch.zeros(0)))
        made((seen - mean) / std)
    torch.testing.assert_close(read[0], read[1])


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("width", [0.25, 0.3, 0.35, 0.7, 1.1, 0.0625])
def test_a_width_that_rounds_is_found_by_the_shapes_of_all_layers(width: float) -> None:
    for name in ("resnet18", "resnet_thin", "vgg11"):
        with torch.device("meta"):
            shapes = shapes_of(build(name, channels=3, classes=5, width=width))
        for architecture in ("auto", name):
            found = identify(shapes, PretrainedSpec(architecture=architecture), name="f.pth")
            with torch.device("meta"):
                again = shapes_of(build(name, channels=3, classes=5, width=found.width))
            assert found.architecture == name and again == shapes


def test_a_width_that_cannot_be_found_is_asked_for_and_taken() -> None:
    with torch.device("meta"):
        shapes = shapes_of(build("resnet18", channels=3, classes=5, width=1 / 3))
    with pytest.raises(UsageError, match=r"shapes differ .* its width with teacher.width=NUMBER"):
        identify(shapes, PretrainedSpec(), name="f.pth")
    assert identify(shapes, PretrainedSpec(width=1 / 3), name="f.pth").architecture == "resnet18"


@pytest.mark.parametrize(
    "odd",
    [
        {"trunk.0.weight": (64,)},
        {"trunk.0.weight": ()},
        {"embedding.weight": ()},
        {"classifier.weight": ()},
        {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "layer1.0.conv1.weight": (64, 64, 3, 3), "fc.weight": ()},
    ],
)
def test_tensors_of_too_few_dimensions_are_refused(odd: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        shapes = {} if "fc.weight" in odd else shapes_of(build("resnet_thin", channels=3, classes=5))
    with pytest.raises(UsageError, match=r"f.pth (does not fit|is of no family)|needs a classifier"):
        identify(shapes | odd, PretrainedSpec(head="keep"), name="f.pth")


def test_mean_and_deviation_stay_with_their_colours_in_the_other_order() -> None:
    torchvision = pytest.importorskip("torchvision")
    theirs = shapes_of(torchvision.models.resnet18(weights=None))
    with torch.device("meta"):
        ours = shapes_of(build("resnet_thin", channels=3, classes=5))
    colours = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.4, 0.8])  # Of a training split, red first.
    seen = torch.rand(2, 3, 8, 8)
    for shapes in (theirs, ours):
        rgb, bgr = (identify(shapes, PretrainedSpec(order=order), name="f").preprocessing for order in ("rgb", "bgr"))
        # What is measured with red and blue exchanged is what the advice to set the order leads to.
        assert rgb.swapped() == bgr and bgr.swapped() == rgb
        torch.testing.assert_close(bgr(seen, *colours), rgb(seen, *colours).flip(1))
    asked = PretrainedSpec(order="bgr", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    assert identify(ours, asked, name="f").preprocessing.mean == (0.1, 0.2, 0.3)


def test_a_side_that_another_librarys_network_cannot_read_is_refused() -> None:
    torchvision = pytest.importorskip("torchvision")
    shapes = shapes_of(torchvision.models.inception_v3(weights=None, init_weights=False))
    asked = {"architecture": "torchvision:inception_v3"}
    with pytest.raises(UsageError, match=r"torchvision:inception_v3 cannot read images of 64 x 64"):
        identify(shapes, PretrainedSpec(side=64, **asked), name="f.pth")
    assert identify(shapes, PretrainedSpec(side=128, **asked), name="f.pth").preprocessing.side == 128


def test_a_classifier_without_bias_is_kept_or_refused_at_once() -> None:
    torchvision = pytest.importorskip("torchvision")
    own = build("resnet_thin", channels=3, classes=5).state_dict()
    del own["classifier.bias"]
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    with pytest.raises(UsageError, match=r"1 name is missing \(classifier.bias\)"):
        identify(shapes, PretrainedSpec(head="keep"), name="f.pth")
    assert identify(shapes, PretrainedSpec(), name="f.pth").classes == 5
    theirs = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    theirs.fc.bias.data.zero_()
    state = {name: value for name, value in theirs.state_dict().items() if name != "fc.bias"}
    found = identify({n: tuple(v.shape) for n, v in state.items()}, PretrainedSpec(head="keep"), name="f.pth")
    with torch.no_grad():
        equal(assemble(state, found, keep_head=True)(images(64)).logits, theirs(images(64)))


def test_each_family_brings_the_preprocessing_of_its_authors() -> None:
    said = {name: value.sentence() for name, value in PREPROCESSING.items()}
    assert said == {
        "iresnet": "RGB from 0 to 1, minus 0.5 0.5 0.5, over 0.5 0.5 0.5, 112 pixels",
        "vggface2": "BGR from 0 to 255, minus 91.4953 103.883 131.091, over 1 1 1, 256 pixels, the middle 224",
        "facenet": "RGB from 0 to 255, minus 127.5 127.5 127.5, over 128 128 128, 160 pixels",
    }


def test_the_cost_table_of_networks_from_files_is_what_hooks_count() -> None:
    from trainables.models.macs import count_macs
    from trainables.pretrained.families import drawn
    from trainables.spec import registry

    for family in registry.entries("network_family"):
        for name, size in family.facts["sizes"].items():
            with torch.device("meta"):
                network, channels, side = drawn(PretrainedSpec(family=family.name, architecture=name), 1)
                macs = count_macs(network, channels=channels, side=side)
            assert macs == pytest.approx(size.macs, rel=0.01), name
            assert sum(isinstance(layer, torch.nn.Conv2d) for layer in network.modules()) == size.layers, name
            assert sum(p.numel() for p in network.parameters()) == pytest.approx(size.parameters, rel=0.01), name
