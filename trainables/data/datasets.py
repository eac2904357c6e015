"""What people are told about each named data set: layout on the disk, terms, counts, and the tasks it offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.data.packed import PackedInfo
from trainables.errors import UsageError, did_you_mean

FOLDER_PREFIX = "folder:"

_KRIZHEVSKY = "no explicit licence; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)"
_ALL = ("classification", "verification", "identification", "retrieval")
_DISJOINT = _ALL[1:]  # Tasks that test other classes than they train on, and so need no test image of every class.


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A data set by its name; counts are those of the whole set as its authors released it."""

    name: str
    summary: str
    layout: str
    terms: str
    protocols: tuple[str, ...]  # Tasks it offers to studies.
    images: int | None = None
    classes: int | None = None
    train: int | None = None  # Images of the official split, where there is one of images.
    test: int | None = None
    side: int | None = 112  # Pixels of a packed image, unless another size is asked; None: known when it is read.
    fixed: bool = False  # Whether it comes at that side and no other.
    stems: tuple[str, ...] = ()  # How the names of its folder or archive begin, in lower case.


DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            name="digits",
            summary="1,797 handwritten digits, grey, 8x8, 10 classes; 30 % of each class drawn for test",
            layout="nothing to put anywhere: it arrives with scikit-learn",
            terms="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), CC BY 4.0",
            protocols=_ALL,
            images=1797,
            classes=10,
            train=1258,
            test=539,
            side=8,
            fixed=True,
        ),
        DatasetInfo(
            name="cifar10",
            summary="50,000 + 10,000 photographs, RGB, 32x32, 10 classes",
            layout="<data root>/cifar-10-batches-py/ with data_batch_1 to _5, test_batch and batches.meta",
            terms=_KRIZHEVSKY,
            protocols=_ALL,
            images=60_000,
            classes=10,
            train=50_000,
            test=10_000,
            side=32,
            fixed=True,
        ),
        DatasetInfo(
            name="cifar100",
            summary="50,000 + 10,000 photographs, RGB, 32x32, 100 classes",
            layout="<data root>/cifar-100-python/ with train, test and meta",
            terms=_KRIZHEVSKY,
            protocols=_ALL,
            images=60_000,
            classes=100,
            train=50_000,
            test=10_000,
            side=32,
            fixed=True,
        ),
        DatasetInfo(
            name="lfw",
            summary="Labeled Faces in the Wild: 13,233 photographs of 5,749 people, and the 6,000 pairs of View 2",
            layout="<data root>/lfw/<Person>/<Person>_0001.jpg (or lfw.tar, lfw.tgz, lfw-funneled.tgz with that in it), "
            "and pairs.txt beside it",
            terms="news photographs whose copyright stays with their owners; released for research, no explicit licence; "
            "cite G. Huang, M. Ramesh, T. Berg, E. Learned-Miller, Labeled Faces in the Wild (UMass TR 07-49, 2007)",
            protocols=_DISJOINT,
            images=13_233,
            classes=5749,
            side=112,
            stems=("lfw",),
        ),
        DatasetInfo(
            name="orl",
            summary="ORL / AT&T faces: 400 grey photographs, 92x112, 10 of each of 40 people",
            layout="<data root>/att_faces/s1/1.pgm to s40/10.pgm (or att_faces.tar with that in it)",
            terms="free for research with credit to AT&T Laboratories Cambridge; cite F. Samaria, A. Harter, "
            "Parameterisation of a stochastic model for human face identification (WACV 1994)",
            protocols=_ALL,
            images=400,
            classes=40,
            side=92,
            stems=("orl", "att_faces", "att-faces", "attfaces"),
        ),
        DatasetInfo(
            name="cub200",
            summary="Caltech-UCSD Birds 2011: 11,788 photographs, RGB, 200 species; 5,994 + 5,794 by its image split",
            layout="<data root>/CUB_200_2011/ (or CUB_200_2011.tar, .tgz with that in it) with images/, images.txt, "
            "image_class_labels.txt, train_test_split.txt and classes.txt",
            terms="images belong to their photographers, for non-commercial research and education; cite C. Wah et al., "
            "The Caltech-UCSD Birds-200-2011 Dataset (CNS-TR-2011-001)",
            protocols=_ALL,
            images=11_788,
            classes=200,
            train=5994,
            test=5794,
            side=256,
            stems=("cub",),
        ),
        DatasetInfo(
            name="cars196",
            summary="Stanford Cars: 16,185 photographs, RGB, 196 models; 8,144 + 8,041 by its image split",
            layout="<data root>/cars196/ with cars_train/, cars_test/, cars_train_annos.mat and "
            "cars_test_annos_withlabels.mat, or with car_ims/ and cars_annos.mat (folders may be archives; the lists "
            "may be in devkit/)",
            terms="for non-commercial research; cite J. Krause, M. Stark, J. Deng, L. Fei-Fei, 3D Object Representations "
            "for Fine-Grained Categorization (3dRR 2013)",
            protocols=_ALL,
            images=16_185,
            classes=196,
            train=8144,
            test=8041,
            side=256,
            stems=("cars", "stanford_cars", "stanford-cars"),
        ),
        DatasetInfo(
            name="sop",
            summary="Stanford Online Products: 120,053 photographs, RGB, 22,634 products; tested are other products",
            layout="<data root>/Stanford_Online_Products/ (or an archive with that in it) with Ebay_train.txt, "
            "Ebay_test.txt and the folders of images they name",
            terms="photographs of sellers, for research, no explicit licence; cite H. Oh Song, Y. Xiang, S. Jegelka, "
            "S. Savarese, Deep Metric Learning via Lifted Structured Feature Embedding (CVPR 2016)",
            protocols=_DISJOINT,
            images=120_053,
            classes=22_634,
            train=59_551,
            test=60_502,
            side=256,
            stems=("stanford_online_products", "online_products", "sop"),
        ),
        DatasetInfo(
            name="tiny_imagenet",
            summary="Tiny ImageNet: 110,000 photographs, RGB, 64x64, 200 classes; 100,000 + the 10,000 of val, which "
            "are tested",
            layout="<data root>/tiny-imagenet-200/ (or tiny-imagenet-200.zip, .tar with that in it) with "
            "train/<class>/images/*.JPEG and val/images/*.JPEG, val/val_annotations.txt; test/ has no published labels "
            "and is passed over",
            terms="made of ImageNet's photographs, which belong to their authors; for non-commercial research and "
            "education; cite Y. Le, X. Yang, Tiny ImageNet Visual Recognition Challenge (CS231N, 2015)",
            protocols=_ALL,
            images=110_000,
            classes=200,
            train=100_000,
            test=10_000,
            side=64,
            stems=("tiny-imagenet", "tiny_imagenet", "tinyimagenet"),
        ),
        DatasetInfo(
            name="uccs",
            summary="UCCS surveillance faces, cropped, one folder per subject; papers take 180 subjects",
            layout="<data root>/uccs/<subject>/*.jpg, or uccs/train/ and uccs/test/ with such folders (or uccs.tar, "
            ".zip); folders of sessions in <subject>/ count for it",
            terms="by agreement with its authors, cannot be fetched for you; cite A. Sapkota, T. Boult, Large Scale "
            "Unconstrained Open Set Face Database (BTAS 2013)",
            protocols=_ALL,
            stems=("uccs",),
        ),
        DatasetInfo(
            name="umdfaces",
            summary="UMDFaces: 367,888 photographs of 8,277 people",
            layout="<data root>/umdfaces/<person>/*.jpg, in batch folders or not (or umdfaces.tar)",
            terms="for non-commercial research, cannot be fetched for you; cite A. Bansal, A. Nanduri, C. Castillo, "
            "R. Ranjan, R. Chellappa, UMDFaces: An Annotated Face Dataset for Training Deep Networks (IJCB 2017)",
            protocols=_ALL,
            images=367_888,
            classes=8277,
            stems=("umdface", "umd_face"),
        ),
        DatasetInfo(
            name="casia_webface",
            summary="CASIA-WebFace: 494,414 photographs of 10,575 people",
            layout="<data root>/CASIA-WebFace/<person>/*.jpg (or casia_webface.tar)",
            terms="by agreement with its authors, for non-commercial research, cannot be fetched for you; cite D. Yi, "
            "Z. Lei, S. Liao, S. Li, Learning Face Representation from Scratch (2014)",
            protocols=_ALL,
            images=494_414,
            classes=10_575,
            stems=("casia",),
        ),
    )
}


_FACTS = ("images", "classes", "train", "test", "side", "protocols", "layout")


def of_plugin(name: str, summary: str, terms: str, facts: Mapping[str, Any], *, root: bool) -> DatasetInfo:
    """What people are told about a set that a plug-in brings.

    Raises:
        UsageError: If a fact or a protocol is unknown.
    """
    for fact in facts:
        if fact not in _FACTS:
            raise UsageError(
                f"'{fact}' is not known of a data set.{did_you_mean(fact, _FACTS)} Known are {', '.join(_FACTS)}."
            )
    protocols = tuple(facts.get("protocols", _ALL))
    for protocol in protocols:
        if protocol not in _ALL:
            raise UsageError(
                f"`{name}` cannot offer '{protocol}'.{did_you_mean(protocol, _ALL)} Protocols are {', '.join(_ALL)}."
            )
    counts: dict[str, Any] = {fact: facts.get(fact) for fact in ("images", "classes", "train", "test", "side")}
    for fact, value in counts.items():
        least = 0 if fact == "test" else 1
        if value is not None and (type(value) is not int or value < least):
            raise UsageError(f"`{fact}` of `{name}` must be a whole number of at least {least}, but got {value!r}.")
    where = "what its plug-in reads under the data root" if root else "nothing to put anywhere: its plug-in makes it"
    return DatasetInfo(
        name=name,
        summary=summary or "of a plug-in",
        terms=terms or "as its plug-in says",
        layout=str(facts.get("layout", where)),
        **counts,
        protocols=protocols,
        fixed=True,
    )


def protocols_of(info: PackedInfo) -> tuple[str, ...]:
    """The tasks a packed set offers: those of its name, without classification where no image is for test.

    Sets of people whose classes are not all of at least 3 images have no test images of every class; tasks that
    keep whole classes apart need none.
    """
    known = DATASETS[info.name].protocols if info.name in DATASETS else _ALL
    return known if info.test_images else tuple(protocol for protocol in known if protocol != "classification")
