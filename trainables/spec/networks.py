"""Networks: one row each, by which people name it, keys know it, costs count it and `trainables.models` builds it.

Counts are of the network with 3 channels at width 1; tests count them again on the network itself. What a finished
stage really took is counted on its own network and stands in its metrics.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from trainables.spec import registry

OUTSIDE = ("torchvision:", "timm:")  # Beginnings of the names of other libraries' networks.
STEMS = ("small", "large")
PLAIN = "plain"  # Files of weights whose names are those of the network itself; see `trainables.pretrained`.


@dataclass(frozen=True)
class Size:
    """What a network takes.

    Attributes:
        macs: Multiply-adds of the convolutions for one image: of 32 x 32, or of the one size that it reads.
        layers: Number of convolutions.
        parameters: Weights.
        embedding: Width of the pooled features.
        widened: Factor of that width which rounding leaves alone where all widths are multiplied.
    """

    macs: float
    layers: int
    parameters: float
    embedding: int
    widened: int = 1


def own(
    name: str,
    builder: str,
    size: Size,
    *,
    version: int,
    least: int = 4,
    stems: tuple[str, ...] = ("small",),
) -> registry.Entry:
    """Declare a network of ours.

    Args:
        name: What `architecture` calls it, and the function in `trainables.models` that builds it.
        builder: That function's module there.
        size: At 32 x 32 and width 1.
        version: Raise when the same spec would now give other numbers.
        least: Side in pixels of the smallest image it can read.
        stems: Those it can have.
    """
    facts = {"size": lambda: size, "least": least, "stems": stems}
    return registry.declare("network", name, f"trainables.models.{builder}", version=version, facts=facts)


def family(name: str, builder: str, sizes: dict[str, Size], *, version: int = 1) -> registry.Entry:
    """Declare the networks of one family of files of weights; they read one size whatever the data's."""
    return registry.declare(
        "network_family", name, f"trainables.models.{builder}", version=version, facts={"sizes": sizes}
    )


own("resnet18", "resnet:resnet18", Size(0.5555e9, 20, 11.2e6, 512), version=2, stems=STEMS)
own("resnet34", "resnet:resnet34", Size(1.1596e9, 36, 21.3e6, 512), version=2, stems=STEMS)
own("resnet50", "resnet:resnet50", Size(1.2976e9, 53, 23.7e6, 512, widened=4), version=2, stems=STEMS)
own("resnet34_thin", "resnet:resnet34_thin", Size(0.9497e9, 29, 8.2e6, 256), version=2)
own("resnet_thin", "resnet:resnet_thin", Size(12.5e6, 9, 0.08e6, 64), version=2)
own("vgg11", "vgg:vgg11", Size(0.2094e9, 8, 9.3e6, 512), version=2)
# No network: the embedding is the image.
registry.declare("floor", "pixels", "trainables.models.network:Pixels", facts={"size": lambda: Size(0.0, 0, 0.0, 0)})

family(
    "iresnet",
    "iresnet:IResNet",
    {
        "iresnet18": Size(2.61e9, 21, 24.0e6, 512),
        "iresnet34": Size(4.46e9, 37, 34.1e6, 512),
        "iresnet50": Size(6.31e9, 53, 43.6e6, 512),
        "iresnet100": Size(12.09e9, 103, 65.2e6, 512),
        "iresnet200": Size(23.42e9, 201, 118.8e6, 512),
    },
)
family(
    "vggface2",
    "caffe_resnet:CaffeResNet",
    {
        "vggface2_resnet50": Size(3.86e9, 53, 23.5e6, 2048),
        "vggface2_senet50": Size(3.86e9, 85, 26.0e6, 2048),
    },
)
family("facenet", "inception_resnet:InceptionResnetV1", {"inception_resnet_v1": Size(1.42e9, 132, 23.5e6, 512)})


ARCHITECTURES = tuple(entry.name for entry in registry.entries("network"))  # Those declared here.


def with_stem(stem: str) -> tuple[str, ...]:
    """Networks of ours that can have such a stem."""
    return tuple(e.name for e in registry.entries("network") if e.origin is None and stem in e.facts["stems"])


def family_of(architecture: str) -> str:
    """The family of files that has a network of that name, or nothing."""
    return next((e.name for e in registry.entries("network_family") if architecture in e.facts["sizes"]), "")


@functools.cache
def of_files() -> dict[str, Size]:
    """Networks of all families of files."""
    return {name: size for e in registry.entries("network_family") for name, size in e.facts["sizes"].items()}


def families() -> tuple[str, ...]:
    """Families of files of weights."""
    return (*registry.names("network_family"), PLAIN)
