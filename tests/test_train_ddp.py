"""Several processes on the CPU: they compute what one does, and none waits for another in vain."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

import trainer
from datasets.keys import SampleIndex
from datasets.splits import split_lines
from distributed import World
from evaluation import PROTOCOLS, evaluate
from evaluation_sets import kitti_ground_truth
from inference import DepthPredictor
from options import train_options
from tests.processes import Job, free_port, launch, run_job
from tests.tiny_kitti import (
    arguments,
    load,
    picture_path,
    read_metrics,
    write_kitti,
)
from tests.train_probe import first_gradients
from trainer import Trainer
from utils import UserError

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
FLAGS = ("--batch_size", 1)  # of each process: 3 steps an epoch of two
NARROW = {"PROBE_NARROW": "1"}
SHARED_RUNS = "finished *"
COUNTS = [2, pytest.param(3, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def finished(root):
    """The folder of a run of one epoch by so many processes."""

    @cache
    def run(count: int) -> Path:
        flags = (*FLAGS, "--num_epochs", 1, "--log_frequency", 1)
        return run_job(root, f"finished {count}", *flags, ranks=count, PROBE_GRADIENTS="1")

    return run


def ranks_of(run: Path, count: int = 2) -> list[dict]:
    """What each rank of a run wrote down."""
    folder = run.parents[1] / f"{run.name} probe"
    return [load(folder / f"rank{rank}.pth") for rank in range(count)]


# ---- what they compute ---------------------------------------------------------------------------


def test_two_processes_share_the_samples_and_leave_one_run(finished):
    run = finished(2)
    state, ranks = load(run / "ckpt.pth"), ranks_of(run)
    assert (state["epoch"], state["step_in_total"]) == (1, 3)
    assert not any(key.startswith("module.") for key in state["encoder"])
    (row,) = read_metrics(run)
    assert row["step"] == "3"
    assert all(math.isfinite(float(value)) for value in row.values())
    assert len(list((run / "tensorboard" / "train").iterdir())) == 1
    log = (run / "logger.log").read_text()
    assert "a step takes 2 (1 x 1 on each of 2 processes), an epoch 3 steps" in log
    assert log.count("batch 2/3") == 1
    assert ranks[0]["indices"] != ranks[1]["indices"]


@pytest.mark.parametrize("count", COUNTS)
def test_all_ranks_end_with_the_saved_weights(finished, count):
    run = finished(count)
    first, *others = (rank["weights"] for rank in ranks_of(run, count))
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in first.items())
    for part, prefix in (("encoder", "depth_network.encoder."), ("pose", "pose_network.decoder.")):
        for name, value in load(run / "models/model0.pth")[part].items():
            assert torch.equal(value, first[prefix + name])


def check_gradients(root: Path, ranks: Sequence[dict], *more: object) -> None:
    """Every rank's averaged gradients are those of one process on all their samples at once."""
    for name, value in ranks[0]["gradients"].items():
        assert all(torch.equal(value, rank["gradients"][name]) for rank in ranks)
    indices = [index for rank in ranks for index in rank["indices"]]
    flags = ("--batch_size", len(indices), "--no_eval", *more)
    trainer = Trainer(train_options(arguments(root, "joined", *flags)), World())
    samples = [trainer.dataset[SampleIndex(0, index)] for index in indices]
    trainer.loader = [default_collate(samples)]
    _, gradients = first_gradients(trainer)
    trainer.log.close()
    for name, value in gradients.items():
        error = (ranks[0]["gradients"][name] - value).norm()
        assert error <= 1e-3 * value.norm() + 1e-7, name


@pytest.mark.parametrize("count", COUNTS)
def test_averaged_gradients_are_those_of_the_joined_batch(root, finished, count):
    ranks = ranks_of(finished(count), count)
    assert len({index for rank in ranks for index in rank["indices"]}) == count
    check_gradients(root, ranks)


def test_accumulated_gradients_are_those_of_a_larger_batch(root):
    """Two batches on each of two processes: four samples."""
    flags = (*FLAGS, "--accumulate", 2, "--num_epochs", 1, "--no_eval")
    ranks = ranks_of(run_job(root, "accumulated", *flags, ranks=2, PROBE_GRADIENTS="1"))
    assert len({index for rank in ranks for index in rank["indices"]}) == 4
    check_gradients(root, ranks)


@pytest.mark.parametrize("mode", ["clip", pytest.param("frame", marks=pytest.mark.slow)])
def test_all_ranks_learn_one_camera(root, mode):
    flags = ("--learn_intrinsics", mode, "--num_epochs", 1, "--no_eval")
    run = run_job(root, f"camera {mode}", *FLAGS, *flags, ranks=2, PROBE_GRADIENTS="1")
    ranks = ranks_of(run)
    learned = [name for name in ranks[0]["gradients"] if name.startswith("camera.")]
    assert len(learned) == 2
    check_gradients(root, ranks, *flags)
    for name in learned:
        assert ranks[0]["gradients"][name].any()
        assert torch.equal(ranks[0]["weights"][name], ranks[1]["weights"][name])


@pytest.mark.parametrize("count", COUNTS)
def test_what_is_logged_is_the_mean_over_all_ranks(finished, count):
    """The epoch's row, and the line in the log after the first step."""
    run = finished(count)
    own = [rank["own"] for rank in ranks_of(run, count)]
    (row,) = read_metrics(run)
    log = (run / "logger.log").read_text().splitlines()
    (line,) = [line for line in log if "epoch 0, batch 1/" in line]
    for name in own[0][0]:
        values = [terms[name] for steps in own for terms in steps]
        assert float(row[name]) == pytest.approx(sum(values) / len(values), rel=1e-5, abs=1e-12)
        first = sum(steps[0][name] for steps in own) / count
        assert f" {name} {first:.5f}" in line
    losses = [steps[0]["loss"] for steps in own]
    assert max(losses) - min(losses) > 1e-5  # one of them alone would not have passed


@pytest.mark.parametrize("count", COUNTS)
def test_the_evaluation_of_ranks_is_that_of_one(root, finished, count):
    """Three pictures for two of them, four for three: shares are unequal."""
    split = root / "split"
    if count == 3:
        split = more_test_pictures(root)
        run = run_job(root, "uneven", *FLAGS, "--num_epochs", 1, "--eval_split", split, ranks=3)
    else:
        run = finished(count)
    predictor = DepthPredictor.from_checkpoint(run / "models/model0.pth")
    flags = (*FLAGS, "--eval_split", split)
    trainer = Trainer(train_options(arguments(root, f"one for {count}", *flags)), World())
    ((_, data, lines, _),) = trainer.evaluation.benchmarks
    trainer.log.close()
    assert len(lines) % count == 1
    assert lines == split_lines("kitti", str(split), "test")
    truth, protocol = kitti_ground_truth(str(split), len(lines)), PROTOCOLS["kitti_eigen"]
    (row,) = read_metrics(run)
    for name, value in evaluate(predictor, data, truth, protocol, batch_size=1).mean().items():
        assert float(row[f"kitti_eigen/{name}"]) == pytest.approx(value, rel=1e-5)


def more_test_pictures(root: Path) -> Path:
    """A split with four test pictures instead of three."""
    folder = root / "four"
    shutil.copytree(root / "split", folder)
    lines = (folder / "test_files.txt").read_text().splitlines()
    (folder / "test_files.txt").write_text("\n".join([*lines, lines[0]]) + "\n")
    depths = list(np.load(folder / "gt_depths.npz").values())
    names = [f"depth_{i:05d}" for i in range(4)]
    np.savez(folder / "gt_depths.npz", **dict(zip(names, [*depths, depths[1]], strict=True)))
    return folder


# ---- who waits for whom --------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["ckpt.pth 1", pytest.param("drawing 1", marks=pytest.mark.slow)])
def test_no_rank_waits_while_another_writes_or_draws(tmp_path, place):
    """Rank 0 is in the midst of writing what step 3 left as rank 1 begins its eighth step: two
    pieces of work may be left before the next waits."""
    write_kitti(tmp_path, frames=20)  # 9 steps an epoch
    log, save = (99, 3) if place == "ckpt.pth 1" else (3, 99)
    flags = (*FLAGS, "--num_epochs", 1, "--save_frequency", save, "--log_frequency", log)
    blocked = {"PROBE_AT": f"{place} wait", "PROBE_RANK": "0"}
    job = Job(tmp_path, "run", "--no_eval", *flags, ranks=2, **blocked, **NARROW)
    job.until(job.waits)
    job.reach(7, rank=1)
    assert not job.ended()
    (job.probe / "go").touch()
    assert job.codes() == [0, 0], job.output


@pytest.mark.parametrize("place", ["step 2", pytest.param("prediction 1", marks=pytest.mark.slow)])
def test_any_exception_of_one_rank_ends_all(root, place):
    """A bug, while the other waits in a collective, which alone would end after ten minutes."""
    flags, rank = (*FLAGS, "--num_epochs", 1), {"PROBE_RANK": "1"}
    job = Job(root, "raises", *flags, ranks=2, PROBE_AT=f"{place} raise", **rank, **NARROW)
    job.reach(0, rank=1)
    began = time.monotonic()
    codes = job.codes(60)
    assert time.monotonic() - began < 60
    assert all(code not in (0, 2) for code in codes), job.output
    assert "RuntimeError: the probe's own error of rank 1" in job.output


def test_ranks_that_resume_from_different_steps_are_refused(root, monkeypatch):
    """As they do on machines that do not share the folder of runs."""
    monkeypatch.setattr(trainer, "gather_objects", lambda _, place: [place, (0, 2, 2)])
    with pytest.raises(UserError, match=r"different checkpoints .*all machines must share"):
        Trainer(train_options(arguments(root, "apart", *FLAGS)), World())


# ---- launchers -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "launch"])
def test_train_runs_under_both_launchers(root, launcher):
    old = ("torch.distributed.launch", "--nproc_per_node", "2", "--master_port", str(free_port()))
    flags = (*FLAGS, "--num_epochs", 1, "--num_workers", 1)
    command_line = arguments(root, launcher, *flags)
    done = launch(TORCHRUN if launcher == "torchrun" else old, ["train.py", *command_line])
    assert done.returncode == 0, done.stderr
    assert load(root / "logs" / launcher / "ckpt.pth")["epoch"] == 1


@pytest.mark.slow
def test_another_number_of_processes_does_not_resume(root, finished):
    name = finished(2).name
    alone = arguments(root, name, "--batch_size", 2, "--resume")
    refused = launch(("train",), alone)
    assert refused.returncode == 2
    assert "another batch_size: 1, now 2" in refused.stderr
    alone = arguments(root, name, *FLAGS, "--resume")
    refused = launch(("train",), alone)
    assert "another number of processes: 2, now 1" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_what_stops_one_rank_stops_all_with_its_message(tmp_path):
    root = write_kitti(tmp_path)
    path = picture_path(root, 4)
    path.write_bytes(path.read_bytes()[:200])
    stopped = launch(TORCHRUN, ["train.py", *arguments(root, "run", *FLAGS)])
    assert stopped.returncode != 0
    assert f"error: cannot read the image {path}" in stopped.stderr
