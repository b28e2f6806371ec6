"""Render textured streets with a moving stereo pair, in the KITTI raw layout, with true depth.

The last street is held out: `split/train_files.txt` lists the others' frames, left and right,
`split/test_files.txt` every third left frame of the last one.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from options import render_options
from utils import UserError, atomic_path, format_duration, reason, run_script

RENDERER = 1  # raised when equal settings no longer give equal files
SETTINGS = "rendering.json"
TEST_STEP = 3
METRES_AHEAD = (20.0, 110.0)  # of street beyond the last frame, at least and at most


def main(argv: Sequence[str] | None = None) -> None:
    """Render the streets that the folder lacks, then write calibration and lists."""
    opt = render_options(argv)
    if opt.streets < 2:
        raise UserError(f"--streets {opt.streets}: expected 2 or more, since the last is held out")
    if opt.frames < 3:
        raise UserError(f"--frames {opt.frames}: expected 3 or more, since a training frame needs "
                        "both its neighbours")
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from rendering.kitti_raw import DATE, calibration, drive_name

    out, started = Path(opt.out), time.monotonic()
    _claim(out, opt)
    numbers = range(1, opt.streets + 1)
    missing = [n for n in numbers if not (out / drive_name(n)).is_dir()]
    workers = max(1, min(len(missing), os.cpu_count() or 1))
    drives = Parallel(workers, return_as="generator_unordered")(
        delayed(_render_street)(out, number, opt) for number in missing
    )
    for _ in tqdm(drives, "streets", len(missing), disable=not missing):
        pass
    files = {f"{DATE}/{name}": text for name, text in calibration(opt.height, opt.width).items()}
    train, test = _split_lines([drive_name(n) for n in numbers], opt.frames)
    files |= {"split/train_files.txt": "\n".join(train) + "\n",
              "split/test_files.txt": "\n".join(test) + "\n"}
    for name, text in files.items():
        _write_text(out / name, text)
    print(f"{out}: {opt.streets} streets of {opt.frames} frames ({len(missing)} rendered now, "
          f"{format_duration(time.monotonic() - started)}), lists in {out / 'split'}")


def _claim(out: Path, opt: Namespace) -> None:
    """Record the settings in the folder. Raises UserError if it holds anything else."""
    keys = ("streets", "frames", "height", "width", "seed")
    settings = {key: getattr(opt, key) for key in keys} | {"renderer": RENDERER}
    try:
        used = out.exists() and any(out.iterdir())
        recorded = json.loads((out / SETTINGS).read_text()) if used else settings
    except (OSError, ValueError) as error:
        raise UserError(f"--out {out} was not made by render_demo.py; name a folder that is new "
                        "or empty") from error
    if recorded != settings:
        raise UserError(f"--out {out} holds streets of other settings than these (its own are in "
                        f"{out / SETTINGS}); name another folder")
    if not used:
        _write_text(out / SETTINGS, json.dumps(settings, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text)


def _render_street(out: Path, number: int, opt: Namespace) -> None:
    """Render one street, in a process of its own. Raises UserError if it cannot be written."""
    import numpy as np

    from rendering import Street, drive_poses
    from rendering.kitti_raw import write_drive

    seed = opt.seed * 10_000 + number
    poses = drive_poses(seed, opt.frames)
    ahead = np.random.default_rng(seed).uniform(*METRES_AHEAD)
    street = Street(seed, length=poses[-1, 2, 3] + ahead)
    try:
        write_drive(out, number, street, poses, opt.height, opt.width)
    except OSError as error:
        raise UserError(f"cannot write street {number} to {out}: {reason(error)}") from error


def _split_lines(drives: Sequence[str], frames: int) -> tuple[list[str], list[str]]:
    """Lines `DRIVE FRAME SIDE` of the training list and of the held-out street's."""
    *training, held_out = drives
    train = [f"{drive} {frame:010d} {side}"
             for drive in training for frame in range(1, frames - 1) for side in "lr"]
    return train, [f"{held_out} {frame:010d} l" for frame in range(0, frames, TEST_STEP)]


if __name__ == "__main__":
    run_script(main)
