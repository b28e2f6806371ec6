"""Augmentations against torchvision, against pieces put together by hand, and draw by draw."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms import functional as TF

from augmentations import (
    IDENTITY_JITTER,
    CropBox,
    Cut,
    color_jitter,
    cyclic_shift,
    draw_augmentation,
    draw_jitter,
    reshuffle,
    undo_reshuffle,
)
from augmentations import _jitter_batch as jitter_batch

OPERATIONS = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
HEIGHT, WIDTH = 64, 96


def scripted(*values: float):
    """A `uniform` that gives these numbers and fails if asked for more."""
    numbers = iter(values)
    return lambda: next(numbers), numbers


def one_by_one(image: torch.Tensor, jitter: tuple[float, ...]) -> torch.Tensor:
    """torchvision's operations on one picture, in the order that was drawn."""
    for n in sorted(range(4), key=lambda n: jitter[4 + n]):
        image = OPERATIONS[n](image, jitter[n])
    return image


# A CPU changes the pictures of each sample in turn, a GPU the batch at once.
BOTH_WAYS = pytest.mark.parametrize("jitter_colors", [color_jitter, jitter_batch])


@BOTH_WAYS
def test_jitter_is_torchvisions_in_every_order(jitter_colors):
    rng = random.Random(0)
    rows = [
        (*(rng.uniform(0.8, 1.2) for _ in range(3)), rng.uniform(-0.1, 0.1), *map(float, order))
        for order in itertools.permutations(range(4))
    ]
    images = torch.rand(len(rows), 3, 9, 11, generator=torch.Generator().manual_seed(0))
    images[:, :, 0, 0] = images[:, :1, 0, 0]  # a grey pixel has no hue
    images[:, :, 0, 1], images[:, :, 0, 2] = 0, 1
    before = images.clone()
    jittered = jitter_colors(images, torch.tensor(rows))
    assert torch.equal(images, before)
    expected = torch.stack([one_by_one(i, row) for i, row in zip(images, rows, strict=True)])
    assert_close(jittered, expected, atol=2e-5, rtol=0)
    assert (jittered - images).abs().mean() > 0.02


@BOTH_WAYS
def test_samples_without_jitter_stay_as_they_are_beside_others(jitter_colors):
    images = torch.rand(3, 3, 8, 8)
    other = (0.9, 1.1, 1.2, 0.05, 3.0, 0.0, 2.0, 1.0)
    jittered = jitter_colors(images, torch.tensor([IDENTITY_JITTER, other, IDENTITY_JITTER]))
    assert torch.equal(jittered[[0, 2]], images[[0, 2]])
    assert not torch.equal(jittered[1], images[1])


@BOTH_WAYS
def test_frames_of_one_sample_change_alike(jitter_colors):
    image = torch.rand(1, 3, 8, 8)
    rows = [(0.9, 1.1, 1.2, 0.05, 3.0, 0.0, 2.0, 1.0), (1.2, 0.8, 1.1, -0.1, 0.0, 1.0, 2.0, 3.0)]
    jittered = jitter_colors(image.expand(4, -1, -1, -1), torch.tensor(rows).repeat(2, 1))
    assert_close(jittered[:2], jittered[2:])
    assert not torch.equal(jittered[0], jittered[1])


def test_a_reshuffle_is_two_cuts_and_two_swaps():
    image = torch.rand(1, 3, HEIGHT, WIDTH)
    rows, columns = 23, 71
    by_hand = torch.cat([image[..., rows:, :], image[..., :rows, :]], -2)
    by_hand = torch.cat([by_hand[..., columns:], by_hand[..., :columns]], -1)
    assert torch.equal(reshuffle(image, torch.tensor([[rows, columns]])), by_hand)


def test_every_sample_is_shifted_by_its_own_amount():
    images, shift = torch.rand(3, 2, 5, 7), torch.tensor([[1, -2], [0, 0], [-9, 8]])
    expected = [torch.roll(i, s.tolist(), (-2, -1)) for i, s in zip(images, shift, strict=True)]
    assert torch.equal(cyclic_shift(images, shift), torch.stack(expected))


@pytest.mark.parametrize("scale", range(4))
def test_undoing_rounds_halves_to_even_at_every_scale(scale):
    # At scale 3 the way back is 2.5, 3.5, 0.5 and 7.5 rows: 2, 4, 0 and 8.
    cuts = [(44, 40), (36, 92), (60, 12), (4, 77)]
    maps = torch.rand(len(cuts), 1, HEIGHT >> scale, WIDTH >> scale)
    undone = undo_reshuffle(maps, torch.tensor(cuts), HEIGHT, WIDTH)
    for image, back, (rows, columns) in zip(maps, undone, cuts, strict=True):
        shift = (round((HEIGHT - rows) / 2**scale), round((WIDTH - columns) / 2**scale))
        assert torch.equal(back, torch.roll(image, (-shift[0], -shift[1]), (-2, -1)))


def test_undo_brings_the_picture_back():
    images, cut = torch.rand(3, 3, HEIGHT, WIDTH), torch.tensor([[7, 80], [33, 10], [57, 48]])
    assert torch.equal(undo_reshuffle(reshuffle(images, cut), cut, HEIGHT, WIDTH), images)


def test_the_documented_order_of_draws():
    jitter = (0.0, 0.5, 1.0, 0.25, 0.9, 0.1, 0.7, 0.3)  # factors, hue, then ranks to be sorted
    uniform, rest = scripted(0.6, 0.4, 0.5, 0.25, 0.75, 0.5, 0.125, *jitter)
    drawn = draw_augmentation(uniform, 100, 200, local_crop=True, patch_reshuffle=True)
    assert drawn.flip is False
    assert drawn.crop == CropBox(pytest.approx(1.6), 160, 320, y0=45, x0=30)
    assert drawn.cut == Cut(height=20, width=100)
    assert drawn.jitter == pytest.approx((0.8, 1.0, 1.2, -0.05, 3, 0, 2, 1))
    assert next(rest, None) is None


def test_nothing_is_drawn_that_is_not_asked_for():
    uniform, rest = scripted(0.5, 0.51)
    drawn = draw_augmentation(uniform, HEIGHT, WIDTH)
    assert drawn == (IDENTITY_JITTER, True, None, None)
    assert next(rest, None) is None


def test_draws_stay_in_their_ranges():
    uniform = random.Random(0).random
    for _ in range(500):
        drawn = draw_augmentation(uniform, HEIGHT, WIDTH, local_crop=True, patch_reshuffle=True)
        ratio, height, width, y0, x0 = drawn.crop
        assert 1.2 <= ratio < 2
        assert (height, width) == (int(HEIGHT * ratio), int(WIDTH * ratio))
        assert 0 <= y0 <= height - HEIGHT
        assert 0 <= x0 <= width - WIDTH
        assert int(0.1 * HEIGHT) <= drawn.cut.height < 0.9 * HEIGHT
        assert int(0.1 * WIDTH) <= drawn.cut.width < 0.9 * WIDTH
        factors, hue, order = drawn.jitter[:3], drawn.jitter[3], drawn.jitter[4:]
        assert all(0.8 <= factor <= 1.2 for factor in factors)
        assert abs(hue) <= 0.1
        assert sorted(order) == [0, 1, 2, 3]


def test_every_order_of_the_jitter_is_drawn_equally_often():
    uniform = random.Random(1).random
    orders = [draw_jitter(uniform)[4:] for _ in range(2400)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert min(counts) > 60  # 100 expected, 10 its standard deviation
