"""What tests of several files start from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.tiny_kitti import write_kitti


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The made-up drive of `tiny_kitti`, for the runs of one file."""
    root = write_kitti(tmp_path_factory.mktemp("kitti"))
    yield root
    shutil.rmtree(root)


@pytest.fixture(autouse=True)
def _forget_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """A run takes half a gigabyte: only those outlive a test whose names fit the pattern
    SHARED_RUNS of its file."""
    root = request.getfixturevalue("root") if "root" in request.fixturenames else None
    yield
    if root is not None:
        shared = getattr(request.module, "SHARED_RUNS", "")
        for run in (root / "logs").glob("*"):
            if not fnmatch(run.name, shared):
                shutil.rmtree(run)
