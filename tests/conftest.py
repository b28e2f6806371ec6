"""What tests of several files start from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_kitti import write_kitti


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The made-up drive of `tiny_kitti`, for the runs of one file, which take half a gigabyte."""
    root = write_kitti(tmp_path_factory.mktemp("kitti"))
    yield root
    shutil.rmtree(root)
