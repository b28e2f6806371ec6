"""The photometric loss on a validation list: epochs are chosen by it, never by test truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from datasets.mono_dataset import MonoDataset
from distributed import World, gather_outcomes
from evaluation import share
from stopping import outlive_signals
from training_step import TrainingStep, prepare

CHOSEN_BY = "val/photometric"  # lower is better


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
    `val/photometric`, `val/smoothness`, `val/mask` where there is one, and `val/automask`: the
    share of pixels that warping explains best. check: called before each batch.
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
    view = step.views(prepare(batch))["full"]
    mask = None if view.mask is None else {0: view.mask[0]}
    finest = replace(view, disp={0: view.disp[0]}, mask=mask)
    terms, pictures = replace(step.objective, tie_break=0).reconstruction(finest)
    terms["automask"] = pictures["automask"].mean()
    size = len(batch["index"])
    return {name: value.item() * size for name, value in terms.items()} | {"samples": size}
