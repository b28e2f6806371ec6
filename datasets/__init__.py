"""Files on disk to samples. This package's own imports wait: its lists need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import UserError

if TYPE_CHECKING:
    from datasets.mono_dataset import MonoDataset


def build_dataset(
    name: str, data_path: str | Path, lines: Sequence[str], height: int, width: int, **options: Any
) -> MonoDataset:
    """The data set `name` ("kitti") over the lines of a list; options: as `MonoDataset` takes.

    Raises UserError for an unknown name, a malformed line and missing files.
    """
    from datasets.kitti_dataset import KITTIRawDataset

    registry = {"kitti": KITTIRawDataset}
    if name not in registry:
        raise UserError(f"unknown data set {name!r}: choose {', '.join(registry)}")
    return registry[name](data_path, lines, height, width, **options)
