"""A picture of a few samples and of what augmentation makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from skimage.util import montage
from torch.utils.data import default_collate

from augmentations import IDENTITY_JITTER, color_jitter, reshuffle
from datasets.keys import FrameKey, SampleIndex
from datasets.mono_dataset import MonoDataset

GAP = 4  # pixels between pictures


def contact_sheet(dataset: MonoDataset, numbers: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """A row a sample, as it is trained on: uint8 (height, width, 3), and what its columns show.

    Each sample is of the first epoch (of seed 0) that changes its colours. Raises UserError for a
    damaged file.
    """
    samples = []
    for number in numbers:
        epochs = (SampleIndex(epoch, number) for epoch in itertools.count())
        jittered = (each for each in epochs if dataset.draw(each).jitter != IDENTITY_JITTER)
        samples.append(dataset[next(jittered) if dataset.is_train else number])
    batch = default_collate(samples)
    columns = {f"frame {frame}": batch[FrameKey("color", frame, 0)].float() / 255
               for frame in dataset.frame_ids}  # fmt: skip
    if dataset.is_train:
        columns["crop"] = batch[FrameKey("color_local", 0, 0)].float() / 255
        columns["colours changed"] = color_jitter(columns["frame 0"], batch["jitter"])
        columns["reshuffled"] = reshuffle(columns["colours changed"], batch["cut"])
    pictures = torch.stack(list(columns.values()), 1).flatten(0, 1).permute(0, 2, 3, 1).numpy()
    sheet = montage(pictures, fill=(1, 1, 1), grid_shape=(len(numbers), len(columns)),
                    padding_width=GAP, channel_axis=-1)  # fmt: skip
    return (sheet * 255).round().astype(np.uint8), list(columns)
