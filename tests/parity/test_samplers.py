"""The order of training samples, against the published implementation's."""

from __future__ import annotations

import pytest

from datasets.samplers import EpochSampler


@pytest.mark.parametrize("kind", ["single", "distributed"])
def test_orders_are_the_published_ones(goldens, kind):
    cases = goldens.json("samplers")[kind]
    assert cases
    for case in cases:
        sampler = EpochSampler(
            case["length"], case["seed"], case.get("world", 1), case.get("rank", 0)
        )
        sampler.set_epoch(case["epoch"], case["start"])
        assert [where.index for where in sampler] == case["order"]
        assert {where.epoch for where in sampler} <= {case["epoch"]}
        assert len(sampler) == case["len"]
