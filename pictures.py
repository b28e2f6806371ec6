"""Finding pictures, and reading them as people see them: of any kind, upright, in RGB."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from datasets.files import as_rgb, opened_image
from utils import UserError, reason

# How the names of our own results end, which are never taken for pictures to predict.
RESULTS = ("_disp", "_depth_m", "_depth_unscaled")


class Skips:
    """Counts the pictures or frames that cannot be used, naming each; or stops at the first."""

    def __init__(self, strict: bool) -> None:
        """strict: stop."""
        self.strict = strict
        self.count = 0

    def note(self, error: UserError) -> None:
        """Name and count what is passed over; raises the error itself if strict."""
        if self.strict:
            raise error
        self.count += 1
        tqdm.write(f"skipped: {error}", file=sys.stderr)


def find_pictures(source: str | Path, ext: str, kind: str = "an image") -> list[Path]:
    """The picture itself, those `*.ext` of a folder, or those of a pattern such as `in/*.jpg`.

    In natural order (2 before 10). Prints how many files of a folder are passed over. Raises
    UserError, saying what kind of file is expected, if there is no picture.
    """
    source = Path(source)
    if os.path.isdir(source):  # False too for a name that is too long: Path.is_dir raises
        images, others = find_images(source, ext)
        if others:
            outputs = sum(map(is_prediction, others))
            print(
                f"taking {len(images)} of the {len(images) + len(others)} files in {source}: "
                f"{outputs} are predictions, {len(others) - outputs} are not .{ext.lstrip('.')}"
            )
        return images
    if os.path.isfile(source):
        if is_prediction(source):
            raise UserError(
                f"--image_path {source} is a prediction: its name ends in {' or '.join(RESULTS)}"
            )
        return [source]
    matches = [Path(name) for name in glob.glob(str(source), recursive=True)]
    images = [path for path in matches if path.is_file() and not is_prediction(path)]
    if not images:
        raise UserError(
            f"--image_path {source} is neither {kind} nor a folder, nor a pattern matching images"
        )
    return sorted(set(images), key=_natural_key)


def find_images(folder: str | Path, ext: str) -> tuple[list[Path], list[Path]]:
    """The pictures `*.ext` of a folder in natural order (2 before 10), and the files passed over.

    .JPG is .jpg. Predictions of ours are never pictures, hidden files are no files at all. Raises
    UserError if the folder holds no picture.
    """
    folder, suffix = Path(folder), "." + ext.lstrip(".")
    try:
        shown = [path for path in folder.iterdir() if path.name[0] != "." and path.is_file()]
    except OSError as error:
        raise UserError(f"cannot list the folder {folder}: {reason(error)}") from error
    files, kind = sorted(shown, key=_natural_key), suffix.lower()
    images = [path for path in files if path.suffix.lower() == kind and not is_prediction(path)]
    if not images:
        found = ", ".join(sorted({path.suffix or path.name for path in files})) or "no file at all"
        raise UserError(f"no {suffix} image in {folder}, which holds {found}: see --ext")
    chosen = set(images)
    return images, [path for path in files if path not in chosen]


def is_prediction(path: Path) -> bool:
    """Whether a file is a result of ours (`NAME_disp.jpeg`, `NAME_depth_m.png`, ...)."""
    return path.stem.endswith(RESULTS)


def read_pictures(paths: Iterable[Path], skips: Skips) -> Iterator[tuple[Path, Image.Image]]:
    """Each path with its picture (`read_picture`), one at a time; `skips` takes the broken ones."""
    for path in paths:
        try:
            picture = read_picture(path)
        except UserError as error:
            skips.note(error)
            continue
        yield path, picture


def read_picture(path: str | Path) -> Image.Image:
    """A picture of any kind as people see it: RGB with 8 bits, turned as its EXIF says.

    Of more than 8 bits, the full range is scaled: 65535 becomes 255. Transparency is dropped: the
    colours under it are read, as training reads them. Raises UserError naming the file.
    """
    with opened_image(path) as image:
        return as_rgb(image, path, upright=True)


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """A sorting key under which the numbers in a path count as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]
