"""Convert the colour pictures of a KITTI tree to JPEG, which `--jpg` reads.

    python -m datasets.to_jpeg --data_path KITTI --out KITTI_JPG

Of KITTI raw and of its odometry data: pictures as `.jpg` of quality 92 and 4:2:0, in folders of
the same names, and text files (calibrations, times, poses) as they are. Laser scans and depth maps
stay where they were. Started again, it makes what is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from arguments import COUNT, Parser
from datasets.files import load_rgb, require_folder, some_of
from utils import UserError, atomic_path, run_script
from worker_processes import in_processes

QUALITY, SUBSAMPLING = 92, "4:2:0"
COLOUR = re.compile(r"image_0?[23]")  # folders of the left and the right colour camera
DEPTH = "proj_depth"  # has folders of such names too, of 16-bit depth maps
CHUNK = 16  # files that a process is handed at once


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The checked command line."""
    parser = Parser("Convert the colour pictures of a KITTI tree to JPEG, which --jpg reads.")
    parser.add_argument("--data_path", required=True, help="root of KITTI raw, or of odometry")
    parser.add_argument("--out", required=True, help="folder of the converted tree")
    parser.add_argument("--num_workers", type=COUNT, default=4, help="processes")
    return parser.parse_args(argv)


def find_files(root: Path) -> Iterator[Path]:
    """The colour PNGs and the text files of a tree, relative to its root, in order."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(set(folders) - {DEPTH})
        below = Path(folder).relative_to(root)
        colour = any(COLOUR.fullmatch(part) for part in below.parts)
        for name in sorted(names):
            if name.endswith(".txt") or (colour and name.endswith(".png")):
                yield below / name


def convert(path: Path, root: Path, out: Path) -> str | None:
    """Make one file of the converted tree if it is not there; what was wrong with it, if anything.

    path: relative to both roots. Raises UserError if it cannot be written.
    """
    target = (out / path).with_suffix(".jpg") if path.suffix == ".png" else out / path
    if target.is_file():
        return None
    if path.suffix == ".txt":
        with atomic_path(target) as partial_file:
            shutil.copyfile(root / path, partial_file)
        return None
    try:
        picture = load_rgb(root / path)
    except UserError as error:
        return str(error)
    with atomic_path(target) as partial_file:
        picture.save(partial_file, quality=QUALITY, subsampling=SUBSAMPLING)
    return None


def convert_all(paths: Sequence[Path], root: Path, out: Path, num_workers: int) -> Iterable[str]:
    """Every file, by that many processes; yields a sentence for each picture that is damaged."""
    work = partial(convert, root=root, out=out)
    done = in_processes(work, paths, num_workers, at_once=CHUNK)
    yield from filter(None, tqdm(done, total=len(paths), unit="file"))


def main(argv: Sequence[str] | None = None) -> None:
    """See the top of this file. Raises UserError for bad input and damaged pictures."""
    opt = parse_options(argv)
    root, out = Path(opt.data_path), Path(opt.out)
    require_folder(root)
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--out {out} lies in --data_path {root}: give a folder beside it")
    paths = list(find_files(root))
    pictures = sum(path.suffix == ".png" for path in paths)
    if not pictures:
        raise UserError(f"{root} has no colour pictures: image_02/data/*.png or image_2/*.png")
    damaged = list(convert_all(paths, root, out, opt.num_workers))
    print(f"{pictures - len(damaged):,} pictures are in {out}: train with --data_path {out} --jpg")
    if damaged:
        raise UserError(f"{len(damaged)} pictures are damaged, start again when they are mended: "
                        f"{some_of(damaged)}")


if __name__ == "__main__":
    run_script(main)
