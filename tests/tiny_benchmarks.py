"""Every test set in its published layout, with few pictures and lists of their own."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.tiny_model import save_picture

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
KITTI_FRAMES = (0, 3, 5)
COUNTS = {"kitti_eigen": 3, "nyuv2": 2, "make3d": 3, "cityscapes": 2}


def depth_map(rng: np.random.Generator, height: int, width: int, farthest: float) -> np.ndarray:
    """Float32, nowhere 0, and different from row to row and column to column."""
    return rng.uniform(1, farthest, (height, width)).astype(np.float32)


def write_kitti(root: Path) -> np.ndarray:
    """`root/raw` and `root/split`; the true depths (3, 60, 200)."""
    rng = np.random.default_rng(0)
    depths = np.stack([depth_map(rng, 60, 200, 60) for _ in KITTI_FRAMES])
    for i, number in enumerate(KITTI_FRAMES):
        save_picture(root / f"raw/{DRIVE}/image_02/data/{number:010d}.png", i)
    (root / "split").mkdir()
    lines = "".join(f"{DRIVE} {number} l\n" for number in KITTI_FRAMES)
    (root / "split/test_files.txt").write_text(lines)
    named = {f"depth_{i:05d}": depth for i, depth in enumerate(depths)}
    np.savez(root / "split/gt_depths.npz", **named)
    return depths


def write_nyuv2(root: Path) -> np.ndarray:
    """The depths of the measured part, (2, 427, 561)."""
    (root / "nyu_test").mkdir(parents=True)
    rng, depths, names = np.random.default_rng(1), [], [f"nyu_test/{i:05d}.h5" for i in (7, 2)]
    for name in names:
        depth = depth_map(rng, 480, 640, 9)
        with h5py.File(root / name, "w") as file:
            file["rgb"] = np.full((3, 480, 640), 90, np.uint8)
            file["depth"] = depth
        depths.append(depth[44:471, 40:601])
    (root / "test_files.txt").write_text("\n".join(names))
    return np.stack(depths)


def write_make3d(root: Path) -> np.ndarray:
    """The depths of the rows inside the picture, (3, 21, 305)."""
    for folder in ("Test134", "Gridlaserdata"):
        (root / folder).mkdir(parents=True)
    rng, depths, names = np.random.default_rng(2), [], ["op1-p-077t000", "op2", "op3"]
    for name in names:
        grid = np.zeros((55, 305, 4))
        grid[..., 3] = depth_map(rng, 55, 305, 60)
        picture = Image.new("L", (1704, 2272), 90)
        picture.save(root / f"Test134/img-{name}.jpg", format="png", compress_level=1)
        savemat(root / f"Gridlaserdata/depth_sph_corr-{name}.mat", {"Position3DGrid": grid})
        depths.append(grid[17:38, :, 3])
    (root / "test_files.txt").write_text("\n".join(names))
    return np.stack(depths).astype(np.float32)


def write_cityscapes(root: Path) -> np.ndarray:
    """Small pictures; the depths without the bonnet, at their true size, (2, 768, 2048)."""
    rng, depths, lines = np.random.default_rng(3), [], []
    intrinsic = {"fx": 2260.0, "fy": 2262.0, "u0": 1096.0, "v0": 513.0}
    (root / "camera/test/bonn").mkdir(parents=True)
    (root / "gt_depths").mkdir()
    for i in range(COUNTS["cityscapes"]):
        name = f"bonn_000000_{i:06d}"
        lines.append(f"bonn {name}")
        save_picture(root / f"leftImg8bit_sequence/test/bonn/{name}_leftImg8bit.png", i, 64, 128)
        camera = root / f"camera/test/bonn/{name}_camera.json"
        camera.write_text(json.dumps({"intrinsic": intrinsic}))
        depth = depth_map(rng, 1024, 2048, 70)
        np.save(root / f"gt_depths/{i:03d}_depth.npy", depth)
        depths.append(depth[:768])
    (root / "test_files.txt").write_text("\n".join(lines))
    return np.stack(depths)


def write_benchmarks(root: Path) -> dict[str, np.ndarray]:
    """All of them, under `root/NAME`; the true depths (images, h, w) of each protocol."""
    return {
        "kitti_eigen": write_kitti(root / "kitti"),
        "nyuv2": write_nyuv2(root / "nyuv2"),
        "make3d": write_make3d(root / "make3d"),
        "cityscapes": write_cityscapes(root / "cityscapes"),
    }


def path_flags(root: Path, *names: str) -> list[str]:
    """The flags that name the roots of all of them, or of some."""
    flags = []
    for name in names or ("kitti", "nyuv2", "make3d", "cityscapes"):
        folder = root / name / "raw" if name == "kitti" else root / name
        flags += [f"--{name}_path", str(folder)]
        if name == "kitti":
            flags += ["--eval_split", str(root / "kitti/split")]
    return flags
