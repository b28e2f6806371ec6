"""Runs beside each other: which are one row, and what counts in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from options import TEST_SETS
from run_comparison import BESIDE_THE_POINT, compare
from run_reader import read_run
from tests.test_report import DEFAULTS, METRICS, make_report, tables, write_run


def test_every_option_beside_the_point_is_one():
    assert set(BESIDE_THE_POINT) <= DEFAULTS.keys()
    assert {f"{name}_path" for name in TEST_SETS} <= set(BESIDE_THE_POINT)


def one_row(abs_rel: float, epoch: int = 2) -> str:
    return f"epoch,step,loss,kitti_eigen/abs_rel\n{epoch},15,0.3,{abs_rel}\n"


def test_seeds_are_one_row_with_mean_and_standard_deviation(tmp_path):
    """0.10, 0.12, 0.17: mean 0.13, squares 9 + 1 + 16 = 26 e-4, / 2 = 13e-4, root 0.036056."""
    values = {"a": (1, 0.10), "b": (2, 0.12), "c": (3, 0.17)}
    runs = [
        write_run(tmp_path / name, one_row(value), drawn=False, seed=seed, num_workers=seed)
        for name, (seed, value) in values.items()
    ]
    runs.append(write_run(tmp_path / "d", one_row(0.2), drawn=False, seed=1, batch_size=4))
    page = make_report(runs[0], "--compare", *runs)
    assert tables(page, "<h2>Comparison")[0] == [
        ["runs", "seeds", "n", "epoch", "batch_size", "abs_rel"],
        ["a, b, c", "1, 2, 3", "3", "2", "12", "0.1300 ± 0.0361"],
        ["d", "1", "1", "2", "4", "0.2000"],
    ]


def test_the_machine_of_a_run_is_no_setting(tmp_path):
    places = {"data_path_pre": "b/pre", "kitti_path": "b/kitti", "no_cuda": True}
    runs = [
        write_run(tmp_path / "a", one_row(0.1), drawn=False, seed=1, data_path="a"),
        write_run(tmp_path / "b", one_row(0.3), drawn=False, seed=2, data_path="b", **places),
        write_run(tmp_path / "c", one_row(0.3), drawn=False, seed=3, pretrained_path="c.pth"),
    ]
    groups = compare([read_run(each) for each in runs], DEFAULTS)
    assert [group.names for group in groups] == [["a", "b"], ["c"]]
    assert groups[1].settings == {"pretrained_path": "c.pth"}


def test_a_copied_run_counts_once(tmp_path, capsys):
    first = write_run(tmp_path / "a", METRICS, drawn=False, seed=1)
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    again = write_run(tmp_path / "again", METRICS.replace("0.1222", "0.1422"), drawn=False, seed=1)
    page = make_report(first, "--compare", copy, again)
    said = f"{copy} has the seed and the metrics of {first}"
    assert f"<p>Counted once: {said}</p>" in page
    assert f"counted once: {said}\n" in capsys.readouterr().out
    (row,) = tables(page, "<h2>Comparison")[0][1:]
    assert row == ["a, again", "1, 1", "2", "2", "0.1322 ± 0.0141", "0.8500 ± 0.0000"]
    unscored = [write_run(tmp_path / name, None, drawn=False, exp_name=name) for name in "xy"]
    (group,) = compare([read_run(each) for each in unscored], DEFAULTS)
    assert (group.names, group.copies) == (["x", "y"], [])


def test_runs_of_other_length_or_code_are_not_averaged(tmp_path):
    first = write_run(tmp_path / "first", one_row(0.1), drawn=False)
    shorter = write_run(tmp_path / "shorter", one_row(0.2, epoch=1), drawn=False, seed=2)
    changed = write_run(tmp_path / "changed", one_row(0.3), drawn=False, seed=3)
    (changed / "code" / "changes.diff").write_text("")
    unscored = write_run(tmp_path / "unscored", None, drawn=False, seed=4)
    runs = [read_run(each) for each in (first, shorter, changed, unscored)]
    groups = compare(runs, DEFAULTS)
    assert [group.names for group in groups] == [["first"], ["shorter"], ["changed"], ["unscored"]]
    assert [group.epoch for group in groups] == [2, 1, 2, None]
    assert list(groups[0].settings) == ["code"]
    assert (groups[0].scores["kitti_eigen/abs_rel"].std, groups[3].scores) == (None, {})


def test_an_option_that_an_older_run_lacks_is_at_its_default(tmp_path):
    new = write_run(tmp_path / "new", one_row(0.1), drawn=False)
    old = write_run(tmp_path / "old", one_row(0.3), drawn=False, seed=2)
    options = json.loads((old / "opt.json").read_text())
    del options["warm_up"]
    (old / "opt.json").write_text(json.dumps(options))
    (group,) = compare([read_run(new), read_run(old)], DEFAULTS)
    spread = group.scores["kitti_eigen/abs_rel"]
    assert (spread.mean, spread.std) == pytest.approx((0.2, 0.02**0.5))
