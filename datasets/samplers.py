"""The order in which training visits the samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from datasets.keys import SampleIndex
from utils import UserError


class EpochSampler(Sampler[SampleIndex]):
    """A new permutation each epoch, the same on every machine, shared out over the ranks.

    Epoch e is a permutation drawn from a generator seeded `seed + e`, cut to a multiple of
    `world_size`, of which rank r takes every `world_size`-th from r on. As the epoch travels with
    every index, loader workers that outlive it need not be told.
    """

    def __init__(self, length: int, seed: int, world_size: int = 1, rank: int = 0) -> None:
        """length: lines in the list. Raises UserError if there are fewer than ranks."""
        if length < world_size:
            raise UserError(f"the list has {length} samples, fewer than the {world_size} processes "
                            "that share it")
        self.length = length
        self.seed = seed
        self.world_size = world_size
        self.rank = rank
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and how many samples this rank has consumed of it before a resume."""
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Samples of a whole epoch of this rank, whatever the start."""
        return self.length // self.world_size

    def __iter__(self) -> Iterator[SampleIndex]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        shared = order[: len(self) * self.world_size]
        for index in shared[self.rank :: self.world_size][self.start :].tolist():
            yield SampleIndex(self.epoch, index)
