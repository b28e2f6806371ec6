"""One-off preparation of data: KITTI's laser depth, Cityscapes' triplets."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.material import write_cityscapes, write_scans
from benchmarks.measure import Effort, Result, Target, interleaved
from benchmarks.textbook import laser_depth, prepare_triplets
from export_gt_depth import Source, pack_all, write_archive
from kitti_utils import generate_depth_map
from prepare_cityscapes import STEP, TRAINING_SIZE, find_snippets, make_triplets

SCAN_POINTS = 120_000
SNIPPET = 30  # frames of Cityscapes'
SCANS = Target(4, reason=(
    "3.3 to 3.6 with one BLAS thread on both sides: half of what is left is the picture's own new "
    "memory, zeroed by the system; the rest is reading, projecting and rounding, which both sides "
    "do to the same last bit (with BLAS's default two threads the textbook waits for them: over 6)"
))
TRIPLETS = Target(2.5, reason=(
    "compressing the PNG, which files equal byte for byte leave as Pillow does it, is over half of "
    "the textbook's time alone and allows 1.7 at most; the row of --fast_png has the same pixels"
))
FAST_TRIPLETS = Target(2.5)


def measure_export(place: Path, effort: Effort) -> list[Result]:
    """Laser scans to depth maps, read from their files; and on into an archive."""
    results = []
    for points in effort.points:
        folder = place / str(points)
        paths = write_scans(folder, points, effort.scans)

        def all_scans(read, folder=folder, paths=paths) -> None:
            for path in paths:
                read(folder, path)

        sides = {"ours": partial(all_scans, partial(generate_depth_map, vel_depth=True)),
                 "textbook": partial(all_scans, laser_depth)}  # fmt: skip
        archives = {"ours": partial(our_archive, folder, paths),
                    "textbook": partial(plain_archive, folder, paths)}  # fmt: skip
        for name, pair, target in (("a scan", sides, SCANS), ("its archive too", archives, None)):
            spent = interleaved(pair, effort.repeats, per=len(paths))
            results.append(Result(f"export_gt_depth: {name}", f"{points} points", "s", **spent,
                                  target=target if points == SCAN_POINTS else None))
    return results


def our_archive(folder: Path, paths: Sequence[Path]) -> None:
    """As export_gt_depth.py does, in one process."""
    sources = [Source(path, folder, 2) for path in paths]
    write_archive(folder / "ours.npz", pack_all(sources, num_workers=1))


def plain_archive(folder: Path, paths: Sequence[Path]) -> None:
    """All maps, then NumPy's compression of them."""
    depths = [laser_depth(folder, path).astype(np.float32) for path in paths]
    np.savez_compressed(folder / "plain.npz", data=np.stack(depths))


def measure_cityscapes(place: Path, effort: Effort) -> list[Result]:
    """Triplets of one snippet, in the published bytes and with --fast_png; decoding is once a
    frame. A whole snippet of Cityscapes has 30 frames."""
    results = []
    for frames in effort.frames:
        raw = write_cityscapes(place / str(frames), frames)
        sides = {
            "ours": partial(our_triplets, raw, place / "ours"),
            "fast": partial(our_triplets, raw, place / "fast", fast_png=True),
            "textbook": partial(prepare_triplets, raw, place / "plain", TRAINING_SIZE),
        }
        spent = interleaved(sides, min(3, effort.repeats), per=frames - 2 * STEP)
        for what, side, target in (("same bytes", "ours", TRIPLETS),
                                   ("--fast_png, same pixels", "fast", FAST_TRIPLETS)):
            judged = target if frames == SNIPPET else None
            results.append(Result(f"prepare_cityscapes: a triplet, {what}", f"{frames} frames",
                                  "s", spent[side], spent["textbook"], judged))
    return results


def our_triplets(
    raw: Path, out: Path, size: tuple[int, int] = TRAINING_SIZE, fast_png: bool = False
) -> None:
    """Everything made anew."""
    shutil.rmtree(out, ignore_errors=True)
    for snippet in find_snippets(raw):
        make_triplets(snippet, out, size, fast_png)
