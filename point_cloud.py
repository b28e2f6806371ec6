"""Depth as coloured points: the camera, lifting, depth edges, fusing what a moving camera sees.

Points are in the axes of a camera, as everywhere here: x right, y down, z forward.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.camera_file import camera_numbers, check_intrinsics, read_camera_file
from datasets.kitti_dataset import NOMINAL_INTRINSICS
from datasets.nyuv2_dataset import HEIGHT, WIDTH, cut_camera
from layers import backproject
from utils import UserError

# Cameras by name: fx, fy, cx, cy as fractions of the size of a whole picture, resized or not.
CAMERAS = {"kitti": NOMINAL_INTRINSICS, "nyu": cut_camera(0, 0, HEIGHT, WIDTH)}
SQUASHED = 1.25  # largest ratio of focal lengths in pixels at which a name can still be meant
STRETCHED = 2.0  # and at which numbers can
MIDDLE = (0.25, 0.75)  # of the picture, where its optical axis is
FAR = 4.0  # median depths; beyond, points are too few and too wrong to show anything
EDGE_SLANT = np.tan(np.radians(80))  # by which a pixel must be steeper than its surroundings
EDGE_REACH = 1 / 40  # of the width, how far surroundings reach: twice as far as networks blur
VOXEL = 1 / 300  # median depths of the first frame; 5 cm where that is 15 m
MOST_POINTS = 4_000_000  # of a fused cloud, before its voxels double


class Intrinsics(NamedTuple):
    """What --intrinsics says of the camera."""

    text: str
    values: tuple[float, ...]  # fx, fy, cx, cy
    size: tuple[int, int] | None = None  # (width, height) of the pictures that a file is for

    @classmethod
    def parse(cls, text: str) -> Intrinsics:
        """text: a name of CAMERAS; fx,fy,cx,cy in pixels; or a file of `read_camera_file`. Raises
        UserError if it is none of them."""
        if text in CAMERAS:
            return cls(text, CAMERAS[text])
        neither = f"--intrinsics {text} is neither {', '.join(CAMERAS)}, nor four numbers "
        neither += "fx,fy,cx,cy in pixels, nor a file of them or of the 3x3 matrix without skew"
        if os.path.isfile(text):
            try:
                return cls(text, *read_camera_file(text))
            except UserError as error:
                raise UserError(f"{neither}: {error}") from error
        values = camera_numbers(text)
        if values is None:
            raise UserError(neither)
        return cls(text, values)

    def matrix(self, height: int, width: int, picture: str | Path) -> np.ndarray:
        """K (3, 3) in pixels of a picture of this size, pixel centres at whole numbers.

        A camera that is named has the picture's size, one whose file tells a size is scaled to it.
        Raises UserError, naming the picture and the
        number, if the camera cannot have taken it.
        """
        size = np.array([width, height, width, height])
        named = self.text in CAMERAS
        stated = size if self.size is None else np.array([*self.size, *self.size])
        fractions = np.array(self.values) / (1 if named else stated)
        check_intrinsics(fractions, f"{picture} (--intrinsics {self.text})")
        fx, fy, cx, cy = fractions * size
        shown = f"{picture} is {width}x{height} (width x height)"
        for name, value, side in (("cx", cx, width), ("cy", cy, height)):
            low, high = (fraction * side for fraction in MIDDLE)
            if not low <= value <= high:
                raise UserError(
                    f"{shown}, which --intrinsics {self.text} does not fit: {name} {value:g}, "
                    f"expected {low:g} to {high:g}"
                )
        if not named and not 1 / STRETCHED <= fx / fy <= STRETCHED:
            raise UserError(
                f"{shown}, which --intrinsics {self.text} does not fit: fx / fy is {fx / fy:g}, "
                f"expected {1 / STRETCHED:g} to {STRETCHED:g}"
            )
        if named and not 1 / SQUASHED < fx / fy < SQUASHED:
            raise UserError(
                f"{shown}, of another shape than the pictures of --intrinsics {self.text}: "
                "expected fx,fy,cx,cy in pixels, or a file"
            )
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


class Cloud(NamedTuple):
    """Coloured points."""

    points: np.ndarray  # (N, 3) float32, in the depth's unit
    colours: np.ndarray  # (N, 3) uint8, RGB
    sizes: np.ndarray  # (N,) float32, width of what the point's pixel saw: small is well seen

    def at(self, chosen: np.ndarray) -> Cloud:
        """The points of some indices, or of a mask (N,)."""
        return Cloud(*(values[chosen] for values in self))


def lift(
    depth: np.ndarray, image: np.ndarray, K: np.ndarray, far: float | None = None
) -> Cloud:
    """The points that a camera's pixels see, row by row, in its axes.

    depth: float (H, W) along the optical axis, 0 or not finite where unknown; image: uint8 RGB
    (H, W, 3); K: (3, 3) in pixels. Left out: `depth_edges`, what is unknown, and what is farther
    than `far`, in the depth's unit (default: FAR times the median depth).
    """
    known = np.isfinite(depth) & (depth > 0)
    if far is None:
        far = FAR * np.median(depth[known]) if known.any() else 0
    kept = (known & (depth <= far) & ~depth_edges(depth, K)).ravel()
    inv_K = np.eye(4)
    inv_K[:3, :3] = np.linalg.inv(K)
    exact = torch.from_numpy(depth.astype(np.float64))[None, None]
    points = backproject(exact, torch.from_numpy(inv_K)[None])[0].T.numpy()
    sizes = depth.ravel() / K[0, 0]
    return Cloud(
        points[kept].astype(np.float32), image.reshape(-1, 3)[kept], sizes[kept].astype(np.float32)
    )


def depth_edges(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Where depth leaps from one thing to another, bool (H, W): its points would hang in between.

    depth: (H, W), 0 or not finite where unknown, which counts as infinitely far; K: (3, 3).
    A limit on the slope of depth itself would take away roads, as steep in the picture as the edge
    of a car. But 1 / depth of any plane is linear in the pixel, so that its slope is the same all
    around; an edge stands out from it, also one that a network has blurred over some pixels. With
    s = |d(1 / depth) / dx| * fx * depth, the tangent of the angle by which the surface turns away
    from the picture's plane, a pixel is on an edge where s exceeds that of its surroundings (the
    median slope of five places along the row, EDGE_REACH to either side) by EDGE_SLANT; rows
    likewise by columns.
    """
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.zeros(depth.shape)
    np.divide(1, depth, out=inverse, where=known)
    reach = max(2, round(depth.shape[1] * EDGE_REACH / 2)) * np.arange(-2, 3)
    edges = np.zeros(depth.shape, bool)
    for axis, focal in ((0, K[1, 1]), (1, K[0, 0])):
        count = depth.shape[axis]
        if count < 2:  # nothing beside it
            continue
        step = np.abs(np.diff(inverse, axis=axis))
        before, after = (np.clip(np.arange(count) + shift, 0, count - 2) for shift in (-1, 0))
        slope = np.maximum(step.take(before, axis), step.take(after, axis))
        around = [slope.take(np.clip(np.arange(count) + r, 0, count - 1), axis) for r in reach]
        edges |= (slope - np.median(around, axis=0)) * focal > EDGE_SLANT * inverse
    return edges


def thin(cloud: Cloud, voxel: float) -> Cloud:
    """One point, the best seen, of every cube of a grid with this side; as they lie, none moved.

    Cubes two million apart along an axis count as one.
    """
    cells = np.floor(cloud.points / voxel).astype(np.int64) & (2**21 - 1)
    keys = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
    order = np.lexsort((cloud.sizes, keys))
    return cloud.at(order[np.flatnonzero(np.diff(keys[order], prepend=-1))])


class Fusion:
    """What a moving camera sees, frame after frame, in the axes of the first.

    Memory does not grow with the number of frames: one point is kept in each voxel, and where more
    than MOST_POINTS are left, voxels double.
    """

    def __init__(self, voxel: float | None = None) -> None:
        """voxel: side, in the depth's unit (default: VOXEL times the first median depth)."""
        self.voxel = voxel
        self.world_T_cam = np.eye(4)
        self._parts: list[Cloud] = []  # the first one is thin, what came since is not, together

    def move(self, next_T_this: np.ndarray) -> None:
        """The camera moves on. next_T_this: (4, 4), where it then sees the points that it saw."""
        self.world_T_cam = self.world_T_cam @ np.linalg.inv(next_T_this)

    def add(self, cloud: Cloud) -> None:
        """Points in the axes of the camera, where it is now."""
        if not len(cloud.points):
            return
        if self.voxel is None:
            self.voxel = VOXEL * float(np.median(cloud.points[:, 2]))
        rotation, position = self.world_T_cam[:3, :3], self.world_T_cam[:3, 3]
        points = (cloud.points @ rotation.T + position).astype(np.float32)
        self._parts.append(thin(cloud._replace(points=points), self.voxel))
        first, *new = (len(part.points) for part in self._parts)
        if sum(new) > first:  # else each frame would sort all again
            self._parts = [self.cloud()]

    def cloud(self) -> Cloud:
        """All points so far."""
        if not self._parts:
            return Cloud(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8), np.empty(0))
        cloud = Cloud(*map(np.concatenate, zip(*self._parts, strict=True)))
        cloud = thin(cloud, self.voxel)
        while len(cloud.points) > MOST_POINTS:
            self.voxel *= 2
            cloud = thin(cloud, self.voxel)
        return cloud
