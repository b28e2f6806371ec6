"""A made-up drive in the KITTI raw layout with its lists and true depths, and runs of train.py."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import train
from utils import run_script

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
HEIGHT, WIDTH = 32, 64
FRAMES = 8  # 6 of them have both neighbours
TEST_FRAMES = (1, 3, 6)


def write_kitti(root: Path, frames: int = FRAMES) -> Path:
    """`root/raw` and `root/split`; returns root. A smooth picture slides left as frames pass."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 24, 3), dtype=np.uint8)
    wide = Image.fromarray(coarse).resize((400, 48), Image.Resampling.BICUBIC)
    for frame in range(frames):
        for camera, offset in ((2, 0), (3, 6)):
            path = picture_path(root, frame, camera)
            path.parent.mkdir(parents=True, exist_ok=True)
            left = 4 * frame + offset
            wide.crop((left, 0, left + 150, 48)).save(path)
    split = root / "split"
    split.mkdir()
    write_list(split / "train_files.txt", range(1, frames - 1))
    write_list(split / "test_files.txt", TEST_FRAMES)
    depths = np.random.default_rng(1).uniform(2, 60, (len(TEST_FRAMES), 60, 200))
    names = [f"depth_{i:05d}" for i in range(len(depths))]
    np.savez(split / "gt_depths.npz", **dict(zip(names, depths.astype(np.float32), strict=True)))
    return root


def picture_path(root: Path, frame: int, camera: int = 2) -> Path:
    return root / "raw" / DRIVE / f"image_{camera:02d}/data/{frame:010d}.png"


def write_list(path: Path, frames: Sequence[int]) -> None:
    path.write_text("".join(f"{DRIVE} {frame} l\n" for frame in frames))


def arguments(root: Path, name: str = "run", *flags: object) -> list[str]:
    """A command line of train.py on the made-up drive; later flags win."""
    given = ["--data_path", root / "raw", "--split", root / "split", "--eval_split", root / "split"]
    given += ["--log_dir", root / "logs", "--exp_name", name, "--no_cuda", "--num_workers", 0]
    given += ["--backbone", "resnet", "--weights_init", "scratch", "--batch_size", 2]
    given += ["--height", HEIGHT, "--width", WIDTH, "--num_epochs", 2, "--log_frequency", 2]
    given += ["--use_local_crop", "--use_patch_reshuffle", *flags]
    return [str(each) for each in given]


def run_train(root: Path, name: str = "run", *flags: object) -> Path:
    """Train; returns the run's folder."""
    train.main(arguments(root, name, *flags))
    return root / "logs" / name


def run_as_script(monkeypatch, command_line: Sequence[str]) -> int:
    """Run train.py as from a shell, within this process; returns the exit code."""
    monkeypatch.setattr("sys.argv", ["train.py", *command_line])
    try:
        run_script(train.main)
    except SystemExit as stop:
        return stop.code
    return 0


def refused(monkeypatch, capsys, command_line, code: int = 2) -> str:
    """The one sentence of a refused run."""
    assert run_as_script(monkeypatch, command_line) == code
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, lines
    assert "Traceback" not in "\n".join(lines)
    return errors[0]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file's content, by path."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def flat(state: object, name: str = "") -> dict[str, object]:
    """Every leaf of nested dicts and lists under its path."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {name: state}
    leaves: dict[str, object] = {}
    for key, value in items:
        leaves |= flat(value, f"{name}/{key}")
    return leaves


def differences(first: Path, second: Path) -> list[str]:
    """Names of what differs, by one bit or more, between two checkpoint files."""
    a, b = flat(load(first)), flat(load(second))
    assert a.keys() == b.keys()
    return [
        name
        for name, value in a.items()
        if not (
            torch.equal(value, b[name]) if isinstance(value, torch.Tensor) else value == b[name]
        )
    ]
