"""Disparities on disk: whole or absent, and read one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.cityscapes_dataset import read_depth
from saved_disps import disps_file, read_saved, write_while_reading
from utils import UserError


def maps(count, dtype=torch.float32):
    return [torch.full((2, 3), i + 1, dtype=dtype) for i in range(count)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_round_trip(tmp_path, dtype):
    path = tmp_path / disps_file("kitti_eigen_benchmark")
    assert path.name == "disps_eigen_benchmark_split.npy"
    passed = list(write_while_reading(iter(maps(4, dtype)), path, 4))
    assert all(map(torch.equal, passed, maps(4, dtype)))
    array = np.load(path)  # as any other program reads it
    assert (array.shape, array[:, 0, 0].tolist()) == ((4, 2, 3), [1, 2, 3, 4])
    assert torch.from_numpy(array).dtype == dtype
    assert [disp[0, 0] for disp in read_saved(path, 4)] == [1, 2, 3, 4]
    assert [disp[0, 0] for disp in read_saved(path, 4, chosen=[3, 0])] == [4, 1]


def test_nothing_is_there_before_the_last(tmp_path):
    path = tmp_path / "disps.npy"
    going = write_while_reading(iter(maps(3)), path, 3)
    next(going)
    assert not path.exists()
    going.close()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones((4, 2, 3)), "holds 4 disparity maps for 3 test images"),
        (np.ones((3, 1, 2, 3)), "needs disparities as one array"),
        (np.ones((3, 2, 3), int), "needs disparities as one array"),
        (np.full((3, 2, 3), None), "cannot read the disparities"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, said):
    np.save(tmp_path / "disps.npy", array)
    with pytest.raises(UserError, match=said):
        read_saved(tmp_path / "disps.npy", 3)


@pytest.mark.parametrize("shape", ["(3, 2", "'", f"({10**30}, 2, 3)", f"({10**10}, 9, 9)"])
def test_a_damaged_header_is_refused(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    (tmp_path / "disps.npy").write_bytes(content)
    with pytest.raises(UserError, match="cannot read the disparities"):
        read_saved(tmp_path / "disps.npy", 3)
    with pytest.raises(UserError, match="cannot read the depth map"):
        read_depth(tmp_path / "disps.npy")


@pytest.mark.parametrize("value", [-1, np.nan, np.inf])
def test_a_map_that_is_no_disparity_is_named(tmp_path, value):
    array = np.ones((3, 2, 3), np.float16)
    array[1, 0, 2] = value
    np.save(tmp_path / "disps.npy", array)
    disps = read_saved(tmp_path / "disps.npy", 3)
    assert disps[0].dtype == np.float32
    with pytest.raises(UserError, match=r"disparity map 1 of .*disps.npy holds"):
        disps[1]
