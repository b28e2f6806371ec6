"""NYU Depth v2: raw Kinect frames to train on, the official labelled images to test on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.files import DepthMaps, load_rgb
from datasets.mono_dataset import MonoDataset, Pictures
from datasets.splits import LINE_FORMATS
from utils import UserError, reason

HEIGHT, WIDTH = 480, 640
# Colour camera of the data set's own toolbox: fx, fy, cx, cy in pixels; k1, k2, p1, p2, k3.
CAMERA = (518.857901, 519.469611, 325.582449, 253.736166)
DISTORTION = (0.20796615, -0.58613826, 0.00072231, 0.00104796, 0.49856987)
BORDER = 16  # pixels without content after undistortion, on each side
ROWS, COLUMNS = slice(44, 471), slice(40, 601)  # of a test image, where its depth is measured
# What a test file holds: shape, and types that a number may have.
PARTS = {
    "rgb": ((3, HEIGHT, WIDTH), ("uint8",)),
    "depth": ((HEIGHT, WIDTH), ("float32", "float64", "float16", "uint16")),
}


def cut_camera(top: int, left: int, height: int, width: int) -> tuple[float, float, float, float]:
    """Intrinsics of a part of the picture, as fractions of that part's size."""
    fx, fy, cx, cy = CAMERA
    return fx / width, fy / height, (cx - left) / width, (cy - top) / height


@cache
def undistortion_maps() -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of an undistorted picture without its border is in the distorted one.

    In the fixed-point form of OpenCV's `remap`.
    """
    import cv2

    # A loader's worker has one core, and OpenCV's threads do not survive a fork.
    cv2.setNumThreads(0)
    fx, fy, cx, cy = CAMERA
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    size = (WIDTH, HEIGHT)
    maps = cv2.initUndistortRectifyMap(K, np.array(DISTORTION), None, K, size, cv2.CV_16SC2)
    kept = slice(BORDER, -BORDER)
    return tuple(np.ascontiguousarray(part[kept, kept]) for part in maps)


class NYUv2Dataset(MonoDataset):
    """Raw frames; a line names nine files, the target and four neighbours either side.

    Frame ids -4 to 4 are places among them, whatever their distance in time.
    """

    FRAMES = (0, -4, -3, -2, -1, 1, 2, 3, 4)  # in the order of a line

    def parse(self, line: str) -> list[str]:
        """The nine files, relative to the root. Raises UserError."""
        return LINE_FORMATS["nyuv2 train"].match(line, "in the split")[0].split()

    def image_path(self, ref: list[str], frame: int | str) -> str:
        return f"{self.data_path}/{ref[self.FRAMES.index(frame)]}"

    def intrinsics(self, ref: Any) -> tuple[float, float, float, float]:  # noqa: ARG002
        return cut_camera(BORDER, BORDER, HEIGHT - 2 * BORDER, WIDTH - 2 * BORDER)

    def load_image(self, path: str) -> np.ndarray:
        """Undistorted, without its border: 608 x 448."""
        import cv2

        picture = load_rgb(path)
        if picture.size != (WIDTH, HEIGHT):
            raise UserError(f"{path} measures {picture.width}x{picture.height}: the lens is known "
                            f"for raw frames of {WIDTH}x{HEIGHT} pixels")
        return cv2.remap(np.asarray(picture), *undistortion_maps(), cv2.INTER_LINEAR)


class NYUv2TestDataset(MonoDataset):
    """Labelled images: HDF5 files of `rgb` (3, 480, 640) uint8 and `depth` (480, 640) metres."""

    FRAMES = (0,)

    def parse(self, line: str) -> str:
        """The file, relative to the root. Raises UserError."""
        return LINE_FORMATS["nyuv2 test"].match(line, "in the split")[0]

    def image_path(self, ref: str, frame: int | str) -> str:  # noqa: ARG002
        return f"{self.data_path}/{ref}"

    def intrinsics(self, ref: str) -> tuple[float, float, float, float]:  # noqa: ARG002
        height, width = ROWS.stop - ROWS.start, COLUMNS.stop - COLUMNS.start
        return cut_camera(ROWS.start, COLUMNS.start, height, width)

    def load_frames(self, ref: str) -> Pictures:
        return {0: Image.fromarray(read_part(self.image_path(ref, 0), "rgb").transpose(1, 2, 0))}

    def ground_truth(self) -> DepthMaps:
        """The files' `depth`, (427, 561)."""
        return DepthMaps((self.image_path(ref, 0) for ref in self.refs), read_depth)


def read_depth(path: str | Path) -> np.ndarray:
    """Depth of a labelled image: float32 (427, 561), metres. Raises UserError naming the file."""
    return read_part(path, "depth").astype(np.float32)


def read_part(path: str | Path, name: str) -> np.ndarray:
    """The measured part of `rgb` (3, 427, 561) or `depth` (427, 561) of a labelled image."""
    import h5py

    shape, types = PARTS[name]
    try:
        with h5py.File(path) as file:
            values = file.get(name)
            if getattr(values, "shape", None) == shape and values.dtype.name in types:
                return values[..., ROWS, COLUMNS]
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot read the labelled image {path}: {reason(error)}") from error
    raise UserError(f"the labelled image {path} needs {name!r} of shape {shape}, {types[0]}")
