"""The pose network: several frames in, the camera's motions between them out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layers import in_float32
from networks.resnet_encoder import StackedResnet


class PoseDecoder(nn.Module):
    """The deepest feature map to `num_motions` motions, axis-angle and translation."""

    def __init__(self, channels: int, num_motions: int = 2) -> None:
        super().__init__()
        self.num_motions = num_motions
        self.net = nn.ModuleList(
            [
                nn.Conv2d(channels, 256, 1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 6 * num_motions, 1),
            ]
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, h, w) to axis-angle (radians) and translation, each (B, N, 1, 3)."""
        x = features
        for conv in self.net[:-1]:
            x = F.relu(conv(x))
        # A small factor lets training start near no motion at all.
        mean = in_float32(self.net[-1], x).mean((2, 3))
        motions = 0.01 * mean.view(-1, self.num_motions, 1, 6)
        return motions[..., :3], motions[..., 3:]


class PoseNetwork(nn.Module):
    """A ResNet over frames stacked in the given order, and its decoder."""

    def __init__(self, encoder: StackedResnet, decoder: PoseDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(
        self, frames: Sequence[Tensor], features: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Frames (B, 3, H, W) in [0, 1] to axis-angle (radians) and translation (B, N, 1, 3).

        Two frames go in temporal order and the first motion counts; more go in the order of the
        frame ids, and motion i is that of the i-th source. Translations are up to scale.
        features: takes up the deepest ones of this pass, (B, C, H / 32, W / 32).
        """
        deepest = self.encoder(torch.cat(tuple(frames), dim=1))[-1]
        if features is not None:
            features.append(deepest)
        return self.decoder(deepest)

    def parts(self) -> dict[str, nn.Module]:
        """The networks by their names in a checkpoint."""
        return {"pose_encoder": self.encoder, "pose": self.decoder}
