"""Rendered pictures in the layout of Make3D: upright, of the published size, with a laser grid.

`Test134/img-NAME.jpg` (2272 rows, 1704 columns) and `Gridlaserdata/depth_sph_corr-NAME.mat`, whose
Position3DGrid (55, 305, 4) holds x, y, z and the depth in metres at the centres of 55 x 305 equal
cells of the picture. Only the held-out street is rendered: nothing is trained on here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rendering.plan import Plan, lines, start_folder
from rendering.raycast import Rays, View, render
from rendering.scene import Scene

HEIGHT, WIDTH = 2272, 1704
K = np.array([[2200.0, 0, WIDTH / 2], [0, 2200.0, HEIGHT / 2], [0, 0, 1]])
GRID = (55, 305)
FARTHEST = 81.0  # metres, what the scanner states for the sky; beyond what is scored
QUALITY = 95  # of the JPEG files
NEIGHBOURS = None


def picture_name(number: int, frame: int) -> str:
    """NAME of a frame."""
    return f"street{number:02d}-p-{frame:03d}t000"


def folder(number: int, plan: Plan) -> str:  # noqa: ARG001
    """What is there, below the root, when the street is whole."""
    return "Test134"


def write_street(root: Path, number: int, scene: Scene, world_T_cam: NDArray, plan: Plan) -> None:
    """Render the pictures and laser grids of the test list; the pictures' folder appears last.

    world_T_cam: (frames, 4, 4). Raises OSError if they cannot be written.
    """
    from scipy.io import savemat

    whole = root / folder(number, plan)
    partial = start_folder(whole)
    grids = root / "Gridlaserdata"
    grids.mkdir(exist_ok=True)
    for frame in plan.test_frames:
        name, pose = picture_name(number, frame), world_T_cam[frame]
        # One ray a pixel: they are far more than any network sees.
        picture = Image.fromarray(render(scene, pose, K, HEIGHT, WIDTH, supersample=1).image)
        picture.save(partial / f"img-{name}.jpg", quality=QUALITY)
        grid = {"Position3DGrid": laser_grid(scene, pose)}
        savemat(grids / f"depth_sph_corr-{name}.mat", grid, do_compression=True)
    partial.replace(whole)


def laser_grid(scene: Scene, world_T_cam: NDArray) -> NDArray[np.float64]:
    """Position3DGrid (55, 305, 4): x, y, z of the camera's axes and the depth, exact, in metres."""
    rows, columns = ((np.arange(cells) + 0.5) * size / cells - 0.5
                     for cells, size in zip(GRID, (HEIGHT, WIDTH), strict=True))
    rays = Rays(((columns - K[0, 2]) / K[0, 0])[None], ((rows - K[1, 2]) / K[1, 1])[:, None])
    inv_depth = View(scene, world_T_cam).cast(rays).inv_depth
    depth = np.full(GRID, FARTHEST)
    np.divide(1, inv_depth, out=depth, where=inv_depth > 1 / FARTHEST)
    return np.stack([rays.x * depth, rays.y * depth, depth, depth], axis=-1)


def files(plan: Plan) -> dict[str, str]:
    """The test list, by path below the root."""
    names = [picture_name(plan.held_out, frame) for frame in plan.test_frames]
    return {"test_files.txt": lines(names)}
