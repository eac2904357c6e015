import json
import random

import pytest
import synthetic

from analysis import run_file
from analysis.errors import NothingToReport
from analysis.report.write import write_report


def run_of(tmp_path):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"])
    return folder, json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    "change, words",
    [
        ({"trials": [{"bell": "1", "seed": 0, "stages": {}}]}, ("trials", "cell")),
        ({"trials": [{"cell": "1", "seed": "0", "stages": {}}]}, ("trials", "seed")),
        ({"trials": [{"cell": "1", "seed": 2**70, "stages": {}}]}, ("trials", "seed")),
        ({"trials": {"cell": 1}}, ("trials", "list")),
        ({"cells": [{"id": "1", "parameters": [1]}]}, ("cells", "parameters")),
        ({"cells": [5]}, ("cells", "object")),
        ({"data": "digits"}, ("data", "object")),
        ({"data": {"height": "8"}}, ("data", "whole")),
        ({"arms": {"kd": 5}}, ("arms", "objects")),
        ({"axes": {"orders": 5}}, ("axes", "lists")),
        ({"seeds": 5}, ("seeds", "whole numbers")),
        ({"claims": 5}, ("claims", "list")),
        ({"metric": 5}, ("metric", "text")),
    ],
)
def test_a_run_of_another_shape_is_told_by_the_entry(tmp_path, change, words):
    folder, run = run_of(tmp_path)
    (folder / "run.json").write_text(json.dumps(run | change))
    with pytest.raises(NothingToReport) as told:
        write_report(folder, folder / "report")
    assert all(word in str(told.value) for word in ("run.json", *words))


def test_any_flipped_bit_of_a_run_that_was_signed_is_told_or_changes_nothing(tmp_path):
    folder, run = run_of(tmp_path)
    whole = run_file.text_of(run).encode()
    (folder / "run.json").write_bytes(whole)
    before = run_file.read(folder)
    random.seed(0)
    told = 0
    for at in random.sample(range(8 * len(whole)), 300):
        hurt = bytearray(whole)
        hurt[at // 8] ^= 1 << at % 8
        (folder / "run.json").write_bytes(hurt)
        try:
            found = run_file.read(folder)  # Blanks carry nothing, nor does the name of the checksum.
            assert {name: found[name] for name in run} == {name: before[name] for name in run}
        except NothingToReport:
            told += 1
    assert told > 100


def test_a_run_is_signed_whatever_json_makes_of_its_values():
    content = {"axes": {"orders": ("1", None)}, 5: {True: float("nan")}, "data": {"height": 8}}
    assert run_file.parsed(run_file.text_of(content).encode())[1] == ""
