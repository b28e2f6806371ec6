"""What must not change within a run: a resumed run follows its options, or is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils import UserError

if TYPE_CHECKING:
    from argparse import Namespace

# The options that a run's steps follow from. The others, such as paths, workers, logging,
# evaluation, speed and the number of epochs, are free.
COURSE = (
    "dataset", "jpg", "height", "width", "frame_ids", "use_stereo", "pose_model_input",
    "use_local_crop", "use_patch_reshuffle", "num_scales", "disparity_smoothness", "min_depth",
    "max_depth", "v1_multiscale", "avg_reprojection", "disable_automasking", "predictive_mask",
    "no_ssim", "optimizer", "learning_rate", "weight_decay", "beta1", "beta2", "momentum",
    "clip_grad", "lr_sche_type", "decay_step", "decay_rate", "eta_min", "warm_up", "batch_size",
    "accumulate", "amp", "seed", "learn_intrinsics",
)  # fmt: skip


def digest(lines: Sequence[str]) -> str:
    """A short text that tells a list from another."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def course_of(
    opt: Namespace,
    lines: Sequence[str],
    cameras: Sequence[str],
    processes: int,
    steps_per_epoch: int,
) -> dict[str, object]:
    """The run's course as plain values. lines: of the training list; cameras: the user's own."""
    course = {name: vars(opt)[name] for name in COURSE}
    if opt.lr_sche_type == "cos" or opt.warm_up:  # their rates follow from the last step
        course["num_epochs"] = opt.num_epochs
    course["training list (digest)"] = digest(lines)
    if cameras:
        course["cameras (digest)"] = digest(cameras)
    return course | {"number of processes": processes, "steps an epoch": steps_per_epoch}


def check_course(path: Path, before: dict[str, object], now: dict[str, object]) -> None:
    """Raise UserError naming the first setting that differs from the checkpoint at `path`."""
    for name in now | before:
        if before.get(name) != now.get(name):
            raise UserError(
                f"{path} was written with another {name}: {before.get(name)}, now "
                f"{now.get(name)}; resume with the settings it was started with, or start anew "
                "under another --exp_name"
            )
