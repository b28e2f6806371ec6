"""From the options of a run to what it is scored on: pictures, true depth and a protocol for each.

train.py and evaluate_depth.py both find their benchmarks here, before any long work.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets import build_dataset
from datasets.files import some_of
from datasets.folder_lists import folder_lines, own_list
from datasets.mono_dataset import MonoDataset
from datasets.splits import split_lines
from evaluation import FOLDER, PROTOCOLS, STEREO_SCALE, Protocol, check_count
from ground_truth import load_gt_depths
from odometry import is_sequence
from utils import UserError

KITTI_SPLITS = {"eigen": "kitti_eigen", "eigen_benchmark": "kitti_eigen_benchmark"}
# The pictures of KITTI's depth benchmark server, which alone has their true depth. Predictions for
# them are handed in as 16-bit PNGs of this size, metres times 256.
SERVER = replace(
    PROTOCOLS["kitti_eigen"], name="kitti_benchmark", title="KITTI's depth benchmark server",
    cap=(0.0, 80.0), crop=None,
)  # fmt: skip
SERVER_SIZE = (352, 1216)
# The data set whose test pictures lie in the training root too, by --dataset.
TESTED_WITH = {
    "kitti": "kitti",
    "kitti_depth": "kitti",
    "nyuv2": "nyuv2",
    "cityscapes": "cityscapes",
}
OWN_LIST = "test_files.txt"
FOLDER_PARTS = ("test", "val")  # the lists of a folder of frames that it is scored on, the first


class Benchmark(NamedTuple):
    """A test set: pictures and true depth in the order of `names`, its list's lines."""

    protocol: Protocol
    dataset: MonoDataset
    names: list[str]
    ground_truth: Sequence[np.ndarray]  # (h, w) float32, metres, 0 where unknown


def find_benchmarks(
    opt: Namespace, height: int, width: int, *, trained: bool = False, truth: bool = True
) -> list[Benchmark]:
    """Every benchmark that the options name, all of its files there, for input (height, width).

    One of each --*_path, and of KITTI one a split of --eval_split. trained: also the test set of
    the --dataset that a run trains on, in --data_path where no flag names another root; a folder
    of frames may have none. truth: look for true depth (else that is an empty list). Raises
    UserError for what is missing, and for two benchmarks that would be scored under one name.
    """
    roots = {
        "kitti": opt.kitti_path,
        "nyuv2": opt.nyuv2_path,
        "make3d": opt.make3d_path,
        "cityscapes": opt.cityscapes_path,
        "folder": opt.folder_path and [opt.folder_path],
    }
    if trained and opt.dataset == "folder" and not opt.folder_path:
        roots["folder"] = [root for root in opt.data_path if _has_truth(root)] or None
    if trained and opt.dataset in TESTED_WITH:
        roots[TESTED_WITH[opt.dataset]] = roots[TESTED_WITH[opt.dataset]] or opt.data_path
    found: list[Benchmark] = []
    for name, root in roots.items():
        if root is None:
            continue
        if name == "kitti":
            names = opt.eval_split
            if trained and opt.dataset == "kitti_odom":  # its sequences are scored by their paths
                names = [name for name in names if not is_sequence(name)]
            splits = _depth_splits(names)
            sets = [_kitti(opt, root, split, (height, width), truth) for split in splits]
        elif name == "folder":
            sets = [_folders(root, (height, width), truth)]
        else:
            sets = [_single(name, root, (height, width), truth)]
        for each in sets:
            align = opt.resize_convention == "published"
            found.append(each._replace(protocol=replace(each.protocol, align_corners=align)))
    return found


def _depth_splits(names: Sequence[str]) -> list[str]:
    """The splits of --eval_split, with a test list and a name each.

    Raises UserError for a split that has no list, and for two that would be scored under one name:
    in tables, metrics.csv and files of disparities a name is one benchmark.
    """
    scored: dict[str, str] = {}
    for split in names:
        if is_sequence(split) and not os.path.isfile(Path(split) / OWN_LIST):
            raise UserError(
                f"--eval_split {split} is a sequence of KITTI odometry, which has camera paths and "
                f"no true depth: score it with `python evaluate_pose.py --eval_split {split}`"
            )
        split_lines("kitti", split, "test")
        name = kitti_protocol(split).name
        if name in scored:
            raise UserError(
                f"--eval_split names {name} twice, by {scored[name]} and by {split} (a folder of "
                "one's own is scored under that name): score one of them at a time"
            )
        scored[name] = split
    return list(scored.values())


def _kitti(
    opt: Namespace, root: str, split: str, size: tuple[int, int], truth: bool
) -> Benchmark:
    """One of KITTI's test lists, or a user's own in the KITTI raw layout."""
    lines = split_lines("kitti", split, "test")
    truth = truth and split != "benchmark"
    depths = kitti_ground_truth(split, len(lines)) if truth else []
    data = build_dataset("kitti", root, lines, *size, frame_ids=(0,), jpg=opt.jpg)
    return Benchmark(kitti_protocol(split), data, lines, depths)


def _single(name: str, root: str, size: tuple[int, int], truth: bool) -> Benchmark:
    """A data set with one test list; `test_files.txt` of the user's own in its root wins.

    The true depth of Cityscapes is in splits/cityscapes, of an own list in `gt_depths` of the root.
    """
    protocol = PROTOCOLS[name]
    own = os.path.isfile(Path(root) / OWN_LIST)
    if own:
        protocol = replace(protocol, title=f"{protocol.title} on {Path(root) / OWN_LIST}")
    lines = split_lines(name, root if own else "", "test")
    data = build_dataset(name, root, lines, *size, frame_ids=(0,))
    depths: Sequence[np.ndarray] = []
    if truth and own and name == "cityscapes":
        depths = data.ground_truth(Path(root) / "gt_depths")
    elif truth:
        depths = data.ground_truth()
    return Benchmark(protocol, data, lines, depths)


def _folders(roots: Sequence[str], size: tuple[int, int], truth: bool) -> Benchmark:
    """Folders of frames with true depth: the test list of each, else its validation list."""
    lines = folder_lines(roots, FOLDER_PARTS)
    data = build_dataset("folder", roots, lines, *size, frame_ids=(0,), camera_required=False)
    lists = ", ".join(str(own_list(root, FOLDER_PARTS)) for root in roots)
    protocol = replace(FOLDER, title=f"{FOLDER.title} on {lists}")
    return Benchmark(protocol, data, lines, data.ground_truth() if truth else [])


def _has_truth(root: str) -> bool:
    """Whether a folder of frames can be scored: most have no true depth."""
    return os.path.isdir(Path(root) / "depth") and own_list(root, FOLDER_PARTS) is not None


def kitti_protocol(split: str) -> Protocol:
    """The protocol of a KITTI test split; a folder of the user's own is scored as `eigen`."""
    if split == "benchmark":
        return SERVER
    if not _is_own_folder(split):
        return PROTOCOLS[KITTI_SPLITS[split]]
    protocol = PROTOCOLS["kitti_eigen"]
    return replace(protocol, title=f"{protocol.title} on {split}")


def kitti_ground_truth(split: str, count: int) -> Sequence[np.ndarray]:
    """The depth maps of a published KITTI split (under splits/kitti) or of a folder.

    Raises UserError, with the command that makes the file, if it is missing, unreadable or does
    not hold one depth map for each of `count` images.
    """
    published = Path(__file__).parent / "splits" / "kitti" / split
    path = (Path(split) if _is_own_folder(split) else published) / "gt_depths.npz"
    if not os.path.isfile(path):
        raise UserError(
            f"no ground truth at {path}: make it with "
            f"`python export_gt_depth.py --data_path KITTI_FOLDER --split {split}`"
        )
    depths = load_gt_depths(path)
    check_count(depths, count, str(path))
    return depths


def _is_own_folder(split: str) -> bool:
    """Whether `split` is a folder with a list of the user's own, which wins as it does there."""
    return split not in KITTI_SPLITS or os.path.isfile(Path(split) / OWN_LIST)


def fixed_scale(opt: Namespace) -> float | None:
    """What predicted depths are multiplied by, from the options; None: median scaling."""
    if opt.eval_stereo or (opt.use_stereo and not opt.eval_mono):
        return STEREO_SCALE
    return opt.pred_depth_scale_factor if opt.disable_median_scaling else None


def cautions(protocol: Protocol, max_depth: float | None, scale: float | None) -> list[str]:
    """What makes a benchmark's numbers unlike the published ones, a sentence each.

    max_depth: the model's limit, None where it is not known; scale: as `fixed_scale` has it.
    """
    found = []
    if protocol.name == "nyuv2" and max_depth not in (None, protocol.max_depth):
        found.append(
            f"NYUv2 is scored with a model whose depths end at {max_depth:g} m; published NYUv2 "
            f"models end at {protocol.max_depth:g} m, and their files do not say so: for them, "
            f"give --max_depth {protocol.max_depth:g}"
        )
    if scale == STEREO_SCALE and not protocol.name.startswith("kitti"):
        found.append(
            f"{protocol.name} is scored with depths times {STEREO_SCALE}, the scale of KITTI's "
            "stereo rig, which no other data set has: --eval_mono scales by medians"
        )
    return found


def places_in_eigen(names: Sequence[str]) -> list[int]:
    """The place in KITTI's `eigen` test list of each of `names`. Raises UserError for another."""
    place = {line: index for index, line in enumerate(split_lines("kitti", "eigen", "test"))}
    others = [name for name in names if name not in place]
    if others:
        raise UserError(f"not among the images of KITTI's eigen test list: {some_of(others)}")
    return [place[name] for name in names]
