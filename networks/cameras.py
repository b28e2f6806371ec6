"""Cameras that are learned with the networks (Gordon et al., Depth from Videos in the Wild, 2019).

A camera is fx, fy, cx, cy as fractions of the width, height, width, height: focal lengths a
softplus, the centre a sigmoid of what is learned. Both start at one guess: pixels are square, the
centre is in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST_FOCAL = 0.8  # of the longer side: 64 degrees, between KITTI's 82 and a telephone's 55
# What is learned moves by about the learning rate a step; times these a focal length moves by a
# thousandth, fast enough to arrive within some hundred steps at the usual rate of 1e-4.
CLIP_FACTOR = 10.0
FRAME_FACTOR = 0.1  # of a sum over hundreds of features


def first_camera(size: tuple[int, int]) -> Tensor:
    """What is added to what is learned, so that it starts from the guess: (4,). size: (width,
    height) of the pictures before they are resized, whose pixels are square."""
    focal = FIRST_FOCAL * max(size)
    return torch.tensor([*(math.log(math.expm1(focal / side)) for side in size), 0.0, 0.0])


def as_camera(raw: Tensor) -> Tensor:
    """Any four numbers (..., 4) as fx, fy, cx, cy: focal lengths above 0, the centre in (0, 1)."""
    return torch.cat([F.softplus(raw[..., :2]), torch.sigmoid(raw[..., 2:])], -1)


def mirrored(cameras: Tensor, flip: Tensor) -> Tensor:
    """Cameras (B, 4) of pictures of which those where flip (B,), bool, is true are mirrored."""
    fx, fy, cx, cy = cameras.unbind(-1)
    return torch.stack([fx, fy, torch.where(flip, 1 - cx, cx), cy], -1)


class ClipCameras(nn.Module):
    """A camera for each clip: what all share, and what each has of its own.

    What is shared learns from every step, so clips that are rarely seen start from it; a clip of
    no training has it alone.
    """

    def __init__(self, clips: int, size: tuple[int, int]) -> None:
        """clips: how many; size: see `first_camera`."""
        super().__init__()
        self.register_buffer("first", first_camera(size))
        self.shared = nn.Parameter(torch.zeros(4))
        self.own = nn.Parameter(torch.zeros(clips, 4))

    def forward(self, features: Sequence[Tensor], clip: Tensor, flip: Tensor) -> Tensor:  # noqa: ARG002
        """Cameras (B, 4) of the pictures as they are seen, mirrored where flip (B,), bool, is true.

        clip: (B,) int64, -1 of one that is not trained on; features: of no use here.
        """
        own = self.own[clip.clamp(min=0)] * (clip >= 0)[:, None]
        return mirrored(as_camera(self.first + CLIP_FACTOR * (self.shared + own)), flip)

    def cameras(self) -> Tensor:
        """Of all clips, not mirrored, (clips, 4)."""
        return as_camera(self.first + CLIP_FACTOR * (self.shared + self.own))


class FrameCamera(nn.Module):
    """A camera for each sample, from the pose encoder's deepest features of its frames."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        """channels: of the features; size: see `first_camera`."""
        super().__init__()
        self.register_buffer("first", first_camera(size))
        self.linear = nn.Linear(channels, 4)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Sequence[Tensor], clip: Tensor, flip: Tensor) -> Tensor:  # noqa: ARG002
        """Cameras (B, 4) of the pictures as they are seen: a mirrored one shows its own.

        features: (B, C, h, w) of each pass of the pose encoder, whose answers are averaged; clip,
        flip: of no use here.
        """
        pooled = torch.stack([maps.float().mean((2, 3)) for maps in features]).mean(0)
        return as_camera(self.first + FRAME_FACTOR * self.linear(pooled))
