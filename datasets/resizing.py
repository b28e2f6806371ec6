"""Native pictures to network size: Lanczos with antialiasing, Pillow's or torch's."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from augmentations import CropBox

# RGB: a picture of Pillow's, or its uint8 (height, width, 3).
Picture = Image.Image | np.ndarray


def resize(picture: Picture, height: int, width: int, crop: CropBox | None = None) -> Image.Image:
    """The (height, width) view of a native picture, as Pillow makes it.

    A crop, a box of the picture resized to (crop.height, crop.width), is read off the native
    picture directly: no more is computed than what is seen. This equals cutting it out of the
    resized picture within one grey level if both resize rows before columns, as Pillow 11 always
    does (13 begins with the columns where a whole picture grows in width).
    """
    picture, box = as_image(picture), None
    if crop is not None:
        x_scale, y_scale = picture.width / crop.width, picture.height / crop.height
        box = (crop.x0 * x_scale, crop.y0 * y_scale,
               (crop.x0 + width) * x_scale, (crop.y0 + height) * y_scale)  # fmt: skip
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box)


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

    fast: by torch in a sixth of the time. Its weights have 15 bits where Pillow's have 22: half a
    per cent of the values differ by one grey level, at some sizes a few in a million by two. Crops
    stay Pillow's: enlarged by torch, more would.
    """
    if not (fast and has_fast_resize()):
        picture = ImageOps.mirror(as_image(picture)) if flip else picture
        return to_tensor(resize(picture, *size, crop))
    # The small picture is turned: Lanczos weights are the same from either side.
    if crop is None:
        small = _lanczos(as_tensor(picture), *size)
    else:
        crop = crop._replace(x0=crop.width - size[1] - crop.x0) if flip else crop
        small = as_tensor(resize(picture, *size, crop))
    return small.flip(-1) if flip else small.contiguous()


def method(fast: bool) -> str:
    """Whose pixels a view has, to the last bit."""
    torchs = fast and has_fast_resize()
    return f"torch {torch.__version__}" if torchs else f"Pillow {PIL.__version__}"


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
