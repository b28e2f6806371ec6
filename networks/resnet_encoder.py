"""torchvision's ResNets as encoders: one picture for depth, several stacked ones for pose."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from networks.pretrained import resnet_imagenet


def normalise_image(image: Tensor) -> Tensor:
    """RGB in [0, 1] to the range that the family's networks are trained on."""
    return (image - 0.45) / 0.225


class UnusedClassifier(nn.Module):
    """The weights of a ResNet's `fc`, saved under their published names but never trained.

    Buffers, since DDP and the optimiser must not see a parameter that gets no gradient. A file
    without them loads too.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach())
        self.register_buffer("bias", linear.bias.detach())

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        for name, buffer in self.named_buffers():
            state_dict.setdefault(prefix + name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *args)


class StackedResnet(nn.Module):
    """A ResNet on `num_images` pictures, stacked along the channels: (B, 3 * num_images, H, W).

    With `pretrained`, ImageNet weights; the stem's are tiled over the pictures and divided by their
    number, so that equal pictures give what one would. Raises UserError if they cannot be had.
    """

    def __init__(self, num_layers: int, num_images: int = 1, pretrained: bool = False) -> None:
        super().__init__()
        resnet = torchvision.models.get_model(f"resnet{num_layers}", weights=None)
        if num_images > 1:
            resnet.conv1 = nn.Conv2d(3 * num_images, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        if pretrained:
            state = dict(resnet_imagenet(num_layers))
            state["conv1.weight"] = state["conv1.weight"].repeat(1, num_images, 1, 1) / num_images
            resnet.load_state_dict(state)
        deepest = resnet.fc.in_features
        resnet.fc = UnusedClassifier(resnet.fc)
        self.encoder = resnet
        self.channels = (64, deepest // 8, deepest // 4, deepest // 2, deepest)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images in [0, 1] to five feature maps at 1/2, 1/4 ... 1/32 of (H, W)."""
        resnet = self.encoder
        features = [resnet.relu(resnet.bn1(resnet.conv1(normalise_image(images))))]
        x = resnet.maxpool(features[0])
        for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
            x = layer(x)
            features.append(x)
        return features


class ResnetDepthEncoder(StackedResnet):
    """A ResNet and a full-resolution context map, which starts as a copy of the ResNet's stem."""

    def __init__(self, num_layers: int, pretrained: bool = False) -> None:
        super().__init__(num_layers, pretrained=pretrained)
        self.conv1 = nn.Conv2d(3, 64, 7, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        with torch.no_grad():
            self.conv1.weight.copy_(self.encoder.conv1.weight)
            self.bn1.weight.copy_(self.encoder.bn1.weight)
            self.bn1.bias.copy_(self.encoder.bn1.bias)
        self.channels = (64, *self.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Image (B, 3, H, W) in [0, 1] to six feature maps at 1, 1/2 ... 1/32 of (H, W)."""
        context = F.relu(self.bn1(self.conv1(normalise_image(images))))
        return [context, *super().forward(images)]
