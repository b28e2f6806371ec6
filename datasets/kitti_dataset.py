"""KITTI: one nominal camera for all drives, a left and a right picture."""

from __future__ import annotations

from typing import NamedTuple

from datasets.mono_dataset import MonoDataset
from datasets.splits import LINE_FORMATS

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

    def parse(self, line: str) -> KITTIRef:
        """`FOLDER FRAME [SIDE]`, left where no side is given. Raises UserError."""
        found = LINE_FORMATS["kitti"].match(line, "in the split")
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
