"""Depth known at few pixels, by hand; tests/test_evaluation.py reads predictions there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparse_depth import known_pixels, lower_median


def test_known_pixels_are_those_of_the_window_and_the_range():
    depth = np.array([[5.0, 0, 0, 0], [0, 5, 0, 5], [0, 80, 7, 0], [0, 0, 0, 9]], np.float32)
    rows, columns, values = known_pixels(depth, 0, 80)
    assert values.tolist() == [5, 5, 5, 7, 9]
    assert list(zip(rows, columns, strict=True)) == [(0, 0), (1, 1), (1, 3), (2, 2), (3, 3)]
    rows, columns, values = known_pixels(depth, 0, 80, (slice(1, 3), slice(1, 3)))
    assert values.tolist() == [5, 7]
    assert list(zip(rows, columns, strict=True)) == [(1, 1), (2, 2)]
    assert [each.size for each in known_pixels(depth, 100, 200)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "middle"), [([3.0], 3), ([4.0, 1], 1), ([9.0, 7, 8], 8), ([2.0, 1, 4, 3], 2)]
)
def test_the_median_of_an_even_number_is_the_lower_middle(values, middle):
    assert lower_median(torch.tensor(values)) == middle


def test_a_median_is_no_number_where_a_value_is_none():
    assert lower_median(torch.tensor([1.0, float("nan"), 2.0])).isnan()
