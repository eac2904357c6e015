"""Names of networks: our own, those of other libraries, and of files with weights."""

from __future__ import annotations

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet34_thin", "resnet_thin", "vgg11")
OUTSIDE = ("torchvision:", "timm:")  # Beginnings of the names of other libraries' networks.
FAMILIES = ("iresnet", "vggface2", "facenet", "plain")  # Of files of weights; see `trainables.pretrained`.
OF_FAMILIES = {
    "iresnet": ("iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200"),
    "vggface2": ("vggface2_resnet50", "vggface2_senet50"),
    "facenet": ("inception_resnet_v1",),
}


STEMS = ("small", "large")
LARGE_STEMS = ("resnet18", "resnet34", "resnet50")  # Networks that can have the large one.
