"""Whether a run's numbers are still numbers, noted at every step without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NEVER = torch.iinfo(torch.int64).max


class Finding(NamedTuple):
    """What one process found: the first step whose loss, and the first whose gradients, were bad,
    NEVER for none; the samples and the loss terms of the earlier one; and whether the weights are
    all numbers now."""

    loss: int
    gradient: int
    samples: list[int]
    terms: dict[str, float]
    weights: bool

    @property
    def step(self) -> int:
        """The first step at which anything was bad."""
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
    terms = ", ".join(f"{name} {value:g}" for name, value in blamed[0].terms.items())
    what = "loss" if of_loss else "gradient"
    return f"the {what} of step {step} is not a number (its samples: {samples}; {terms})"


class Health:
    """The first step, since the last look, whose loss terms or gradients were not finite."""

    def __init__(self, device: torch.device, patience: int = 0) -> None:
        """patience: steps in a row whose gradients may be bad (a scaler of fp16 skips those)."""
        self._first = torch.full((2,), NEVER, device=device)  # loss, gradient
        self._patience = patience
        self._bad_in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self._names: list[str] = []
        self._terms: Tensor | None = None  # of the first bad step, else of the last
        self._samples: dict[int, Sequence[int]] = {}

    def note(
        self, step: int, terms: Mapping[str, Tensor], norm: Tensor, samples: Sequence[int]
    ) -> None:
        """terms: scalars on the device; norm: of all gradients; samples: their indices."""
        self._samples[step] = samples
        self._names = list(terms)
        values = torch.stack([value.detach().float() for value in terms.values()])
        self._bad_in_a_row = torch.where(norm.isfinite(), 0, self._bad_in_a_row + 1)
        bad = torch.stack([~values.isfinite().all(), self._bad_in_a_row > self._patience])
        if self._terms is not None:
            values = torch.where((self._first < NEVER).any(), self._terms, values)
        self._terms = values
        self._first = torch.where(bad & (self._first == NEVER), step, self._first)

    def look(self, weights: Iterable[Tensor]) -> Finding:
        """What was found; waits for the device. The samples of earlier steps are forgotten."""
        loss, gradient = self._first.tolist()
        samples = list(self._samples.get(min(loss, gradient), []))
        values = [] if self._terms is None else self._terms.tolist()
        if min(loss, gradient) == NEVER:
            self._samples.clear()
        healthy = torch.stack([weight.detach().isfinite().all() for weight in weights]).all()
        terms = dict(zip(self._names, values, strict=True))
        return Finding(loss, gradient, samples, terms, bool(healthy))
