"""What a rendered world is made of: textured flat patches, ellipsoids and a sky, packed in arrays.

World frame, metres: x right, y down, z forward (a camera's axes when it looks along the street).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

AMBIENT, DIFFUSE = 0.62, 0.42  # of the sun's light; they sum to a little over one, as film does


class Patch(NamedTuple):
    """The points origin + s edge_u + t edge_v, 0 <= t <= 1 and |2s - 1| <= 1 - taper t.

    taper 0 is a parallelogram, 1 a triangle, between them a trapezoid. It is seen only from the
    side to which edge_u x edge_v points (with edge_u to the viewer's right, edge_v goes up).
    """

    origin: ArrayLike  # (3,) metres
    edge_u: ArrayLike  # (3,)
    edge_v: ArrayLike  # (3,)
    texture: int  # index into the scene's textures
    window: tuple[float, float, float, float] | None = None  # texels (u, v) at (0, 0), then (1, 1)
    tint: ArrayLike = (1.0, 1.0, 1.0)  # factor on the texture's RGB
    taper: float = 0.0


class Ellipsoid(NamedTuple):
    """An ellipsoid along the world's axes; its texture is wrapped by azimuth and elevation."""

    centre: ArrayLike  # (3,) metres
    radii: ArrayLike  # (3,) metres
    texture: int
    tint: ArrayLike = (1.0, 1.0, 1.0)


class Faces(NamedTuple):
    """Textures of the sides of a `frustum`."""

    ends: int  # the two sides that face -z and +z
    sides: int  # the two sides that face -x and +x
    top: int


def frustum(
    base_centre: ArrayLike,
    base: tuple[float, float],
    top: tuple[float, float],
    height: float,
    faces: Faces,
    tint: ArrayLike = (1.0, 1.0, 1.0),
) -> list[Patch]:
    """A box whose top may be smaller than its base: walls, roofs, cars, hedges and poles.

    base_centre: (3,) metres; base, top: (x extent, z extent) in metres, a zero in `top` making it
    a roof's ridge; height in metres. Returns the faces that have an area, without the bottom.
    """
    x, y, z = np.asarray(base_centre, float)
    (bx, bz), (tx, tz) = base, top
    inset_x, inset_z = (bx - tx) / 2, (bz - tz) / 2
    west, east, near, far = x - bx / 2, x + bx / 2, z - bz / 2, z + bz / 2
    end, side = (faces.ends, None, tint, 1 - tx / bx), (faces.sides, None, tint, 1 - tz / bz)
    patches = [
        Patch((west, y, near), (bx, 0, 0), (0, -height, inset_z), *end),
        Patch((east, y, far), (-bx, 0, 0), (0, -height, -inset_z), *end),
        Patch((west, y, far), (0, 0, -bz), (inset_x, -height, 0), *side),
        Patch((east, y, near), (0, 0, bz), (-inset_x, -height, 0), *side),
    ]
    if tx > 0 and tz > 0:
        corner = (x - tx / 2, y - height, z - tz / 2)
        patches.append(Patch(corner, (tx, 0, 0), (0, 0, tz), faces.top, None, tint))
    return patches


class TextureBank:
    """Textures held as summed-area tables, one after the other in a flat array.

    The mean over any box of texels costs sixteen reads whatever its size, so every pixel gets the
    exact mean of the texture over its footprint: nothing aliases, at any distance (Crow, 1984).
    """

    def __init__(self, textures: Sequence[NDArray[np.uint8]]) -> None:
        """textures: (h, w, 3) uint8 each; row 0 is where t = 0, so a wall's row 0 is its foot."""
        tables = []
        for texels in textures:
            table = np.zeros((texels.shape[0] + 1, texels.shape[1] + 1, 3), np.int32)
            table[1:, 1:] = texels.astype(np.int32).cumsum(0).cumsum(1)
            tables.append(table.reshape(-1, 3))
        self.sizes = np.array([t.shape[1::-1] for t in textures], float)  # (width, height)
        self._strides = np.array([t.shape[1] + 1 for t in textures])
        self._starts = np.cumsum([0] + [len(table) for table in tables[:-1]])
        self._sums = np.concatenate(tables)
        areas = self.sizes.prod(axis=1)[:, None]
        self.means = np.array([table[-1] for table in tables]) / areas  # RGB, 0 to 255

    def mean(
        self, texture: NDArray, centre: NDArray, extent: NDArray, low: NDArray, high: NDArray
    ) -> NDArray[np.float64]:
        """Mean RGB, 0 to 255, over boxes of texels, cut to [low, high].

        texture: (N,) indices; centre, extent, low, high: (2, N), (u, v) in texels. A box is at
        least one texel wide (then this is bilinear interpolation). Returns (N, 3).
        """
        half = np.maximum(extent, 1.0) / 2
        first = np.clip(centre - half, low, high - 1)
        last = np.clip(centre + half, first + 1, high)
        first_cell, last_cell = first.astype(np.int64), np.ceil(last).astype(np.int64) - 1
        first_part, last_part = first - first_cell, last - last_cell
        weights = (first_part - 1, -first_part, 1 - last_part, last_part)
        cells = (first_cell, first_cell + 1, last_cell, last_cell + 1)
        start, stride = self._starts[texture], self._strides[texture]
        total = np.zeros((len(texture), 3))
        for row_weight, row in zip(weights, cells, strict=True):
            row_start = start + row[1] * stride
            for column_weight, column in zip(weights, cells, strict=True):
                weight = row_weight[1] * column_weight[0]
                total += weight[:, None] * self._sums.take(row_start + column[0], axis=0)
        return total / np.prod(last - first, axis=0)[:, None]


class Scene:
    """Patches and ellipsoids under a sky, packed for the ray caster; nothing in it moves.

    The surfaces are numbered patches first, then ellipsoids; the sky is surface -1.
    """

    def __init__(
        self,
        patches: Sequence[Patch],
        ellipsoids: Sequence[Ellipsoid],
        textures: Sequence[NDArray[np.uint8]],
        sky: int,
        sun: ArrayLike = (0.4, -0.8, -0.45),
    ) -> None:
        """sky: the texture that spans azimuth -90..90 and elevation -10..50 degrees, infinitely
        far away; sun: (3,) direction from the ground to the sun.
        """
        self.bank = TextureBank(textures)
        self.sun = np.asarray(sun, float) / np.linalg.norm(sun)
        self.origins = np.array([p.origin for p in patches], float).reshape(-1, 3)
        self.edges_u = np.array([p.edge_u for p in patches], float).reshape(-1, 3)
        self.edges_v = np.array([p.edge_v for p in patches], float).reshape(-1, 3)
        self.tapers = np.array([p.taper for p in patches], float)
        self.centres = np.array([e.centre for e in ellipsoids], float).reshape(-1, 3)
        self.radii = np.array([e.radii for e in ellipsoids], float).reshape(-1, 3)
        surfaces = [*patches, *ellipsoids]
        self.textures = np.array([s.texture for s in surfaces] + [sky])
        self.tints = np.array([s.tint for s in surfaces] + [(1.0, 1.0, 1.0)], float)
        normals = np.cross(self.edges_u, self.edges_v)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        self.tints[: len(patches)] *= self.light(normals)[:, None]
        sizes = self.bank.sizes[self.textures]
        whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
        for index, patch in enumerate(patches):
            if patch.window is not None:
                whole[index] = patch.window
        self.windows = whole  # texels (u, v) at (s, t) = (0, 0), then at (1, 1)
        self.lows = np.minimum(whole[:, :2], whole[:, 2:])
        self.highs = np.maximum(whole[:, :2], whole[:, 2:])

    def light(self, normals: NDArray) -> NDArray:
        """Lambert's law: how bright surfaces with unit normals (N, 3) are, (N,)."""
        return AMBIENT + DIFFUSE * np.maximum(normals @ self.sun, 0)
