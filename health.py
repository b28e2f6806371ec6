"""Whether a run's numbers are still numbers, noted at every step without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NEVER = torch.iinfo(torch.int64).max


class Finding(NamedTuple):
    """The first bad step of a process: of its loss, of its gradients; and whose samples it was."""

    loss: int
    gradient: int
    samples: list[int]
    weights: bool  # whether all of them are numbers, now

    @property
    def step(self) -> int:
        """The first step at which anything was bad, NEVER if nothing was."""
        return min(self.loss, self.gradient)


def diagnosis(findings: Sequence[Finding], names: Sequence[str]) -> str | None:
    """What is wrong, first of all, on any process; None if nothing is. names: of all samples."""
    step = min(each.step for each in findings)
    if step == NEVER:
        healthy = all(each.weights for each in findings)
        return None if healthy else "the weights are no longer numbers"
    # A bad loss on one process makes the gradients of all of them bad: its samples are to blame.
    of_loss = [each for each in findings if each.loss == step]
    blamed = of_loss or [each for each in findings if each.step == step]
    samples = "; ".join(names[index] for each in blamed for index in each.samples)
    what = "loss" if of_loss else "gradient"
    return f"the {what} of step {step} is not a number (its samples: {samples})"


class Health:
    """The first step, since the last look, whose loss terms or gradients were not finite."""

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((2,), NEVER, device=device)  # loss, gradient
        self._samples: dict[int, list[Tensor]] = {}

    def note(
        self, step: int, terms: Mapping[str, Tensor], norm: Tensor, samples: Sequence[Tensor]
    ) -> None:
        """terms: scalars on the device; norm: of all gradients; samples: their indices, on the
        CPU."""
        self._samples[step] = list(samples)
        values = torch.stack([value.detach().float() for value in terms.values()])
        finite = torch.stack([values.isfinite().all(), norm.isfinite()])
        self._first = torch.where(finite | (self._first < NEVER), self._first, step)

    def look(self, weights: Iterable[Tensor]) -> Finding:
        """What was found; waits for the device. The samples of earlier steps are forgotten."""
        loss, gradient = self._first.tolist()
        step = min(loss, gradient)
        samples = [int(each) for part in self._samples.get(step, []) for each in part]
        if step == NEVER:
            self._samples.clear()
        healthy = torch.stack([weight.detach().isfinite().all() for weight in weights]).all()
        return Finding(loss, gradient, samples, bool(healthy))
