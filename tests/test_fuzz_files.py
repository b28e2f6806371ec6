"""Any file where one of data is expected: it is read, or refused in one sentence."""

from __future__ import annotations

import contextlib
import io
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets import build_dataset
from datasets.cityscapes_dataset import CityscapesDataset, read_depth
from datasets.cityscapes_raw import read_camera
from datasets.nyuv2_dataset import PARTS, read_part
from datasets.nyuv2_list import main as list_nyuv2
from datasets.splits import split_lines
from ground_truth import load_gt_depths
from kitti_utils import generate_depth_map, read_depth_png
from odometry import read_poses
from published_results import read_rows
from saved_disps import read_saved
from tests.fuzzing import bytes_of, damaged, fuzz, outcome
from utils import read_lines

# NumPy's, of infinite numbers.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class Reader(NamedTuple):
    """A file's name, what it may hold, and who reads it: called with the path."""

    name: str
    content: bytes
    read: Callable[[Path], object]


def read_list(dataset: str, part: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        lines = split_lines(dataset, str(path.parent), part)
        is_train = part == "train"
        frames = (0, -1, 1) if is_train else (0,)
        data = build_dataset(dataset, path.parent, lines, 32, 64, frames, is_train=is_train)
        return [data[index] for index in range(len(data))]

    return read


def read_kitti_calibration(path: Path) -> object:
    """One file is damaged, the other three of a scan and its cameras are whole."""
    for name, content in KITTI_FILES.items():
        if name != path.name:
            path.with_name(name).write_bytes(content)
    depth = generate_depth_map(path.parent, path.parent / "scan.bin")
    assert (depth >= 0).all()
    return depth


def read_cam_txt(path: Path) -> object:
    data = CityscapesDataset.__new__(CityscapesDataset)
    data.data_path = path.parent.parent
    fx, fy, *_ = values = data.intrinsics(data.parse("ulm ulm_000002_000025"))
    assert all(map(math.isfinite, values)) and fx > 0 and fy > 0  # noqa: PT018
    return values


def read_raw_camera(path: Path) -> object:
    fx, fy, *_ = values = read_camera(path)
    assert all(map(math.isfinite, values)) and fx > 0 and fy > 0  # noqa: PT018
    return values


def read_archive(path: Path) -> object:
    return list(load_gt_depths(path))


def read_disps(path: Path) -> object:
    return list(read_saved(path, 2))


KITTI_FILES = {
    "calib_cam_to_cam.txt": b"calib_time: 09-Jan-2012 13:57:47\nR_rect_00: 1 0 0 0 1 0 0 0 1\n"
    b"S_rect_02: 64 32\nP_rect_02: 30 0 32 0 0 30 16 0 0 0 1 0\n",
    "calib_velo_to_cam.txt": b"R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n",
    "scan.bin": struct.pack("<8f", 5, 0.1, 0, 0.5, 9, -0.2, 0.1, 0.5),
}
_H5 = bytes_of(
    lambda file: h5py.File(file, "w").create_dataset(
        "depth", data=np.ones(PARTS["depth"][0], np.float32), compression="gzip"
    )
)
_DEPTH = np.ones((4, 5), np.float32)
_NINE = " ".join(f"s/{n}.ppm" for n in range(9))
READERS = {
    "lines": Reader("any.txt", b"one\ntwo\n", read_lines),
    **{
        f"list of {dataset} {part}": Reader(f"{part}_files.txt", text, read_list(dataset, part))
        for dataset, part, text in (
            ("kitti", "train", b"2011_09_26/2011_09_26_drive_0001_sync 5 l\n"),
            ("kitti_odom", "train", b"9 0 l\n10 17 r\n"),
            ("cityscapes", "train", b"ulm ulm_000002_000025\n"),
            ("nyuv2", "train", _NINE.encode()),
            ("nyuv2", "test", b"nyu_test/00001.h5\n"),
            ("make3d", "test", b"op1-p-077t000\n"),
        )
    },
    **{name: Reader(name, text, read_kitti_calibration) for name, text in KITTI_FILES.items()},
    "camera of a triplet": Reader(
        "ulm/ulm_000002_000025_cam.txt", b"1100.0,0.,512.0,0.,1100.0,256.0,0.,0.,1.", read_cam_txt
    ),
    "camera of a city": Reader(
        "camera.json",
        b'{"intrinsic": {"fx": 2262.5, "fy": 2265.3, "u0": 1096.9, "v0": 513.1}}',
        read_raw_camera,
    ),
    "poses": Reader("09.txt", b"1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 1 0 1 0 2 0 0 1 3\n", read_poses),
    "depth map": Reader("000_depth.npy", bytes_of(lambda file: np.save(file, _DEPTH)), read_depth),
    "depth picture": Reader(
        "0.png",
        bytes_of(lambda file: Image.fromarray(_DEPTH.astype(np.uint16)).save(file, "PNG")),
        read_depth_png,
    ),
    "labelled image": Reader("1.h5", _H5, lambda path: read_part(path, "depth")),
    "depth archive": Reader(
        "gt_depths.npz", bytes_of(lambda file: np.savez_compressed(file, depth_00000=_DEPTH)),
        read_archive,
    ),
    "published depth archive": Reader(
        "gt_depths.npz",
        bytes_of(lambda file: np.savez(file, data=np.array([_DEPTH, None], object))),
        read_archive,
    ),
    "disparities": Reader(
        "disps.npy", bytes_of(lambda file: np.save(file, np.ones((2, 3, 4), "f4"))), read_disps
    ),
    "published rows": Reader(
        "rows.csv", b"benchmark,model,abs_rel,source\nkitti_eigen,Ours,0.1,us\n",
        lambda path: read_rows(path, {"kitti_eigen"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
@fuzz(40)
@given(data=st.data())
def test_any_file_is_read_or_refused(tmp_path: Path, kind: str, data: st.DataObject):
    name, content, read = READERS[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.draw(damaged(content)))
    outcome(read, path)


@fuzz(15)
@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="/\0", codec="utf-8"), max_size=8), max_size=4
    ),
    scene=st.sampled_from(["kitchen", "my kitchen", "\udcff", "a\nb", "²"]),
)
def test_any_names_make_a_list_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], scene: str
):
    """NYUv2's list is made of files' names, and can be read by who made it."""
    root = tmp_path_factory.mktemp("raw")
    (root / scene).mkdir()
    for name in [*names, *(f"r-{n}.ppm" for n in range(90)), "r-1²3.ppm"]:
        with contextlib.suppress(OSError):
            (root / scene / f"{name}.ppm").write_bytes(b"P6")
    with contextlib.redirect_stdout(io.StringIO()):
        outcome(list_nyuv2, ["--data_path", str(root), "--output", str(root)])
    if (root / "train_files.txt").exists():
        split_lines("nyuv2", str(root), "train")
