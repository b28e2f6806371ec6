"""Clips whose motion is known: a window that slides over a wide picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from tests.test_folder_check import texture
from video import animation

SIZE = (320, 160)  # (width, height) of frames


def slide(steps: Sequence[int], seed: int = 0, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    """The first frame, and one after each step, in pixels of the clip; RGB."""
    places = list(accumulate(steps, initial=0))
    wide = texture(seed, size[0] + max(places) + 8, size[1]).convert("RGB")
    return [wide.crop((left, 0, left + size[0], size[1])) for left in places]


def film(path: Path, pictures: Iterable[Image.Image], rate: int = 10) -> Path:
    """A video of these frames, in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with animation(path, Fraction(rate)) as append:
        for picture in pictures:
            append(np.asarray(picture))
    return path


def save_frames(folder: Path, pictures: Iterable[Image.Image], **options: object) -> Path:
    """A folder of frame1.png, frame2.png, ..., or of another `ending`; options: of Pillow."""
    ending = options.pop("ending", ".png")
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, 1):
        picture.save(folder / f"frame{number}{ending}", **options)
    return folder
