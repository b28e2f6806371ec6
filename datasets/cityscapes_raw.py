"""What Cityscapes' raw release states: its cameras, and how much of a picture is used; no torch."""

from __future__ import annotations

import json
import math
from pathlib import Path

from PIL import Image

from utils import UserError, reason

HEIGHT, WIDTH = 1024, 2048  # what the cameras are stated for
KEPT_ROWS = 0.75  # of the height, from the top: below is the bonnet


def without_bonnet(picture: Image.Image) -> Image.Image:
    """A picture without its lower quarter."""
    return picture.crop((0, 0, picture.width, int(picture.height * KEPT_ROWS)))


def read_camera(path: str | Path) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels of a raw frame. Raises UserError naming the file."""
    try:
        intrinsic = json.loads(Path(path).read_text(encoding="utf-8"))["intrinsic"]
        camera = tuple(float(intrinsic[name]) for name in ("fx", "fy", "u0", "v0"))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UserError(f"the camera {path} needs fx, fy, u0 and v0 under 'intrinsic': "
                        f"{reason(error)}") from error
    if not is_camera(*camera):
        raise UserError(f"the camera {path} cannot be one: its fx, fy, u0 and v0 are {camera}")
    return camera


def is_camera(fx: float, fy: float, cx: float, cy: float) -> bool:
    """Whether intrinsics are numbers that a lens can have."""
    return all(map(math.isfinite, (fx, fy, cx, cy))) and fx > 0 and fy > 0
