"""Which folder names the class of an image: one table for folders and archives."""

import zipfile
from random import Random

import pytest

from trainables.data.archives import tree_of
from trainables.data.folder import list_folder
from trainables.data.folder_names import Says, alike, part_of, says
from trainables.data.layout import layout_of
from trainables.data.packed import TEST, TRAIN
from trainables.data.people import list_people
from trainables.data.stored import Stored
from trainables.errors import DataError


def found(*folders, images=3, also=(), own_words=()):
    """The layout of that many images in each folder, and of other files."""
    names = [f"{folder}/{number}.jpg" for folder in folders for number in range(images)] + list(also)
    stored = {name: Stored(name, 1, 1) for name in sorted(names)}
    above = {"/".join(name.split("/")[:depth]) for name in names for depth in range(1, name.count("/") + 1)}
    return layout_of(stored, above, "there", own_words)


def each(people, *inside):
    return [f"{person}/{part}" for person in people for part in inside]


PEOPLE = ("person0", "person1", "person2", "person3", "person4")
ANN = ("ann", "bob", "cid")


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (each(PEOPLE, "0", "1"), PEOPLE),
        (each(PEOPLE, "session_1", "session_2"), PEOPLE),
        (each(PEOPLE, "camA", "camB"), None),  # No words of a language, and so perhaps people.
        (each(PEOPLE, "cam_1", "cam_2"), PEOPLE),
        (each(ANN, "left", "right"), ANN),
        (each(ANN, "Day 1/cam 2", "Day 2/cam 1"), ANN),
        (each(ANN, "2020-01-01", "2020-02-01"), ANN),
        (["ann/2020-01-01", "bob/2020-01-02", "cid/2020-03-01"], ANN),
        (each(ANN, "s1", "s2"), ANN),
        (each(("0001", "0002", "0003"), "0", "1"), ("0001", "0002", "0003")),
        (each(("n01", "n02"), "images"), ("n01", "n02")),
        (each(("n01", "n02"), "whatever"), ("n01", "n02")),
        (["ann/ann_1", "ann/ann_2", "bob/bob_1"], ("ann", "bob")),
        (["a/ann", "a/alf", "b/bob"], ("alf", "ann", "bob")),
        (["A/A_01", "A/A_02", "B/B_01"], ("A", "B")),
        (each(("batch_1", "batch_2"), "ann", "bob"), ("ann", "bob")),
        (["set_batch1/ann", "set_batch2/bob"], ("ann", "bob")),
        (["part1/0001", "part2/0002"], ("0001", "0002")),
        (["Jörg/1", "Jörg/2", "Zoë/1", "Zoë/2"], ("Jörg", "Zoë")),
        (["deep/er/ann", "deep/er/bob"], ("ann", "bob")),
        (["images/ann", "images/bob"], ("ann", "bob")),
        (["Day", "Will", "May"], ("Day", "May", "Will")),
        (["0", "1", "2"], ("0", "1", "2")),
        (["left", "right"], ("left", "right")),
        (["images_1/cat", "images_2/dog"], ("cat", "dog")),
    ],
)
def test_the_class_is_the_folder_that_names_it(folders, classes):
    if classes is None:
        with pytest.raises(DataError, match="cannot be told"):
            found(*folders)
        return
    layout = found(*folders)
    assert layout.classes == sorted(classes)
    assert all(image.class_name in image.name.split("/") for image in layout.images)
    assert len(layout.images) == 3 * len(folders)


@pytest.mark.parametrize(
    "folders",
    [
        each(("2019", "2020"), "ann", "bob"),
        each(("berlin", "paris", "rome"), "ann", "bob"),
        each(ANN, "work", "home"),
        ["europe/ann", "asia/bob"],
        each(("left", "right"), "ann", "bob"),
        each(("0", "1"), *(f"{number:04d}" for number in range(9))),
        each(("session1", "session2"), "0001", "0002"),
        ["01/ann", "01/bob", "02/cid"],
        ["batch1/x", "carl"],
        ["batch1/0001", "carl/0002"],
        ["batch1", "batch1/ann", "batch2/bob"],
        each(("session1", "session2"), "cam1", "cam2"),
        ["ann", "europe/bob", "europe/cid"],
        each(("10", "11"), "101", "102"),
        ["ann", "bob", "ann/bob"],
        ["images", "images/ann", "bob", "bob/1"],
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_with_what_was_seen(folders):
    with pytest.raises(DataError, match=r"cannot be told.*(folders|folder) \(.*in them .*Put the images of each class"):
        found(*folders)


@pytest.mark.parametrize(
    "pair",
    [
        ("Ann", "ann"),
        ("Jos\u00e9", "Jose\u0301"),
        ("STRASSE", "straße"),
        ("ＡＢ", "AB"),
        ("ann ", "ann"),
        ("an\u200bn", "ann"),
    ],
)
def test_names_that_differ_in_case_or_unicode_only_are_refused(pair):
    with pytest.raises(DataError, match="differ only in case or in how Unicode writes them"):
        found(*pair, "bob")
    with pytest.raises(DataError, match="differ only in case"):
        found(f"train/{pair[0]}", "train/bob", f"test/{pair[1]}", "test/bob")


def test_single_letters_may_differ_in_case():
    assert found("a", "A").classes == ["A", "a"] and alike(["a", "A", "b"]) == []


def test_images_below_class_folders_are_of_the_class():
    layout = found("cat", "dog", "cat/more", "cat/more/still", "dog/more", "dog/others")
    assert layout.classes == ["cat", "dog"] and len(layout.images) == 18
    assert sum(image.class_name == "cat" for image in layout.images) == 9
    assert "more, others" in layout.notes[0]


@pytest.mark.parametrize(
    ("tops", "splits"),
    [
        (("train", "test"), {"train": TRAIN, "test": TEST}),
        (("Training", "TESTING"), {"Training": TRAIN, "TESTING": TEST}),
        (("train", "val", "test"), {"train": TRAIN, "val": TRAIN, "test": TEST}),
        (("train", "dev", "test"), {"train": TRAIN, "dev": TRAIN, "test": TEST}),
        (("train", "valid"), {"train": TRAIN, "valid": TEST}),
        (("train", "validation"), {"train": TRAIN, "validation": TEST}),
    ],
)
def test_parts_are_the_split_and_validation_is_announced(tops, splits):
    for layout in (
        found(*each(tops, "cat", "dog")),
        found(*each(("cat", "dog"), *tops)),
        found(*(f"wrap/{folder}" for folder in each(tops, "images/cat", "images/dog"))),
    ):
        assert layout.classes == ["cat", "dog"] and len(layout.images) == 6 * len(tops)
        for image in layout.images:
            (part,) = set(image.name.split("/")) & set(tops)
            assert image.split == splits[part]
        named = [top for top in tops if part_of(top) == "validation"]
        assert len(layout.notes) == len(named) and all(f"{top}/" in layout.notes[0] for top in named)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (each(("train", "test", "extra"), "cat", "dog"), "test, train and beside them extra with 6 images"),
        ([*each(("train", "val"), "cat", "dog"), "cat"], "beside them cat with 3 images"),
        (each(("train", "val", "valid", "test"), "cat", "dog"), "val, valid in there name the same part"),
        (each(("train", "Train", "test"), "cat", "dog"), "Train, train in there name the same part|train, Train"),
        ([*each(("train", "val"), "cat", "dog"), "test"], "test in there holds 3 images without class folders"),
        (["train", "test"], "holds images straight in test, train|straight in train, test"),
        (["images/train", "images/val"], "holds images straight in"),
        (each(("unlabeled", "labelled"), "cat", "dog"), "cannot be told"),
        (each(("val", "test"), "cat", "dog"), "holds test, val, but no train/"),
        (["train", "test", "ann", "bob"], "holds test, train and beside them ann, bob with 6 images"),
        ([*each(("train",), "cat", "dog"), *each(("extra",), "cat", "dog")], "cannot be told"),
    ],
)
def test_parts_that_are_unknown_or_have_no_classes_are_refused(folders, message):
    with pytest.raises(DataError, match=message):
        found(*folders)


def test_an_empty_test_folder_is_not_replaced_by_drawing():
    images = {f"train/{name}/{number}.jpg": Stored("x", 1, 1) for name in ("a", "b") for number in range(3)}
    for folders in ({"train", "test"}, {"train", "Test", "test/a"}):
        with pytest.raises(DataError, match="No images in [tT]est of there"):
            layout_of(images, folders, "there")
    inside = {f"set/{name}": stored for name, stored in images.items()}
    with pytest.raises(DataError, match="No images in test"):
        layout_of(inside, {"set", "set/train", "set/test"}, "there")


def test_a_part_with_one_class_alone_is_not_taken_for_a_folder_above_its_classes():
    with pytest.raises(DataError, match="test/ lie in 'cat'"):
        found("train/ann/s1", "train/bob/s1", "test/cat/s1", "test/cat/s2")
    for above in ("images", "batch_1"):
        layout = found("train/ann", "train/bob", f"test/{above}/ann", f"test/{above}/bob")
        assert {image.class_name for image in layout.images} == {"ann", "bob"}


def test_images_without_a_class_folder_are_named():
    layout = found("cat", "dog", also=("top.png", "zz.jpg"))
    assert layout.loose == ["top.png", "zz.jpg"] and len(layout.images) == 6
    parted = found(*each(("train", "test"), "cat", "dog"), also=("train/a.png", "b.png"))
    assert sorted(parted.loose) == ["b.png", "train/a.png"]
    wrapped = found("set/cat", "set/dog", also=("set/a.png", "set/cat/more/1.png"))  # As an archive has it.
    assert wrapped.loose == ["set/a.png"] and wrapped.classes == ["cat", "dog"] and len(wrapped.images) == 7
    assert found("cat", "cat/more").classes == ["cat"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ann", Says.NAME),
        ("person12", Says.NAME),
        ("0012", Says.NUMBER),
        ("2020-01-02", Says.NUMBER),
        ("s1", Says.NUMBER),
        ("n000123", Says.NUMBER),
        ("Left", Says.CIRCUMSTANCE),
        ("cam2_left", Says.CIRCUMSTANCE),
        ("Session 3", Says.GROUP),
        ("umdfaces_batch1", Says.GROUP),
        ("☃", Says.NAME),
    ],
)
def test_names_say_what_they_say(name, kind):
    assert says(name) == kind
    assert says(f"{name} uccs", {"uccs"}) == kind


@pytest.mark.parametrize("kind", ["folder", ".tar", ".tgz", ".zip"])
def test_people_with_sessions_are_people_in_folders_and_archives(tmp_path, make_images, make_tar, kind):
    for person in PEOPLE:
        make_images(tmp_path / "uccs" / person, ("0", "1"), count=4)
    place = tmp_path / "uccs"
    if kind == ".zip":
        place = tmp_path / "uccs.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for path in sorted((tmp_path / "uccs").rglob("*.png")):
                archive.write(path, path.relative_to(tmp_path))
    elif kind != "folder":
        place = make_tar(place, kind)
    people, own = list_people(tree_of([place])), list_folder(place)
    assert people.classes == own.classes == PEOPLE
    assert (
        [file.label for file in people.files]
        == [file.label for file in own.files]
        == [n for n in range(5) for _ in range(8)]
    )


WORDS = (
    "ann",
    "bob",
    "0",
    "1",
    "0001",
    "left",
    "session_1",
    "batch_2",
    "train",
    "test",
    "val",
    "images",
    "a",
    "é",
    "Ann",
)


@pytest.mark.parametrize("seed", range(300))
def test_of_any_tree_each_image_has_a_class_on_its_way_or_is_named(seed):
    random = Random(seed)
    words = random.sample(WORDS, random.randint(2, 6))
    folders = {"/".join(random.choices(words, k=random.randint(1, 3))) for _ in range(random.randint(2, 8))}
    also = tuple(random.sample(["x.png", "ann/x.png", "train/x.png", "0/left/x.png"], random.randint(0, 2)))
    names = {f"{folder}/{number}.jpg" for folder in folders for number in range(3)} | set(also)
    try:
        layout = found(*folders, also=also)
    except DataError as error:
        assert len(str(error)) < 1000
        return
    assert sorted([image.name for image in layout.images] + layout.loose) == sorted(names)
    labels = {image.name: image.class_name for image in layout.images}
    assert all(label in name.split("/")[:-1] for name, label in labels.items())
    assert len({label.casefold() for label in labels.values()}) == len(set(labels.values()))
    # A number or circumstance that is the innermost folder of several others is nobody's class.
    parents: dict[str, set[tuple[str, ...]]] = {}
    for name in labels:
        *above, inner, _ = name.split("/")
        parents.setdefault(inner, set()).add(tuple(part for part in above if part_of(part) is None))
    for name, label in labels.items():
        *above, inner, _ = name.split("/")
        if label == inner and label not in above and {part_of(part) for part in above} == {None}:
            assert says(inner) == Says.NAME or len(parents[inner] - {()}) == 1, f"{label} of {name}: {sorted(labels)}"
