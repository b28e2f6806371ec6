"""Rendered sequences in the layout of Cityscapes' raw release, through its off-centre camera.

`leftImg8bit_sequence/{train,test}/CITY/`, `camera/{train,test}/CITY/` and, for the test list,
`gt_depths/NNN_depth.npy` (float32, metres, 0 where unknown), a street being a city of one sequence.
Test pictures and depth have the published size; training pictures have half of it, which is what
prepare_cityscapes.py reduces them to. Each camera file is about its own pictures. The car's bonnet
is in every picture.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rendering.plan import Plan, lines, start_folder
from rendering.raycast import Rendered, render
from rendering.scene import Scene

HEIGHT, WIDTH = 1024, 2048
CAMERA = (2262.52, 2265.3017905988554, 1096.98, 513.137)  # fx, fy, cx, cy of HEIGHT and WIDTH
BASELINE = 0.209313  # metres
TRAINING_SHARE = 0.5  # of the published size
BONNET_ROWS, BONNET = 0.8, (38, 40, 46)  # it begins at this share of the height; its colour
NEIGHBOURS = 2  # in frames: prepare_cityscapes.py takes every second one


def city(number: int) -> str:
    """A street's name."""
    return f"street{number:02d}"


def frame_name(number: int, frame: int) -> str:
    """CITY_SEQUENCE_FRAME."""
    return f"{city(number)}_000000_{frame:06d}"


def part(number: int, plan: Plan) -> str:
    """`test` for the street that is held out, else `train`."""
    return "test" if number == plan.held_out else "train"


def folder(number: int, plan: Plan) -> str:
    """What is there, below the root, when a street is whole."""
    return f"leftImg8bit_sequence/{part(number, plan)}/{city(number)}"


def intrinsics(share: float = 1.0) -> NDArray[np.float64]:
    """The camera, (3, 3), in pixels of a picture of that share of the published size."""
    fx, fy, cx, cy = (share * value for value in CAMERA)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def take(scene: Scene, pose: NDArray, share: float, supersample: int = 2) -> Rendered:
    """A picture and its depth as the camera on the car sees them: the bonnet's depth is 0."""
    height, width = round(HEIGHT * share), round(WIDTH * share)
    image, depth = render(scene, pose, intrinsics(share), height, width, supersample)
    bonnet = int(BONNET_ROWS * height)
    image[bonnet:], depth[bonnet:] = BONNET, 0
    return Rendered(image, depth)


def write_street(
    root: Path, number: int, scene: Scene, world_T_cam: NDArray, plan: Plan,
    share: float = TRAINING_SHARE,
) -> None:
    """Render a street's frames, of the one held out those of the test list; its folder is last.

    world_T_cam: (frames, 4, 4). share: of the published size, for training pictures. Raises OSError
    if it cannot be written.
    """
    whole = root / folder(number, plan)
    partial = start_folder(whole)
    cameras = root / "camera" / part(number, plan) / city(number)
    cameras.mkdir(parents=True, exist_ok=True)
    if number == plan.held_out:
        _write_test(root, partial, cameras, number, scene, world_T_cam, plan)
    else:
        for frame, pose in enumerate(world_T_cam):
            picture = Image.fromarray(take(scene, pose, share).image)
            picture.save(_picture_path(partial, number, frame), compress_level=1)
        _write_camera(cameras, frame_name(number, len(world_T_cam) // 2), share)
    partial.replace(whole)


def _write_test(
    root: Path, partial: Path, cameras: Path, number: int, scene: Scene, world_T_cam: NDArray,
    plan: Plan,
) -> None:
    """The pictures, cameras and depth of the test list."""
    depths = root / "gt_depths"
    depths.mkdir(exist_ok=True)
    for index, frame in enumerate(plan.test_frames):
        # One ray a pixel: these are four times as many pixels as any network sees.
        image, depth = take(scene, world_T_cam[frame], 1.0, supersample=1)
        Image.fromarray(image).save(_picture_path(partial, number, frame), compress_level=1)
        np.save(depths / f"{index:03d}_depth.npy", depth)
        _write_camera(cameras, frame_name(number, frame), 1.0)


def _picture_path(cities: Path, number: int, frame: int) -> Path:
    return cities / f"{frame_name(number, frame)}_leftImg8bit.png"


def _write_camera(cameras: Path, name: str, share: float) -> None:
    """A camera file; of where the camera is on the car it states the stereo baseline alone."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics(share).tolist()
    camera = {"extrinsic": {"baseline": BASELINE},
              "intrinsic": {"fx": fx, "fy": fy, "u0": cx, "v0": cy}}
    (cameras / f"{name}_camera.json").write_text(json.dumps(camera, indent=4) + "\n")


def files(plan: Plan) -> dict[str, str]:
    """The lists, by path below the root; the training list is of prepare_cityscapes.py's output."""
    train = [f"{city(number)} {frame_name(number, frame)}" for number in plan.training
             for frame in plan.targets(NEIGHBOURS)]
    test = [f"{city(plan.held_out)} {frame_name(plan.held_out, frame)}"
            for frame in plan.test_frames]
    return {"train_files.txt": lines(train), "test_files.txt": lines(test)}
