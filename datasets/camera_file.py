"""intrinsics.txt: the camera of a folder of frames; no torch."""

from __future__ import annotations

import re
from pathlib import Path

from utils import UserError, read_lines

SIZE = re.compile(r"#\s*size:\s*([0-9]{1,6})\s*x\s*([0-9]{1,6})\b")


def read_camera_file(
    path: str | Path,
) -> tuple[tuple[float, float, float, float], tuple[int, int] | None]:
    """fx, fy, cx, cy in pixels, and the (width, height) of the pictures that they are for, if told.

    The file holds the four numbers, or the matrix [fx 0 cx; 0 fy cy; 0 0 1], between spaces or
    commas; `#` starts a comment, and `# size: WIDTHxHEIGHT` tells the size. Raises UserError for
    anything else.
    """
    lines = read_lines(path)
    words = " ".join(line.partition("#")[0] for line in lines).replace(",", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) == 9:
        fx, skew, cx, under, fy, cy, *last = values
        values = [fx, fy, cx, cy] if [skew, under, *last] == [0, 0, 0, 0, 1] else []
    if len(values) != 4:
        raise UserError(f"{path} holds no camera: expected the four numbers fx fy cx cy, in pixels "
                        "of the pictures, or the 3x3 matrix without skew")
    sizes = [(int(found[1]), int(found[2])) for found in map(SIZE.search, lines) if found]
    if len(set(sizes)) > 1 or any(0 in size for size in sizes):
        raise UserError(f"{path} tells no size of pictures, or several: expected one line "
                        "`# size: WIDTHxHEIGHT`")
    return tuple(values), sizes[0] if sizes else None
