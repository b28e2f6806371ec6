"""From the golden batch's arrays to what the objective and the training step take."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from losses import Frames, Objective, View
from training_step import Inputs

DEFAULTS = {
    "frame_ids": [0, -1, 1],
    "num_scales": 1,
    "use_local_crop": False,
    "use_patch_reshuffle": False,
    "use_stereo": False,
    "pose_model_input": "pairs",
    "no_ssim": False,
    "disable_automasking": False,
    "avg_reprojection": False,
    "v1_multiscale": False,
    "predictive_mask": False,
    "disparity_smoothness": 1e-3,
    "min_depth": 0.1,
    "max_depth": 100.0,
}


def objective_options(case: Mapping) -> Namespace:
    """A case's options over the published defaults."""
    unknown = set(case) - set(DEFAULTS)
    assert not unknown, f"options without a meaning here: {unknown}"
    return Namespace(**(DEFAULTS | dict(case)))


def make_objective(options: Namespace) -> Objective:
    """The golden values were recorded with the tie-breaking noise at zero."""
    return Objective(
        min_depth=options.min_depth,
        max_depth=options.max_depth,
        ssim=not options.no_ssim,
        automask=not options.disable_automasking,
        avg_reprojection=options.avg_reprojection,
        v1_multiscale=options.v1_multiscale,
        disparity_smoothness=options.disparity_smoothness,
        tie_break=0.0,
    )


def batch_inputs(arrays: Mapping[str, np.ndarray], boxes: list[dict], options: Namespace) -> Inputs:
    """Prepared inputs out of `recipes.make_batch`, jittered pictures as recorded."""

    def picture(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[name].astype(np.float32) / np.float32(255))

    def pyramids(kind: str) -> dict:
        return {
            (frame, scale): picture(f"{kind}/{frame}/{scale}")
            for frame in options.frame_ids
            for scale in range(options.num_scales if frame == 0 else 1)
        }

    moving = [frame for frame in options.frame_ids if frame != "s"]
    return Inputs(
        full=pyramids("color"),
        local=pyramids("color_local") if options.use_local_crop else None,
        jittered={frame: picture(f"color_aug/{frame}/0") for frame in moving},
        local_jittered=picture("color_local_aug/0/0") if options.use_local_crop else None,
        reshuffled_jittered=(
            picture("color_reshuffle_aug/0/0") if options.use_patch_reshuffle else None
        ),
        K=torch.from_numpy(arrays["K"]),
        inv_K=torch.from_numpy(arrays["inv_K"]),
        crop=torch.tensor(
            [[b["ratio"], *b["resized_hw"], b["y0"], b["x0"]] for b in boxes], dtype=torch.float64
        ),
        cut=torch.tensor([[b["cut_h"], b["cut_w"]] for b in boxes]),
        stereo_T=torch.from_numpy(arrays["stereo_T"]) if "s" in options.frame_ids else None,
    )


def view_frames(pictures: Mapping, inputs: Inputs, options: Namespace) -> Frames:
    """Target pyramid and stacked sources of one view."""
    target = {scale: pictures[0, scale] for scale in range(options.num_scales)}
    sources = torch.stack([pictures[frame, 0] for frame in options.frame_ids[1:]], 1)
    return Frames(target, {0: sources}, inputs.K, inputs.inv_K)


VIEWS = {"": "full", "_local": "local", "_reshuffle": "reshuffled"}


def check_means(
    objective: Objective, views: Mapping[str, View], sources: list, means: Mapping[str, float]
) -> None:
    """Mean of every warped picture, automask and disparity, of every view and scale.

    sources: the frame ids after the target's.
    """
    pictures = {
        (name, scale): objective._reconstruction_at(view, scale)[1]
        for name, view in views.items()
        for scale in view.disp
    }
    frames = [str(frame) for frame in sources]
    for name, golden in means.items():
        kind, *frame, scale = name.split("/")
        stem, _, suffix = kind.removeprefix("identity_").partition("_")
        view = VIEWS[f"_{suffix}" if suffix else ""]
        tolerance = {"rel": 1e-5, "abs": 1e-5}
        if stem == "disp":
            ours = views[view].disp[int(scale)]
        elif stem == "color":
            ours = pictures[view, int(scale)]["warped"][:, frames.index(frame[0])]
        else:
            ours, tolerance = pictures[view, int(scale)]["automask"], {"rel": 1e-2}
        assert ours.mean().item() == pytest.approx(golden, **tolerance), name
