"""Evaluation, from pictures and ground truth on disk to a table: time, memory, two processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.material import DRIVE, KITTI, picture
from benchmarks.measure import (
    Effort,
    Result,
    Spread,
    Target,
    interleaved,
    processor_seconds,
)
from benchmarks.textbook_scoring import TextbookPictures, predict_all, score_all
from benchmarks.turns import Answers, ask, in_turns, side_processes
from datasets import build_dataset
from datasets.files import load_pixels
from datasets.mono_dataset import MonoDataset
from distributed import World
from evaluation import PROTOCOLS, Predictor, evaluate, score
from export_gt_depth import pack, write_archive
from freed_memory import keep_freed_memory
from ground_truth import load_gt_depths
from inference import DepthPredictor
from networks import build_depth_network

ROOT = Path(__file__).resolve().parents[1]
INPUT = (192, 640)  # (height, width)
HALF, DOUBLE = (188, 621), (750, 2484)
BATCH = 4
FILLED = 0.04  # share of KITTI's pixels whose depth the laser knows
EIGEN = PROTOCOLS["kitti_eigen"]
IMAGES = 24  # of a turn
WITH_NETWORK = 8  # of them
COUNTS = (40, 160)  # of images, between which memory is compared
RANKED = 24  # images that two processes share
ALL_BUT_NETWORK = Target(3, bound=1.5, reason=(
    "of what is left, decoding the PNG by ISA-L and FFmpeg and Pillow's Lanczos, the published "
    "pictures to the last bit, are a third each"
))
FLAT = Target(1.05, at_most=True)
RANKS = Target(1.8, bound=0.9, reason=(
    "1.8 to 2.0: two processes share caches and memory, and the clock on the wall runs for other "
    "people's work on the machine too"
))


def write_test_set(root: Path, count: int, size: tuple[int, int] = KITTI) -> list[str]:
    """Pictures of KITTI's layout, two files over and over, and their ground truth.

    `gt_ours.npz` as export_gt_depth.py writes it, `gt_plain.npz` in one array, compressed by NumPy.
    Returns the list's lines.
    """
    folder = root / DRIVE / "image_02/data"
    folder.mkdir(parents=True)
    paths = [folder / f"{frame:010d}.png" for frame in range(count)]
    for frame, path in enumerate(paths):
        if frame < 2:
            picture(frame, *size).save(path)
        else:
            path.hardlink_to(paths[frame % 2])
    depths = [laser_like(seed, size) for seed in range(min(count, 4))]
    chosen = [depths[frame % len(depths)] for frame in range(count)]
    write_archive(root / "gt_ours.npz", map(pack, chosen))
    np.savez_compressed(root / "gt_plain.npz", data=np.stack(chosen))
    return [f"{DRIVE} {frame} l" for frame in range(count)]


def laser_like(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Ground truth float32 (h, w) as sparse as a laser's, none in the upper two fifths."""
    rng = np.random.default_rng(seed)
    depth = np.where(rng.random(size) < FILLED / 0.6, rng.uniform(2, 78, size), 0)
    depth[: int(0.4 * size[0])] = 0
    return depth.astype(np.float32)


class Standin:
    """A network that costs nothing: one smooth disparity for every picture."""

    def __init__(self) -> None:
        slope = torch.linspace(0.01, 0.2, INPUT[0])[:, None] + torch.linspace(0, 0.05, INPUT[1])
        self.disp = slope[None, None]

    def scaled_disp(self, images: Tensor, post_process: bool = False) -> Tensor:  # noqa: ARG002
        """As `Predictor` has it; a copy, as a network's output is."""
        return self.disp.repeat(len(images), 1, 1, 1)


def our_pictures(root: Path, lines: Sequence[str]) -> MonoDataset:
    """The pictures of `write_test_set`, at network size."""
    return build_dataset("kitti", root, lines, *INPUT, frame_ids=(0,))


def plain_pictures(root: Path, lines: Sequence[str]) -> TextbookPictures:
    """The same by the textbook."""
    data = our_pictures(root, lines)
    return TextbookPictures([data.image_path(ref, 0) for ref in data.refs], INPUT)


def ours(
    root: Path, lines: Sequence[str], predictor: Predictor, world: World | None = None
) -> np.ndarray:
    """Everything but the network's weights; the metrics of each image, (images, 7)."""
    truth, data = load_gt_depths(root / "gt_ours.npz"), our_pictures(root, lines)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress
        result = evaluate(predictor, data, truth, EIGEN, world=world, batch_size=BATCH)
    return result.per_image


def textbook(root: Path, lines: Sequence[str], predictor: Predictor) -> np.ndarray:
    """The same by the textbook."""
    disps = predict_all(predictor.scaled_disp, plain_pictures(root, lines), BATCH)
    return score_all(disps, load_gt_depths(root / "gt_plain.npz"))


def measure_scoring(place: Path, effort: Effort) -> list[Result]:
    """An image read, scored, and all of it; with a network, too."""
    sizes = [KITTI] if len(effort.sizes) == 1 else [HALF, KITTI, DOUBLE]
    results = []
    for size in sizes:
        lines = write_test_set(place / str(size), IMAGES, size)
        results += _parts(place / str(size), lines, size, effort.repeats)
    root = place / "network"
    lines = write_test_set(root, WITH_NETWORK)
    sides = ("ours", "textbook")
    with side_processes({each: partial(answers, each, root, lines) for each in sides}) as pipes:
        for pipe in pipes.values():
            ask(pipe, "image")  # unmeasured
        said = in_turns(pipes, ("image",), min(3, effort.repeats))
    spent = {side: said[side]["image"] for side in sides}
    return [*results, Result("evaluation: an image, resnet 18 too", _named(KITTI), "s", **spent)]


def answers(side: str, root: Path, lines: Sequence[str]) -> Answers:
    """A side's, with a network, in its process, which ours sets up as evaluate_depth.py does."""
    torch.set_num_threads(1)
    if side == "ours":
        keep_freed_memory()
    run, predictor = ours if side == "ours" else textbook, random_network()
    return {"image": lambda: {
        "image": processor_seconds(partial(run, root, lines, predictor)) / len(lines)
    }}  # fmt: skip


def random_network() -> DepthPredictor:
    """A resnet 18 that has learned nothing."""
    return DepthPredictor(build_depth_network("resnet", 18), *INPUT)


def _named(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _parts(root: Path, lines: list[str], size: tuple[int, int], repeats: int) -> list[Result]:
    """Rows of an image without a network: what is read, what is scored, all of it."""
    data, plain, standin = our_pictures(root, lines), plain_pictures(root, lines), Standin()
    paths = [data.image_path(ref, 0) for ref in data.refs]
    truth = list(load_gt_depths(root / "gt_ours.npz"))
    disps = list(standin.disp.expand(len(lines), -1, -1, -1)[:, 0])
    kept = torch.stack(disps).numpy()

    def our_scores() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            score(disps, truth, EIGEN)

    sides: dict[str, tuple[Callable, Callable]] = {
        "pictures": (lambda: run_through(DataLoader(data, BATCH)),
                     lambda: run_through(DataLoader(plain, BATCH))),
        "ground truth": (lambda: run_through(load_gt_depths(root / "gt_ours.npz")),
                         lambda: load_gt_depths(root / "gt_plain.npz")),
        "scoring": (our_scores, lambda: score_all(kept, truth)),
        "all but the network": (lambda: ours(root, lines, standin),
                                lambda: textbook(root, lines, standin)),
    }  # fmt: skip
    judged = {"all but the network": ALL_BUT_NETWORK} if size == KITTI else {}
    rows = []
    for name, (ours_of_it, textbook_of_it) in sides.items():
        spent = interleaved({"ours": ours_of_it, "textbook": textbook_of_it}, repeats, len(lines))
        rows.append(Result(f"evaluation: {name}", _named(size), "s", **spent,
                           target=judged.get(name)))
    bare = interleaved({"bare": lambda: [load_pixels(path) for path in paths]}, repeats,
                       len(lines))  # fmt: skip
    rows.append(Result("evaluation: of which bare decoding", _named(size), "s", bare["bare"]))
    return rows


def run_through(items: Iterable) -> None:
    """Make every item, and keep none."""
    deque(items, maxlen=0)


def measure_runs(place: Path, effort: Effort) -> list[Result]:
    """Evaluation in processes of its own: how much memory for how many images; two ranks."""
    root, few, many = place / "set", *COUNTS
    write_test_set(root / "few", few)
    write_test_set(root / "many", many)
    peaks = {
        (side, count): Spread.of([in_process(side, root / name, count)["peak"]])
        for side in ("ours", "textbook") for name, count in (("few", few), ("many", many))
    }  # fmt: skip
    rows = [
        Result("evaluation: peak memory", f"{count} images", "MB",
               peaks["ours", count], peaks["textbook", count])
        for count in COUNTS
    ]  # fmt: skip
    flat = Result("evaluation: its growth, ours", f"{many} images beside {few}", "MB",
                  peaks["ours", many], peaks["ours", few], FLAT)
    return [*rows, flat, *_ranks(place / "ranked", effort.repeats)]


def _ranks(root: Path, repeats: int) -> list[Result]:
    """Two processes of one thread beside one, turn by turn; each the best of its turns."""
    write_test_set(root, RANKED)
    best = {(ranks, what): float("inf") for ranks in (1, 2) for what in ("wall", "processor")}
    for _ in range(repeats):
        for ranks in (1, 2):
            told = in_process("network", root, RANKED, ranks)
            for what in ("wall", "processor"):
                best[ranks, what] = min(best[ranks, what], told[what])
    return [
        Result(f"evaluation: two ranks, {name}", f"{RANKED} images, best of {repeats}", "s",
               Spread.of([best[2, what]]), Spread.of([best[1, what]]), target)
        for name, what, target in (("on the wall's clock", "wall", RANKS),
                                   ("processor of the busier", "processor", None))
    ]  # fmt: skip


def in_process(side: str, root: Path, count: int, ranks: int = 1) -> dict[str, float]:
    """`benchmarks/scoring_process.py`, by so many ranks of one thread: what the worst one tells.

    peak: MB of memory; wall, processor: seconds of the evaluation, without imports.
    """
    words = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}",
             "--standalone", "-m", "benchmarks.scoring_process"]  # fmt: skip
    words = words if ranks > 1 else [sys.executable, "-m", "benchmarks.scoring_process"]
    run = subprocess.run([*words, side, root, str(count)], cwd=ROOT, check=True, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    told = [json.loads(line) for line in run.stdout.splitlines()]
    return {name: max(each[name] for each in told) for name in told[0]}
