"""The order of samples: whole epochs, shares of ranks, resumes."""

from __future__ import annotations

import pytest

from datasets.keys import SampleIndex
from datasets.samplers import EpochSampler
from utils import UserError


def order(sampler: EpochSampler) -> list[int]:
    return [where.index for where in sampler]


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own():
    sampler = EpochSampler(50, seed=1)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(order(sampler))
        assert order(sampler) == orders[-1]
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]


def test_the_epoch_travels_with_every_index():
    sampler = EpochSampler(4, seed=1)
    sampler.set_epoch(6)
    assert all(isinstance(where, SampleIndex) and where.epoch == 6 for where in sampler)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_an_epoch_without_overlap(world_size):
    ranks = [EpochSampler(23, 5, world_size, rank) for rank in range(world_size)]
    shares = [order(sampler) for sampler in ranks]
    assert {len(share) for share in shares} == {len(sampler) for sampler in ranks}
    together = [index for share in shares for index in share]
    assert len(set(together)) == len(together) == 23 - 23 % world_size
    # In turn, the ranks take what one process would have taken.
    in_turn = [index for step in zip(*shares, strict=True) for index in step]
    assert in_turn == order(EpochSampler(23, 5))[: len(in_turn)]


def test_a_resume_skips_what_was_consumed_and_only_in_that_epoch():
    sampler = EpochSampler(11, 5, world_size=2, rank=1)
    sampler.set_epoch(2)
    whole = order(sampler)
    sampler.set_epoch(2, start=3)
    assert order(sampler) == whole[3:]
    assert len(sampler) == 5
    sampler.set_epoch(3)
    assert len(order(sampler)) == 5


def test_fewer_samples_than_processes_is_an_error():
    with pytest.raises(UserError, match="3 samples, fewer than the 4 processes"):
        EpochSampler(3, 0, world_size=4)
