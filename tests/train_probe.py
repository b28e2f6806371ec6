"""train.py as each process of a run starts it, with a look inside, and accidents arranged.

Started by tests.processes and by launchers. What the environment asks for:

    PROBE_FOLDER     every rank writes here: `step{r}`, the step it has begun, counted from 0; and,
                     at the end, `rank{r}.pth`: the loss terms of its steps, and all weights
    PROBE_GRADIENTS  and its samples and gradients of the first step, with batch norm in evaluation
                     mode and no tie-breaking noise
    PROBE_NARROW     networks so small that a checkpoint takes 15 MB, not 370
    PROBE_AT         "PLACE COUNT ACTION": what happens as PLACE is reached for the COUNT-th time.
                     PLACE: one of PLACES, or the name of a file that is about to get it. ACTION:
                     KILL, TERM, INT (a signal to this process), raise, or wait (having written
                     PROBE_FOLDER/waits{r}, until there is PROBE_FOLDER/go)
    PROBE_RANK       the one rank where it happens; without it, on all
    PROBE_LIMIT      bytes that a file may have, as if the disk were full beyond them
    PROBE_LIVES      how often it happens where torchrun starts the processes anew, by default once
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import train
import trainer
from inference import DepthPredictor
from networks import DepthDecoder, DepthNetwork, PoseDecoder, PoseNetwork
from trainer import Trainer
from training_step import TrainingStep
from utils import run_script

PLACES = {
    "step": (Trainer, "train_step"),
    "save": (Trainer, "_save_checkpoint"),  # copying; the file is written later
    "prediction": (DepthPredictor, "scaled_disp"),  # of a batch, in evaluation
    "model": (Trainer, "_save_epoch"),  # the epoch's row is written
    "drawing": (Trainer, "_draw"),
}


def first_gradients(trainer: Trainer) -> tuple[list[int], dict[str, Tensor]]:
    """Indices of this rank's first batches, and the gradients that all ranks' batches give.

    In evaluation mode and without noise the mean over `--accumulate` batches is that of one batch
    with all their samples.
    """
    networks, objective = trainer.networks, trainer.networks.objective
    networks.objective = replace(objective, tie_break=0)
    networks.eval()
    trainer.sampler.set_epoch(0)
    batches = list(itertools.islice(trainer.loader, trainer.opt.accumulate))
    kept: dict[str, Tensor] = {}

    def keep(*_: object) -> None:
        kept.update({name: p.grad.clone() for name, p in networks.named_parameters()})

    update, trainer._update = trainer._update, keep
    trainer.train_step(batches)
    trainer._update = update
    networks.zero_grad()
    networks.objective = objective
    return [index for batch in batches for index in batch["index"].tolist()], kept


class ProbedTrainer(Trainer):
    """A trainer that writes down where it is, and what it has before and after the run."""

    def run(self) -> None:
        self.own: list[dict[str, float]] = []  # loss terms of each step
        found = {}
        if "PROBE_GRADIENTS" in os.environ:
            found["indices"], found["gradients"] = first_gradients(self)
        super().run()
        found |= {"own": self.own, "weights": self.networks.state_dict()}
        torch.save(found, probe_folder() / f"rank{self.world.rank}.pth")

    def train_step(self, batches):
        with (probe_folder() / f"step{self.world.rank}").open("w") as file:
            file.write(str(self.step))
        return super().train_step(batches)

    def _update(self, terms, samples):
        self.own.append({name: value.item() for name, value in terms.items()})
        super()._update(terms, samples)


def probe_folder() -> Path:
    return Path(os.environ["PROBE_FOLDER"])


# ---- small networks ------------------------------------------------------------------------------


class NarrowEncoder(nn.Module):
    """`count` feature maps of 8 channels, the first at 1 / `stride` of the size, then halved."""

    def __init__(self, inputs: int, count: int, stride: int) -> None:
        super().__init__()
        self.channels = (8,) * count
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8 if i else inputs, 8, 3, 2 if i else stride, 1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
            )
            for i in range(count)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


def narrowed(build: Callable[..., TrainingStep]) -> Callable[..., TrainingStep]:
    """`build_training_step` with narrow networks in it."""

    def narrow(*arguments: object) -> TrainingStep:
        step = build(*arguments)
        encoder = NarrowEncoder(3, 6, 1)
        step.depth_network = DepthNetwork(encoder, DepthDecoder(encoder.channels, (0,)))
        step.pose_network = PoseNetwork(NarrowEncoder(6, 5, 2), PoseDecoder(8))
        return step

    return narrow


# ---- accidents -----------------------------------------------------------------------------------


def arrange(place: str, count: int, action: str) -> None:
    """Let `action` happen as `place` is reached for the count-th time, from 1."""
    owner, name = PLACES.get(place, (os, "replace"))
    original, calls = getattr(owner, name), itertools.count(1)

    def watched(*arguments, **named):
        here = place in PLACES or Path(arguments[1]).name == place
        if here and next(calls) == count:
            happen(action)
        return original(*arguments, **named)

    setattr(owner, name, watched)


def happen(action: str) -> None:
    """As PROBE_AT says."""
    if action == "raise":
        raise RuntimeError(f"the probe's own error of rank {os.environ.get('RANK', 0)}")
    if action == "wait":
        (probe_folder() / f"waits{os.environ.get('RANK', 0)}").touch()
        while not (probe_folder() / "go").exists():
            time.sleep(0.01)
        return
    os.kill(os.getpid(), getattr(signal, f"SIG{action}"))


def main(argv=None) -> None:
    """train.py's main, with the probed trainer in its place."""
    trainer.Trainer = ProbedTrainer
    if "PROBE_NARROW" in os.environ:
        trainer.build_training_step = narrowed(trainer.build_training_step)
    given = os.environ.get
    if "PROBE_LIMIT" in os.environ:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(given("PROBE_LIMIT")), hard))
    rank = given("RANK", "0")
    lives = int(given("TORCHELASTIC_RESTART_COUNT", 0)) < int(given("PROBE_LIVES", 1))
    if "PROBE_AT" in os.environ and lives and given("PROBE_RANK", rank) == rank:
        place, count, action = given("PROBE_AT").rsplit(maxsplit=2)
        arrange(place, int(count), action)
    train.main(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    run_script(main)
