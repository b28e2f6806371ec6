"""Published rows: the file that ships, files of one's own, and the comparison."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from evaluation import PROTOCOLS, SEVEN, EvaluationResult
from published_results import PublishedRow, comparison, read_rows
from tests.test_floors import ROOT
from utils import UserError

SHIPPED = ROOT / "configs/published_results.csv"
HEAD = "benchmark,model,abs_rel,a1,source\n"


def test_the_rows_that_ship_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = readme.partition("## Published results")[2]  # above it are numbers of our own
    tables = re.findall(r"^\| (.+?) \|" + r" ([\d.]+) \|" * 7 + "$", readme, re.MULTILINE)
    shown = {(name.split(" (")[0], *map(float, cells)) for name, *cells in tables}
    rows = read_rows(SHIPPED, PROTOCOLS)
    shipped = {(row.model.split(" (")[0], *row.metrics.values()) for row in rows}
    named = {(re.sub(r" \d+x\d+", "", name), *values) for name, *values in shipped}
    assert named == shown
    assert all(row.source and tuple(row.metrics) == SEVEN for row in rows)
    assert {row.benchmark for row in rows} == {"kitti_eigen", "cityscapes"}
    with SHIPPED.open(newline="") as file:
        assert all(None not in line for line in csv.DictReader(file))


def test_a_comparison_by_hand():
    per_image = np.array([[0.1, 1, 5, 0.2, 0.8, 0.9, 1.0]])
    result = EvaluationResult(PROTOCOLS["kitti_eigen"], per_image, np.ones(1))
    rows = [PublishedRow("kitti_eigen", "Theirs", "a paper", {"abs_rel": 0.12, "a1": 0.75}),
            PublishedRow("nyuv2", "Others", "", {"abs_rel": 0.2})]  # fmt: skip
    head, ours, theirs, difference = comparison(result, rows).splitlines()
    assert head.split() == list(SEVEN)
    assert ours.split()[:2] == ["ours", "0.100"]
    assert theirs.split() == ["Theirs", "0.120", "0.750", "(a", "paper)"]
    assert difference.split() == ["ours", "minus", "it", "-0.020", "+0.050"]
    assert head.index("a1") + 2 == ours.index("0.800") + 5 == difference.index("+0.050") + 6
    assert comparison(result, rows[1:]) == ""


def test_ones_own_table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(HEAD + 'nyuv2,"Mine, long",0.1,,\nmake3d,Mine,0.3,0.5,me\n')
    (row,) = read_rows(path, ["nyuv2"])
    assert row == PublishedRow("nyuv2", "Mine, long", "", {"abs_rel": 0.1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "rows.csv needs the columns benchmark, model"),
        ("benchmark,model,absrel\n", "its first line is 'benchmark,model,absrel'"),
        (HEAD + "nyu,Mine,0.1,0.5,me\n", r"rows.csv:2: expected a benchmark \(kitti_eigen, "),
        (HEAD + "nyuv2,Mine,0.1,0.5,me,more\n", "rows.csv:2: .* a cell a column"),
        (HEAD + "\nnyuv2,Mine,low,0.5,me\n", "rows.csv:3: expected a number, got 'low'"),
        (HEAD + "nyuv2,Mine,nan,0.5,me\n", "expected a number, got 'nan'"),
        (HEAD + "make3d,Mine,0.1,0.5,me\n", "rows.csv has no row for nyuv2"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, text, said):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_rows(tmp_path / "rows.csv", ["nyuv2"])


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"rows.csv: No such file"):
        read_rows(tmp_path / "rows.csv", ["nyuv2"])
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read the published results"):
        read_rows(tmp_path / "rows.csv", ["nyuv2"])
