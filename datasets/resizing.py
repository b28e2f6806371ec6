"""Native pictures to network size: Lanczos with antialiasing, Pillow's or torch's."""

from __future__ import annotations

import warnings
from functools import cache
from math import ceil, floor

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from augmentations import CropBox

# RGB: a picture of Pillow's, or its uint8 (height, width, 3).
Picture = Image.Image | np.ndarray

LANCZOS_REACH = 3  # pixels of the smaller picture on either side that a pixel is made of


def resize(picture: Picture, height: int, width: int, crop: CropBox | None = None) -> Image.Image:
    """The (height, width) view of a native picture by Pillow: along its rows, then its columns.

    Pillow up to 12 keeps this order, which published networks were trained with; 13 takes the
    cheaper one, and where that is the other, pixels differ by several grey levels: so each
    direction is asked for by itself. A crop, a box of the picture resized to (crop.height,
    crop.width), is read off the native picture directly: no more is computed than what is seen.
    This equals cutting it out of the resized picture within one grey level.
    """
    native_width, native_height = size_of(picture)
    left, top, right, bottom = 0.0, 0.0, float(native_width), float(native_height)
    if crop is not None:
        x_scale, y_scale = native_width / crop.width, native_height / crop.height
        left, right = crop.x0 * x_scale, (crop.x0 + width) * x_scale
        top, bottom = crop.y0 * y_scale, (crop.y0 + height) * y_scale
    reach = LANCZOS_REACH * max(1.0, (bottom - top) / height)
    first, last = max(0, floor(top - reach)), min(native_height, ceil(bottom + reach))
    seen = as_image(_rows(picture, first, last))
    wide = seen.resize((width, last - first), Image.Resampling.LANCZOS,
                       box=(left, 0, right, last - first))  # fmt: skip
    return wide.resize((width, height), Image.Resampling.LANCZOS,
                       box=(0, top - first, width, bottom - first))  # fmt: skip


def _rows(picture: Picture, first: int, last: int) -> Picture:
    """Some rows of a picture."""
    if isinstance(picture, np.ndarray):
        return picture[first:last]
    if (first, last) == (0, picture.height):
        return picture
    return picture.crop((0, first, picture.width, last))


def as_image(picture: Picture) -> Image.Image:
    """As Pillow holds it."""
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)


def size_of(picture: Picture) -> tuple[int, int]:
    """(width, height)."""
    return picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]


@cache
def has_fast_resize() -> bool:
    """Whether this torch has a Lanczos of its own (2.14 has, 2.6 has not)."""
    try:
        _lanczos(torch.zeros(3, 8, 8, dtype=torch.uint8), 4, 4)
    except (NotImplementedError, ValueError):
        return False
    return True


def _lanczos(pixels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (3, h, w) to (3, height, width)."""
    return F.interpolate(pixels[None], (height, width), mode="lanczos", antialias=True)[0]


def view(
    picture: Picture, size: tuple[int, int], crop: CropBox | None, flip: bool, fast: bool
) -> Tensor:
    """A native picture, mirrored where `flip`, at size (height, width): uint8 (3, *size).

    The small picture is mirrored: Lanczos weights are the same from either side. fast: by torch in
    a sixth of the time. Its weights have 15 bits where Pillow's have 22: less than one per cent of
    the values differ by one grey level, a few in a million by two. Crops stay Pillow's: enlarged by
    torch, more would.
    """
    if flip and crop is not None:
        crop = crop._replace(x0=crop.width - size[1] - crop.x0)
    if crop is None and fast and has_fast_resize():
        small = _lanczos(as_tensor(picture), *size)
    else:
        small = as_tensor(resize(picture, *size, crop))
    return (small.flip(-1) if flip else small).contiguous()


def method(fast: bool) -> str:
    """Whose pixels a view has, to the last bit."""
    torchs = fast and has_fast_resize()
    return f"torch {torch.__version__}" if torchs else f"Pillow {PIL.__version__}, rows first"


def smaller(view: Tensor, size: tuple[int, int], fast: bool) -> Tensor:
    """A view once more, at a smaller size (height, width)."""
    if fast and has_fast_resize():
        return _lanczos(view, *size)
    return to_tensor(resize(view.permute(1, 2, 0).numpy(), *size))


def as_tensor(picture: Picture) -> Tensor:
    """uint8 (3, height, width), sharing the picture's memory where that is an array."""
    with warnings.catch_warnings():  # what is decoded may not be written to, and is not
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(picture)).permute(2, 0, 1)


def to_tensor(picture: Picture) -> Tensor:
    """An RGB picture as uint8 (3, height, width), in that order in memory, of its own."""
    return as_tensor(picture).clone(memory_format=torch.contiguous_format)
