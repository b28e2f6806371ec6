"""Cityscapes: triplets of prepare_cityscapes.py to train on, the raw sequences to test on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets.cityscapes_raw import (
    HEIGHT,
    KEPT_ROWS,
    WIDTH,
    is_camera,
    read_camera,
    without_bonnet,
)
from datasets.files import DepthMaps, load_rgb
from datasets.mono_dataset import MonoDataset, Pictures
from datasets.splits import LINE_FORMATS, SPLITS
from ground_truth import UNREADABLE
from utils import UserError, reason

PREPARED = (384, 1024)  # (height, width) of each frame of a triplet, what cameras are stated for
GROUND_TRUTH = SPLITS / "cityscapes" / "gt_depths"
SOURCE = ("unzip gt_depths_cityscapes.zip (https://storage.googleapis.com/niantic-lon-static/"
          "research/manydepth/gt_depths_cityscapes.zip) into splits/cityscapes")


class CityscapesRef(NamedTuple):
    """A line of a list."""

    city: str
    frame: str  # CITY_SEQUENCE_FRAME


def parse_line(line: str) -> CityscapesRef:
    """`CITY CITY_SEQUENCE_FRAME`. Raises UserError."""
    found = LINE_FORMATS["cityscapes"].match(line, "in the split")
    return CityscapesRef(found["city"], found["frame"])


class CityscapesDataset(MonoDataset):
    """`CITY/FRAME.png`, frames -1, 0 and 1 from top to bottom, and `CITY/FRAME_cam.txt`."""

    FRAMES = (-1, 0, 1)  # in the order of a triplet
    FRAMES_IN_A_FILE = True

    def parse(self, line: str) -> CityscapesRef:
        """City and frame. Raises UserError."""
        return parse_line(line)

    def image_path(self, ref: CityscapesRef, frame: int | str = 0) -> str:  # noqa: ARG002
        return f"{self.data_path}/{ref.city}/{ref.frame}.png"

    def camera_path(self, ref: CityscapesRef) -> str:
        """The camera's text file."""
        return f"{self.data_path}/{ref.city}/{ref.frame}_cam.txt"

    def needed_files(self, ref: CityscapesRef) -> Iterator[tuple[str, str]]:
        yield "the triplet", self.image_path(ref)
        yield "the camera", self.camera_path(ref)

    def load_frames(self, ref: CityscapesRef) -> Pictures:
        path = self.image_path(ref)
        triplet = np.asarray(self.load_kept(path))
        height, rest = divmod(len(triplet), len(self.FRAMES))
        if rest or not height:
            raise UserError(f"the triplet {path} is {len(triplet)} rows high, which are not "
                            "three frames of one height")
        frames = dict(zip(self.FRAMES, triplet.reshape(-1, height, *triplet.shape[1:]),
                          strict=True))  # fmt: skip
        return {frame: frames[frame] for frame in self.frame_ids}

    def load_image(self, path: str) -> Image.Image:
        """The three frames, one below the other."""
        return load_rgb(path)

    def intrinsics(self, ref: CityscapesRef) -> tuple[float, float, float, float]:
        path = self.camera_path(ref)
        try:
            values = [float(word) for word in Path(path).read_text().split(",")]
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the camera {path}: {reason(error)}") from error
        if len(values) != 9:
            raise UserError(f"the camera {path} holds {len(values)} numbers, expected the nine of "
                            "fx,0,cx,0,fy,cy,0,0,1")
        height, width = PREPARED
        fx, _, cx, _, fy, cy, *_ = values
        if not is_camera(fx, fy, cx, cy):
            raise UserError(f"the camera {path} cannot be one: fx {fx:g}, fy {fy:g}, cx {cx:g}, "
                            f"cy {cy:g}")
        # Frames of another size look alike once they are resized, but their camera is another.
        if not (0.3 < cx / width < 0.7 and 0.4 < cy / height < 0.9):
            raise UserError(f"the camera {path} is not one of frames of {width}x{height}: prepare "
                            f"them with --img_width {width} --img_height {height / KEPT_ROWS:.0f}")
        return fx / width, fy / height, cx / width, cy / height


class CityscapesTestDataset(MonoDataset):
    """`leftImg8bit_sequence/test/CITY/FRAME_leftImg8bit.png`, `camera/test/CITY/FRAME_camera.json`.
    """

    FRAMES = (0,)

    def parse(self, line: str) -> CityscapesRef:
        """City and frame. Raises UserError."""
        return parse_line(line)

    def image_path(self, ref: CityscapesRef, frame: int | str = 0) -> str:  # noqa: ARG002
        folder = f"{self.data_path}/leftImg8bit_sequence/test/{ref.city}"
        return f"{folder}/{ref.frame}_leftImg8bit.png"

    def camera_path(self, ref: CityscapesRef) -> str:
        """The camera's JSON file."""
        return f"{self.data_path}/camera/test/{ref.city}/{ref.frame}_camera.json"

    def needed_files(self, ref: CityscapesRef) -> Iterator[tuple[str, str]]:
        yield "the picture", self.image_path(ref)
        yield "the camera", self.camera_path(ref)

    def load_image(self, path: str) -> Image.Image:
        """Without the lower quarter."""
        return without_bonnet(load_rgb(path))

    def intrinsics(self, ref: CityscapesRef) -> tuple[float, float, float, float]:
        fx, fy, cx, cy = read_camera(self.camera_path(ref))
        height = HEIGHT * KEPT_ROWS
        return fx / WIDTH, fy / height, cx / WIDTH, cy / height

    def ground_truth(self, folder: Path | None = None) -> DepthMaps:
        """`NNN_depth.npy` of each line by its number in the list: raw size, lower quarter included.

        folder: of a user's own list; None: splits/cityscapes/gt_depths. A folder with more maps
        than the list has lines belongs to another list: UserError.
        """
        hint = "" if folder else SOURCE
        folder = folder or GROUND_TRUTH
        paths = [folder / f"{index:03d}_depth.npy" for index in range(len(self))]
        depths = DepthMaps(paths, read_depth, hint)
        count = sum(1 for _ in folder.glob("*_depth.npy"))
        if count > len(self):
            raise UserError(f"{folder} holds {count} depth maps for {len(self)} test images")
        return depths


def read_depth(path: str | Path) -> np.ndarray:
    """A true depth map: float32 (height, width), metres, 0 unknown. UserError names the file."""
    try:
        depth = np.load(path)
    except UNREADABLE as error:
        raise UserError(f"cannot read the depth map {path}: {reason(error)}") from error
    if not (isinstance(depth, np.ndarray) and depth.ndim == 2 and depth.dtype.kind in "fiu"):
        raise UserError(f"{path} is not a depth map (height, width) of numbers")
    return depth.astype(np.float32, copy=False)
