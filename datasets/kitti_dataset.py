"""KITTI: one nominal camera for all drives, or each day's own; a left and a right picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from datasets.files import DepthMaps, opened_image
from datasets.mono_dataset import MonoDataset
from datasets.splits import LINE_FORMATS
from kitti_utils import read_depth_png, rectified_camera
from utils import UserError

# fx, fy, cx, cy as fractions of the size. Drives differ from it by a few pixels at most.
NOMINAL_INTRINSICS = (0.58, 1.92, 0.5, 0.5)
# The pose network's unit: the rig's 0.54 m baseline, divided by 5.4.
BASELINE = 0.1


class KITTIRef(NamedTuple):
    """A line of a KITTI list."""

    folder: str
    frame: int
    side: str  # "l" is camera 2, "r" is camera 3


class KITTIDataset(MonoDataset):
    """What all KITTI layouts share; a layout adds `image_path`, `camera_path` and `read_camera`."""

    LINES = LINE_FORMATS["kitti"]

    def __init__(
        self, *arguments: Any, kitti_intrinsics: str = "nominal", **options: Any
    ) -> None:
        """As `MonoDataset`. kitti_intrinsics: "nominal", the published camera; "calib": the files'.

        Raises UserError for calibration files that are missing or are none.
        """
        self.calibrated = kitti_intrinsics == "calib"
        self._cameras: dict[tuple[str, int], tuple[float, float, float, float]] = {}
        super().__init__(*arguments, **options)
        for ref in self.refs if self.calibrated else []:
            self.intrinsics(ref)

    def parse(self, line: str) -> KITTIRef:
        """`FOLDER FRAME [SIDE]`, left where no side is given. Raises UserError."""
        found = self.LINES.match(line, "in the split")
        return KITTIRef(found["folder"], int(found["frame"]), found["side"] or "l")

    def intrinsics(self, ref: KITTIRef) -> tuple[float, float, float, float]:
        """The nominal camera, or that of the line's calibration file, read once."""
        if not self.calibrated:
            return NOMINAL_INTRINSICS
        path, camera = self.camera_path(ref), self.locate(ref, 0)[0]
        if (path, camera) not in self._cameras:
            if not os.path.isfile(path):
                raise UserError(f"{path} does not exist: --kitti_intrinsics calib reads the camera "
                                f"of {ref.folder} there; nominal needs no file")
            self._cameras[path, camera] = self.read_camera(ref, camera)
        return self._cameras[path, camera]

    def own_cameras(self) -> list[str]:
        """A line for each camera read, by its file below the root and its number."""
        return [f"{os.path.relpath(path, self.data_path)} {camera} {values}"
                for (path, camera), values in sorted(self._cameras.items())]

    def camera_path(self, ref: KITTIRef) -> str:
        """The calibration file of a line."""
        raise NotImplementedError

    def read_camera(self, ref: KITTIRef, camera: int) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy of camera 2 or 3 from `camera_path`, as fractions. Raises UserError."""
        raise NotImplementedError

    def stereo_offset(self, ref: KITTIRef) -> float:
        """A point is further left in the right camera."""
        return -BASELINE if ref.side == "l" else BASELINE

    @staticmethod
    def locate(ref: KITTIRef, frame: int | str) -> tuple[int, int]:
        """Camera (2 or 3) and frame number of a frame id; the stereo partner is the other side."""
        left, right = (3, 2) if frame == "s" else (2, 3)
        return (left if ref.side == "l" else right), ref.frame + (0 if frame == "s" else frame)


class KITTIRawDataset(KITTIDataset):
    """`DATE/DATE_drive_NNNN_sync/image_02/data/NNNNNNNNNN.png`."""

    def image_path(self, ref: KITTIRef, frame: int | str) -> str:
        camera, number = self.locate(ref, frame)
        name = f"{number:010d}{self.extension}"
        return f"{self.data_path}/{ref.folder}/image_{camera:02d}/data/{name}"

    def camera_path(self, ref: KITTIRef) -> str:
        """`DATE/calib_cam_to_cam.txt`, beside the drives of a day."""
        return f"{self.data_path}/{Path(ref.folder).parent}/calib_cam_to_cam.txt"

    def read_camera(self, ref: KITTIRef, camera: int) -> tuple[float, float, float, float]:
        """Rows `P_rect_0c` and `S_rect_0c`."""
        path = self.camera_path(ref)
        return rectified_camera(path, f"P_rect_{camera:02d}", f"S_rect_{camera:02d}")


class KITTIDepthDataset(KITTIRawDataset):
    """KITTI raw with the improved ground truth, accumulated over scans, inside each drive."""

    def ground_truth(self) -> DepthMaps:
        """`.../proj_depth/groundtruth/image_02/NNNNNNNNNN.png`, 16 bits, metres times 256."""
        return DepthMaps((self._depth_path(ref) for ref in self.refs), read_depth_png)

    def _depth_path(self, ref: KITTIRef) -> str:
        camera, number = self.locate(ref, 0)
        folder = f"{self.data_path}/{ref.folder}/proj_depth/groundtruth/image_{camera:02d}"
        return f"{folder}/{number:010d}.png"


class KITTIOdometryDataset(KITTIDataset):
    """`sequences/NN/image_2/NNNNNN.png`."""

    LINES = LINE_FORMATS["kitti_odom"]

    def image_path(self, ref: KITTIRef, frame: int | str) -> str:
        camera, number = self.locate(ref, frame)
        name = f"{number:06d}{self.extension}"
        return f"{self.data_path}/sequences/{int(ref.folder):02d}/image_{camera}/{name}"

    def camera_path(self, ref: KITTIRef) -> str:
        """`sequences/NN/calib.txt`."""
        return f"{self.data_path}/sequences/{int(ref.folder):02d}/calib.txt"

    def read_camera(self, ref: KITTIRef, camera: int) -> tuple[float, float, float, float]:
        """Row `Pc`, for pictures as large as the line's own: the file does not tell their size."""
        with opened_image(self.image_path(ref, 0)) as image:
            return rectified_camera(self.camera_path(ref), f"P{camera}", image.size)
