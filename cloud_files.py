"""A cloud of points as files: PLY, and a picture of it seen from the side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from point_cloud import Cloud
from utils import UserError, atomic_path

COLOURS = ("red", "green", "blue")
# The view.
HEIGHT, WIDTH = 720, 1280
YAW, PITCH = np.radians(-20), np.radians(14)  # where the camera looks: to the left, down
FOCAL = 1.0  # widths of the picture
SEEN = 0.96  # share of the points that the picture holds
SPREAD = 2.5  # a point's side over what its pixel saw: closes gaps in surfaces that turn away
LARGEST = 9  # pixels of a point's side
BACKGROUND = 24  # nearly black


def write_cloud(
    cloud: Cloud,
    scale: float | None,
    ply: str | Path | None = None,
    view: str | Path | None = None,
    comments: Iterable[str] = (),
) -> None:
    """Write a cloud as PLY, and its view as PNG, where a path is given.

    scale: metres of the network's unit of depth, if the points are in metres; comments: ASCII lines
    for the PLY's header, which tells axes and unit itself. Raises UserError if there is no point,
    or a file cannot be written.
    """
    check_points(cloud, ply or view)
    if ply:
        unit = f"m, {scale:g} of the network's" if scale else "unscaled, m up to one unknown factor"
        write_ply(ply, cloud, [f"unit: {unit}", *comments])
    if view:
        with atomic_path(view) as partial:
            Image.fromarray(draw_cloud(cloud)).save(partial)


def check_points(cloud: Cloud, path: str | Path | None) -> None:
    """Raise UserError if there is nothing to write to this file."""
    if not len(cloud.points):
        raise UserError(f"there is no point to write to {path}: all are farther than --far")


def write_ply(path: str | Path, cloud: Cloud, comments: Iterable[str] = ()) -> None:
    """Write points as binary little-endian PLY: float x, y, z and uchar red, green, blue.

    The points keep the camera's axes: viewers that draw y upwards show a street upside down until
    it is turned about x by half a turn. The format (Turk, 1994) is ten lines of text before NumPy's
    own bytes: a package for it would be one more to install, and the code no shorter. comments:
    ASCII lines for the header. Raises UserError if the file cannot be written.
    """
    types = [*((name, "<f4") for name in "xyz"), *((name, "u1") for name in COLOURS)]
    vertices = np.empty(len(cloud.points), types)
    for name, values in zip(vertices.dtype.names, [*cloud.points.T, *cloud.colours.T], strict=True):
        vertices[name] = values
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {line}" for line in ("axes: x right, y down, z forward", *comments)),
        f"element vertex {len(vertices)}",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in COLOURS),
        "end_header",
    ]
    with atomic_path(path) as partial, open(partial, "wb") as file:
        file.write("".join(f"{line}\n" for line in header).encode("ascii"))
        vertices.tofile(file)


def draw_cloud(cloud: Cloud, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A turned view of a cloud, uint8 RGB (height, width, 3).

    A camera turned by YAW and PITCH stands in front of the points' middle, as far away as it takes
    to see SEEN of them.
    """
    focal = FOCAL * width
    points = cloud.points @ turn(YAW, PITCH).T
    if len(points):
        low, high = np.quantile(points, [(1 - SEEN) / 2, (1 + SEEN) / 2], axis=0)
        points -= (low + high) / 2
        half = np.array([width, height]) / (2 * focal)  # tangents of half the angles of view
        # From a distance d a point is seen if |x| <= half * (z + d).
        distances = (np.abs(points[:, :2]) / half).max(axis=1) - points[:, 2]
        points[:, 2] += np.quantile(distances, SEEN)
    return splat(points, cloud.colours, SPREAD * cloud.sizes, focal, height, width)


def turn(yaw: float, pitch: float) -> np.ndarray:
    """view_R_cam (3, 3) of a camera that looks `yaw` to the right and, there, `pitch` down."""
    c, s = np.cos(yaw), np.sin(yaw)
    level = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    c, s = np.cos(pitch), np.sin(pitch)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ level


def splat(
    points: np.ndarray, colours: np.ndarray, sizes: np.ndarray, focal: float, height: int,
    width: int,
) -> np.ndarray:
    """Points as squares of their sizes, the nearest in front: uint8 RGB (height, width, 3).

    points: (N, 3) in the camera's axes, those behind it are not seen; colours: (N, 3) uint8; sizes:
    (N,) in the points' unit; focal: pixels, of a camera whose axis meets the picture's centre.
    """
    order = np.argsort(-points[:, 2])  # from far to near: of several written, the last stays
    order = order[points[order, 2] > 0]
    z, colours = points[order, 2], colours[order]
    side = np.clip(np.rint(sizes[order] * focal / z), 1, LARGEST)
    centre = focal * points[order, :2] / z[:, None] + [(width - 1) / 2, (height - 1) / 2]
    corner = np.clip(np.rint(centre - (side[:, None] - 1) / 2), -LARGEST, [width, height])
    column, row = corner.astype(int).T
    nearest = np.full(height * width, np.inf)
    picture = np.full((height * width, 3), BACKGROUND, np.uint8)
    for down, right in np.ndindex(LARGEST, LARGEST):
        drawn = np.flatnonzero(side > max(down, right))
        x, y = column[drawn] + right, row[drawn] + down
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        pixel, drawn = (y * width + x)[inside], drawn[inside]
        front = z[drawn] < nearest[pixel]
        pixel, drawn = pixel[front], drawn[front]
        nearest[pixel] = z[drawn]
        picture[pixel] = colours[drawn]
    return picture.reshape(height, width, 3)
