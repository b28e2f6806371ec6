"""What must not change within a run: lists and cameras among it."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembly import build_training_set
from course import check_course, course_of
from options import train_options
from tests.test_kitti_layouts import write_day
from tests.tiny_kitti import arguments
from utils import UserError

PATH = Path("ckpt.pth")


def test_what_one_of_them_lacks_differs():
    check_course(PATH, {"seed": 1, "x": None}, {"seed": 1})
    for before, now in (({"seed": 1}, {"seed": 1, "x": "a"}), ({"seed": 1, "x": "a"}, {"seed": 1})):
        with pytest.raises(UserError, match="another x"):
            check_course(PATH, before, now)


def test_the_days_own_cameras_are_another_course_than_the_nominal_one(root):
    """--kitti_intrinsics, which reaches the data set; the same files are the same course."""
    write_day(root / "raw", "2011_09_26", {2: (90, 92, 70, 25)}, (150, 48))
    courses = []
    for flags in ((), ("--kitti_intrinsics", "calib"), ("--kitti_intrinsics", "calib")):
        opt = train_options(arguments(root, "run", *flags))
        data = build_training_set(opt)
        courses.append(course_of(opt, data.own_lines(), data.own_cameras(), 1, 3))
    assert data.intrinsics(data.refs[0]) == (90 / 150, 92 / 48, 70 / 150, 25 / 48)
    nominal, calib, again = courses
    check_course(PATH, calib, again)
    for before, now in ((nominal, calib), (calib, nominal)):
        with pytest.raises(UserError, match=r"another cameras \(digest\)"):
            check_course(PATH, before, now)
