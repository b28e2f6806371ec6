"""Made-up files to measure on: pictures that compress as a camera's do, scans, calibrations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

KITTI = (375, 1242)  # (height, width) of a frame
CITYSCAPES = (1024, 2048)
DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
NOISE = 1.5  # grey levels of a sensor; with it KITTI's files are about as large as real ones
BEAMS = 64  # of the scanner
WOBBLE = 1e-3  # radians of a beam
CAMERA = """S_rect_02: 1242 375
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_02: 721.5 0 609.6 44.9 0 721.5 172.9 0.2 0 0 1 0.003
P_rect_03: 721.5 0 609.6 -339.5 0 721.5 172.9 2.2 0 0 1 0.003
"""
LASER = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.08 -0.27\n"


def picture(seed: int, height: int, width: int) -> Image.Image:
    """Texture of every size from the whole picture to 4 pixels, and a sensor's noise: RGB."""
    rng = np.random.default_rng(seed)
    values = np.full((height, width, 3), 110.0)
    step = max(height, width)
    while step >= 4:
        coarse = rng.normal(0, 6 + 18 * step / (step + 60), (height // step + 2, width // step + 2))
        octave = Image.fromarray(coarse.astype(np.float32))
        octave = octave.resize((width, height), Image.Resampling.BICUBIC)
        values += np.asarray(octave)[..., None] * rng.uniform(0.8, 1.2, 3)
        step //= 2
    values += rng.normal(0, NOISE, values.shape)
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def write_drive(root: Path, size: Sequence[int] = KITTI, frames: int = 6) -> list[str]:
    """A drive of KITTI's raw layout; returns the lines of the frames with both neighbours."""
    folder = root / DRIVE / "image_02/data"
    folder.mkdir(parents=True)
    for frame in range(frames):
        picture(frame, *size).save(folder / f"{frame:010d}.png")
    return [f"{DRIVE} {frame} l" for frame in range(1, frames - 1)]


def write_scans(root: Path, points: int, count: int) -> list[Path]:
    """A day's calibration and some turns of a scanner on a street: ground, walls, noise.

    About one in a hundred of the points in the picture meets another.
    """
    root.mkdir(parents=True)
    (root / "calib_cam_to_cam.txt").write_text(CAMERA)
    (root / "calib_velo_to_cam.txt").write_text(LASER)
    paths = [root / f"{index:010d}.bin" for index in range(count)]
    for seed, path in enumerate(paths):
        rng = np.random.default_rng(seed)
        steps = points // BEAMS
        turn = np.linspace(-np.pi, np.pi, steps, endpoint=False)
        turn, tilt = np.meshgrid(turn, np.radians(np.linspace(2, -24.8, BEAMS)))
        turn = turn + rng.normal(0, WOBBLE, turn.shape)
        tilt = tilt + rng.normal(0, WOBBLE, turn.shape)
        walls = 4 + 30 * np.abs(np.interp(turn, np.linspace(-np.pi, np.pi, 40), rng.random(40)))
        ground = 1.73 / np.maximum(-np.sin(tilt), 0.01)
        distance = np.minimum(walls / np.cos(tilt), ground) + rng.normal(0, 0.02, turn.shape)
        flat = distance * np.cos(tilt)
        scan = [flat * np.cos(turn), flat * np.sin(turn), distance * np.sin(tilt),
                rng.random(turn.shape)]  # fmt: skip
        np.stack(scan, -1).reshape(-1, 4).astype(np.float32).tofile(path)
    return paths


def write_cityscapes(root: Path, frames: int, size: Sequence[int] = CITYSCAPES) -> Path:
    """A snippet of the raw layout: five pictures, over and over, and its camera; returns root."""
    folder, cameras = root / "leftImg8bit_sequence/train/ulm", root / "camera/train/ulm"
    folder.mkdir(parents=True)
    cameras.mkdir(parents=True)
    paths = [folder / f"ulm_000000_{frame:06d}_leftImg8bit.png" for frame in range(frames)]
    for frame, path in enumerate(paths):
        if frame < 5:
            picture(frame, *size).save(path)
        else:
            path.hardlink_to(paths[frame % 5])
    camera = {"intrinsic": {"fx": 2262.5, "fy": 2265.3, "u0": 1096.9, "v0": 513.1}}
    middle = cameras / f"ulm_000000_{frames // 2:06d}_camera.json"
    middle.write_text(json.dumps(camera))
    return root
