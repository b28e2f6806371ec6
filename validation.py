"""The photometric loss on a validation list: epochs are chosen by it, never by test truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate
from tqdm import tqdm

from datasets.mono_dataset import MonoDataset
from distributed import World, gather_outcomes
from evaluation import share
from run_pictures import SHOWN, detached_sample, sample_pictures
from stopping import outlive_signals
from training_step import TrainingStep, prepare

CHOSEN_BY = "val/photometric"  # lower is better
HOLE_MEDIANS = 4.0  # median depths of the picture, beyond which a pixel of its lower half is far
HOLE_LIMIT = 0.9  # of max_depth, beyond which it is far in any case


def validate(
    step: TrainingStep,
    dataset: MonoDataset,
    world: World,
    batch_size: int,
    num_workers: int,
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean loss terms of the full view over a list that is not augmented, at the finest scale.

    The networks are in evaluation mode meanwhile, and no noise breaks ties, so that the values
    depend on weights and list alone; each process takes its share, and all return the same.
    `val/photometric`, `val/smoothness`, `val/mask` where there is one, `val/automask`: the share
    of pixels that warping explains best (the others are masked), and `val/holes`: see `holes`.
    check: called before each batch.
    """
    indices = share(len(dataset), world)
    loader = DataLoader(
        Subset(dataset, indices), batch_size, pin_memory=world.device.type == "cuda",
        num_workers=min(num_workers, -(-len(indices) // batch_size)),
        generator=torch.Generator(),  # its own: validation leaves a training's draws alone
        worker_init_fn=outlive_signals,
    )  # fmt: skip
    progress = tqdm(loader, "validate", unit="batch", disable=not world.is_main)
    was_training = step.training
    step.eval()
    try:
        sums: Counter | Exception = Counter()
        for batch in progress:
            check()
            batch = {name: value.to(world.device) for name, value in batch.items()}
            sums.update(_batch_sums(step, batch))
    except Exception as error:  # carried through the gather: others wait there
        sums = error
    finally:
        step.train(was_training)
    total = Counter()
    for part in gather_outcomes(world, sums):
        total.update(part)
    count = total.pop("samples")
    return {f"val/{name}": value / count for name, value in total.items()}


@torch.no_grad()
def _batch_sums(step: TrainingStep, batch: dict) -> dict[str, float]:
    """The terms of a batch times its size, and that size."""
    terms, pictures, depth = _full_view(step, batch)
    terms["automask"] = pictures["automask"].mean()
    terms["holes"] = holes(depth, step.objective.max_depth).mean()
    size = len(batch["index"])
    return {name: value.item() * size for name, value in terms.items()} | {"samples": size}


def _full_view(
    step: TrainingStep, batch: dict
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Terms and pictures (`disp` too) of the full view at the finest scale, without noise; and its
    depth (B, 1, H, W)."""
    view = step.views(prepare(batch))["full"]
    mask = None if view.mask is None else {0: view.mask[0]}
    finest = replace(view, disp={0: view.disp[0]}, mask=mask)
    terms, pictures = replace(step.objective, tie_break=0).reconstruction(finest)
    disp = view.upsampled_disp(0)
    return terms, pictures | {"disp": disp}, step.objective.depth(disp)


def holes(depth: Tensor, max_depth: float) -> Tensor:
    """The share of far pixels (B,) in the lower half of each picture, where streets and floors are
    near: what moves along with the camera seems to be infinitely far.

    depth: (B, 1, H, W). Far is beyond HOLE_MEDIANS times the picture's median depth, or beyond
    HOLE_LIMIT times max_depth, the network's limit; the lower half are the rows from H // 2.
    """
    far = HOLE_MEDIANS * depth.flatten(1).median(1).values
    far = far.clamp(max=HOLE_LIMIT * max_depth)
    lower = depth[:, 0, depth.shape[-2] // 2 :].flatten(1)
    return (lower > far[:, None]).to(depth.dtype).mean(1)


@torch.no_grad()
def validation_pictures(
    step: TrainingStep, dataset: MonoDataset, device: torch.device
) -> dict[str, Tensor]:
    """Pictures of a few samples, from the first of the list to the last, as `sample_pictures` has
    them. Raises UserError for a damaged file."""
    count = min(SHOWN, len(dataset))
    numbers = torch.linspace(0, len(dataset) - 1, count).round().int().tolist()
    samples = default_collate([dataset[number] for number in numbers])
    batch = {name: value.to(device) for name, value in samples.items()}
    was_training = step.training
    step.eval()
    try:
        pictures = _full_view(step, batch)[1]
    finally:
        step.train(was_training)
    return sample_pictures(*detached_sample(batch, pictures), step.frame_ids)
