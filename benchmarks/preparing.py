"""One-off preparation of data: KITTI's laser depth, Cityscapes' triplets."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks.material import write_cityscapes, write_scans
from benchmarks.measure import Effort, Result, Target, interleaved
from benchmarks.textbook import laser_depth, prepare_triplets
from kitti_utils import generate_depth_map
from prepare_cityscapes import STEP, TRAINING_SIZE, find_snippets, make_triplets

SCAN_POINTS = 120_000
SNIPPET = 30  # frames of Cityscapes'
SCANS = Target(4, reason=(
    "in a picture of a street one point in a hundred meets another (in the real scans that were "
    "looked at, one in three hundred), so the textbook's loop is short; what is left is reading, "
    "projecting and rounding, which both sides do to the same last bit"
))

TRIPLETS = Target(2.5, reason=(
    "most of the time goes into compressing the PNG, which files equal byte for byte leave as it "
    "is; at compress level 1 the same pixels were 3.8 times as quick, in files 5% larger"
))


def measure_export(place: Path, effort: Effort) -> list[Result]:
    """Laser scans to depth maps, read from their files."""
    results = []
    for points in effort.points:
        folder = place / str(points)
        paths = write_scans(folder, points, effort.scans)

        def all_scans(read, folder=folder, paths=paths) -> None:
            for path in paths:
                read(folder, path)

        sides = {"ours": partial(all_scans, partial(generate_depth_map, vel_depth=True)),
                 "textbook": partial(all_scans, laser_depth)}  # fmt: skip
        spent = interleaved(sides, effort.repeats, per=len(paths))
        target = SCANS if points == SCAN_POINTS else None
        results.append(Result("export_gt_depth: a scan", f"{points} points", "s", **spent,
                              target=target))
    return results


def measure_cityscapes(place: Path, effort: Effort) -> list[Result]:
    """Triplets of one snippet; a whole one of Cityscapes has 30 frames. The files are the same."""
    results = []
    for frames in effort.frames:
        raw = write_cityscapes(place / str(frames), frames)
        sides = {
            "ours": partial(our_triplets, raw, place / "ours"),
            "textbook": partial(prepare_triplets, raw, place / "plain", TRAINING_SIZE),
        }
        spent = interleaved(sides, min(3, effort.repeats), per=frames - 2 * STEP)
        target = TRIPLETS if frames == SNIPPET else None
        results.append(Result("prepare_cityscapes: a triplet", f"{frames} frames", "s", **spent,
                              target=target))
    return results


def our_triplets(raw: Path, out: Path, size: tuple[int, int] = TRAINING_SIZE) -> None:
    """Everything made anew."""
    shutil.rmtree(out, ignore_errors=True)
    for snippet in find_snippets(raw):
        make_triplets(snippet, out, size)
