"""What is to be rendered, whatever the layout, and how folders and lists of it are made."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TEST_STEP = 3


class Plan(NamedTuple):
    """Streets numbered from 1, of which the last is held out for testing."""

    streets: int
    frames: int  # of each street, numbered from 0
    height: int  # of KITTI's pictures; the other data sets have sizes of their own
    width: int

    @property
    def held_out(self) -> int:
        """The street to test on."""
        return self.streets

    @property
    def training(self) -> range:
        """The streets to train on."""
        return range(1, self.streets)

    @property
    def test_frames(self) -> range:
        """The frames of the held-out street that are scored."""
        return range(0, self.frames, TEST_STEP)

    def targets(self, neighbours: int) -> range:
        """The frames that have so many on either side."""
        return range(neighbours, self.frames - neighbours)


def start_folder(path: Path) -> Path:
    """A new, empty folder beside `path`, to be renamed to it when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def lines(entries: Iterable[str]) -> str:
    """The text of a list."""
    return "".join(f"{entry}\n" for entry in entries)
