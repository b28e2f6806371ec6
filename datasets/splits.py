"""The published train, validation and test lists, stated compactly in `splits/` and expanded here.

    python -m datasets.splits kitti eigen_zhou train | head

A statement is a text file, `splits/DATASET/NAME.txt`, or `splits/DATASET.txt` where a data set has
one list. `[PART ...] SIDES` opens a section; a row below it names a drive, sequence or city, and
its frames (`1-3` is 1 2 3); `#` starts a comment. A section of two parts is told apart by its
`mask` rows: bit i (base64, least significant bit first) is set where entry i is of the second part.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils import UserError, read_lines, run_script

SPLITS = Path(__file__).resolve().parents[1] / "splits"


@dataclass(frozen=True)
class LineFormat:
    """What a line of a list must look like, and an example for who got it wrong."""

    pattern: re.Pattern[str]
    example: str

    def match(self, line: str, where: str) -> re.Match[str]:
        """The parts of a line. Raises UserError naming `where` the line stands."""
        found = self.pattern.fullmatch(line)
        if found is None:
            raise UserError(f"{where}: {line!r} is no line of this data set, expected for example "
                            f"{self.example!r}")
        return found


_KITTI_FRAME = r"\s+(?P<frame>[0-9]{1,10})(\s+(?P<side>[lr]))?"
_KITTI = LineFormat(
    re.compile(r"(?P<folder>\S+)" + _KITTI_FRAME), "2011_09_26/2011_09_26_drive_0001_sync 5 l"
)
_NYUV2 = LineFormat(
    re.compile(r"\S+(\s+\S+){8}"),
    "SCENE/0.ppm SCENE/-4.ppm ..., nine files: frame 0, then -4 -3 -2 -1 1 2 3 4",
)
# By data set; by data set and part where the parts differ.
LINE_FORMATS = {
    "kitti": _KITTI,
    "kitti_depth": _KITTI,
    "kitti_odom": LineFormat(re.compile(r"(?P<folder>[0-9]{1,2})" + _KITTI_FRAME), "9 0 l"),
    "cityscapes": LineFormat(
        re.compile(r"(?P<city>\S+)\s+(?P<frame>\S+_[0-9]{6}_[0-9]{6})"), "ulm ulm_000002_000025"
    ),
    "nyuv2 train": _NYUV2,
    "nyuv2 val": _NYUV2,
    "nyuv2 test": LineFormat(re.compile(r"\S+\.h5"), "nyu_test/00001.h5"),
    "make3d": LineFormat(re.compile(r"\S+"), "op1-p-077t000"),
    # A clip's name may hold spaces; the last one is before the number.
    "folder": LineFormat(
        re.compile(r"(?P<clip>\S(.*\S)?)\s+(?P<frame>[0-9]{1,18})"), "my clip 25"
    ),
}
# Layouts that share the lists of another data set.
_LISTS_OF = {"kitti_depth": "kitti", "kitti_odom": "kitti"}
# Ways to a list that is not published.
_WAYS = {"nyuv2 train": "; make it with `python -m datasets.nyuv2_list --data_path RAW`"}


def split_lines(dataset: str, name: str, part: str, root: Path = SPLITS) -> list[str]:
    """The lines of one list: `split_lines("kitti", "eigen_zhou", "train")`.

    name: a published split ("" where the data set has only one) or a folder. A file of the user's
    own, `{part}_files.txt` in that folder or in `root/dataset/name/`, wins over what is published.
    Test lists are in the published order. Raises UserError naming what would have been accepted.
    """
    wanted = f"{dataset} {part}"
    line_format = LINE_FORMATS.get(wanted) or LINE_FORMATS.get(dataset)
    dataset = _LISTS_OF.get(dataset, dataset)
    published = root / dataset / name
    for folder in (Path(name), published) if name else (published,):
        own = folder / f"{part}_files.txt"
        if os.path.isfile(own):  # False too for a name that is too long: Path.is_file raises
            return _own_lines(own, line_format)
    if dataset not in _ROWS:
        raise UserError(f"unknown data set {dataset!r}: lists exist for {', '.join(_ROWS)}")
    if os.path.isdir(name):
        raise UserError(f"the folder {name} holds no {part}_files.txt")
    statement = published.with_name(f"{published.name}.txt")
    if Path(name).name != name or not os.path.isfile(statement):
        named = ", ".join(_names(root / dataset, part))
        choices = named or "its only one by leaving the name out"
        raise UserError(f"{dataset} has no split {name!r}: choose {choices}, or a folder that "
                        f"holds {part}_files.txt")
    sections = _sections(statement)
    for section in sections:
        if part in section.parts:
            return section.lines(part, _ROWS[dataset])
    parts = ", ".join(known for section in sections for known in section.parts)
    raise UserError(f"{f'{dataset} {name}'.strip()} has no {part!r} list: it has {parts}"
                    f"{_WAYS.get(wanted, '')}")


def _names(folder: Path, part: str) -> list[str]:
    """The splits of a data set that have a part; all of them where none has it."""
    statements = sorted(folder.glob("*.txt"))
    having = [path for path in statements if any(part in each.parts for each in _sections(path))]
    return [path.stem for path in having or statements]


def published_lists(root: Path = SPLITS) -> list[str]:
    """Every published list as the command line takes it: `kitti eigen_zhou train`, ..."""
    found = []
    statements = (path for path in root.rglob("*.txt") if not path.stem.endswith("_files"))
    for statement in sorted(statements):
        words = statement.relative_to(root).with_suffix("").parts
        if words[0] in _ROWS:
            parts = (part for section in _sections(statement) for part in section.parts)
            found += [" ".join((*words, part)) for part in parts]
    return found


def _own_lines(path: Path, line_format: LineFormat | None) -> list[str]:
    """A user's list, each line checked where the format is known. Raises UserError."""
    lines = read_lines(path)
    if not lines:
        raise UserError(f"the list {path} is empty")
    if line_format is not None and not all(map(line_format.pattern.fullmatch, lines)):
        # Numbered only now: read_lines drops blank lines, an editor counts them.
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if line.strip():
                line_format.match(line.strip(), f"{path}:{number}")
    return lines


@dataclass
class _Section:
    """One or two parts of a statement: rows as written, and the mask that tells two apart."""

    parts: list[str]
    sides: list[str]
    rows: list[str] = field(default_factory=list)
    mask: str = ""

    def lines(self, part: str, expand: Callable[[str, Sequence[str]], Iterator[str]]) -> list[str]:
        entries = [line for row in self.rows for line in expand(row, self.sides)]
        if len(self.parts) == 1:
            return entries
        bits = np.frombuffer(base64.b64decode(self.mask), np.uint8)
        is_second = np.unpackbits(bits, count=len(entries), bitorder="little")
        wanted = self.parts.index(part)
        return [line for line, bit in zip(entries, is_second, strict=True) if bit == wanted]


def _sections(statement: Path) -> list[_Section]:
    """Read a statement (the grammar is in this file's docstring)."""
    sections: list[_Section] = []
    for line in read_lines(statement):
        if line.startswith("#"):
            continue
        if line.startswith("["):
            parts, sides = line[1:].split("]")
            sections.append(_Section(parts.split(), sides.split()))
        elif line.startswith("mask "):
            sections[-1].mask += line.removeprefix("mask ")
        else:
            sections[-1].rows.append(line)
    return sections


def _numbers(runs: str) -> Iterator[int]:
    """`1-3 7` is 1 2 3 7."""
    for run in runs.split():
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _kitti_row(row: str, sides: Sequence[str]) -> Iterator[str]:
    """`2011_09_26_drive_0001: 1-3` with sides l r, or `image: 0-2` without sides."""
    name, frames = row.split(":")
    folder = f"{name[:10]}/{name}_sync" if "_drive_" in name else name
    for frame in _numbers(frames):
        yield from (f"{folder} {frame} {side}".rstrip() for side in sides or [""])


def _cityscapes_row(row: str, _sides: Sequence[str]) -> Iterator[str]:
    """`ulm 0-94: 2-27`: a city, its sequences, the frames of each of them."""
    names, frames = row.split(":")
    city, _, sequences = names.partition(" ")
    for sequence in _numbers(sequences):
        yield from (f"{city} {city}_{sequence:06d}_{frame:06d}" for frame in _numbers(frames))


def _nyuv2_row(row: str, _sides: Sequence[str]) -> Iterator[str]:
    """`1-2 9`: numbers of official test images."""
    return (f"nyu_test/{number:05d}.h5" for number in _numbers(row))


def _make3d_row(row: str, _sides: Sequence[str]) -> Iterator[str]:
    """Names of images as they are."""
    return iter(row.split())


_ROWS = {
    "kitti": _kitti_row,
    "cityscapes": _cityscapes_row,
    "nyuv2": _nyuv2_row,
    "make3d": _make3d_row,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message}; the published lists are: {'; '.join(published_lists())}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the lines of one list; a reader that stops early (`| head`) is no error."""
    parser = _Parser(prog="python -m datasets.splits", description="Print the lines of a list.",
                     epilog="published lists: " + "; ".join(published_lists()))
    parser.add_argument("dataset", help=" or ".join(_ROWS))
    parser.add_argument("name", nargs="?", default="", help="a split, where there are several, or "
                        "a folder that holds PART_files.txt")
    parser.add_argument("part", help="train, val or test; kitti odom: also test_09, test_10")
    opt = parser.parse_args(argv)
    lines = split_lines(opt.dataset, opt.name, opt.part)
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail on the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run_script(main)
