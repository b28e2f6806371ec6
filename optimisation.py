"""The optimiser and the learning rate of every step, a closed form of the step's number.

Being a closed form, a resumed run needs nothing but its step count to go on at the same rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def build_optimizer(
    name: str,
    parameters: Iterable[Parameter],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum: float = 0.9,
) -> Optimizer:
    """AdamW ("adamw"), Adam with L2 decay ("adam"), or SGD with momentum ("sgd").

    In its fused form: one kernel for all weights instead of a dozen for each, and no wait for the
    device.
    """
    common = {"lr": learning_rate, "weight_decay": weight_decay, "fused": True}
    if name == "sgd":
        return SGD(parameters, momentum=momentum, **common)
    rule = {"adamw": AdamW, "adam": Adam}[name]
    return rule(parameters, betas=betas, **common)


def step_factor(step: int, milestones: Sequence[int], decay_rate: float) -> float:
    """decay_rate to the power of the milestones (in steps) that `step` has reached."""
    return decay_rate ** sum(step >= milestone for milestone in milestones)


def cosine_factor(step: int, total_steps: int, floor: float) -> float:
    """Half a cosine from 1 at step 0 to `floor` (a share of the rate) at the last step."""
    progress = min(step / max(total_steps - 1, 1), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


def warm_up_factor(step: int, steps: int) -> float:
    """A linear rise over the first `steps` steps, the last of them at the full rate."""
    return min((step + 1) / steps, 1.0) if steps else 1.0


def build_scheduler(
    optimizer: Optimizer,
    kind: str,
    steps_per_epoch: int,
    num_epochs: int,
    *,
    decay_epochs: Sequence[int],
    decay_rate: float,
    eta_min: float,
    warm_up: float,
) -> LambdaLR:
    """The schedule, to be stepped once a batch: "step" decays at the start of `decay_epochs`,
    "cos" falls to eta_min; `warm_up` is the share of all steps with a rising rate."""
    total = steps_per_epoch * num_epochs
    milestones = [epoch * steps_per_epoch for epoch in decay_epochs]
    floor = eta_min / optimizer.param_groups[0]["lr"]
    rising = round(warm_up * total)

    def factor(step: int) -> float:
        if kind == "step":
            base = step_factor(step, milestones, decay_rate)
        else:
            base = cosine_factor(step, total, floor)
        return base * warm_up_factor(step, rising)

    return LambdaLR(optimizer, factor)


def move_schedule(scheduler: LambdaLR, step: int) -> None:
    """Put a schedule of `build_scheduler` where it stands before its `step`-th step (from 0)."""
    scheduler.last_epoch = step
    for group, rate, factor in zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = rate * factor(step)


def clip_gradients(parameters: Iterable[Parameter], largest_norm: float) -> Tensor:
    """The joint L2 norm of all gradients, which are first scaled down to `largest_norm`; -1 leaves
    them as they are. Returns the norm as it was before, a scalar on their device."""
    if largest_norm > 0:
        return torch.nn.utils.clip_grad_norm_(parameters, largest_norm)
    gradients = [each.grad for each in parameters if each.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
