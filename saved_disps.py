"""Predicted disparities on disk, as Monodepth2 keeps them: one .npy (images, H, W) a test set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
from torch import Tensor

from utils import UserError, atomic_path, reason

# What a file that is no array makes NumPy raise; its header is read as Python.
UNREADABLE = (
    OSError, ValueError, EOFError, SyntaxError, OverflowError, BadZipFile, TokenError
)  # fmt: skip


def disps_file(protocol: str) -> str:
    """The file of a protocol's test set: `disps_eigen_split.npy` for kitti_eigen."""
    return f"disps_{protocol.removeprefix('kitti_')}_split.npy"


def write_while_reading(
    disps: Iterable[Tensor], path: str | Path, count: int
) -> Iterator[Tensor]:
    """Pass `count` scaled disparities (H, W) on, writing each; the file is there after the last.

    They keep their precision. Raises UserError if the file cannot be written.
    """
    with atomic_path(path) as partial, partial.open("wb") as file:
        for index, disp in enumerate(disps):
            values = disp.cpu().numpy()
            if not index:
                # By plain writes, and not through a memory map: that crashes on a full disk.
                header = {"descr": values.dtype.str, "fortran_order": False,
                          "shape": (count, *values.shape)}  # fmt: skip
                np.lib.format.write_array_header_1_0(file, header)
            file.write(values.tobytes())
            yield disp


def read_saved(path: str | Path, count: int, chosen: Sequence[int] | None = None) -> SavedDisps:
    """Open a file of `count` scaled disparities, or of `chosen` ones of that many.

    Raises UserError if it is not such a file.
    """
    try:
        array = np.load(path, mmap_mode="r")
    except UNREADABLE as error:
        raise UserError(f"cannot read the disparities {path}: {reason(error)}") from error
    if not (isinstance(array, np.ndarray) and array.ndim == 3 and array.dtype.kind == "f"):
        raise UserError(f"{path} needs disparities as one array (images, height, width) of floats")
    if len(array) != count:
        raise UserError(f"{path} holds {len(array)} disparity maps for {count} test images")
    return SavedDisps(path, array, range(count) if chosen is None else chosen)


class SavedDisps(Sequence[np.ndarray]):
    """Scaled disparities (H, W), read from disk when asked for."""

    def __init__(self, path: str | Path, array: np.ndarray, chosen: Sequence[int]) -> None:
        """array: (images, H, W), memory-mapped; chosen: the images that are meant, in order."""
        self.path, self.array, self.chosen = path, array, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> np.ndarray:
        """Map of image `index`, float64 where the file is, else float32.

        Raises UserError where it holds what is no disparity.
        """
        double = self.array.dtype.itemsize == 8
        disp = np.array(self.array[self.chosen[index]], np.float64 if double else np.float32)
        if not (np.isfinite(disp).all() and (disp >= 0).all()):
            raise UserError(
                f"disparity map {self.chosen[index]} of {self.path} holds numbers below 0, or "
                "none at all: 1 / depth was expected, up to scale"
            )
        return disp
