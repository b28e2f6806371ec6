"""From options to test sets: roots, lists of one's own, true depth, scales and cautions."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from datasets.splits import split_lines
from evaluation import GARG_CROP, PROTOCOLS
from evaluation_sets import (
    cautions,
    find_benchmarks,
    fixed_scale,
    kitti_ground_truth,
    kitti_protocol,
    places_in_eigen,
)
from options import evaluate_options, train_options
from tests.tiny_benchmarks import COUNTS, path_flags, write_benchmarks, write_make3d
from utils import UserError

SIZE = (32, 64)


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder of all layouts, and their true depths."""
    root = tmp_path_factory.mktemp("sets")
    return root, write_benchmarks(root)


def evaluating(*flags: object) -> Namespace:
    return evaluate_options(["--pretrained_path", "ckpt.pth", *map(str, flags)])


def training(root: Path, dataset: str, folder: str, *flags: object) -> Namespace:
    given = ["--dataset", dataset, "--data_path", root / folder, *flags]
    return train_options([str(flag) for flag in given])


def test_every_root_is_a_benchmark_with_its_depths_in_order(sets):
    root, depths = sets
    found = find_benchmarks(evaluating(*path_flags(root)), *SIZE)
    assert [each.protocol.name for each in found] == list(COUNTS)
    for protocol, data, names, truth in found:
        assert len(data) == len(names) == len(truth) == COUNTS[protocol.name]
        assert data[0]["color", 0, 0].shape == (3, *SIZE)
        for i, depth in enumerate(depths[protocol.name]):
            np.testing.assert_array_equal(truth[i][: len(depth)], depth)
        assert str(root) in protocol.title  # a list of one's own is named


def test_the_resize_convention_reaches_every_protocol(sets):
    root, _ = sets
    flags = (*path_flags(root, "kitti", "cityscapes"), "--resize_convention", "half_pixel")
    found = find_benchmarks(evaluating(*flags), *SIZE)
    assert not any(each.protocol.align_corners for each in found)


def test_without_truth_none_is_looked_for(sets, tmp_path):
    root, _ = sets
    shutil.copytree(root / "make3d", tmp_path / "make3d")
    shutil.rmtree(tmp_path / "make3d/Gridlaserdata")
    opt = evaluating(*path_flags(tmp_path, "make3d"))
    with pytest.raises(UserError, match="ground truth is missing for 3 of 3 test images"):
        find_benchmarks(opt, *SIZE)
    (found,) = find_benchmarks(opt, *SIZE, truth=False)
    assert len(found.ground_truth) == 0


@pytest.mark.parametrize(
    ("dataset", "folder", "expected"),
    [("kitti", "kitti/raw", ["kitti_eigen"]), ("kitti_depth", "kitti/raw", ["kitti_eigen"]),
     ("nyuv2", "nyuv2", ["nyuv2"]), ("cityscapes", "cityscapes", ["cityscapes"]),
     ("kitti_odom", "kitti/raw", [])],
)  # fmt: skip
def test_a_run_is_scored_on_what_it_trains_on(sets, dataset, folder, expected):
    root, _ = sets
    flags = ["--eval_split", root / "kitti/split"]
    flags += ["--data_path_pre", root] if dataset == "cityscapes" else []
    opt = training(root, dataset, folder, *flags)
    found = find_benchmarks(opt, *SIZE, trained=True)
    assert [each.protocol.name for each in found] == expected


def test_a_run_is_scored_on_what_else_is_given(sets, tmp_path):
    root, _ = sets
    opt = training(tmp_path, "nyuv2", "none", *path_flags(root))  # the flag's root wins
    assert [each.protocol.name for each in find_benchmarks(opt, *SIZE, trained=True)] == list(
        COUNTS
    )


@pytest.mark.parametrize("other", ["eigen", "kitti/split", "another"])
def test_one_name_is_not_scored_twice(sets, tmp_path, other):
    """In evaluate_depth.py as in train.py, and whether or not the ground truth is there."""
    root, _ = sets
    split = str(root / "kitti/split")
    if other != "eigen":
        other = shutil.copytree(split, tmp_path / other)
    for splits in ((split, other), (other, "eigen_benchmark", split)):
        flags = ("--kitti_path", root / "kitti/raw", "--eval_split", *splits)
        for opt, trained in (
            (evaluating(*flags), False), (training(root, "kitti", "kitti/raw", *flags), True),
        ):  # fmt: skip
            with pytest.raises(UserError, match=r"names kitti_eigen twice, by .* and by "):
                find_benchmarks(opt, *SIZE, trained=trained)


@pytest.mark.parametrize("name", ["eigne", "a" * 300])
def test_an_unknown_split_is_named_first(sets, name):
    root, _ = sets
    flags = ("--kitti_path", root / "kitti/raw", "--eval_split", root / "kitti/split", name)
    with pytest.raises(UserError, match=f"kitti has no split '{name}': choose benchmark, eigen, "):
        find_benchmarks(evaluating(*flags), *SIZE)


@pytest.mark.parametrize("name", ["kitti", "nyuv2", "make3d", "cityscapes"])
def test_a_wrong_root_is_named(sets, tmp_path, name):
    root, _ = sets
    flags = [f"--{name}_path", tmp_path / "nowhere", "--eval_split", root / "kitti/split"]
    with pytest.raises(UserError, match="nowhere"):
        find_benchmarks(evaluating(*flags), *SIZE)


def test_a_list_that_goes_on_beyond_the_pictures_names_the_first(tmp_path):
    write_make3d(tmp_path)
    with (tmp_path / "test_files.txt").open("a") as file:
        file.write("\nop8\nop9\n")
    with pytest.raises(UserError, match=r"'op8' is missing: .*img-op8.jpg .*also missing: .*op9"):
        find_benchmarks(evaluating("--make3d_path", tmp_path), *SIZE)


def test_depths_of_another_number_are_refused(sets, tmp_path):
    root, _ = sets
    shutil.copytree(root / "cityscapes", tmp_path / "city")
    depths = tmp_path / "city/gt_depths"
    shutil.copy(depths / "000_depth.npy", depths / "002_depth.npy")
    with pytest.raises(UserError, match="3 depth maps for 2 test images"):
        find_benchmarks(evaluating("--cityscapes_path", tmp_path / "city"), *SIZE)


def test_kitti_protocols():
    assert kitti_protocol("eigen_benchmark") is PROTOCOLS["kitti_eigen_benchmark"]
    folder = kitti_protocol("my/own/split")
    assert (folder.name, folder.crop) == ("kitti_eigen", GARG_CROP)
    assert "my/own/split" in folder.title


def test_missing_ground_truth_names_the_command(tmp_path):
    (tmp_path / "test_files.txt").write_text("drive 0 l\n")
    with pytest.raises(UserError, match=r"export_gt_depth\.py .*--split " + str(tmp_path)):
        kitti_ground_truth(str(tmp_path), 1)
    np.savez(tmp_path / "gt_depths.npz", depth_00000=np.ones((2, 3), np.float32))
    assert len(kitti_ground_truth(str(tmp_path), 1)) == 1
    with pytest.raises(UserError, match="1 depth maps for 2 test images"):
        kitti_ground_truth(str(tmp_path), 2)


@pytest.mark.parametrize(
    ("flags", "scale"),
    [
        ("", None),
        ("--use_stereo", 5.4),
        ("--eval_stereo", 5.4),
        ("--use_stereo --eval_mono", None),
        ("--disable_median_scaling", 1.0),
        ("--disable_median_scaling --pred_depth_scale_factor 2.5", 2.5),
        ("--eval_stereo --disable_median_scaling", 5.4),
    ],
)
def test_how_predictions_are_scaled(flags, scale):
    assert fixed_scale(evaluating("--kitti_path", "kitti", *flags.split())) == scale
    assert fixed_scale(train_options(["--data_path", "kitti", *flags.split()])) == scale


def test_cautions():
    nyuv2, make3d, kitti = (PROTOCOLS[name] for name in ("nyuv2", "make3d", "kitti_eigen"))
    assert cautions(nyuv2, 10.0, None) == cautions(nyuv2, None, 2.0) == []
    assert cautions(kitti, 100.0, 5.4) == cautions(make3d, 100.0, None) == []
    (sentence,) = cautions(nyuv2, 100.0, None)
    assert "end at 100 m" in sentence
    assert "--max_depth 10" in sentence
    (sentence,) = cautions(make3d, 100.0, 5.4)
    assert "make3d is scored with depths times 5.4" in sentence


def test_places_in_eigen():
    eigen = split_lines("kitti", "eigen", "test")
    assert places_in_eigen([eigen[5], eigen[0]]) == [5, 0]
    with pytest.raises(UserError, match="not among the images of KITTI's eigen test list: other"):
        places_in_eigen(["other 1 l"])
