"""Make3D: the middle of a picture and the laser rows that lie in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datasets import build_dataset
from datasets.keys import FrameKey
from utils import UserError

NAME = "op1-p-077t000"


@pytest.fixture
def root(tmp_path) -> Path:
    """A picture that is grey in the middle and white elsewhere; a grid that tells row, column."""
    (tmp_path / "Test134").mkdir()
    (tmp_path / "Gridlaserdata").mkdir()
    picture = Image.new("L", (1704, 2272), 255)
    picture.paste(90, (0, 710, 1704, 1562))
    picture.save(image_path(tmp_path), format="png", compress_level=1)
    save_grid(tmp_path, (55, 305, 4))
    return tmp_path


def image_path(root: Path) -> Path:
    return root / f"Test134/img-{NAME}.jpg"


def grid_path(root: Path) -> Path:
    return root / f"Gridlaserdata/depth_sph_corr-{NAME}.mat"


def save_grid(root: Path, shape: tuple[int, ...], name: str = "Position3DGrid") -> None:
    grid = np.zeros(shape)
    grid[..., -1] = np.arange(np.prod(shape[:-1])).reshape(shape[:-1])
    savemat(grid_path(root), {"other": 1, name: grid}, do_compression=True)


def make3d(root: Path, lines: list[str] | None = None):
    return build_dataset("make3d", root, lines or [NAME], 32, 64, frame_ids=(0,))


def test_picture_and_depth(root):
    dataset = make3d(root)
    sample = dataset[0]
    assert sample.keys() == {FrameKey("color", 0, 0), "index"}  # nobody knows the camera
    assert (sample[FrameKey("color", 0, 0)] == 90).all()
    (depth,) = dataset.ground_truth()
    assert (depth.shape, depth.dtype) == ((21, 305), np.float32)
    assert (depth[0, 0], depth[-1, -1]) == (17 * 305, 38 * 305 - 1)


def test_there_is_nothing_to_train_on(root):
    with pytest.raises(UserError, match=r"unknown data set 'make3d': choose kitti, .* to train on"):
        build_dataset("make3d", root, [NAME], 32, 64, is_train=True)


def test_missing_pictures_and_grids_are_named(root):
    with pytest.raises(UserError, match=r"'other' is missing: .*img-other.jpg does not exist"):
        make3d(root, ["other"])
    grid_path(root).unlink()
    with pytest.raises(UserError, match=f"missing for 1 of 1 test images: {grid_path(root)}$"):
        make3d(root).ground_truth()


def test_a_small_picture_is_refused(root):
    Image.new("RGB", (460, 345)).save(image_path(root))
    with pytest.raises(UserError, match=f"{image_path(root)} measures 460x345, expected .* 1704"):
        make3d(root)[0]


@pytest.mark.parametrize("shape", [(55, 305, 3), (54, 305, 4), (55, 305)])
def test_a_grid_of_another_shape_is_refused(root, shape):
    save_grid(root, shape)
    with pytest.raises(UserError, match=r"depth_sph.* needs numbers 'Position3DGrid' of shape"):
        make3d(root).ground_truth()[0]


def test_a_file_without_the_grid_is_refused(root):
    save_grid(root, (55, 305, 4), "Position")
    with pytest.raises(UserError, match="needs numbers 'Position3DGrid'"):
        make3d(root).ground_truth()[0]


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_damaged_grid_is_named(root, share):
    content = grid_path(root).read_bytes()
    grid_path(root).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=str(grid_path(root))):
        make3d(root).ground_truth()[0]


def test_a_scrambled_grid_is_named(root):
    content = bytearray(grid_path(root).read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = content.copy()
        for place in rng.integers(0, len(content), 20):
            damaged[place] ^= 255
        grid_path(root).write_bytes(damaged)
        with pytest.raises(UserError, match=str(grid_path(root))):
            make3d(root).ground_truth()[0]
