"""Learn the camera of a rendered video whose camera is known: what train.py makes of it.

    python -m tests.learned_camera --out FOLDER           a camera for the clip; half an hour or so
    python -m tests.learned_camera --out FOLDER --learn_intrinsics frame

Renders a street seen by a camera that sways like one in a hand, then trains depth, motion and
camera together from random weights: first on frames that are next to each other, then on those that
are three, then five apart, between which the camera turns enough to tell its focal lengths. Further
flags go to train.py. Prints the camera of every epoch beside the true one, and ends with 1 if a
focal length is off by more than 5 %.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.interpolate import interp1d
from scipy.spatial.transform import Rotation, Slerp

import train
from arguments import COUNT, POSITIVE, Parser
from rendering import Street, drive_poses, render
from rendering.kitti_raw import drive_name
from rendering.plan import start_folder

HEIGHT, WIDTH = 96, 128
CAMERA = (0.6, 0.8, 0.47, 0.53)  # fx, fy, cx, cy as fractions: 80 by 64 degrees
SWAY = (30.0, 15.0, 20.0)  # degrees of yaw, pitch and roll
SEED = 1  # of the street and the way along it
TOLERANCE = 0.05  # of a focal length
# The loss of every scale at its own size: a motion of many pixels is one of few in a small picture.
FLAGS = (
    "--no_cuda --no_eval --num_workers 0 --backbone resnet --weights_init scratch --seed 1 "
    f"--height {HEIGHT} --width {WIDTH} --min_depth 0.5 --max_depth 80 --num_scales 4 "
    "--v1_multiscale --batch_size 4 --learning_rate 3e-4 --log_frequency 50 --keep 1 --resume"
)
STAGES = {1: 40, 3: 24, 5: 50}  # frames between target and source, and epochs
NAMES = ("fx", "fy", "cx", "cy")


def pixels() -> np.ndarray:
    """The true fx, fy, cx, cy in pixels of the network's input."""
    return np.array(CAMERA) * [WIDTH, HEIGHT, WIDTH, HEIGHT]


def walk(frames: int, sway: Sequence[float], slow: int) -> np.ndarray:
    """world_T_cam (frames, 4, 4): a drive, `slow` frames to each of its own."""
    drive = drive_poses(SEED, -(-frames // slow) + 1, sway)
    times, known = np.arange(frames) / slow, range(len(drive))
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, 3] = interp1d(known, drive[:, :3, 3], axis=0)(times)
    poses[:, :3, :3] = Slerp(known, Rotation.from_matrix(drive[:, :3, :3]))(times).as_matrix()
    return poses


def render_clip(root: Path, frames: int, slow: int, sway: Sequence[float]) -> None:
    """Write a clip in KITTI's layout, unless it is there."""
    folder = root / drive_name(SEED)
    if folder.is_dir():
        return
    fx, fy, cx, cy = pixels()
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    poses = walk(frames, sway, slow)
    street = Street(SEED, length=poses[-1, 2, 3] + 60)
    partial = start_folder(folder)
    (partial / "image_02/data").mkdir(parents=True)
    for frame, pose in enumerate(poses):
        image = Image.fromarray(render(street, pose, K, HEIGHT, WIDTH).image)
        image.save(partial / f"image_02/data/{frame:010d}.png")
    partial.replace(folder)


def write_list(folder: Path, frames: int, step: int) -> None:
    """The frames that have both neighbours, `step` away."""
    folder.mkdir(exist_ok=True)
    lines = [f"{drive_name(SEED)} {frame} l\n" for frame in range(step, frames - step)]
    (folder / "train_files.txt").write_text("".join(lines))


def learned(run: Path) -> list[list[float]]:
    """fx, fy, cx, cy after each epoch of a run, in pixels of the network's input."""
    with (run / "metrics.csv").open() as file:
        return [[float(row[f"camera/{name}"]) for name in NAMES] for row in csv.DictReader(file)]


def main(argv: Sequence[str] | None = None) -> int:
    """Render, train, compare; 1 if a focal length is off."""
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the clip and its runs")
    parser.add_argument("--frames", type=COUNT, default=122, help="of the clip")
    parser.add_argument("--slow", type=COUNT, default=2, help="frames to each of a drive's")
    parser.add_argument("--sway", type=POSITIVE, nargs=3, default=SWAY, help="yaw, pitch and roll")
    own, flags = parser.parse_known_args(argv)
    data, logs = own.out / "data", own.out / "runs"
    render_clip(data, own.frames, own.slow, own.sway)
    start: list[str] = []
    rows: list[list[float]] = []
    for step, epochs in STAGES.items():
        split, name = data / f"step{step}", f"step{step}"
        write_list(split, own.frames, step)
        places = {"data_path": data, "split": split, "log_dir": logs, "exp_name": name}
        given = [word for key, value in places.items() for word in (f"--{key}", str(value))]
        times = ["--frame_ids", "0", str(-step), str(step), "--num_epochs", str(epochs),
                 "--decay_step", str(epochs - 4)]  # fmt: skip
        train.main([*FLAGS.split(), *given, *times, *start, "--learn_intrinsics", *flags])
        start = ["--pretrained_path", str(logs / name / "ckpt.pth"), "--models_to_load", "encoder",
                 "depth", "pose_encoder", "pose", "intrinsics"]  # fmt: skip
        rows += learned(logs / name)
    print("epoch" + "".join(f"{name:>9}" for name in NAMES))
    for epoch, row in [*enumerate(rows), ("true", pixels())]:
        print(f"{epoch:>5}" + "".join(f"{value:9.2f}" for value in row))
    errors = (np.array(rows[-1]) / pixels() - 1)[:2]
    print(f"fx is off by {errors[0]:+.1%}, fy by {errors[1]:+.1%}")
    return int(np.abs(errors).max() > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
