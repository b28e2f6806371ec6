"""Runs of train.py that are killed again and again end, bit for bit, as if they never had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from functools import cache
from pathlib import Path

import pytest

from tests.processes import Job, leftovers, run_differences, run_job, wait_for

pytestmark = pytest.mark.slow
NARROW = {"PROBE_NARROW": "1"}
# 9 steps by one process or by two, each at another rate; every one of them is saved.
FLAGS = ("--num_epochs", 3, "--lr_sche_type", "cos", "--warm_up", 0.3, "--save_frequency", 1)
SHARED_RUNS = "of *"
BATCH = {1: 2, 2: 1}
SOMETIME = "sometime"  # at a random moment, all processes or one of them
AIMED = {
    (1, 0): ["ckpt.pth 2", "step 2", "prediction 1", "model 1"],
    (1, 2): ["step 1", "ckpt_previous.pth 2", "prediction 2", "metrics.csv 1"],
    (2, 0): ["step 2", "ckpt.pth 3", "model0.pth 1", "prediction 1"],
    (2, 2): ["save 3", "ckpt.pth 1", "drawing 2", "model 1"],
}
RANDOM_KILLS = 3  # in each case beside the aimed ones: 28 kills in all
LIVES = 30  # more than enough for the kills of a case


@pytest.fixture(scope="module")
def uninterrupted(root):
    """The folder of an uninterrupted run of so many ranks, and how many seconds it trained."""

    @cache
    def run(ranks: int) -> tuple[Path, float]:
        flags = ("--batch_size", BATCH[ranks], *FLAGS)
        job = Job(root, f"of {ranks}", *flags, ranks=ranks, **NARROW)
        job.reach(0)
        begun = time.monotonic()
        assert job.codes() == [0] * ranks, job.output
        return job.folder, time.monotonic() - begun

    return run


def kill_at(job: Job, moment: str, draw: random.Random, seconds: float) -> bool:
    """Wait for the end of a job that kills itself at a moment, or kill it at a random one within
    so many seconds; returns whether it was killed before its end."""
    if moment == SOMETIME:
        wait_for(lambda: job.step() >= 0 or job.ended())
        time.sleep(draw.uniform(0, seconds))
        if draw.random() < 0.5:
            job.kill()
        elif not job.ended():
            job.send(signal.SIGKILL, [draw.randrange(len(job.processes))])
    codes = job.codes(60)  # nobody waits for a killed rank
    if any(codes):
        assert -signal.SIGKILL in codes, job.output
    return any(codes)


@pytest.mark.parametrize(("ranks", "workers"), AIMED)
def test_a_run_that_is_killed_again_and_again(root, uninterrupted, ranks, workers):
    expected, seconds = uninterrupted(ranks)
    flags = ("--batch_size", BATCH[ranks], "--num_workers", workers, "--resume", *FLAGS)
    draw = random.Random(10 * ranks + workers)
    left = AIMED[ranks, workers] + [SOMETIME] * RANDOM_KILLS
    draw.shuffle(left)
    folder, name = root / "logs" / "killed", "killed"
    lives = 0
    while left:
        moment, lives = left[0], lives + 1
        assert lives < LIVES, f"none of them ended at {moment}"
        aimed = {} if moment == SOMETIME else {"PROBE_AT": f"{moment} KILL", "PROBE_RANK": "0"}
        job = Job(root, name, *flags, ranks=ranks, **NARROW, **aimed)
        if kill_at(job, moment, draw, seconds / 2):
            left.pop(0)
        else:  # so little was left that it was done before
            assert run_differences(expected, folder) == []
            shutil.rmtree(folder)
    run_job(root, name, *flags, ranks=ranks, **NARROW)
    assert run_differences(expected, folder) == []
    assert leftovers(folder) == []


def test_the_loader_workers_of_a_killed_run_end_by_themselves(root):
    job = Job(root, "orphans", "--num_workers", 2, PROBE_AT="step 2 KILL", **NARROW)
    assert job.codes() == [-signal.SIGKILL]

    def gone() -> bool:
        try:
            os.killpg(job.processes[0].pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(gone, 60)
