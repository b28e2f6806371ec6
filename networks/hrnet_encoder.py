"""timm's HRNet as a depth encoder."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.pretrained import load_hrnet_imagenet
from networks.resnet_encoder import normalise_image


class HrnetDepthEncoder(nn.Module):
    """HRNet without a head, and a full-resolution context map that starts as a copy of its stem.

    `name` is timm's, such as `hrnet_w18`: its tensors have the published names. With `pretrained`,
    ImageNet weights. Raises UserError if they cannot be had.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            name, pretrained=False, features_only=True, feature_location=""
        )
        # The published network enlarges between its branches bilinearly, timm by nearest neighbour.
        for module in self.encoder.modules():
            if isinstance(module, nn.Upsample):
                module.mode, module.align_corners = "bilinear", True
        if pretrained:
            load_hrnet_imagenet(self.encoder, name)
        self.context_conv = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.context_bn = nn.BatchNorm2d(64)
        with torch.no_grad():
            self.context_conv.weight.copy_(self.encoder.conv1.weight)
        self.channels = (64, *self.encoder.feature_info.channels())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Image (B, 3, H, W) in [0, 1] to six feature maps at 1, 1/2 ... 1/32 of (H, W)."""
        images = normalise_image(images)
        context = F.relu(self.context_bn(self.context_conv(images)))
        return [context, *self.encoder(images)]
