"""Derive NYUv2's training list from the folder of raw frames: none is published.

    python -m datasets.nyuv2_list --data_path RAW

A scene is a folder of .ppm files, in the order of the times in their names. Every 10th frame is a
target, its neighbours are the frames 10, 20, 30 and 40 before and after it; where a scene ends
before that, there is no line. Keep the scenes of the test images out of the folder.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from datasets.files import require_folder, some_of
from datasets.splits import SPLITS
from utils import UserError, atomic_path, run_script

STEP = 10
NEIGHBOURS = (0, -4, -3, -2, -1, 1, 2, 3, 4)  # in the order of a line, in steps


def scenes(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder with .ppm files, relative to the root, and the files in the order of time."""
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        frames = [name for name in names if name.endswith(".ppm")]
        if frames:
            yield Path(folder).relative_to(root).as_posix(), sorted(frames, key=_in_time)


def _in_time(name: str) -> list[int | str]:
    """Sort key by the numbers in a name: seconds, then six digits of microseconds."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _check_names(scene: str, frames: Sequence[str]) -> None:
    """Raise UserError for a name that a list, UTF-8 words between spaces, cannot hold."""
    for name in (scene, *frames):
        if " " in name or not name.isprintable():
            raise UserError(f"the name {name!r} cannot stand in a list, where names end at a "
                            "space: rename it")


def scene_rows(frames: Sequence[str]) -> tuple[list[list[str]], int]:
    """The nine files of every target of a scene; how many targets are too near to its ends."""
    targets = range(0, len(frames), STEP)
    margin = STEP * max(NEIGHBOURS)
    inner = [t for t in targets if margin <= t < len(frames) - margin]
    rows = [[frames[t + STEP * n] for n in NEIGHBOURS] for t in inner]
    return rows, len(targets) - len(inner)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(argv: Sequence[str] | None = None) -> None:
    """Write train_files.txt, and say what was kept and what dropped."""
    parser = _Parser(prog="python -m datasets.nyuv2_list", description="Derive NYUv2's training "
                     "list from its raw frames: every 10th with neighbours 10 to 40 away.")
    parser.add_argument("--data_path", required=True, help="folder of the training scenes")
    parser.add_argument("--output", default=str(SPLITS / "nyuv2"), help="folder of the "
                        "train_files.txt (default: splits/nyuv2, where training looks for it)")
    opt = parser.parse_args(argv)
    root = Path(opt.data_path)
    require_folder(root)
    lines, short, counts = [], [], {"frames": 0, "ends": 0, "empty": 0}
    for scene, frames in scenes(root):
        _check_names(scene, frames)
        rows, ends = scene_rows(frames)
        # The raw release holds a few files without content.
        empty = {name for name in frames if not (root / scene / name).stat().st_size}
        whole = [row for row in rows if empty.isdisjoint(row)]
        lines += [" ".join(f"{scene}/{name}" for name in row) for row in whole]
        short += [] if rows else [scene]
        for key, count in zip(counts, (len(frames), ends, len(rows) - len(whole)), strict=True):
            counts[key] += count
    if not lines:
        raise UserError(f"no line for a training list in {root}: expected folders of more than "
                        f"{2 * STEP * max(NEIGHBOURS)} .ppm frames each, found {counts['frames']}")
    path = Path(opt.output) / "train_files.txt"
    with atomic_path(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    too_short = f", among them all of {len(short)} short scenes ({some_of(short)})" if short else ""
    print(f"{counts['frames']:,} frames: {len(lines):,} lines kept; dropped: {counts['ends']:,} "
          f"targets near the ends of their scenes{too_short}; {counts['empty']:,} with an empty "
          f"file among the nine; written: {path}")


if __name__ == "__main__":
    run_script(main)
