"""Commands in a report name no folder of the machine that they were typed on."""

from __future__ import annotations

import pytest

from analysis.report.commands import portable

RUN = "python -m sweeps run s"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (f"{RUN} --preset tiny --seeds 0,3", f"{RUN} --preset tiny --seeds 0,3"),
        (f"{RUN} --out /home/me/o --store '/my disk/s'", RUN),
        (f"{RUN} --store=/x --seeds 5", f"{RUN} --seeds 5"),
        (f"{RUN} --data folder:/home/me/birds --data-root /data/faces", f"{RUN} --data folder:birds --data-root faces"),
        (f"{RUN} --data 'folder:/home/my me/my birds'", f"{RUN} --data 'folder:my birds'"),
        (f"{RUN} --set teacher.weights=/w/a.pth,/w/b.pth", f"{RUN} --set teacher.weights=a.pth,b.pth"),
        (f"{RUN} --plugins ~/mine/loss.py", f"{RUN} --plugins loss.py"),
        (f"{RUN} --set orders=1+2 --set folds=1/2", f"{RUN} --set orders=1+2 --set folds=1/2"),
    ],
)
def test_of_absolute_paths_the_last_name_is_shown(command: str, shown: str) -> None:
    assert portable(command) == shown


def test_what_is_no_command_line_shows_no_folder_either() -> None:
    assert "/home/me" not in portable("run --data 'folder:/home/me/birds")
