"""KITTI: one nominal camera for all drives, a left and a right picture."""

from __future__ import annotations

from typing import NamedTuple

from datasets.files import DepthMaps
from datasets.mono_dataset import MonoDataset
from datasets.splits import LINE_FORMATS
from kitti_utils import read_depth_png

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
    """What all KITTI layouts share; a layout adds `image_path`."""

    LINES = LINE_FORMATS["kitti"]

    def parse(self, line: str) -> KITTIRef:
        """`FOLDER FRAME [SIDE]`, left where no side is given. Raises UserError."""
        found = self.LINES.match(line, "in the split")
        return KITTIRef(found["folder"], int(found["frame"]), found["side"] or "l")

    def intrinsics(self, ref: KITTIRef) -> tuple[float, float, float, float]:  # noqa: ARG002
        return NOMINAL_INTRINSICS

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
