"""KITTI's calibration files, laser scans and depth maps, in NumPy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from utils import UserError, read_lines, reason

LARGEST = 10_000  # pixels of a picture's side that can be meant
# Points projected at once: so few that BLAS does not wake its threads for them, which cost more
# than the work, and that what is made on the way fits into the processor's cache.
BLOCK = 16_384
POINT = 16  # bytes of a point


def read_calib_file(path: str | Path) -> dict[str, np.ndarray]:
    """The numeric rows of a calibration file, `KEY: numbers`, as float64 vectors by key.

    Raises UserError if the file cannot be read.
    """
    values = {}
    for line in read_lines(path):
        key, _, text = line.partition(":")
        try:
            values[key] = np.array([float(word) for word in text.split()])
        except ValueError:  # calib_time holds a date
            continue
    return values


def load_velodyne(path: str | Path) -> np.ndarray:
    """A laser scan: float32 (points, 4), x forward, y left, z up in metres, and reflectance.

    Raises UserError if the file is missing or is no whole number of points.
    """
    return np.concatenate(list(velodyne_blocks(path)))


def velodyne_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """A laser scan as `load_velodyne` has it, at most BLOCK points at a time."""
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size or size % POINT:
                raise UserError(f"the laser scan {path} is cut short: it holds {size} bytes, "
                                "expected four float32 numbers for each point")
            while content := file.read(BLOCK * POINT):
                yield np.frombuffer(content, np.float32).reshape(-1, 4)
    except OSError as error:
        raise UserError(f"cannot read the laser scan {path}: {reason(error)}") from error


def number_row(
    values: Mapping[str, np.ndarray], path: str | Path, key: str, *shape: int
) -> np.ndarray:
    """The row `key` of `values`, read from the calibration file `path`, as an array of this shape.

    Raises UserError naming file and row if it is missing or is not that many numbers.
    """
    value = values.get(key)
    if value is None or value.size != np.prod(shape) or not np.isfinite(value).all():
        raise UserError(f"{path} has no row {key!r} of {np.prod(shape)} numbers")
    return value.reshape(shape)


def picture_size(values: Mapping[str, np.ndarray], path: str | Path, key: str) -> tuple[int, int]:
    """(width, height) of the rectified pictures, from a row `S_rect_0c` of `number_row`."""
    width, height = number_row(values, path, key, 2)
    if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
        raise UserError(f"{path} has pictures of {width:g}x{height:g} pixels in {key}")
    return int(width), int(height)


def rectified_camera(
    path: str | Path, key: str, size: str | tuple[int, int]
) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of a rectified camera, as fractions of the width, height, width, height.

    path: a calibration file; key: the row of its projection (3, 4); size: the row of the pictures'
    size, or (width, height). The numbers are the file's: KITTI counts pixels from 1, which is less
    than a thousandth of the size. Raises UserError naming a file or a row that is missing.
    """
    values = read_calib_file(path)
    P = number_row(values, path, key, 3, 4)
    width, height = picture_size(values, path, size) if isinstance(size, str) else size
    fx, fy, cx, cy = (float(P[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return fx / width, fy / height, cx / width, cy / height


def velo_to_image(calib_dir: str | Path, cam: int = 2) -> tuple[np.ndarray, tuple[int, int]]:
    """The projection from laser points to pixels of a rectified camera (2 left, 3 right colour).

    calib_dir: a day's folder, with calib_cam_to_cam.txt and calib_velo_to_cam.txt. Returns the
    float64 (3, 4) matrix and the picture's (height, width): camera 2's for both, as the
    published ground truth has it. Raises UserError naming a file or a row that is missing.
    """
    camera_file = Path(calib_dir) / "calib_cam_to_cam.txt"
    laser_file = Path(calib_dir) / "calib_velo_to_cam.txt"
    camera, laser = read_calib_file(camera_file), read_calib_file(laser_file)

    cam_T_velo = np.eye(4)
    cam_T_velo[:3, :3] = number_row(laser, laser_file, "R", 3, 3)
    cam_T_velo[:3, 3] = number_row(laser, laser_file, "T", 3)
    rectification = np.eye(4)
    rectification[:3, :3] = number_row(camera, camera_file, "R_rect_00", 3, 3)
    projection = number_row(camera, camera_file, f"P_rect_{cam:02d}", 3, 4)
    width, height = picture_size(camera, camera_file, "S_rect_02")
    return projection @ rectification @ cam_T_velo, (height, width)


def generate_depth_map(
    calib_dir: str | Path, velo_path: str | Path, cam: int = 2, vel_depth: bool = False
) -> np.ndarray:
    """Project a laser scan into a camera: float64 (height, width), metres, 0 where nothing hit.

    vel_depth: distance forward of the scanner (as the eigen ground truth has it) instead of the
    camera's depth. Equal, to the last bit, to what the field's published numbers were measured
    with. Raises UserError if a file cannot be read.
    """
    velo_to_pixel, shape = velo_to_image(calib_dir, cam)
    blocks = [
        _seen_points(velo_to_pixel, points, shape, vel_depth)
        for points in velodyne_blocks(velo_path)
    ]
    rows, columns, depth = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return splat_nearest(rows, columns, depth, shape)


def _seen_points(
    velo_to_pixel: np.ndarray, points: np.ndarray, shape: tuple[int, int], vel_depth: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns, int (n,), and depths, float64 (n,), of the points inside the picture."""
    points = points.take(np.flatnonzero(points[:, 0] >= 0), 0)
    points[:, 3] = 1
    columns, rows, z = velo_to_pixel @ points.T
    with np.errstate(divide="ignore", invalid="ignore"):  # in the camera's own plane
        for pixels in (columns, rows):
            pixels /= z
            np.rint(pixels, out=pixels)
            pixels -= 1  # KITTI's development kit counts pixels from 1
    inside = (columns >= 0) & (rows >= 0) & (columns < shape[1]) & (rows < shape[0])
    inside = np.flatnonzero(inside)  # taking by number is quicker than by mask
    depth = (points[:, 0] if vel_depth else z)[inside].astype(np.float64)
    return rows[inside].astype(int), columns[inside].astype(int), depth


def splat_nearest(
    rows: np.ndarray, columns: np.ndarray, depth: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Write points to their pixels, the nearest where several meet; negative depths become 0.

    rows, columns: int (points,), inside `shape`; depth: (points,). Returns float64 `shape`.

    The benchmark's own code recognises points that meet by row * (width - 1) + column - 1, which
    the last pixel of a row shares with the first of the next. Such a group counts as one pixel:
    its smallest depth goes to the pixel of its first point in file order, its other pixel keeps
    its own last point. Every published number includes this, so it is kept.
    """
    depth = np.where(depth < 0, 0.0, depth)
    result = np.zeros(shape)
    pixels, places = result.reshape(-1), rows * shape[1] + columns
    # Written from the last to the first, a group's number is that of its first point. The picture
    # lends its memory: new memory would cost more than all that is done here.
    number = np.arange(len(depth))
    keys = places - rows  # rows * (width - 1) + columns: no lower than 0
    pixels[keys[::-1]] = number[::-1]
    group = pixels[keys].astype(int)
    pixels[keys] = 0
    pixels[places] = depth  # of points that meet, the last stays
    later = np.flatnonzero(group != number)  # points that are not the first of their group
    first, nearest = group[later], depth.copy()
    np.minimum.at(nearest, first, depth[later])
    pixels[places[first]] = nearest[first]
    return result


def read_depth_png(path: str | Path, steps: float = 256) -> np.ndarray:
    """KITTI's improved ground truth, 16-bit PNG: float32 (height, width), metres, 0 unknown.

    steps: what the file holds for a metre. Raises UserError if the file is missing or no such
    picture.
    """
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"cannot read the depth map {path}: {reason(error)}") from error
    if not mode.startswith("I"):
        raise UserError(f"the depth map {path} is no 16-bit grey PNG (metres times {steps:g}): it "
                        f"is a picture of mode {mode}")
    return values.astype(np.float32) / np.float32(steps)
