"""Files on disk to samples. This package's own imports wait: its lists need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import UserError

if TYPE_CHECKING:
    from datasets.mono_dataset import MonoDataset


def build_dataset(
    name: str,
    data_path: str | Path | Sequence[str],
    lines: Sequence[str],
    height: int,
    width: int,
    frame_ids: Sequence[int | str] = (0, -1, 1),
    *,
    is_train: bool = False,
    is_validation: bool = False,
    **options: Any,
) -> MonoDataset:
    """The data set `name` over the lines of a list; options: as the data set takes.

    data_path: its root; "folder" takes several, which `datasets.folder_lists` has the lines of.

    Cityscapes and NYUv2 are laid out in one way for training and in another for testing, and
    Make3D is for testing alone; a validation list is in the layout of training, and nothing is
    augmented. Raises UserError for an unknown name, a malformed line and missing
    files.
    """
    from datasets.cityscapes_dataset import CityscapesDataset, CityscapesTestDataset
    from datasets.folder_dataset import FolderDataset
    from datasets.kitti_dataset import KITTIDepthDataset, KITTIOdometryDataset, KITTIRawDataset
    from datasets.make3d_dataset import Make3DDataset
    from datasets.nyuv2_dataset import NYUv2Dataset, NYUv2TestDataset

    registry = {
        "kitti": KITTIRawDataset,
        "kitti_depth": KITTIDepthDataset,
        "kitti_odom": KITTIOdometryDataset,
        "folder": FolderDataset,
    }
    if is_train or is_validation:
        registry |= {"cityscapes": CityscapesDataset, "nyuv2": NYUv2Dataset}
    else:
        registry |= {"cityscapes": CityscapesTestDataset, "nyuv2": NYUv2TestDataset,
                     "make3d": Make3DDataset}
    if name not in registry:
        purpose = "train" if is_train or is_validation else "test"
        raise UserError(f"unknown data set {name!r}: choose {', '.join(registry)} to {purpose} on")
    return registry[name](data_path, lines, height, width, frame_ids, is_train=is_train, **options)
