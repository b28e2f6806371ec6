"""Rendered scenes in the layout of NYU Depth v2, through the lens of its colour camera.

A training street is a folder of raw .ppm frames, bent as the lens bends them; the held-out one is
`nyu_test/NNNNN.h5`, pictures and depth without distortion. A street is larger than a room, so all
its lengths are shrunk by SCALE: pictures do not change by that, depths and motions do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rendering.plan import Plan, lines, start_folder
from rendering.raycast import Rendered, render
from rendering.scene import Scene

HEIGHT, WIDTH = 480, 640
K = np.array([[518.857901, 0, 325.582449], [0, 519.469611, 253.736166], [0, 0, 1]])
DISTORTION = (0.20796615, -0.58613826, 0.00072231, 0.00104796, 0.49856987)  # k1, k2, p1, p2, k3
SCALE = 0.08  # most of a street is then nearer than the 10 m that are scored
START = 1_294_886_360  # seconds, in the names of raw frames
RATE = 30  # frames a second
NEIGHBOURS = 4
ORDER = (0, -4, -3, -2, -1, 1, 2, 3, 4)  # of the files in a line


def folder(number: int, plan: Plan) -> str:
    """What is there, below the root, when a street is whole."""
    return "nyu_test" if number == plan.held_out else f"street_{number:04d}"


def raw_name(number: int, frame: int, plan: Plan) -> str:
    """A raw frame below the root: its time in seconds and the recorder's counter."""
    seconds, rest = divmod(frame, RATE)
    time = f"{START + seconds}.{rest * 1_000_000 // RATE:06d}"
    return f"{folder(number, plan)}/r-{time}-{frame}.ppm"


def write_street(root: Path, number: int, scene: Scene, world_T_cam: NDArray, plan: Plan) -> None:
    """Render a street's raw frames, of the one held out the labelled images of the test list.

    world_T_cam: (frames, 4, 4), in metres before SCALE. The folder appears whole or not at all.
    Raises OSError if it cannot be written.
    """
    whole = root / folder(number, plan)
    partial = start_folder(whole)
    if number == plan.held_out:
        for index, frame in enumerate(plan.test_frames):
            view = render(scene, world_T_cam[frame], K, HEIGHT, WIDTH)
            _write_labelled(partial / f"{index + 1:05d}.h5", view)
    else:
        for frame, pose in enumerate(world_T_cam):
            view = render(scene, pose, K, HEIGHT, WIDTH, distortion=DISTORTION)
            Image.fromarray(view.image).save(partial / Path(raw_name(number, frame, plan)).name)
    partial.replace(whole)


def _write_labelled(path: Path, view: Rendered) -> None:
    """`rgb` (3, 480, 640) and `depth` (480, 640), metres, 0 unknown."""
    import h5py

    with h5py.File(path, "w") as file:
        file["rgb"] = view.image.transpose(2, 0, 1)
        file["depth"] = np.float32(SCALE) * view.depth


def files(plan: Plan) -> dict[str, str]:
    """The lists, by path below the root: consecutive frames are neighbours, where the data set's
    own recipe takes every 10th, as these are 10 times as far apart.
    """
    train = [" ".join(raw_name(number, frame + place, plan) for place in ORDER)
             for number in plan.training for frame in plan.targets(NEIGHBOURS)]
    test = [f"nyu_test/{index + 1:05d}.h5" for index in range(len(plan.test_frames))]
    return {"train_files.txt": lines(train), "test_files.txt": lines(test)}
