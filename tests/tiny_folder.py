"""Folders of frames as prepare_video.py writes them, and runs of train.py on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import train

SIZE = (150, 48)  # (width, height) of the pictures
CAMERA = (87.0, 92.16, 75.0, 24.0)  # fx, fy, cx, cy in their pixels
FRAMES = 8  # 6 of them have both neighbours


def write_folder(
    root: Path,
    clips: Iterable[str] = ("clip",),
    frames: Sequence[int] = range(FRAMES),
    val: Sequence[int] = (),
    ending: str = ".png",
    camera: Sequence[float] | None = CAMERA,
) -> Path:
    """A root with a smooth picture that slides left as frames pass; returns it.

    val: targets of the validation list; where there are any, the list is written. Training has
    every frame with both neighbours.
    """
    coarse = np.random.default_rng(0).integers(0, 256, (6, 24, 3), dtype=np.uint8)
    wide = Image.fromarray(coarse).resize((400, SIZE[1]), Image.Resampling.BICUBIC)
    clips = list(clips)
    for number, clip in enumerate(clips):
        (root / clip).mkdir(parents=True)
        for frame in frames:
            left = 4 * (frame - frames[0]) + 20 * number
            picture = wide.crop((left, 0, left + SIZE[0], SIZE[1]))
            picture.save(root / clip / f"{frame:010d}{ending}")
    if camera is not None:
        write_camera(root / "intrinsics.txt", camera)
    write_list(root / "train_files.txt", clips, frames[1:-1])
    if val:
        write_list(root / "val_files.txt", clips, val)
    return root


def write_camera(path: Path, camera: Sequence[float], size: tuple[int, int] | None = SIZE) -> None:
    """fx, fy, cx, cy in pixels, and for pictures of which size."""
    said = f"# size: {size[0]}x{size[1]}\n" if size else ""
    path.write_text(said + " ".join(map(str, camera)) + "\n")


def write_list(path: Path, clips: Iterable[str], frames: Sequence[int]) -> None:
    lines = (f"{clip} {frame}\n" for clip in clips for frame in frames)
    path.write_text("".join(lines), encoding="utf-8")


def write_depth(root: Path, clip: str, frames: Iterable[int], ending: str = ".png") -> np.ndarray:
    """True depth of some frames, (frames, 40, 120) metres; returns it."""
    depths = np.random.default_rng(1).uniform(2, 60, (len(list(frames)), 40, 120))
    depths = np.rint(depths * 256) / 256
    (root / "depth" / clip).mkdir(parents=True, exist_ok=True)
    for frame, depth in zip(frames, depths, strict=True):
        path = root / "depth" / clip / f"{frame:010d}{ending}"
        if ending == ".png":
            Image.fromarray((depth * 256).astype(np.uint16)).save(path)
        else:
            np.save(path, depth.astype(np.float32))
    return depths


def arguments(roots: Sequence[Path], logs: Path, name: str, *flags: object) -> list[str]:
    """A command line of train.py; later flags win."""
    given = ["--dataset", "folder", "--data_path", *roots, "--log_dir", logs, "--exp_name", name]
    given += ["--no_cuda", "--num_workers", 0, "--backbone", "resnet", "--weights_init", "scratch"]
    given += ["--batch_size", 2, "--height", 32, "--width", 64, "--num_epochs", 1]
    given += ["--log_frequency", 2, "--use_local_crop", "--use_patch_reshuffle", *flags]
    return [str(each) for each in given]


def run_train(roots: Sequence[Path], logs: Path, name: str, *flags: object) -> Path:
    """Train; returns the run's folder."""
    train.main(arguments(roots, logs, name, *flags))
    return logs / name
