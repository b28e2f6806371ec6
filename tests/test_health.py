"""The first bad step is found later, and told with its samples."""

from __future__ import annotations

import math

import torch

from health import NEVER, Finding, Health, diagnosis

NAN, INF = torch.tensor(float("nan")), torch.tensor(float("inf"))
ONE = torch.tensor(1.0)
WEIGHTS = [torch.ones(2)]
NAMES = [f"frame {i}" for i in range(10)]


def samples(*numbers):
    return list(numbers)


def test_healthy_steps_leave_nothing():
    health = Health(torch.device("cpu"))
    for step in range(1, 4):
        health.note(step, {"loss": ONE}, ONE, samples(step))
    assert health.look(WEIGHTS) == Finding(NEVER, NEVER, [], {"loss": 1.0}, True)
    assert diagnosis([health.look(WEIGHTS)], NAMES) is None


def test_the_first_bad_step_counts_with_its_samples():
    health = Health(torch.device("cpu"))
    for step, value in enumerate([ONE, INF, NAN], 1):
        health.note(step, {"loss": ONE, "photometric": value}, NAN if step > 1 else ONE,
                    samples(step, step + 4))
    found = health.look(WEIGHTS)
    assert found == Finding(2, 2, [2, 6], {"loss": 1.0, "photometric": math.inf}, True)
    told = diagnosis([found], NAMES)
    assert told == ("the loss of step 2 is not a number (its samples: frame 2; frame 6; "
                    "loss 1, photometric inf)")


def test_a_bad_gradient_alone_is_told_as_such():
    health = Health(torch.device("cpu"))
    health.note(5, {"loss": ONE}, INF, samples(3))
    told = diagnosis([health.look(WEIGHTS)], NAMES)
    assert told == "the gradient of step 5 is not a number (its samples: frame 3; loss 1)"


def test_the_process_with_the_bad_loss_is_to_blame():
    """Its gradients were averaged into everybody's."""
    others, own = Finding(NEVER, 7, [1], {}, True), Finding(7, 7, [2], {"loss": math.nan}, True)
    told = diagnosis([others, own], NAMES)
    assert told == "the loss of step 7 is not a number (its samples: frame 2; loss nan)"


def test_a_scaler_may_skip_some_steps_in_a_row():
    health = Health(torch.device("cpu"), patience=2)
    for step, norm in enumerate([INF, INF, ONE, INF, NAN], 1):
        health.note(step, {"loss": ONE}, norm, samples(step))
    assert health.look(WEIGHTS).step == NEVER
    health.note(6, {"loss": ONE}, INF, samples(6))
    assert health.look(WEIGHTS)[:3] == (NEVER, 6, [6])


def test_bad_weights_are_told_where_no_step_was_bad():
    health = Health(torch.device("cpu"))
    health.note(1, {"loss": ONE}, ONE, samples(1))
    found = health.look([torch.ones(2), torch.tensor([1.0, float("nan")])])
    assert diagnosis([found], NAMES) == "the weights are no longer numbers"


def test_samples_of_steps_looked_at_are_forgotten():
    health = Health(torch.device("cpu"))
    health.note(1, {"loss": ONE}, ONE, samples(1))
    health.look(WEIGHTS)
    health.note(2, {"loss": NAN}, ONE, samples(2))
    assert health.look(WEIGHTS).samples == [2]
