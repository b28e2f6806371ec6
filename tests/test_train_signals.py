"""SIGTERM and SIGINT to runs of train.py: the step is finished and saved, and nothing is lost."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.processes import (
    CODE,
    Job,
    environment,
    leftovers,
    run_differences,
    run_job,
    wait_for,
)
from tests.tiny_kitti import arguments, load

TERM, INT = signal.SIGTERM, signal.SIGINT
SHARED_RUNS = "of *"
NARROW = {"PROBE_NARROW": "1"}
BATCH = {1: 2, 2: 1}  # 3 steps an epoch for one process and for two
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(root):
    """The folder of an uninterrupted run of so many ranks."""

    @cache
    def run(ranks: int) -> Path:
        return run_job(root, f"of {ranks}", "--batch_size", BATCH[ranks], ranks=ranks, **NARROW)

    return run


def signalled_job(root, name, place, number, ranks=1, to=None, group=False, workers=0) -> Job:
    """A run that is signalled at a place, where all its ranks wait until it is; it has ended."""
    flags = ("--batch_size", BATCH[ranks], "--num_workers", workers)
    job = Job(root, name, *flags, ranks=ranks, PROBE_AT=f"{place} wait", **NARROW)
    job.until(lambda: job.waits() == ranks)
    job.send(number, to, group)
    (job.probe / "go").touch()
    assert job.codes(60) == [128 + number] * ranks, job.output
    return job


def check_that_it_goes_on(root, job: Job, uninterrupted, ranks=1) -> None:
    """It says that it can be resumed, has left nothing half-written, and ends as if never ended."""
    log = (job.folder / "logger.log").read_text()
    assert f"{job.folder / 'ckpt.pth'} is saved, --resume goes on from it" in log
    assert "done:" not in log
    assert "Traceback" not in job.output
    assert leftovers(job.folder) == []
    run_job(root, job.folder.name, "--batch_size", BATCH[ranks], "--resume", ranks=ranks, **NARROW)
    assert run_differences(uninterrupted(ranks), job.folder) == []


@pytest.mark.parametrize(
    ("number", "ranks", "to", "workers"),
    [
        (TERM, 1, None, 0),
        (INT, 1, None, 2),
        (TERM, 2, [1], 0),
        pytest.param(INT, 1, None, 0, marks=slow),
        pytest.param(TERM, 1, None, 2, marks=slow),
        pytest.param(TERM, 2, None, 2, marks=slow),
        pytest.param(INT, 2, None, 0, marks=slow),
        pytest.param(INT, 2, [0], 2, marks=slow),
    ],
)
def test_a_signal_ends_a_run_after_its_step(root, uninterrupted, number, ranks, to, workers):
    """Sent to loader workers too, as schedulers and terminals do, which go on. One rank that got
    it stops all of them."""
    job = signalled_job(root, "step", "step 2", number, ranks, to, True, workers)
    state = load(job.folder / "ckpt.pth")
    # Of several ranks, each learns of the others' signals while the next step is done.
    assert (state["epoch"], state["batch_idx"]) == (0, 2 if ranks == 1 else 3)
    assert signal.Signals(number).name in job.output
    check_that_it_goes_on(root, job, uninterrupted, ranks)


@pytest.mark.parametrize(
    ("number", "ranks", "to", "workers"),
    [
        (TERM, 1, None, 2),
        pytest.param(INT, 1, None, 2, marks=slow),
        pytest.param(INT, 1, None, 0, marks=slow),
        pytest.param(TERM, 2, None, 0, marks=slow),
        pytest.param(TERM, 2, [0], 2, marks=slow),
    ],
)
def test_a_signal_ends_an_evaluation(root, uninterrupted, number, ranks, to, workers):
    """The epoch's training was saved before; it is evaluated when the run goes on."""
    job = signalled_job(root, "evaluation", "prediction 1", number, ranks, to, True, workers)
    state = load(job.folder / "ckpt.pth")
    assert (state["epoch"], state["batch_idx"]) == (0, 3)
    assert not (job.folder / "metrics.csv").exists()
    check_that_it_goes_on(root, job, uninterrupted, ranks)


@slow
@pytest.mark.parametrize("place", ["ckpt.pth 1", "save 1", "model 1", "drawing 1"])
def test_a_signal_while_something_is_written(root, uninterrupted, place):
    job = signalled_job(root, "writing", place, TERM)
    check_that_it_goes_on(root, job, uninterrupted)


@slow
@pytest.mark.parametrize("place", ["step 2", "prediction 1"])
@pytest.mark.parametrize("number", [TERM, INT])
def test_torchrun_hands_a_signal_on(root, uninterrupted, place, number):
    """Its workers end as above; torchrun itself ends with another code that is not 0."""
    name, probe = f"torchrun {place} {number}", root / "torchrun probe"
    shutil.rmtree(probe, ignore_errors=True)
    probe.mkdir()
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    command = [*launcher, "tests.train_probe", *arguments(root, name, "--batch_size", 1)]
    given = {"PROBE_FOLDER": str(probe), "PROBE_AT": f"{place} wait", **NARROW}
    with (probe / "output").open("w") as output:
        agent = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=CODE, env=environment(**given),
            stdout=output, stderr=output,
        )  # fmt: skip
    wait_for(lambda: len(list(probe.glob("waits*"))) == 2 or agent.poll() is not None)
    agent.send_signal(number)
    (probe / "go").touch()
    printed = (probe / "output").read_text
    assert agent.wait(100) != 0, printed()
    folder = root / "logs" / name
    assert "--resume goes on from it" in (folder / "logger.log").read_text(), printed()
    assert printed().count(f"stopped by {signal.Signals(number).name}") == 2
    assert leftovers(folder) == []
    run_job(root, name, "--batch_size", 1, "--resume", ranks=2, **NARROW)
    assert run_differences(uninterrupted(2), folder) == []
