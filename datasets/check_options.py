"""The command line of `python -m datasets.check`, and the lists that it is about; no torch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from datasets.folder_lists import own_list
from datasets.splits import split_lines
from utils import UserError

# The published list that each is trained on by default, as train.py has it.
TRAIN_SPLITS = {
    "kitti": "eigen_zhou", "kitti_odom": "odom", "kitti_depth": "eigen_zhou", "nyuv2": "",
    "cityscapes": "", "folder": "",
}  # fmt: skip
# The published lists that each is tested on: (split, part).
TEST_LISTS = {
    "kitti": [("eigen", "test")],
    "kitti_depth": [("eigen_benchmark", "test")],
    "kitti_odom": [("odom", "test_09"), ("odom", "test_10")],
    "nyuv2": [("", "test")],
    "cityscapes": [("", "test")],
    "make3d": [("", "test")],
    "folder": [],  # its own alone
}
LISTS = ("train", "test")
# Those of folders of frames, by --only: the last two are looked for where they are.
FOLDER_PARTS = {None: ("train", "val", "test"), "train": ("train",), "test": ("val", "test")}
KITTI_TESTS = ("eigen", "eigen_benchmark")  # --split may name them: there is no training list then


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _size(text: str) -> int:
    if not text.isdecimal() or not int(text) or int(text) % 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no multiple of 32 above 0")
    return int(text)


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The checked command line. Raises UserError."""
    parser = _Parser(prog="python -m datasets.check", allow_abbrev=False, description="Count what "
                     "a data set has and lacks, print its cameras, draw a few of its samples.")
    parser.add_argument("--dataset", required=True, choices=tuple(TEST_LISTS), help="its layout")
    parser.add_argument("--data_path", nargs="+", required=True, help="root (of Cityscapes: the "
                        "raw one; of --dataset folder: one or several)")
    parser.add_argument("--data_path_pre", help="Cityscapes: folder of the training triplets")
    parser.add_argument("--split", help="a published list of KITTI, or a folder that holds "
                        "train_files.txt, test_files.txt or both (default: as train.py has it)")
    parser.add_argument("--only", choices=LISTS, help="look for one of the lists, for "
                        "example where each has a root of its own")
    parser.add_argument("--height", type=_size, default=192, help="of network input (default 192)")
    parser.add_argument("--width", type=_size, default=640, help="of network input (default 640)")
    parser.add_argument("--jpg", action="store_true", help="KITTI: .jpg pictures instead of .png")
    parser.add_argument("--use_stereo", action="store_true", help="KITTI: stereo partners too")
    parser.add_argument("--kitti_intrinsics", choices=("nominal", "calib"), default="nominal",
                        help="KITTI: the cameras, as train.py has them (default nominal)")
    parser.add_argument("--output", default="sheet.png", help="the contact sheet, a .png "
                        "(default sheet.png)")
    opt = parser.parse_args(argv)
    needs_triplets = opt.dataset == "cityscapes" and opt.only != "test"
    if needs_triplets and opt.data_path_pre is None:
        parser.error("Cityscapes is trained on triplets: give --data_path_pre, the folder of "
                     "prepare_cityscapes.py, or --only test")
    if opt.data_path_pre is not None and opt.dataset != "cityscapes":
        parser.error(f"--data_path_pre is for cityscapes, got --dataset {opt.dataset}")
    for flag in ("jpg", "use_stereo", "kitti_intrinsics"):
        if getattr(opt, flag) not in (False, "nominal") and not opt.dataset.startswith("kitti"):
            parser.error(f"--{flag} is for KITTI's layouts, got --dataset {opt.dataset}")
    if opt.dataset == "folder" and opt.split is not None:
        parser.error("--split is of published data sets: each --data_path of --dataset folder has "
                     "its own lists")
    if opt.dataset != "folder":
        if len(opt.data_path) > 1:
            parser.error(f"--data_path takes one folder with --dataset {opt.dataset}, got "
                         f"{len(opt.data_path)}: several go with --dataset folder")
        (opt.data_path,) = opt.data_path
    if opt.dataset == "make3d" and opt.only == "train":
        parser.error("Make3D is for testing alone: leave out --only train")
    if Path(opt.output).suffix.lower() != ".png":
        parser.error(f"--output {opt.output}: expected a name that ends in .png")
    return opt


def chosen_lists(opt: argparse.Namespace) -> list[tuple[str, str]]:
    """(split, part) of every list to look for. Raises UserError where --split names none.

    A folder's own lists win. As in evaluation, the root may hold the test list (not KITTI's). Of
    folders of frames the split is the root.
    """
    if opt.dataset == "folder":
        return [(root, part) for root in opt.data_path for part in FOLDER_PARTS[opt.only]
                if part == "train" or own_list(root, [part])]
    if opt.split is not None and opt.split not in KITTI_TESTS and not os.path.isdir(opt.split):
        split_lines(opt.dataset, opt.split, "train")  # an unknown name is refused with the choices
    kitti = opt.dataset.startswith("kitti")
    own = [folder for folder in (opt.split, None if kitti else opt.data_path)
           if folder and holds(folder, "test")]
    is_folder = opt.split is not None and os.path.isdir(opt.split)
    if own:
        tests = [(own[0], "test")]
    elif opt.split in KITTI_TESTS:
        tests = [(opt.split, "test")]
    else:
        tests = [] if is_folder and kitti else TEST_LISTS[opt.dataset]
    trains = []
    lacks_train = is_folder and not holds(opt.split, "train")
    if opt.dataset in TRAIN_SPLITS and opt.split not in KITTI_TESTS and not lacks_train:
        trains = [(TRAIN_SPLITS[opt.dataset] if opt.split is None else opt.split, "train")]
    chosen = {"train": trains, "test": tests, None: trains + tests}[opt.only]
    if not chosen or (is_folder and not any(holds(opt.split, part) for part in LISTS)):
        wanted = f"{opt.only}_files.txt" if opt.only else "train_files.txt or test_files.txt"
        raise UserError(f"{opt.split} has no list to look for: expected a split of "
                        f"{opt.dataset} or a folder that holds {wanted}")
    return chosen


def holds(folder: str, part: str) -> bool:
    """Whether a folder has such a list of its own."""
    return os.path.isfile(Path(folder) / f"{part}_files.txt")
