"""The parts of a training run, built from the options of train.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from checkpoint import load_checkpoint, load_parts
from datasets import build_dataset
from datasets.folder_lists import folder_lines, own_list
from datasets.mono_dataset import MonoDataset
from datasets.splits import split_lines
from distributed import World
from losses import Objective
from networks import (
    ClipCameras,
    FrameCamera,
    PoseNetwork,
    build_depth_network,
    build_mask_network,
    build_pose_network,
    pose_num_layers,
    widen_batch_norms,
)
from optimisation import build_optimizer, build_scheduler
from training_step import TrainingStep
from utils import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    from datasets.cache import PictureCache


def frame_ids(opt: Namespace) -> list[int | str]:
    """The target, then its sources; the stereo partner "s" comes last."""
    return [*opt.frame_ids, *(["s"] if opt.use_stereo else [])]


def build_training_set(opt: Namespace) -> MonoDataset:
    """The training list of --split. Raises UserError for lines and files that are not right, and
    for a camera that is neither known nor learned."""
    dataset = build_dataset(
        opt.dataset,
        opt.data_path_pre or opt.data_path,
        _list_lines(opt, opt.split, "train"),
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
        **_camera_options(opt),
        fast_resize=opt.fast_resize,
        cache=build_cache(opt),
    )
    return _settle_cameras(dataset, opt)


def _list_lines(opt: Namespace, split: str, part: str) -> list[str]:
    """The lines of a list: of folders each root's own, unless `split` names another folder."""
    if opt.dataset == "folder":
        return folder_lines(opt.data_path, [part], split)
    return split_lines(opt.dataset, split, part)


def _camera_options(opt: Namespace) -> dict[str, object]:
    """What a data set is told of its cameras."""
    if opt.dataset.startswith("kitti"):
        return {"kitti_intrinsics": opt.kitti_intrinsics}
    if opt.dataset == "folder":
        return {"camera_required": not opt.learn_intrinsics}
    return {}


def has_validation(opt: Namespace) -> bool:
    """Whether there is a validation list: --val_split, or of folders one in a root, unless
    --no_eval says otherwise."""
    if opt.dataset == "folder" and not opt.val_split:
        return not opt.no_eval and any(own_list(root, ["val"]) for root in opt.data_path)
    return bool(opt.val_split)


def _settle_cameras(
    dataset: MonoDataset, opt: Namespace, clips: Sequence[str] | None = None
) -> MonoDataset:
    """The data set, its cameras left to --learn_intrinsics or else looked for. clips: see
    `MonoDataset.learn_cameras`."""
    if opt.learn_intrinsics:
        dataset.learn_cameras(clips)
    else:
        dataset.check_cameras()
    return dataset


def build_cache(opt: Namespace) -> PictureCache | None:
    """Of --cache_dir. Raises UserError if that cannot be written to."""
    if opt.cache_dir is None:
        return None
    from datasets.cache import PictureCache

    return PictureCache(opt.cache_dir, opt.cache_size)


def build_validation_set(opt: Namespace, clips: Sequence[str] | None = None) -> MonoDataset:
    """The validation list, in the layout of training, not augmented. clips: those trained on,
    where cameras are learned. Raises UserError as `build_training_set` does."""
    dataset = build_dataset(
        opt.dataset,
        opt.data_path_pre or opt.data_path,
        _list_lines(opt, opt.val_split or "", "val"),
        opt.height,
        opt.width,
        frame_ids=frame_ids(opt),
        is_validation=True,
        jpg=opt.jpg,
        **_camera_options(opt),
    )
    return _settle_cameras(dataset, opt, clips or ())


def build_training_step(
    opt: Namespace,
    pretrained: bool,
    amp_type: torch.dtype | None = None,
    dataset: MonoDataset | None = None,
) -> TrainingStep:
    """Networks and objective. pretrained: from ImageNet; raises UserError if they cannot be had.
    dataset: that is trained on, which --learn_intrinsics asks for."""
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
    return TrainingStep(
        depth,
        pose,
        objective,
        frame_ids(opt),
        opt.pose_model_input,
        mask,
        amp_type,
        opt.checkpoint_activations,
        _build_camera(opt, pose, dataset) if opt.learn_intrinsics else None,
    )


def _build_camera(
    opt: Namespace, pose: PoseNetwork, dataset: MonoDataset
) -> ClipCameras | FrameCamera:
    """What --learn_intrinsics asks for."""
    if opt.learn_intrinsics == "clip":
        return ClipCameras(len(dataset.clip_numbers), dataset.shape())
    return FrameCamera(pose.encoder.channels[-1], dataset.shape())


def place(step: TrainingStep, world: World, channels_last: bool = False) -> TrainingStep:
    """The step on its device. Batch norm sees the global batch on CUDA; elsewhere every process
    normalises by its own, and takes over rank 0's running statistics at each step. On
    the CPU, with channels innermost, it takes several pixels for one where that is quicker."""
    if world.size > 1 and world.device.type == "cuda":
        step = nn.SyncBatchNorm.convert_sync_batchnorm(step)
    if channels_last and world.device.type == "cpu":
        widen_batch_norms(step)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    return step.to(world.device, memory_format=memory)


def wrap(step: TrainingStep, world: World) -> nn.Module:
    """The step as it is run: by DistributedDataParallel, where there are several processes."""
    if world.size == 1:
        return step
    devices = [world.device.index] if world.device.type == "cuda" else None
    return DistributedDataParallel(step, device_ids=devices)


def start_from(parts: Mapping[str, nn.Module], path: Path, wanted: Sequence[str]) -> None:
    """Load the `wanted` ones of a run's networks from another run's checkpoint.

    Raises UserError if the run has no such network, or the file another one.
    """
    chosen = {name: parts[name] for name in wanted if name in parts}
    # A run by stereo alone has no pose network, which the default list names all the same.
    absent = set(wanted) - set(parts) - {"pose_encoder", "pose"}
    if absent or not chosen:
        raise UserError(
            f"--models_to_load {' '.join(wanted)}: this run has the networks {', '.join(parts)}"
        )
    load_parts(chosen, load_checkpoint(path), path)


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
