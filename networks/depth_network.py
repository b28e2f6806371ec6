"""The depth network: an encoder and the grid decoder on its features."""

from __future__ import annotations

from torch import Tensor, nn

from networks.depth_decoder import DepthDecoder


class DepthNetwork(nn.Module):
    """One picture to its disparities."""

    def __init__(self, encoder: nn.Module, depth: DepthDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.depth = depth

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Image (B, 3, H, W) in [0, 1], H and W multiples of 32.

        Returns {scale: disp (B, 1, H/2^scale, W/2^scale) in (0, 1)}.
        """
        return self.depth(self.encoder(image))

    def parts(self) -> dict[str, nn.Module]:
        """The networks by their names in a checkpoint."""
        return {"encoder": self.encoder, "depth": self.depth}
