"""One-off preparation of data: KITTI's laser depth, Cityscapes' triplets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.material import write_cityscapes, write_scans
from benchmarks.measure import Effort, Result, Target, interleaved, processor_seconds
from benchmarks.textbook import laser_depth, prepare_triplets
from benchmarks.turns import Answers, ask, in_turns, side_processes
from export_gt_depth import Source, packed, write_archive
from freed_memory import keep_freed_memory
from kitti_utils import generate_depth_map
from prepare_cityscapes import STEP, TRAINING_SIZE, find_snippets, make_triplets

SCAN_POINTS = 120_000
SNIPPET = 30  # frames of Cityscapes'
SCANS = Target(4, bound=3, reason=(
    "3.5 to 4.4 from run to run, as the textbook's own time moves: of ours most is reading, "
    "projecting and rounding, which are the same to the last bit"
))
EXPORTS = ("ours", "textbook")
EXPORT_ROWS = {"a scan": SCANS, "its archive too": None}
TRIPLETS = Target(2.5, bound=1.2, reason=(
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
        builds = {side: partial(export_answers, side, folder, paths) for side in EXPORTS}
        with side_processes(builds) as pipes:
            for pipe in pipes.values():
                for question in EXPORT_ROWS:
                    ask(pipe, question)  # unmeasured: files and code are in memory then
            said = in_turns(pipes, tuple(EXPORT_ROWS), effort.repeats)
        for name, target in EXPORT_ROWS.items():
            spent = {side: said[side][name] for side in EXPORTS}
            results.append(Result(f"export_gt_depth: {name}", f"{points} points", "s", **spent,
                                  target=target if points == SCAN_POINTS else None))
    return results


def export_answers(side: str, folder: Path, paths: Sequence[Path]) -> Answers:
    """A side's of `EXPORTS`, in its process, which ours sets up as export_gt_depth.py does."""
    if side == "ours":
        keep_freed_memory()
        read, archive = partial(generate_depth_map, vel_depth=True), our_archive
    else:
        read, archive = laser_depth, plain_archive

    def scans() -> None:
        for path in paths:
            read(folder, path)

    def spent(name: str, work: Callable[[], None]) -> dict[str, float]:
        return {name: processor_seconds(work) / len(paths)}

    return {"a scan": lambda: spent("a scan", scans),
            "its archive too": lambda: spent("its archive too", partial(archive, folder, paths))}


def our_archive(folder: Path, paths: Sequence[Path]) -> None:
    """As export_gt_depth.py does, in one process."""
    sources = [Source(path, folder, 2) for path in paths]
    write_archive(folder / "ours.npz", map(packed, sources))


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
