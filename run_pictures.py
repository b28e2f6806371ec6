"""What a run shows of a batch, under the names that users of this family know."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inference import colourise

SHOWN = 4  # samples of a batch


def rehearse() -> None:
    """Do once what the writing thread will: then it imports nothing any more. A loader worker that
    is forked while another thread imports a module would wait for that module for ever."""
    colourise(np.zeros((1, 1)))
    Image.new("RGB", (1, 1)).save(io.BytesIO(), "png")  # as TensorBoard does
    torch.save({}, io.BytesIO())


def detached_sample(batch: Mapping, pictures: Mapping[str, Tensor]) -> tuple[dict, dict]:
    """What `sample_pictures` needs of a batch and of its predictions, on the CPU, to be kept while
    training goes on."""
    colours = {key: value[:SHOWN].cpu() for key, value in batch.items() if key[0] == "color"}
    return colours, {name: value[:SHOWN].to("cpu", copy=True) for name, value in pictures.items()}


def sample_pictures(
    colours: Mapping, pictures: Mapping[str, Tensor], frame_ids: Sequence[int | str]
) -> dict[str, Tensor]:
    """Pictures (3 or 1, H, W), floats in [0, 1] or uint8, of each sample.

    colours: uint8 pictures by `FrameKey`; pictures: `warped`, `disp`, `automask` and `error` of
    `TrainingStep`; frame_ids: the target, then the sources.
    """
    shown = {}
    for i in range(len(pictures["disp"])):
        shown[f"color_0_0/{i}"] = colours["color", 0, 0][i].float() / 255
        for n, frame in enumerate(frame_ids[1:]):
            shown[f"color_{frame}_0/{i}"] = colours["color", frame, 0][i].float() / 255
            shown[f"color_pred_{frame}_0/{i}"] = pictures["warped"][i, n].clamp(0, 1)
        shown[f"disp_0/{i}"] = _coloured(pictures["disp"][i, 0])
        shown[f"automask_0/{i}"] = pictures["automask"][i][None]
        shown[f"error_0/{i}"] = _coloured(pictures["error"][i])
    return shown


def sheet(pictures: Mapping[str, Tensor]) -> np.ndarray:
    """A row a sample: its image, disparity and error side by side, uint8 (height, width, 3).

    pictures: of `sample_pictures`.
    """
    count = sum(name.startswith("color_0_0/") for name in pictures)
    kinds = ("color_0_0", "disp_0", "error_0")
    rows = [[_bytes(pictures[f"{kind}/{i}"]) for kind in kinds] for i in range(count)]
    return torch.cat([torch.cat(row, 2) for row in rows], 1).permute(1, 2, 0).numpy()


def _bytes(picture: Tensor) -> Tensor:
    """As uint8: what is coloured is so already."""
    return (picture * 255).round().byte() if picture.is_floating_point() else picture


def _coloured(values: Tensor) -> Tensor:
    return torch.from_numpy(colourise(values.numpy()).copy()).permute(2, 0, 1)
