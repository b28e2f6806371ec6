"""Learning rates of chosen steps, and what the optimisers are made of."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import MultiStepLR

from optimisation import build_optimizer, build_scheduler, clip_gradients

RATE = 1e-3


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2))


def rates(kind: str, steps_per_epoch: int = 5, num_epochs: int = 4, **settings) -> list[float]:
    """The learning rate of every step of a run."""
    optimizer = build_optimizer("sgd", [parameter()], RATE, 0)
    defaults = {"decay_epochs": [2], "decay_rate": 0.1, "eta_min": 1e-5, "warm_up": 0}
    settings = defaults | settings
    scheduler = build_scheduler(optimizer, kind, steps_per_epoch, num_epochs, **settings)
    used = []
    for _ in range(steps_per_epoch * num_epochs):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def test_step_decays_at_the_start_of_its_epochs():
    expected = [RATE] * 10 + [RATE / 10] * 5 + [RATE / 100] * 5
    assert rates("step", decay_epochs=[2, 3]) == pytest.approx(expected)


def test_step_is_torchs_schedule_stepped_once_an_epoch():
    optimizer = SGD([parameter()], RATE)
    torchs, expected = MultiStepLR(optimizer, [1, 3], 0.3), []
    for _ in range(4):
        expected += [optimizer.param_groups[0]["lr"]] * 5
        optimizer.step()
        torchs.step()
    assert rates("step", decay_epochs=[1, 3], decay_rate=0.3) == pytest.approx(expected)


def test_cosine_falls_every_batch_from_the_rate_to_its_floor():
    used = rates("cos", steps_per_epoch=7, num_epochs=3)
    assert used[0] == pytest.approx(RATE)
    assert used[10] == pytest.approx((RATE + 1e-5) / 2)
    assert used[-1] == pytest.approx(1e-5)
    assert all(later < earlier for earlier, later in itertools.pairwise(used))


@pytest.mark.parametrize("kind", ["step", "cos"])
def test_warm_up_rises_over_its_share_of_all_steps(kind):
    used, plain = rates(kind, warm_up=0.2), rates(kind)
    share = [u / p for u, p in zip(used, plain, strict=True)]
    assert share == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 17])


def test_a_run_of_one_step_has_a_rate():
    assert rates("cos", 1, 1, warm_up=1.0) == pytest.approx([RATE])


def test_a_restored_schedule_goes_on_at_the_same_rate():
    optimizer = build_optimizer("adamw", [parameter()], RATE, 0)
    settings = {"decay_epochs": [1], "decay_rate": 0.1, "eta_min": 1e-5, "warm_up": 0.3}
    scheduler = build_scheduler(optimizer, "cos", 6, 2, **settings)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    other = build_optimizer("adamw", [parameter()], RATE, 0)
    restored = build_scheduler(other, "cos", 6, 2, **settings)
    other.load_state_dict(optimizer.state_dict())
    restored.load_state_dict(scheduler.state_dict())
    for _ in range(7):
        assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        for each in (optimizer, scheduler, other, restored):
            each.step()


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("adam", Adam), ("sgd", SGD)])
def test_optimisers_by_name(name, kind):
    optimizer = build_optimizer(name, [parameter()], 0.1, 0.02, (0.8, 0.95), 0.7)
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.02)
    if name == "sgd":
        assert group["momentum"] == 0.7
    else:
        assert group["betas"] == (0.8, 0.95)


def test_decay_is_decoupled_in_adamw_alone():
    """Without a gradient AdamW shrinks weights by lr * decay; Adam's moments turn that into lr."""
    moved = {}
    for name in ("adamw", "adam"):
        weight = parameter()
        weight.grad = torch.zeros(2)
        build_optimizer(name, [weight], 0.1, 0.01).step()
        moved[name] = 1 - weight[0].item()
    assert moved["adamw"] == pytest.approx(0.001, rel=1e-3)
    assert moved["adam"] == pytest.approx(0.1, rel=1e-3)


def test_gradients_are_clipped_to_one_joint_norm():
    a, b = parameter(), parameter()
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    clip_gradients([a, b], 10)
    assert a.grad[0] == 3
    clip_gradients([a, b], 1)
    assert (a.grad[0].item(), b.grad[1].item()) == pytest.approx((0.6, 0.8), abs=1e-5)


def moved_by_hand(name: str, gradients: list[float]) -> list[float]:
    """Where a weight of 1 stands after each gradient: rate 0.1, decay 0.2, betas 0.8, 0.9,
    momentum 0.7 (Sutskever et al. 2013; Kingma and Ba 2015; Loshchilov and Hutter 2019)."""
    weight, momentum, first, second, path = 1.0, 0.0, 0.0, 0.0, []
    for step, gradient in enumerate(gradients, 1):
        if name == "adamw":
            weight -= 0.1 * 0.2 * weight
        else:
            gradient += 0.2 * weight
        if name == "sgd":
            momentum = 0.7 * momentum + gradient
            weight -= 0.1 * momentum
        else:
            first = 0.8 * first + 0.2 * gradient
            second = 0.9 * second + 0.1 * gradient**2
            root = (second / (1 - 0.9**step)) ** 0.5
            weight -= 0.1 * first / (1 - 0.8**step) / (root + 1e-8)
        path.append(weight)
    return path


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_steps_are_those_of_the_papers(name):
    weight = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = build_optimizer(name, [weight], 0.1, 0.2, (0.8, 0.9), 0.7)
    path, gradients = [], [0.5, -0.3, 2.0, 0.01]
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        path.append(weight.item())
    assert path == pytest.approx(moved_by_hand(name, gradients), rel=1e-7)
