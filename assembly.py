"""The parts of a training run, built from the options of train.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from datasets import build_dataset
from datasets.mono_dataset import MonoDataset
from datasets.splits import split_lines
from losses import Objective
from networks import (
    build_depth_network,
    build_mask_network,
    build_pose_network,
    pose_num_layers,
)
from optimisation import build_optimizer, build_scheduler
from training_step import TrainingStep

if TYPE_CHECKING:
    from argparse import Namespace


def frame_ids(opt: Namespace) -> list[int | str]:
    """The target, then its sources; the stereo partner "s" comes last."""
    return [*opt.frame_ids, *(["s"] if opt.use_stereo else [])]


def build_training_set(opt: Namespace) -> MonoDataset:
    """The training list of --split. Raises UserError for lines and files that are not right."""
    return build_dataset(
        opt.dataset,
        opt.data_path_pre or opt.data_path,
        split_lines(opt.dataset, opt.split, "train"),
        opt.height,
        opt.width,
        frame_ids=frame_ids(opt),
        num_scales=opt.num_scales,
        is_train=True,
        seed=opt.seed,
        local_crop=opt.use_local_crop,
        patch_reshuffle=opt.use_patch_reshuffle,
        jpg=opt.jpg,
        pyramid_of_sources=opt.v1_multiscale,
    )


def build_training_step(opt: Namespace, pretrained: bool) -> TrainingStep:
    """Networks and objective. pretrained: from ImageNet; raises UserError if they cannot be had."""
    scales, frames = range(opt.num_scales), len(opt.frame_ids)
    depth = build_depth_network(opt.backbone, opt.num_layers, scales, pretrained)
    pose = mask = None
    if frames > 1:
        sees_all = opt.pose_model_input == "all"
        inputs, motions = (frames, max(frames - 1, 2)) if sees_all else (2, 2)
        layers = pose_num_layers(opt.backbone, opt.num_layers)
        pose = build_pose_network(layers, inputs, pretrained, motions)
    if opt.predictive_mask:
        mask = build_mask_network(depth, scales, len(frame_ids(opt)) - 1)
    objective = Objective(
        min_depth=opt.min_depth,
        max_depth=opt.max_depth,
        ssim=not opt.no_ssim,
        automask=not opt.disable_automasking,
        avg_reprojection=opt.avg_reprojection,
        v1_multiscale=opt.v1_multiscale,
        disparity_smoothness=opt.disparity_smoothness,
    )
    return TrainingStep(depth, pose, objective, frame_ids(opt), opt.pose_model_input, mask)


def build_optimisation(
    opt: Namespace, parameters: Iterable[Parameter], steps_per_epoch: int
) -> tuple[Optimizer, LambdaLR]:
    """The optimiser, and its schedule, which is stepped once a batch."""
    optimizer = build_optimizer(
        opt.optimizer,
        parameters,
        opt.learning_rate,
        opt.weight_decay,
        (opt.beta1, opt.beta2),
        opt.momentum,
    )
    scheduler = build_scheduler(
        optimizer,
        opt.lr_sche_type,
        steps_per_epoch,
        opt.num_epochs,
        decay_epochs=opt.decay_step,
        decay_rate=opt.decay_rate,
        eta_min=opt.eta_min,
        warm_up=opt.warm_up,
    )
    return optimizer, scheduler
