"""What of a data set is there, what is missing, and what a few of its samples look like.

    python -m datasets.check --dataset kitti --data_path KITTI

Looks for every file of the training list and of the test list, and for the true depth (odometry:
poses) of the latter; prints the cameras at network size; draws a contact sheet. Of folders of
frames also how far they move, and a verdict. Exits with 1 if anything is missing or damaged, with 2
if it cannot begin.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from datasets.check_options import chosen_lists, holds, parse_options
from datasets.files import FileIndex, require_folder, some_of
from datasets.folder_lists import check_roots, folder_lines, own_list
from datasets.splits import SPLITS, split_lines
from utils import UserError, atomic_path, check_writable, run_script

if TYPE_CHECKING:
    from datasets.folder_dataset import FolderDataset
    from datasets.mono_dataset import MonoDataset

CAMERAS = 200  # looked at, spread over the list
MOTIONS = 100  # pairs of frames compared, spread over the list
ROWS = 4  # samples on the contact sheet


class Found(NamedTuple):
    """A list and the files it needs, each counted once."""

    expected: int
    missing: list[str]
    whole: list[int]  # numbers of the lines that have all of theirs


def open_list(opt: argparse.Namespace, split: str, part: str) -> MonoDataset:
    """The data set over a list, whether its files are there or not. Raises UserError."""
    from datasets import build_dataset

    is_train = part == "train"
    # A line of an odometry test stands for a frame and the next.
    frames = (0, -1, 1) if is_train else (0, 1) if part.startswith("test_") else (0,)
    root = opt.data_path_pre if is_train and opt.data_path_pre else opt.data_path
    if opt.dataset == "folder":
        root, lines = split, folder_lines([split], [part])
        frames = (0,) if part == "test" else (0, -1, 1)
    else:
        lines = split_lines(opt.dataset, split, part)
    kitti = opt.dataset.startswith("kitti")
    cameras = {"kitti_intrinsics": opt.kitti_intrinsics} if kitti else {}
    cameras |= {"camera_required": False} if opt.dataset == "folder" else {}
    # Over no lines at first: a data set that lacks files of its lines is refused.
    dataset = build_dataset(
        opt.dataset, root, (), opt.height, opt.width, frames, is_train=is_train, jpg=opt.jpg,
        local_crop=is_train, patch_reshuffle=is_train, **cameras,
    )  # fmt: skip
    dataset.lines = lines
    dataset.refs = [dataset.parse(line) for line in lines]
    if opt.dataset == "folder":
        dataset.index_clips()
    dataset.frame_ids = (*frames, "s") if opt.use_stereo and is_train else frames
    return dataset


def find_files(dataset: MonoDataset) -> Found:
    """Look for every file that the lines need."""
    index, there, whole = FileIndex(), {}, []
    for number, ref in enumerate(dataset.refs):
        paths = [path for _, path in dataset.needed_files(ref)]
        for path in paths:
            if path not in there:
                there[path] = path in index
        if all(there[path] for path in paths):
            whole.append(number)
    return Found(len(there), [path for path, found in there.items() if not found], whole)


def find_truth(opt: argparse.Namespace, split: str, dataset: MonoDataset) -> str:
    """What a test list is scored against, in words. Raises UserError for what is missing."""
    if opt.dataset == "kitti_odom":
        from odometry import read_poses

        for name in sorted({int(ref.folder) for ref in dataset.refs}):
            path = Path(opt.data_path) / "poses" / f"{name:02d}.txt"
            count = len(read_poses(path))
            last = max(ref.frame for ref in dataset.refs if int(ref.folder) == name)
            last += max(dataset.frame_ids)
            if last >= count:
                raise UserError(f"{path} holds {count:,} poses, none for frame {last}")
        return "true poses: all there"
    if opt.dataset == "folder" and not (Path(split) / "depth").is_dir():
        return "ground truth: none; epochs are judged by the photometric loss"
    own = holds(split, "test") if split else False
    if opt.dataset == "kitti":
        from ground_truth import load_gt_depths

        path = (Path(split) if own else SPLITS / "kitti" / split) / "gt_depths.npz"
        if not path.is_file():
            raise UserError(f"{path} is missing: make it with `python export_gt_depth.py "
                            f"--data_path {opt.data_path} --split {split}`")
        depths = load_gt_depths(path)
        if len(depths) != len(dataset):
            raise UserError(f"{path} holds {len(depths):,} depth maps for {len(dataset):,} lines")
    elif opt.dataset == "cityscapes":
        depths = dataset.ground_truth(Path(split) / "gt_depths" if own else None)
    else:
        depths = dataset.ground_truth()
    return f"ground truth: {len(depths):,} depth maps, one a line"


def cameras(dataset: MonoDataset, numbers: Sequence[int]) -> str:
    """fx, fy, cx, cy of some lines, in pixels at network size: their range. Raises UserError."""
    known = [dataset.intrinsics(dataset.refs[number]) for number in spread(numbers, CAMERAS)]
    size = f"camera at {dataset.width}x{dataset.height}"
    if not known or None in known:
        return f"{size}: not known"
    pixels = np.array(known) * np.tile([dataset.width, dataset.height], 2)
    ranges = (f"{name} {low:.2f}" + (f" to {high:.2f}" if high - low > 0.005 else "")
              for name, low, high in zip(("fx", "fy", "cx", "cy"), pixels.min(0), pixels.max(0),
                                         strict=True))  # fmt: skip
    samples = f"over {len(known):,} of its lines" if len(known) > 1 else "of its only line"
    return f"{size}, pixels, {samples}: {', '.join(ranges)}"


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """At most `count` of them, from the first to the last at even distances."""
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers)))
    return [numbers[place] for place in places.round().astype(int)]


def report_list(opt: argparse.Namespace, split: str, part: str) -> tuple[MonoDataset, Found, bool]:
    """Print what is there of one list; the data set over it, its files, whether all is there.

    Raises UserError where there is no such list.
    """
    dataset = open_list(opt, split, part)
    found = find_files(dataset)
    there = found.expected - len(found.missing)
    print(f"{part} list{split and f' {split}'}: {len(dataset):,} lines, {len(found.whole):,} with "
          f"all of their files; {found.expected:,} files expected, {there:,} found")
    if found.missing:
        hint = dataset._other_extension(found.missing[0], FileIndex())
        print(f"missing: {some_of(found.missing)}{hint}")
    checks = [lambda: cameras(dataset, found.whole)] if found.whole else []
    if opt.dataset == "folder" and part == "train" and not found.missing:
        from datasets.folder_check import describe_clips

        listed = [root for root in opt.data_path if own_list(root, ["train"])]
        total = sum(len(folder_lines([root], ["train"])) for root in listed)
        checks += [lambda: describe_clips(dataset), lambda: judge(dataset, found.whole, total)]
    if part == "test" or (part != "train" and not holds(split, "test")):
        checks.append(lambda: find_truth(opt, split, dataset))
    said = [_said(check) for check in checks]
    return dataset, found, all(said) and not found.missing


def _said(check: Callable[[], str]) -> bool:
    """Print what a check finds, or what it misses; whether it misses nothing."""
    try:
        print(check())
    except UserError as error:
        print(f"missing or damaged: {error}")
        return False
    return True


def judge(dataset: FolderDataset, numbers: Sequence[int], total: int) -> str:
    """How far frames move, and what to expect of training on them, and on `total` samples in all.
    Raises UserError."""
    from datasets.folder_check import camera_verdicts, describe_motion, measure_motion, verdicts

    motions = measure_motion(dataset, spread(numbers, MOTIONS))
    found = [*camera_verdicts(dataset), *verdicts(total, motions, dataset.width)]
    said = [f"verdict: {sentence}" for sentence in found or ["nothing speaks against training"]]
    return "\n".join([describe_motion(motions, dataset.width), *said])


def draw(dataset: MonoDataset, numbers: Sequence[int]) -> tuple[np.ndarray, str]:
    """The contact sheet of some of the lines, and what it shows. Raises UserError."""
    from datasets.contact_sheet import contact_sheet

    numbers = spread(numbers, ROWS)
    sheet, columns = contact_sheet(dataset, numbers)
    lines = (textwrap.shorten(dataset.lines[number], 70, placeholder=" ...") for number in numbers)
    return sheet, (f"contact sheet, from left to right: {', '.join(columns)}; from top to bottom: "
                   f"{'; '.join(lines)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Report on every list, then draw samples of the first that has any."""
    opt = parse_options(argv)
    if opt.dataset == "folder":
        check_roots(opt.data_path)
    else:
        for root in filter(None, (opt.data_path, opt.data_path_pre)):
            require_folder(root)
    check_writable(Path(opt.output).parent)
    problems, drawn = 0, None
    for split, part in chosen_lists(opt):
        try:
            dataset, found, whole = report_list(opt, split, part)
        except UserError as error:
            if opt.split is not None:
                raise
            print(f"{part} list: missing: {error}")  # a default one: NYUv2's has yet to be made
            problems += 1
            continue
        problems += not whole
        drawn = drawn or (found.whole and (dataset, found.whole))
    sheet = None
    try:
        sheet, shows = draw(*drawn) if drawn else (None, "no line has all of its files")
        print(shows)
    except UserError as error:
        print(f"damaged: {error}")
        problems += 1
    print("something is missing or damaged: see above" if problems else "everything is there")
    print(save(sheet, opt.output))
    if problems:
        sys.exit(1)


def save(sheet: np.ndarray | None, path: str) -> str:
    """Write the contact sheet, if there is one; where it is. Raises UserError."""
    if sheet is None:
        return "no contact sheet"
    with atomic_path(path) as partial:
        Image.fromarray(sheet).save(partial)
    return f"contact sheet: {path}"


if __name__ == "__main__":
    run_script(main)
