"""Checkpoints that are damaged, and a disk that is full: what a run makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoint import previous_path
from tests.processes import Job, leftovers, run_differences, run_job
from tests.tiny_kitti import load

pytestmark = pytest.mark.slow
SHARED_RUNS = "uninterrupted"
NARROW = {"PROBE_NARROW": "1"}
FLAGS = ("--save_frequency", 1)


@pytest.fixture(scope="module")
def uninterrupted(root) -> Path:
    return run_job(root, "uninterrupted", *FLAGS, **NARROW)


@pytest.fixture
def killed(root) -> Path:
    """The folder of a run that was killed before its sixth and last step."""
    job = Job(root, "killed", *FLAGS, PROBE_AT="step 6 KILL", **NARROW)
    assert job.codes() == [-9]
    return job.folder


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_the_checkpoint_before_a_damaged_one_goes_on(root, uninterrupted, killed, damage):
    newest = killed / "ckpt.pth"
    damage(newest)
    job = Job(root, "killed", *FLAGS, "--resume", **NARROW)
    assert job.codes() == [0], job.output
    log = (killed / "logger.log").read_text()
    assert "warning: " in log
    assert f"{newest}" in log
    assert f"going on from {previous_path(newest)}" in log
    assert run_differences(uninterrupted, killed) == []


def test_a_damaged_file_is_never_kept_as_the_previous_one(root, killed):
    """Killed again, with one file written since: that one and the old previous one are whole."""
    newest = killed / "ckpt.pth"
    before = load(previous_path(newest))["step_in_total"]
    truncate(newest)
    job = Job(root, "killed", *FLAGS, "--resume", PROBE_AT="ckpt.pth 2 KILL", **NARROW)
    assert job.codes() == [-9], job.output
    steps = [load(path)["step_in_total"] for path in (previous_path(newest), newest)]
    assert steps == [before + 1, before + 1] or steps == [before, before + 1]


def test_two_damaged_files_are_one_sentence(root, killed):
    for path in (killed / "ckpt.pth", previous_path(killed / "ckpt.pth")):
        truncate(path)
    job = Job(root, "killed", *FLAGS, "--resume", **NARROW)
    assert job.codes() == [2]
    (error,) = job.output.splitlines()
    assert error.startswith("error: the checkpoint ")


def test_a_full_disk_leaves_the_old_checkpoint(root, uninterrupted, killed):
    newest = killed / "ckpt.pth"
    before = newest.read_bytes()
    job = Job(root, "killed", *FLAGS, "--resume", PROBE_LIMIT="10000000", **NARROW)
    assert job.codes() == [2], job.output
    assert f"error: cannot write {newest}: the disk is full" in job.output
    assert "Traceback" not in job.output
    assert newest.read_bytes() == before
    assert leftovers(killed) == []
    run_job(root, "killed", *FLAGS, "--resume", **NARROW)
    assert run_differences(uninterrupted, killed) == []
