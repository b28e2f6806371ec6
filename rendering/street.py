"""A street that differs with its seed: houses, gardens, parked cars, lamps and trees on a road.

What every street shares is what a network can learn depth from: the camera's height above a flat
road, objects that stand on the ground, and the sizes of houses, cars, windows and markings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rendering import textures as paint
from rendering.scene import Ellipsoid, Faces, Patch, Scene, frustum

CAMERA_HEIGHT = 1.65  # metres above the road, as KITTI's
KERB = 0.12  # metres
SWAY = (8.0, 1.2, 0.8)  # degrees of yaw, pitch and roll of a camera on a car
START = -12.0  # metres along the street; drives start at 0
ROW, COLUMN = 0.10, 0.05  # metres of a texel on the road, along and across it
WALLS = ((0.86, 0.80, 0.68), (0.74, 0.44, 0.34), (0.84, 0.84, 0.82), (0.80, 0.66, 0.46),
         (0.62, 0.68, 0.72), (0.72, 0.58, 0.50), (0.90, 0.72, 0.60), (0.60, 0.64, 0.52))
ROOFS = ((0.55, 0.27, 0.20), (0.36, 0.34, 0.36), (0.46, 0.32, 0.26), (0.62, 0.36, 0.26))
PAINTS = ((0.72, 0.10, 0.10), (0.85, 0.85, 0.87), (0.15, 0.16, 0.18), (0.14, 0.26, 0.55),
          (0.55, 0.57, 0.60), (0.14, 0.36, 0.24), (0.82, 0.66, 0.20))


def drive_poses(
    seed: int, frames: int, sway: tuple[float, float, float] = SWAY
) -> NDArray[np.float64]:
    """world_T_cam of the left camera, (frames, 4, 4): 0.5 to 1 m forward a frame, swaying a little.

    Position and angles are sums of slow waves: at most 0.6 m to a side; sway: the most degrees of
    yaw, pitch and roll.
    """
    rng = np.random.default_rng([seed, 1])
    time = np.arange(frames)

    def waves(amplitude: float) -> NDArray:
        periods, phases = rng.uniform(18, 60, 3), rng.uniform(0, 2 * np.pi, 3)
        return amplitude / 3 * np.sin(2 * np.pi * time[:, None] / periods + phases).sum(axis=1)

    speed = 0.75 + waves(0.25)
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, 0, 3] = waves(0.6)
    pose[:, 1, 3] = -CAMERA_HEIGHT + waves(0.02)
    pose[:, 2, 3] = np.cumsum(speed) - speed[0]
    yaw, pitch, roll = (np.radians(waves(degrees)) for degrees in sway)
    pose[:, :3, :3] = _turn(yaw, 2, 0) @ _turn(pitch, 1, 2) @ _turn(roll, 0, 1)
    return pose


def _turn(angle: NDArray, first: int, second: int) -> NDArray:
    """Rotations (N, 3, 3) by angle (N,) from axis `first` towards axis `second`."""
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, second, first] = np.sin(angle)
    matrix[:, first, second] = -np.sin(angle)
    return matrix


class Street(Scene):
    """A random street along z, the camera's lane at x = 0, deterministic by its seed."""

    def __init__(self, seed: int, length: float = 160.0) -> None:
        """seed: any non-negative whole number; length: metres from z = 0 to the street's end, where
        a row of houses stands across.
        """
        self._rng = np.random.default_rng([seed, 0])
        self._length = length
        self._patches: list[Patch] = []
        self._ellipsoids: list[Ellipsoid] = []
        self._textures: list[NDArray[np.uint8]] = []
        rng = self._rng
        self._left, self._right = rng.uniform(-10.0, -6.2), rng.uniform(3.6, 6.0)  # the kerbs
        self._path = rng.uniform(1.6, 3.6)  # width of the pavements
        self._leaves = [
            self._add(paint.leaves(rng, rng.uniform((0.20, 0.32, 0.10), (0.38, 0.50, 0.20))))
            for _ in range(3)
        ]
        self._dark = self._add(paint.to_texels(paint.plain(rng, 96, 24, (0.30, 0.28, 0.26), 0.2)))
        self._cars = [self._car_faces(PAINTS[i]) for i in rng.permutation(len(PAINTS))[:5]]
        self._shadows: list[tuple[float, float, float, float]] = []  # x and z from, to
        for side in (-1, 1):
            self._build_houses(side)
            self._park_cars(side)
            self._plant(side)
        self._close_end()
        self._lay_ground()
        sky = self._add(paint.sky(rng))
        sun = (rng.choice([-1, 1]) * rng.uniform(0.2, 0.6), -0.8, -rng.uniform(0.2, 0.6))
        super().__init__(self._patches, self._ellipsoids, self._textures, sky, sun)

    def _add(self, texels: NDArray[np.uint8]) -> int:
        self._textures.append(texels)
        return len(self._textures) - 1

    def _kerb(self, side: int) -> float:
        return self._left if side < 0 else self._right

    def _lay_ground(self) -> None:
        """Road, kerbs, pavements, lawns behind them and fields beyond the last house."""
        rng, span = self._rng, self._length - START
        rows = round(span / ROW)
        columns = round((self._right - self._left) / COLUMN)
        edges = (round(2.2 / COLUMN), columns - round((self._right - 1.75) / COLUMN))
        middle = round((-1.75 - self._left) / COLUMN)
        picture = paint.road(rng, rows, columns, ROW, edges, middle)
        for x0, x1, z0, z1 in self._shadows:
            across = slice(*(max(0, round((x - self._left) / COLUMN)) for x in (x0, x1)))
            picture[round((z0 - START) / ROW) : round((z1 - START) / ROW), across] *= 0.5
        self._flat(self._left, self._right, 0, self._add(paint.to_texels(picture)))
        stone = self._add(paint.to_texels(paint.plain(rng, 4, rows, (0.66, 0.64, 0.6), 0.2)))
        for side in (-1, 1):
            kerb, back = self._kerb(side), self._kerb(side) + side * self._path
            slabs = paint.pavement(rng, rows, round(self._path / COLUMN), (10, 16))
            self._flat(kerb, back, KERB, self._add(paint.to_texels(slabs)))
            grass = paint.plain(rng, rows // 2, 150, (0.33, 0.45, 0.18), 0.25,
                                ((30, 30), (10, 10), (4, 4), (2, 2), (1, 1)))
            self._flat(back, back + side * 30, KERB, self._add(paint.to_texels(grass)))
            start, run = (self._length, -span) if side > 0 else (START, span)
            self._patches.append(Patch((kerb, 0, start), (0, 0, run), (0, -KERB, 0), stone))
        crossing = self._add(paint.to_texels(paint.plain(rng, 140, 1200, (0.4, 0.4, 0.4), 0.17)))
        self._patches.append(Patch((-60, 0, self._length), (120, 0, 0), (0, 0, 14), crossing))

    def _flat(self, x0: float, x1: float, height: float, texture: int) -> None:
        """A strip of ground from x0 to x1 (in either order) along the whole street."""
        origin = (min(x0, x1), -height, START)
        span = (0, 0, self._length - START)
        self._patches.append(Patch(origin, (abs(x1 - x0), 0, 0), span, texture))

    def _build_houses(self, side: int) -> None:
        """A row of houses around one setback, with gaps and hedges, more on some streets."""
        rng, z = self._rng, START + self._rng.uniform(0, 3)
        back = self._kerb(side) + side * self._path
        setback, openness = rng.uniform(0, 7), rng.uniform(0, 0.8)
        while z < self._length - 8:
            run, depth = rng.uniform(7, 14), rng.uniform(7, 10)
            front = max(0.0, setback + rng.uniform(-2, 2))
            self._add_house((back + side * (front + depth / 2), -KERB, z + run / 2), (depth, run))
            if front > 1.5 and rng.random() < 0.6:
                leaf = self._leaves[rng.integers(3)]
                hedge = (back + side * 0.4, -KERB, z + run / 2)
                self._patches += frustum(hedge, (0.7, run * 0.8), (0.6, run * 0.78),
                                         rng.uniform(0.8, 1.5), Faces(leaf, leaf, leaf))
            z += run + (rng.uniform(1, 14) if rng.random() < openness else 0.0)

    def _close_end(self) -> None:
        """Houses across the end of the street."""
        rng, x = self._rng, -60.0
        while x < 60:
            run, depth = rng.uniform(8, 15), rng.uniform(7, 10)
            place = (x + run / 2, 0.0, self._length + rng.uniform(8, 11) + depth / 2)
            self._add_house(place, (run, depth), along_z=False)
            x += run

    def _add_house(
        self, centre: tuple, base: tuple[float, float], along_z: bool = True
    ) -> None:
        """Walls with windows, a gabled or hipped roof whose ridge is along z or x, a chimney."""
        rng, (x, y, z) = self._rng, centre
        height, rise = rng.uniform(4.5, 9.5), rng.uniform(2.0, 3.6)
        colour = np.asarray(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.85, 1.1)
        ends, sides = (self._add(paint.facade(rng, metres, height, colour)) for metres in base)
        self._patches += frustum(centre, base, base, height, Faces(ends, sides, sides))
        tiles = self._add(paint.roof(rng, ROOFS[rng.integers(len(ROOFS))]))
        hip = 0.0 if rng.random() < 0.6 else rng.uniform(3, 5)
        gable = tiles if hip else self._add(
            paint.to_texels(paint.plain(rng, 60, 160, colour, 0.12)))
        ridge = (0.0, base[1] - hip) if along_z else (base[0] - hip, 0.0)
        faces = Faces(gable, tiles, tiles) if along_z else Faces(tiles, gable, tiles)
        self._patches += frustum((x, y - height, z), base, ridge, rise, faces)
        self._patches += frustum((x, y - height - rise * 0.8, z), (0.6, 0.6), (0.6, 0.6), 1.2,
                                 Faces(self._dark, self._dark, self._dark), (1.6, 1.1, 0.9))

    def _car_faces(self, colour: tuple) -> tuple[Faces, Faces]:
        """Textures of a car's body and of its cabin."""
        rng = self._rng
        top = self._add(paint.to_texels(paint.plain(rng, 84, 48, colour, 0.08)))
        body = Faces(self._add(paint.car_end(rng, colour)), self._add(paint.car_side(rng, colour)),
                     top)
        cabin = Faces(self._add(paint.car_window(rng, 56, colour)),
                      self._add(paint.car_window(rng, 96, colour)), top)
        return body, cabin

    def _park_cars(self, side: int) -> None:
        """Cars along the kerb, and now and then a van; some kerbs are full, some almost empty."""
        rng, z = self._rng, START + self._rng.uniform(2, 8)
        crowd = rng.uniform(0, 0.9)
        x = self._kerb(side) - side * 1.15
        while z < self._length - 5:
            body, cabin = self._cars[rng.integers(len(self._cars))]
            van, size = rng.random() < 0.15, rng.uniform(0.93, 1.07)
            length, width, sill = (4.9 if van else 4.2) * size, 1.75 * size, 0.92 * size
            centre = (x + rng.uniform(-0.12, 0.12), 0.0, z)
            self._patches += frustum(centre, (width, length), (width - 0.1, length - 0.1), sill,
                                     body)
            if van:
                faces = Faces(cabin.ends, body.top, body.top)
                self._patches += frustum((centre[0], -sill, z), (width - 0.1, length - 0.1),
                                         (width - 0.25, length - 0.4), 1.15 * size, faces)
            else:
                middle = (centre[0], -sill, z - 0.25)
                self._patches += frustum(middle, (width - 0.15, length * 0.62),
                                         (width - 0.45, length * 0.38), 0.55 * size, cabin)
            reach = width / 2 + 0.25
            self._shadows.append((centre[0] - reach, centre[0] + reach,
                                  z - length / 2 - 0.3, z + length / 2 + 0.3))
            z += rng.uniform(5.8, 7.0) if rng.random() < crowd else rng.uniform(7, 35)

    def _plant(self, side: int) -> None:
        """Trees and lamp posts on the pavement."""
        rng, z = self._rng, START + self._rng.uniform(3, 10)
        x = self._kerb(side) + side * 0.6
        dark = Faces(self._dark, self._dark, self._dark)
        while z < self._length:
            kind, foot = rng.random(), (x + rng.uniform(-0.1, 0.1), -KERB, z)
            if kind < 0.45:
                self._add_tree(foot)
            elif kind < 0.8:
                self._patches += frustum(foot, (0.2, 0.2), (0.12, 0.12), 5.5, dark,
                                         (1.2, 1.25, 1.2))
                arm = (foot[0] - side * 0.6, -KERB - 5.5, z)
                self._patches += frustum(arm, (1.4, 0.1), (1.4, 0.1), 0.1, dark)
            else:
                box = self._cars[rng.integers(len(self._cars))][0].top
                size = rng.uniform(0.5, 0.9)
                self._patches += frustum(foot, (size, size), (size, size), size * 1.6,
                                         Faces(box, box, box))
            z += rng.uniform(7, 16)

    def _add_tree(self, foot: tuple) -> None:
        """A trunk and a crown of overlapping balls of leaves."""
        rng = self._rng
        trunk, radius = rng.uniform(2.0, 2.8), rng.uniform(1.0, 1.6)
        dark = Faces(self._dark, self._dark, self._dark)
        self._patches += frustum(foot, (0.36, 0.36), (0.24, 0.24), trunk + 0.5, dark,
                                 (1.0, 0.85, 0.7))
        leaf, tint = self._leaves[rng.integers(3)], rng.uniform(0.85, 1.2)
        middle = np.array([foot[0], foot[1] - trunk - radius * 0.8, foot[2]])
        offsets = rng.uniform(-0.75, 0.75, (6, 3)) * radius
        for share, offset in zip((0.8, 0.6, 0.6, 0.5, 0.5, 0.4), offsets, strict=True):
            radii = radius * share * rng.uniform((0.9, 0.9, 0.9), (1.1, 1.3, 1.1))
            shade = np.full(3, tint * rng.uniform(0.85, 1.1))
            self._ellipsoids.append(Ellipsoid(middle + offset, radii, leaf, shade))
