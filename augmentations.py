"""Each augmentation as what was drawn, how it is applied, and how it is undone.

What is drawn for a sample travels with it as a few numbers; pictures change in whole batches, on
whatever device they are on: colour jitter here, the patch reshuffle as one cyclic shift. The crop
and the mirror image are taken where the picture is read (`datasets`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

IDENTITY_JITTER = (1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 2.0, 3.0)
LUMA = (0.2989, 0.587, 0.114)  # of ITU-R 601, the weights torchvision's grey uses


class CropBox(NamedTuple):
    """Resizing-cropping: the picture resized by `ratio` to (height, width), cut at (y0, x0)."""

    ratio: float
    height: int
    width: int
    y0: int
    x0: int


class Cut(NamedTuple):
    """Splitting-permuting: cut below row `height` and right of column `width`, pieces swapped."""

    height: int
    width: int


class Augmentation(NamedTuple):
    """Everything drawn for one training sample; one draw for all its frames and views.

    jitter: factors of brightness, contrast and saturation, hue shift (in turns), then the
    position (0 to 3) of each of the four in the order of application.
    """

    jitter: tuple[float, ...] = IDENTITY_JITTER
    flip: bool = False
    crop: CropBox | None = None
    cut: Cut | None = None


def draw_augmentation(
    uniform: Callable[[], float],
    height: int,
    width: int,
    *,
    local_crop: bool = False,
    patch_reshuffle: bool = False,
) -> Augmentation:
    """Draw a sample's augmentation for network input of (height, width).

    `uniform` gives numbers in [0, 1). Order: colour change, mirror; crop ratio, x, y offset;
    x and y cut; and last the jitter itself, so that it never shifts the draws before it.
    """
    change_colour = uniform() > 0.5
    flip = uniform() > 0.5
    crop = cut = None
    if local_crop:
        ratio = (2.0 - 1.2) * uniform() + 1.2
        resized_height, resized_width = int(height * ratio), int(width * ratio)
        x0 = int((resized_width - width) * uniform())
        y0 = int((resized_height - height) * uniform())
        crop = CropBox(ratio, resized_height, resized_width, y0, x0)
    if patch_reshuffle:
        cut_width = int(width * (uniform() * (0.9 - 0.1) + 0.1))
        cut_height = int(height * (uniform() * (0.9 - 0.1) + 0.1))
        cut = Cut(cut_height, cut_width)
    jitter = draw_jitter(uniform) if change_colour else IDENTITY_JITTER
    return Augmentation(jitter, flip, crop, cut)


def draw_jitter(uniform: Callable[[], float]) -> tuple[float, ...]:
    """Factors in [0.8, 1.2], a hue shift in [-0.1, 0.1] and a random order, as in Monodepth2."""
    factors = [0.8 + 0.4 * uniform() for _ in range(3)]
    hue = -0.1 + 0.2 * uniform()
    ranks = [uniform() for _ in range(4)]
    positions = [float(sorted(ranks).index(rank)) for rank in ranks]
    return (*factors, hue, *positions)


def color_jitter(images: Tensor, jitter: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, each sample with its own factors and order.

    images: (B, 3, H, W) in [0, 1]; jitter: (B, 8) as in `Augmentation`. Returns the same shape,
    the values of torchvision's `adjust_*` applied in that order. Identity rows change nothing.
    """
    # A GPU is asked once for the whole batch, and never for a number; a CPU is asked for no more
    # than what was drawn.
    return (_jitter_each if images.device.type == "cpu" else _jitter_batch)(images, jitter)


def color_jitter_each(views: Sequence[Tensor], jitter: Tensor) -> list[Tensor]:
    """`color_jitter` of several views (B, 3, H, W) of the same samples."""
    return (_view_by_view if jitter.device.type == "cpu" else _views_at_once)(views, jitter)


def _view_by_view(views: Sequence[Tensor], jitter: Tensor) -> list[Tensor]:
    """`color_jitter_each` without copying all of them to one place."""
    return [color_jitter(view, jitter) for view in views]


def _views_at_once(views: Sequence[Tensor], jitter: Tensor) -> list[Tensor]:
    """`color_jitter_each` in as many operators as one view takes."""
    stacked = torch.cat(list(views))
    return list(color_jitter(stacked, jitter.repeat(len(views), 1)).chunk(len(views)))


def _jitter_each(images: Tensor, jitter: Tensor) -> Tensor:
    """`color_jitter`, for one picture after the other: each stays in the processor's cache."""
    result = images.clone(memory_format=torch.contiguous_format)
    for image, row in zip(result, jitter.tolist(), strict=True):
        if tuple(row) != IDENTITY_JITTER:
            _jitter_in_place(image, row)
    return result


def _jitter_in_place(image: Tensor, row: Sequence[float]) -> None:
    """The four changes of one row, in their order. image: (3, H, W)."""
    for operation in sorted(range(4), key=lambda operation: row[4 + operation]):
        amount = row[operation]
        if operation == 3:
            _shift_hue_in_place(image, amount)
        elif operation == 0:
            image.mul_(amount).clamp_(0, 1)
        else:
            grey = _grey(image[None])[0]
            base = grey.mean() if operation == 1 else grey
            torch.lerp(base.expand_as(image), image, amount, out=image).clamp_(0, 1)


def _shift_hue_in_place(image: Tensor, shift: float) -> None:
    """As `_shift_hue`, by OpenCV: to HSV and back takes it two passes. image: (3, H, W)."""
    import cv2

    planes = list(image.numpy())
    pixels = cv2.merge(planes)
    cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV, dst=pixels)
    pixels[..., 0] += 360 * (shift % 1)  # back from HSV, angles of a turn and more are known
    cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB, dst=pixels)
    cv2.split(pixels, planes)


def _jitter_batch(images: Tensor, jitter: Tensor) -> Tensor:
    """`color_jitter`, for the whole batch at once.

    Each blend has a slot before and one after the hue shift, and is the identity in one of them:
    so the whole batch takes the same seven operations, whatever its samples' orders are.
    """
    factors, hue, positions = jitter[:, :3], jitter[:, 3], jitter[:, 4:]
    order = positions.argsort(1)  # (B, 4): the operation at each position
    hue_position = positions[:, 3]
    for step in range(3):
        images = _blend(images, factors, order[:, step], step < hue_position)
    images = _shift_hue(images, hue)
    for step in range(1, 4):
        images = _blend(images, factors, order[:, step], step > hue_position)
    return images


def _blend(images: Tensor, factors: Tensor, operation: Tensor, active: Tensor) -> Tensor:
    """Mix each image with black (0), its mean grey (1) or its own grey (2), where active."""
    operation = operation.clamp(max=2)
    factor = factors.gather(1, operation[:, None])[:, 0]
    factor = torch.where(active, factor, 1.0)[:, None, None, None]
    grey = _grey(images)
    choice = operation[:, None, None, None]
    base = torch.where(choice == 1, grey.mean((-2, -1), keepdim=True), grey)
    base = torch.where(choice == 0, 0.0, base)
    return (factor * images + (1 - factor) * base).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    """Luma, (B, 1, H, W)."""
    return sum(weight * channel for weight, channel in zip(LUMA, images.split(1, 1), strict=True))


def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the HSV hue by `shift` (B,), in turns; value and chroma stay as they are."""
    value, chroma, hue = _hue(images)
    hue = 6 * (hue + shift[:, None, None, None])
    k = torch.cat([corner + hue for corner in (5, 3, 1)], 1) % 6
    turned = value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
    return torch.where(shift[:, None, None, None] == 0, images, turned)


def _hue(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """HSV value, chroma (value times saturation) and hue (in turns), each (B, 1, H, W)."""
    red, green, blue = images.split(1, 1)
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(
            value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor
        ),
    )
    return value, chroma, hue / 6


def reshuffle(images: Tensor, cut: Tensor) -> Tensor:
    """Cut each image in four and swap the pieces, which is one cyclic shift.

    images: (B, C, H, W); cut: (B, 2) whole numbers, (cut height, cut width): the top left piece's
    size. The rows above the cut go to the bottom, the columns left of it to the right.
    """
    return cyclic_shift(images, -cut)


def undo_reshuffle(images: Tensor, cut: Tensor, height: int, width: int) -> Tensor:
    """Put pictures of a reshuffled (height, width) picture back in order, at any scale.

    images: (B, C, height / 2**s, width / 2**s), a map predicted at scale s. The shift back is
    round((size - cut) / 2**s), halves to even, as the published method has it.
    """
    rows = torch.round((height - cut[:, 0]) * (images.shape[-2] / height))
    columns = torch.round((width - cut[:, 1]) * (images.shape[-1] / width))
    return cyclic_shift(images, -torch.stack([rows, columns], 1).long())


def cyclic_shift(images: Tensor, shift: Tensor) -> Tensor:
    """`torch.roll` over (H, W) with a shift per sample.

    images: (B, C, H, W); shift: (B, 2) whole numbers (rows down, columns right), wrapping around.
    """
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - shift[:, :1]) % height
    columns = (torch.arange(width, device=images.device) - shift[:, 1:]) % width
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    index = index[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view_as(images)
