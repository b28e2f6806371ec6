"""What an epoch without true depth is judged by: holes, and the pictures that are shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from run_pictures import sheet
from validation import holes


def street(height: int = 8, width: int = 10) -> torch.Tensor:
    """(1, 1, H, W): far above, near below, median 10."""
    depth = torch.full((1, 1, height, width), 5.0)
    depth[:, :, : height // 2] = 40
    depth[:, :, height // 2 - 1 : height // 2 + 1] = 10
    return depth


def test_a_hole_is_far_and_in_the_lower_half():
    depth = street()
    assert holes(depth, 100.0).item() == 0
    depth[0, 0, 6, :3] = 70  # a car that moves along
    depth[0, 0, 1, :] = 90  # sky
    assert depth.median() == 10
    assert holes(depth, 100.0).item() == pytest.approx(3 / 40)


def test_a_hole_is_beyond_four_medians():
    depth = street()
    depth[0, 0, 6, 0], depth[0, 0, 6, 1] = 39.9, 40.1
    assert holes(depth, 100.0).item() == pytest.approx(1 / 40)


def test_a_picture_that_is_far_everywhere_is_one_hole():
    assert holes(torch.full((1, 1, 6, 4), 95.0), 100.0).item() == 1
    assert holes(torch.full((1, 1, 6, 4), 85.0), 100.0).item() == 0


def test_every_picture_has_its_own_median():
    depth = torch.cat([street(), 7 * street()])
    depth[:, 0, 6, 0] = 60
    assert holes(depth, 1000.0).tolist() == pytest.approx([1 / 40, 0])


def test_rows_below_the_middle_of_an_odd_height():
    depth = torch.full((1, 1, 5, 2), 1.0)
    depth[0, 0, 1] = 9
    assert holes(depth, 100.0).item() == 0
    depth[0, 0, 2] = 9
    assert holes(depth, 100.0).item() == pytest.approx(1 / 3)


def test_a_sheet_has_a_row_a_sample():
    pictures = {}
    for i in range(2):
        pictures[f"color_0_0/{i}"] = torch.full((3, 4, 6), 0.2 * (i + 1))
        pictures[f"disp_0/{i}"] = torch.full((3, 4, 6), 100 + i, dtype=torch.uint8)
        pictures[f"error_0/{i}"] = torch.full((3, 4, 6), 200 + i, dtype=torch.uint8)
        pictures[f"automask_0/{i}"] = torch.ones(1, 4, 6)
    found = sheet(pictures)
    assert (found.shape, found.dtype) == ((8, 18, 3), np.uint8)
    assert found[::4, ::6, 0].tolist() == [[51, 100, 200], [102, 101, 201]]
