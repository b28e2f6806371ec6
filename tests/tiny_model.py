"""What the tests of the scripts share: an untrained network's checkpoint, and pictures on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from checkpoint import save_checkpoint
from networks import build_depth_network

HEIGHT, WIDTH = 32, 64


def save_tiny_checkpoint(path: Path) -> Path:
    """A resnet 18 depth network with seeded random weights, for pictures of 32x64."""
    torch.manual_seed(0)
    network = build_depth_network("resnet", 18)
    parts = {name: part.state_dict() for name, part in network.parts().items()}
    save_checkpoint(path, {**parts, "height": HEIGHT, "width": WIDTH})
    return path


def save_picture(path: Path, seed: int, height: int = 48, width: int = 90) -> Path:
    """A picture of coloured noise, coarse enough to survive JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path
