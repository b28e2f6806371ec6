"""Cameras as numbers: read, written, checked; intrinsics.txt of a folder of frames; no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from utils import UserError, read_lines, write_text

SIZE = re.compile(r"#\s*size:\s*([0-9]{1,6})\s*x\s*([0-9]{1,6})\b")
# What a camera's focal lengths and centre can be, as fractions of the picture's size.
FOCAL, CENTRE = (0.2, 5.0), (0.0, 1.0)
OFF_CENTRE = 0.1  # of the size, from the middle: where a centre is worth a warning

Camera = tuple[float, float, float, float]  # fx, fy, cx, cy


def camera_numbers(text: str) -> Camera | None:
    """fx, fy, cx, cy of a text that holds these, or the matrix [fx 0 cx; 0 fy cy; 0 0 1], between
    spaces or commas; None of any other."""
    try:
        values = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        return None
    if len(values) == 9:
        fx, skew, cx, under, fy, cy, *last = values
        values = [fx, fy, cx, cy] if [skew, under, *last] == [0, 0, 0, 0, 1] else []
    return tuple(values) if len(values) == 4 else None


def read_camera_file(
    path: str | Path,
) -> tuple[Camera, tuple[int, int] | None]:
    """fx, fy, cx, cy in pixels, and the (width, height) of the pictures that they are for, if told.

    The file holds the four numbers, or the matrix [fx 0 cx; 0 fy cy; 0 0 1], between spaces or
    commas; `#` starts a comment, and `# size: WIDTHxHEIGHT` tells the size. Raises UserError for
    anything else.
    """
    lines = read_lines(path)
    words = " ".join(line.partition("#")[0] for line in lines)
    values = camera_numbers(words)
    if values is None:
        raise UserError(f"{path} holds no camera: expected the four numbers fx fy cx cy, in pixels "
                        "of the pictures, or the 3x3 matrix without skew")
    sizes = [(int(found[1]), int(found[2])) for found in map(SIZE.search, lines) if found]
    if len(set(sizes)) > 1 or any(0 in size for size in sizes):
        raise UserError(f"{path} tells no size of pictures, or several: expected one line "
                        "`# size: WIDTHxHEIGHT`")
    return values, sizes[0] if sizes else None


def write_camera_file(path: str | Path, camera: Camera, size: tuple[int, int]) -> None:
    """What `read_camera_file` reads: fx, fy, cx, cy in pixels of pictures of (width, height)."""
    write_text(path, camera_text(camera, size))


def camera_text(camera: Camera, size: tuple[int, int]) -> str:
    """The lines of `write_camera_file`."""
    numbers = " ".join(f"{value:.6f}" for value in camera)
    return f"# fx fy cx cy, in pixels\n# size: {size[0]}x{size[1]}\n{numbers}"


def check_intrinsics(intrinsics: Sequence[float], line: str) -> None:
    """Raise UserError, naming the sample and the number, unless a camera is one that videos have.

    intrinsics: fx, fy, cx, cy as fractions of the picture's size.
    """
    limits = {"fx": FOCAL, "fy": FOCAL, "cx": CENTRE, "cy": CENTRE}
    for (name, (low, high)), value in zip(limits.items(), intrinsics, strict=True):
        if not low <= value <= high:
            of = "width" if name.endswith("x") else "height"
            raise UserError(
                f"the camera of {line!r} has {name} {value:g} times the picture's {of}, expected "
                f"{low:g} to {high:g}: is it stated for pictures of another size?"
            )


def off_centre(
    intrinsics: Sequence[float], size: tuple[int, int], limit: float = OFF_CENTRE
) -> str:
    """What is odd about a camera's centre, in words; nothing if it is near the middle.

    intrinsics: fx, fy, cx, cy as fractions of the picture's size, which is (width, height).
    """
    for name, side, share in zip(("cx", "cy"), ("width", "height"), intrinsics[2:], strict=True):
        if abs(share - 0.5) > limit:
            return (f"{name} of the camera is at {share:.2f} of the {side}, far from the middle: "
                    f"is it stated for pictures of {size[0]}x{size[1]}?")
    return ""
