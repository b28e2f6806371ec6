"""Painted surfaces: noise at every scale, then what makes a wall a wall and a road a road.

Pictures are (h, w, 3) float arrays of RGB in 0 to 1 while painted, `to_texels` at the end. Row 0 is
the foot of a wall or the near end of a road. Lengths are in texels unless a name says metres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

WALL_TEXEL = 0.05  # metres
GLASS = (0.16, 0.19, 0.24)


def noise(
    rng: np.random.Generator, height: int, width: int, cells: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """Sum of smoothly interpolated random grids, mean 0 and standard deviation 1; (height, width).

    cells: (rows, columns) of each grid's cells; coarse grids weigh more, as in natural pictures.
    """
    total = np.zeros((height, width), np.float32)
    for rows, columns in cells:
        shape = (height // rows + 2, width // columns + 2)
        grid = rng.standard_normal(shape, np.float32)
        weight = np.float32((rows * columns) ** 0.25)
        total += weight * _stretch(_stretch(grid, height, rows).T, width, columns).T
    total -= total.mean()
    return total / total.std()


def _stretch(grid: NDArray, length: int, cell: int) -> NDArray:
    """Interpolate the rows of a grid to `length` rows, `cell` of them to one of the grid."""
    position = np.arange(length, dtype=np.float32) / cell
    index = position.astype(np.int64)
    part = position - index
    part = (part * part * (3 - 2 * part))[:, None]
    return grid[index] * (1 - part) + grid[index + 1] * part


def plain(
    rng: np.random.Generator,
    height: int,
    width: int,
    colour: ArrayLike,
    contrast: float = 0.15,
    cells: Sequence[tuple[int, int]] = ((48, 48), (20, 20), (8, 8), (3, 3), (2, 2)),
) -> NDArray[np.float32]:
    """A colour whose brightness and, less, hue vary with `noise` of the given contrast."""
    brightness = 1 + contrast * noise(rng, height, width, cells)
    hue = noise(rng, height, width, cells[:2])[:, :, None] * rng.normal(0, contrast / 7, 3)
    return np.asarray(colour, np.float32) * (brightness[:, :, None] + hue).astype(np.float32)


def to_texels(picture: NDArray) -> NDArray[np.uint8]:
    """RGB in 0 to 1 as uint8, cut to the range."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def facade(
    rng: np.random.Generator, width_metres: float, height_metres: float, colour: ArrayLike
) -> NDArray[np.uint8]:
    """A house's front: storeys of framed windows, a door, a plinth and a cornice."""
    height, width = (round(metres / WALL_TEXEL) for metres in (height_metres, width_metres))
    wall = plain(rng, height, width, colour, 0.13, ((30, 30), (10, 10), (5, 5), (3, 3), (2, 2)))
    if rng.random() < 0.5:
        wall[::5] *= 0.82  # courses of brick or boards
    wall *= np.linspace(0.85, 1.05, height)[:, None, None]
    wall[: round(0.6 / WALL_TEXEL)] *= rng.uniform(0.55, 0.75)
    wall[-6:] *= 0.7
    storeys = max(1, int(height_metres / 2.8))
    columns = max(2, int(width_metres / rng.uniform(2.2, 3.2)))
    window = (round(rng.uniform(1.2, 1.7) / WALL_TEXEL), round(rng.uniform(0.9, 1.4) / WALL_TEXEL))
    frame = np.asarray(rng.uniform(0.65, 1.0)) * np.ones(3)
    door = rng.integers(columns)
    for storey in range(storeys):
        foot = int(storey * height / storeys)
        if storey:
            wall[foot - 2 : foot + 2] *= 1.15
        for column in range(columns):
            middle = int((column + 0.5) * width / columns)
            if storey == 0 and column == door:
                _paint_door(rng, wall, middle)
            else:
                _paint_window(rng, wall, foot + round(0.95 / WALL_TEXEL), middle, window, frame)
    return to_texels(wall)


def _paint_window(
    rng: np.random.Generator, wall: NDArray, foot: int, middle: int, size: tuple[int, int],
    frame: NDArray,
) -> None:
    """Paint a window of (height, width) with its frame, bars, sill and curtains."""
    height, width = size
    left = middle - width // 2
    wall[foot - 4 : foot - 2, left - 4 : left + width + 4] *= 0.6
    wall[foot - 2 : foot + height + 2, left - 2 : left + width + 2] = frame
    pane = np.asarray(GLASS) * rng.uniform(0.6, 1.9)
    reflection = np.linspace(0.7, 1.5, height)[:, None, None]  # of the sky, brighter above
    wall[foot : foot + height, left : left + width] = pane * reflection
    if rng.random() < 0.5:
        drawn = rng.integers(2, max(3, width // 2))
        wall[foot : foot + height, left : left + drawn] = rng.uniform(0.5, 0.9, 3)
    wall[foot : foot + height, middle - 1 : middle + 1] = frame
    wall[foot + 2 * height // 3 : foot + 2 * height // 3 + 1, left : left + width] = frame


def _paint_door(rng: np.random.Generator, wall: NDArray, middle: int) -> None:
    """Paint a door of 2.1 m with its frame and a pane."""
    height, half = round(2.1 / WALL_TEXEL), round(0.5 / WALL_TEXEL)
    wall[: height + 3, middle - half - 2 : middle + half + 2] = 0.85
    wall[:height, middle - half : middle + half] = rng.uniform(0.1, 0.6, 3)
    wall[height * 3 // 5 : height - 6, middle - half + 4 : middle + half - 4] = GLASS


def roof(rng: np.random.Generator, colour: ArrayLike) -> NDArray[np.uint8]:
    """Rows of tiles."""
    tiles = plain(rng, 100, 240, colour, 0.16)
    tiles[::6] *= 0.65
    return to_texels(tiles)


def leaves(rng: np.random.Generator, colour: ArrayLike) -> NDArray[np.uint8]:
    """Foliage: strong contrast at the size of twigs."""
    return to_texels(plain(rng, 96, 192, colour, 0.36, ((24, 24), (10, 10), (5, 5), (2, 2))))


def car_side(rng: np.random.Generator, colour: ArrayLike) -> NDArray[np.uint8]:
    """4.2 m x 0.95 m at 2.5 cm: paint, wheels, sill, door lines and handles."""
    paint = plain(rng, 38, 168, colour, 0.07)
    paint *= np.linspace(0.75, 1.1, 38)[:, None, None]
    paint[:8] = 0.07
    rows, columns = np.mgrid[:38, :168]
    for axle in (32, 134):
        radius = np.hypot(rows - 12, columns - axle)
        paint[radius < 14] = 0.06
        paint[radius < 7] = 0.55
        paint[radius < 3] = 0.2
    for line in (54, 86, 116):
        paint[8:, line : line + 1] *= 0.45
    paint[28:30, 76:83] = paint[28:30, 106:113] = 0.15
    paint[24:31, :6] = (0.8, 0.1, 0.1)
    paint[24:31, -6:] = 0.95
    return to_texels(paint)


def car_end(rng: np.random.Generator, colour: ArrayLike) -> NDArray[np.uint8]:
    """1.75 m x 0.95 m at 2.5 cm: bumper, plate and lights."""
    paint = plain(rng, 38, 70, colour, 0.07)
    paint[:8] = 0.07
    paint[8:16] *= 0.6
    paint[12:17, 24:46] = 0.92
    paint[22:30, 3:15] = paint[22:30, -15:-3] = (0.75, 0.12, 0.10)
    paint[33:34] *= 0.5
    return to_texels(paint)


def car_window(rng: np.random.Generator, width: int, colour: ArrayLike) -> NDArray[np.uint8]:
    """Glass between painted pillars, 0.55 m high at 2.5 cm."""
    glass = plain(rng, 22, width, GLASS, 0.25)
    glass *= np.linspace(0.7, 1.6, 22)[:, None, None]
    frame, middle = np.asarray(colour) * 0.85, width // 2
    glass[:2] = glass[-2:] = frame
    glass[:, :4] = glass[:, -4:] = glass[:, middle - 2 : middle + 2] = frame
    return to_texels(glass)


def road(
    rng: np.random.Generator, length: int, width: int, metres_per_row: float, lines: Sequence[int],
    middle: int,
) -> NDArray[np.float32]:
    """Asphalt with repairs, cracks, solid lines at the columns `lines` and dashes at `middle`."""
    cells = ((30, 40), (10, 20), (4, 8), (2, 4), (1, 2))
    picture = plain(rng, length, width, np.full(3, rng.uniform(0.34, 0.46)), 0.17, cells)
    for _ in range(length // 50):
        row, column = rng.integers(length), rng.integers(width)
        patch = picture[row : row + rng.integers(10, 60), column : column + rng.integers(15, 60)]
        patch *= rng.uniform(0.7, 1.25)
    for _ in range(length // 40):
        row, column, size = rng.integers(length), rng.integers(width), rng.integers(20, 80)
        wander = np.cumsum(rng.integers(-1, 2, size)) + column
        picture[np.minimum(row + np.arange(size), length - 1), np.clip(wander, 0, width - 1)] *= 0.5
    worn = 0.85 + 0.1 * noise(rng, length, width, ((4, 4), (2, 2)))[:, :, None]
    for line in lines:
        picture[:, line - 1 : line + 2] = 0.92 * worn[:, line - 1 : line + 2]
    dash, period = round(3.0 / metres_per_row), round(7.5 / metres_per_row)
    painted = np.arange(length) % period < dash
    picture[painted, middle - 1 : middle + 2] = 0.95 * worn[painted, middle - 1 : middle + 2]
    return picture


def pavement(rng: np.random.Generator, length: int, width: int, slab: tuple[int, int]) -> NDArray:
    """Slabs of (rows, columns), each of its own shade, with dark joints."""
    picture = plain(rng, length, width, (0.62, 0.59, 0.55), 0.08, ((40, 40), (6, 6), (1, 2)))
    shades = rng.normal(1, 0.10, (length // slab[0] + 1, width // slab[1] + 1))
    picture *= np.kron(shades, np.ones(slab))[:length, :width, None]
    picture[:: slab[0]] *= 0.7
    picture[:, :: slab[1]] *= 0.7
    picture[:, [0, 1, -2, -1]] = 0.72  # kerb stones
    return picture


def sky(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Azimuth -90..90 and elevation -10..50 degrees at 0.15 degrees: clouds over wooded hills."""
    height, width, horizon = 400, 1200, 67
    up = np.clip((np.arange(height) - horizon) / (height - horizon), 0, 1)[:, None, None] ** 0.6
    zenith = rng.uniform((0.25, 0.45, 0.78), (0.42, 0.62, 0.92))
    picture = (1 - up) * (0.86, 0.91, 0.96) + up * zenith
    clouds = noise(rng, height, width, ((50, 160), (24, 70), (10, 26), (5, 10), (2, 4)))
    cover = np.clip(clouds * 0.5 + rng.uniform(-0.1, 0.25), 0, 1)[:, :, None]
    shade = 0.93 + 0.05 * noise(rng, height, width, ((12, 30), (5, 10)))[:, :, None]
    picture = (1 - cover) * picture + cover * shade
    rows = np.arange(height)[:, None]
    for top, colour in ((16, (0.52, 0.60, 0.66)), (9, (0.36, 0.46, 0.40))):
        crest = top + top / 2 * noise(rng, 1, width, ((1, 220), (1, 60), (1, 14), (1, 4)))
        hill = plain(rng, height, width, colour, 0.13, ((12, 24), (6, 8), (3, 3)))
        picture = np.where((rows < horizon + crest)[:, :, None], hill, picture)
    return to_texels(picture)
