import csv

import pytest
import synthetic

from analysis.frames import methods
from analysis.load import cell_table, load_run, trial_table
from analysis.published import reading as published

CIFAR = {"name": "cifar100", "classes": 100, "train_images": 50_000, "test_images": 10_000, "height": 32, "width": 32}


def entry(method, *, table="Tab. 1", dataset="CIFAR-100", arm="horkd", resolution=None, architecture=""):
    return {
        "table": table,
        "method": method,
        "dataset": dataset,
        "arm": arm,
        "resolution": resolution,
        "architecture": architecture,
    }


def beside(folder, **options):
    data = load_run(synthetic.methods(folder, seeds=(0, 1), arms=["ce", "horkd"], **options))
    trials = trial_table(data)
    found = methods.settings(data.run, cell_table(data.run), trials)
    return published.beside(data.run, found, {"horkd": "HORKD"})


def test_every_printed_number_is_whole_and_in_percent():
    with open(published.FOLDER / "horkd.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(published.numbers("horkd")) >= 80
    for row in rows:
        assert row["paper"] == "HORKD" and row["table_or_figure"] and row["method"] and row["dataset"]
        if row["metric"] in published.METRICS:
            assert row["unit"] == "%" and 0 < float(row["value"]) < 100
        assert row["metric"].endswith("_error") == ("an error" in row["note"])


def test_what_the_text_says_of_its_tables_follows_from_the_numbers():
    (ours,) = published.find(entry("OUR-128-R", table="Tab. 4", dataset="Cars196"), "horkd")
    (teacher,) = published.find(entry("Teacher(ResNet50)", table="Tab. 4", dataset="Cars196"), "horkd")
    assert ours.value - teacher.value == pytest.approx(1.94)  # "About 2 %", says the text.
    (error,) = [
        n
        for n in published.find(entry("OUR-16-R", table="Tab. 3", dataset="UCCS"), "horkd")
        if n.metric == "top1_error"
    ]
    assert 100 - error.value == pytest.approx(77.81)


def test_a_method_printed_at_two_sides_is_found_by_its_side():
    (number,) = published.find(entry("SKD", table="Tab. 2", dataset="LFW", resolution=16), "horkd")
    assert (number.value, number.resolution) == (85.87, "16x16")
    assert len(published.find(entry("SKD", table="Tab. 2", dataset="LFW"), "horkd")) == 2
    assert published.find(entry("no such method"), "horkd") == []


def test_a_difference_is_told_on_the_whole_data_set_of_the_paper_only(tmp_path):
    asked = [entry("OUR-16-R", resolution=16)]
    (whole,) = beside(tmp_path / "a", published=asked, data=CIFAR)
    assert whole.difference == pytest.approx(100 * whole.ours.mean - 74.65) and whole.data == "the paper's data"
    for change in ({"classes": 50}, {"train_images": 25_000}):
        (part,) = beside(tmp_path / str(change), published=asked, data=CIFAR | change)
        assert (part.data, part.difference) == ("part of it", None)
    limited = {"student.train_images": 500}
    (part,) = beside(tmp_path / "c", published=asked, data=CIFAR, parameters=limited)
    assert part.data == "part of it"
    (other,) = beside(tmp_path / "d", published=asked)
    assert (other.data, other.difference, other.ours.n) == ("other data", None, 2)


LFW = {"name": "lfw", "classes": 5749, "train_images": 13_233, "test_images": 0, "height": 64, "width": 64}
UCCS = {"name": "uccs", "classes": 180, "train_images": 0, "test_images": 4825, "height": 64, "width": 64}


@pytest.mark.parametrize(
    "data, dataset, parameters, relation",
    [
        (LFW, "LFW", {}, "the paper's data"),
        (LFW, "LFW", {"folds": []}, "the paper's data"),
        (LFW, "LFW", {"folds": list(range(1, 11))}, "the paper's data"),
        (LFW, "LFW", {"folds": [1, 2, 3]}, "part of it"),
        (LFW, "LFW", {"teacher.folds": [1]}, "part of it"),
        (UCCS, "UCCS", {"subjects": 0}, "the paper's data"),
        (UCCS, "UCCS", {"subjects": 180}, "the paper's data"),  # All that there are.
        (UCCS, "UCCS", {"subjects": 20}, "part of it"),
    ],
)
def test_fewer_folds_or_people_are_a_part_of_the_papers_data(data, dataset, parameters, relation):
    assert published.data_relation({"data": data, "parameters": parameters}, dataset) == relation


def test_no_difference_is_told_of_some_folds(tmp_path):
    asked = [entry("SKD", table="Tab. 2", dataset="LFW", resolution=16)]
    options = {"published": asked, "data": LFW, "task": "verification", "metric": "verification_accuracy"}
    (whole,) = beside(tmp_path / "a", **options)
    assert whole.difference == pytest.approx(100 * whole.ours.mean - 85.87)
    (part,) = beside(tmp_path / "b", **options, parameters={"folds": [1, 2, 3]})
    assert (part.data, part.difference) == ("part of it", None)


def test_the_data_tested_are_held_against_the_papers_not_those_trained_on():
    run = {"data": {"name": "umdfaces", "classes": 8000, "train_images": 360_000}, "test_data": UCCS}
    assert published.data_relation(run, "UCCS") == "the paper's data"
    assert published.data_words(run) == "on uccs"
    assert published.data_relation(run | {"test_data": UCCS | {"test_images": 100}}, "UCCS") == "part of it"
    assert published.data_relation(run | {"test_data": None}, "UCCS") == "other data"


def test_on_other_data_a_side_is_matched_by_its_share_of_the_largest(tmp_path):
    asked = [
        entry(f"OUR-{side}-R", table="Tab. 4", dataset="Cars196", resolution=side) for side in (256, 224, 160, 128)
    ]
    found = beside(tmp_path, published=asked, sides=(12, 16, 32, 28), task="retrieval", metric="recall_at_1")
    assert [item.where for item in found] == ["32×32", "28×28", "not run", "16×16"]
    assert [item.ours.n for item in found] == [2, 2, 0, 2] and not any(item.exact for item in found)


def test_on_a_data_set_of_the_paper_the_others_are_left_out(tmp_path):
    asked = [entry("OUR-16-R", resolution=16), entry("OUR-128-R", table="Tab. 4", dataset="SOP", resolution=128)]
    assert [item.number.dataset for item in beside(tmp_path, published=asked, data=CIFAR)] == ["CIFAR-100"]


def test_on_the_papers_data_a_side_that_was_not_run_stays_empty(tmp_path):
    (item,) = beside(tmp_path, published=[entry("OUR-16-R", resolution=16)], data=CIFAR, sides=(32, 8))
    assert (item.where, item.ours.n, item.difference) == ("not run", 0, None)


def test_errors_of_the_paper_stand_beside_our_errors(tmp_path):
    asked = [entry("Our-16-R", table="Tab. 3", dataset="UCCS", resolution=16)]
    found = beside(tmp_path, published=asked, task="identification", sides=(16,), score=lambda *_: 0.7)
    ours = {item.number.metric: item.ours.mean for item in found}
    assert ours == {"top1_error": pytest.approx(0.3), "top5_error": pytest.approx(0.15)}


def test_an_entry_that_names_a_network_is_read_where_that_was_trained(tmp_path):
    asked = [
        entry("OUR-16-V", resolution=16, architecture="vgg11"),
        entry("OUR-16-R", resolution=16, architecture="resnet18"),
    ]
    found = beside(tmp_path, published=asked, sides=(32, 16), architectures=("resnet_thin", "resnet18"))
    assert [item.ours.n for item in found] == [0, 2]


@pytest.mark.parametrize(
    "name, words", [("digits", "on digits, not the paper's data"), ("cifar100", "on part of cifar100")]
)
def test_verdicts_name_the_data(name, words):
    assert published.data_words({"data": {"name": name, "classes": 10}}) == words
    assert published.data_words({"data": CIFAR}) == "on cifar100"


def test_an_unreadable_entry_is_passed_over(tmp_path):
    assert beside(tmp_path, published=["Tab. 1", {}, entry("KD", arm="nobody")], sides=(16,))[0].ours.n == 0


def test_the_numbers_are_those_of_the_runs_paper(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    header = "paper,table_or_figure,study,method,dataset,resolution,metric,value,unit,params_m,flops_m,note\n"
    (tmp_path / "gdrd.csv").write_text(f"{header}GDRD,Tab. 9,faces,Ours,TinyFace,16x16,recall_at_1,61.5,%,,,\n")
    (tmp_path / "gdrd_data.csv").write_text("dataset,name,classes,images\nTinyFace,tinyface,5139,15975\n")
    run = {"paper": "GDRD, Tab. 9", "data": {"name": "tinyface", "classes": 5139, "train_images": 15975}}
    assert published.paper_of(run) == "gdrd" and published.paper_of({"paper": "../etc/nothing"}) == "horkd"
    (number,) = published.find(entry("Ours", table="Tab. 9", dataset="TinyFace"), published.paper_of(run))
    assert number.value == 61.5
    assert published.data_relation(run, "TinyFace") == "the paper's data"
    assert published.data_words(run) == "on tinyface"
