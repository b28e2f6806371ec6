"""Learn the camera of a rendered video whose camera is known: what train.py makes of it.

    python -m tests.learned_camera --out FOLDER           a camera for the clip
    python -m tests.learned_camera --out FOLDER --learn_intrinsics frame

Renders a street seen by a camera that sways like one in a hand, then trains depth, motion and
camera together from random weights; further flags go to train.py. Prints the camera after every
epoch beside the true one, and ends with 1 if a focal length is off by more than 5 %.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.interpolate import interp1d
from scipy.spatial.transform import Rotation, Slerp

import train
from rendering import Street, drive_poses, render
from rendering.kitti_raw import drive_name
from rendering.plan import start_folder

HEIGHT, WIDTH = 96, 128
CAMERA = (0.6, 0.8, 0.47, 0.53)  # fx, fy, cx, cy as fractions: 80 by 64 degrees
SWAY = (30.0, 15.0, 20.0)  # degrees of yaw, pitch and roll
TOLERANCE = 0.05  # of a focal length
FLAGS = (
    "--no_cuda --no_eval --num_workers 0 --backbone resnet --weights_init scratch --seed 1 "
    f"--height {HEIGHT} --width {WIDTH} --batch_size 4 --log_frequency 50 --save_frequency 100000 "
    "--min_depth 0.5 --max_depth 80 --learning_rate 3e-4 --keep 1 --resume"
)


def pixels() -> np.ndarray:
    """The true fx, fy, cx, cy in pixels of the network's input."""
    return np.array(CAMERA) * [WIDTH, HEIGHT, WIDTH, HEIGHT]


def walk(number: int, frames: int, sway: Sequence[float], slow: int) -> np.ndarray:
    """world_T_cam (frames, 4, 4): a drive, `slow` frames to each of its own."""
    drive = drive_poses(number, -(-frames // slow) + 1, sway)
    times, known = np.arange(frames) / slow, range(len(drive))
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, 3] = interp1d(known, drive[:, :3, 3], axis=0)(times)
    poses[:, :3, :3] = Slerp(known, Rotation.from_matrix(drive[:, :3, :3]))(times).as_matrix()
    return poses


def render_clip(root: Path, number: int, own) -> list[str]:
    """Write a clip in KITTI's layout, unless it is there; returns its lines of a list."""
    folder = root / drive_name(number)
    if not folder.is_dir():
        fx, fy, cx, cy = pixels()
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        poses = walk(number, own.frames, own.sway, own.slow)
        street = Street(number, length=poses[-1, 2, 3] + 60)
        partial = start_folder(folder)
        (partial / "image_02/data").mkdir(parents=True)
        for frame, pose in enumerate(poses):
            image = Image.fromarray(render(street, pose, K, HEIGHT, WIDTH).image)
            image.save(partial / f"image_02/data/{frame:010d}.png")
        partial.replace(folder)
    return [f"{drive_name(number)} {frame} l\n" for frame in range(1, own.frames - 1)]


def main(argv: Sequence[str] | None = None) -> int:
    """Render, train, compare."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--frames", type=int, default=122)
    parser.add_argument("--slow", type=int, default=2)
    parser.add_argument("--name", default="run")
    parser.add_argument("--sway", type=float, nargs=3, default=SWAY)
    parser.add_argument("--learn_intrinsics", default="clip")
    own, flags = parser.parse_known_args(argv)
    data = own.out / "data"
    lines = [line for number in range(1, own.clips + 1)
             for line in render_clip(data, number, own)]
    (data / "train_files.txt").write_text("".join(lines))
    places = ["--data_path", str(data), "--split", str(data), "--log_dir", str(own.out / "runs")]
    places += ["--exp_name", own.name, "--learn_intrinsics", own.learn_intrinsics]
    train.main([*FLAGS.split(), *places, *flags])
    with (own.out / "runs" / own.name / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    print(f"{'epoch':>5}{'fx':>9}{'fy':>9}{'cx':>9}{'cy':>9}")
    for row in rows:
        print(f"{row['epoch']:>5}" + "".join(
            f"{float(row[f'camera/{name}']):9.2f}" for name in ("fx", "fy", "cx", "cy")))
    print(" true" + "".join(f"{value:9.2f}" for value in pixels()))
    errors = [float(rows[-1][f"camera/{name}"]) / value - 1
              for name, value in zip(("fx", "fy"), pixels(), strict=False)]
    print("focal lengths are off by " + " and ".join(f"{error:+.1%}" for error in errors))
    return int(max(map(abs, errors)) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
