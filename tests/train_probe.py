"""train.py as each of several processes runs it, with a look inside before and after.

Started by a launcher in tests/test_train_ddp.py. Into the folder PROBE_FOLDER every rank writes
`rank{r}.pth`: its samples and gradients of the first batch, with batch norm in evaluation mode and
no tie-breaking noise, and all weights at the end. With PROBE_DIES_AT=N every rank's N-th step (from
0) dies instead.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import train
from trainer import Trainer
from utils import run_script


def first_gradients(trainer: Trainer) -> tuple[list[int], dict[str, Tensor]]:
    """Indices of this rank's first batch, and the gradients that all ranks' batches give."""
    networks, objective = trainer.networks, trainer.networks.objective
    networks.objective = replace(objective, tie_break=0)
    networks.eval()
    trainer.sampler.set_epoch(0)
    batch = next(iter(trainer.loader))
    trainer.model(batch)[0]["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in networks.named_parameters()}
    networks.zero_grad()
    networks.objective = objective
    return batch["index"].tolist(), gradients


class ProbedTrainer(Trainer):
    """A trainer that writes down what it has before and after the run."""

    def run(self) -> None:
        indices, gradients = first_gradients(self)
        super().run()
        path = Path(os.environ["PROBE_FOLDER"]) / f"rank{self.world.rank}.pth"
        weights = self.networks.state_dict()
        torch.save({"indices": indices, "gradients": gradients, "weights": weights}, path)

    def train_step(self, batch):
        if self.step == int(os.environ.get("PROBE_DIES_AT", -1)):
            raise RuntimeError("killed by the probe")
        return super().train_step(batch)


def main(argv=None) -> None:
    """train.py's main, with the probed trainer in its place."""
    import trainer

    trainer.Trainer = ProbedTrainer
    train.main(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    run_script(main)
