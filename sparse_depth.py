"""Depth that is known at few pixels of a picture: which they are, and what a map holds there."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EVERYTHING = (slice(0, None), slice(0, None))


def known_pixels(
    depth: np.ndarray, low: float, high: float, window: tuple[slice, slice] = EVERYTHING
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels of depth (h, w) between low and high: rows and columns, int64 (n,), and depths.

    window: the rows and columns that are looked at, each with a start.
    """
    above = depth[window] > low
    rows, columns = np.divmod(np.flatnonzero(above), above.shape[1])  # quicker than np.nonzero
    rows, columns = rows + window[0].start, columns + window[1].start
    values = depth.take(rows * depth.shape[1] + columns)
    below = values < high  # asked of few
    if below.all():
        return rows, columns, values
    return rows[below], columns[below], values[below]


def resized_at(
    values: Tensor,
    size: tuple[int, int],
    rows: np.ndarray,
    columns: np.ndarray,
    align_corners: bool | None,
) -> Tensor:
    """What `F.interpolate` to (h, w) would hold at some pixels: (n,), on the device of the values.

    values: (H, W); rows, columns: int64 (n,), inside `size`; align_corners: of the bilinear
    resize, None for the nearest neighbour.
    """
    height, width = values.shape
    in_rows = _reading_places(height, size[0], align_corners)
    in_columns = _reading_places(width, size[1], align_corners)
    above, below, down = (each.take(rows) for each in in_rows)
    left, right, across = (each.take(columns) for each in in_columns)
    flat = values.flatten()

    def read(y: np.ndarray, x: np.ndarray) -> Tensor:
        return flat.index_select(0, torch.from_numpy(y * width + x).to(values.device))

    if align_corners is None:
        return read(above, left)
    down, across = (torch.from_numpy(each).to(values) for each in (down, across))
    upper = torch.lerp(read(above, left), read(above, right), across)
    lower = torch.lerp(read(below, left), read(below, right), across)
    return torch.lerp(upper, lower, down)


@lru_cache(maxsize=16)  # test sets have pictures of few sizes
def _reading_places(
    length: int, wanted: int, align_corners: bool | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a line of `length` values is read to resize it to `wanted`.

    Two places, int64 (wanted,), and how far it is from the first to the second, float64. PyTorch
    tells: it resizes a line that holds its own places.
    """
    line = torch.arange(length, dtype=torch.float32)[None, None]
    if align_corners is None:
        place = F.interpolate(line, wanted, mode="nearest")[0, 0].double().numpy()
    else:
        line = line.double()
        place = F.interpolate(line, wanted, mode="linear", align_corners=align_corners)
        place = place[0, 0].numpy()
    first = place.astype(np.int64)
    return first, np.minimum(first + 1, length - 1), place - first


def lower_median(values: Tensor) -> Tensor:
    """The middle of values (n,), or the lower of the middle two, as `torch.median` has it: ()."""
    if values.device.type != "cpu" or values.isnan().any():
        return values.median()
    middle = (len(values) - 1) // 2
    return torch.from_numpy(np.partition(values.numpy(), middle))[middle]  # in a tenth of the time
