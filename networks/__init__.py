"""The networks, and the functions that build them by the names of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from networks.cameras import ClipCameras, FrameCamera
from networks.depth_decoder import DepthDecoder
from networks.depth_network import DepthNetwork
from networks.pose_network import PoseDecoder, PoseNetwork
from networks.resnet_encoder import ResnetDepthEncoder, StackedResnet
from networks.wide_batch_norm import widen_batch_norms
from utils import UserError

__all__ = [
    "BACKBONES",
    "ClipCameras",
    "DepthDecoder",
    "DepthNetwork",
    "FrameCamera",
    "PoseNetwork",
    "build_depth_network",
    "build_mask_network",
    "build_pose_network",
    "pose_num_layers",
    "widen_batch_norms",
]

BACKBONES = {"resnet": (18, 34, 50, 101, 152), "hrnet": (18, 32, 48, 64), "hrnet_small": (18,)}


def build_depth_network(
    backbone: str, num_layers: int, scales: Sequence[int] = (0,), pretrained: bool = False
) -> DepthNetwork:
    """The depth network of `--backbone` and `--num_layers` (HRNet: the width), as in BACKBONES.

    Raises UserError if there is no such network, or no ImageNet weights for `pretrained`.
    """
    _check_backbone(backbone, num_layers)
    encoder: nn.Module
    if backbone == "resnet":
        encoder = ResnetDepthEncoder(num_layers, pretrained)
    else:
        from networks.hrnet_encoder import HrnetDepthEncoder  # brings timm, which takes its time

        name = f"hrnet_w{num_layers}" + ("_small" if backbone == "hrnet_small" else "")
        encoder = HrnetDepthEncoder(name, pretrained)
    return DepthNetwork(encoder, DepthDecoder(encoder.channels, scales))


def build_pose_network(
    num_layers: int, num_input_frames: int = 2, pretrained: bool = False, num_motions: int = 2
) -> PoseNetwork:
    """A pose network on a ResNet of this depth; the published one predicts two motions.

    Raises UserError if there is no such ResNet, or no ImageNet weights for `pretrained`.
    """
    _check_backbone("resnet", num_layers)
    encoder = StackedResnet(num_layers, num_input_frames, pretrained)
    return PoseNetwork(encoder, PoseDecoder(encoder.channels[-1], num_motions))


def build_mask_network(
    depth_network: DepthNetwork, scales: Sequence[int], num_sources: int
) -> DepthDecoder:
    """The decoder of `--predictive_mask`, on the features of `depth_network.encoder`.

    It predicts {scale: masks (B, num_sources, H/2^scale, W/2^scale) in (0, 1)}.
    """
    return DepthDecoder(depth_network.encoder.channels, scales, num_sources)


def pose_num_layers(backbone: str, num_layers: int) -> int:
    """The pose network's depth beside this depth network: the same ResNet, 18 beside an HRNet."""
    return num_layers if backbone == "resnet" else 18


def _check_backbone(backbone: str, num_layers: int) -> None:
    if num_layers not in BACKBONES.get(backbone, ()):
        known = "; ".join(f"{name} {', '.join(map(str, n))}" for name, n in BACKBONES.items())
        raise UserError(f"there is no backbone {backbone} {num_layers}: choose one of {known}")
