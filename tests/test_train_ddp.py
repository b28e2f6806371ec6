"""Two processes on the CPU, as users start them."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

from datasets.keys import SampleIndex
from datasets.splits import split_lines
from distributed import World
from evaluation import PROTOCOLS, evaluate
from evaluation_sets import kitti_ground_truth
from inference import DepthPredictor
from options import train_options
from tests.tiny_kitti import (
    arguments,
    differences,
    load,
    picture_path,
    read_metrics,
    write_kitti,
)
from tests.train_probe import first_gradients
from trainer import Trainer

CODE = Path(__file__).parents[1]
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
FLAGS = ("--batch_size", 1)  # of each process: 3 steps an epoch


def launch(launcher, command_line, **environment) -> subprocess.CompletedProcess:
    """Run under a launcher; the processes' outputs, mixed, are kept."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-m", *launcher, *command_line],
        cwd=CODE,
        env=inherited | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def probe(root: Path, name: str, *flags: object, **environment: str) -> subprocess.CompletedProcess:
    """A run of two probed processes; what they write is in `root/NAME probe`."""
    folder = root / f"{name} probe"
    folder.mkdir(exist_ok=True)
    command_line = arguments(root, name, *FLAGS, *flags)
    environment["PROBE_FOLDER"] = str(folder)
    return launch((*TORCHRUN, "-m"), ["tests.train_probe", *command_line], **environment)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_kitti(tmp_path_factory.mktemp("kitti"))
    yield root
    shutil.rmtree(root)  # half a gigabyte a run


@pytest.fixture(scope="module")
def finished(root) -> Path:
    """The folder of a run of one epoch by two processes."""
    done = probe(root, "finished", "--num_epochs", 1)
    assert done.returncode == 0, done.stderr
    return root / "logs" / "finished"


@pytest.fixture(scope="module")
def ranks(finished) -> list[dict]:
    """What each rank of that run wrote down."""
    folder = finished.parents[1] / "finished probe"
    return [load(folder / f"rank{rank}.pth") for rank in range(2)]


def test_two_processes_share_the_samples_and_leave_one_run(finished, ranks):
    state = load(finished / "ckpt.pth")
    assert (state["epoch"], state["step_in_total"]) == (1, 3)
    assert len(state["sums"]) == 2
    assert not any(key.startswith("module.") for key in state["encoder"])
    (row,) = read_metrics(finished)
    assert row["step"] == "3"
    assert all(math.isfinite(float(value)) for value in row.values())
    assert len(list((finished / "tensorboard" / "train").iterdir())) == 1
    log = (finished / "logger.log").read_text()
    assert "a step takes 2 (1 on each of 2 processes)" in log
    assert log.count("batch 2/3") == 1
    assert ranks[0]["indices"] != ranks[1]["indices"]


def test_both_ranks_end_with_the_saved_weights(finished, ranks):
    first, second = (rank["weights"] for rank in ranks)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for part, prefix in (("encoder", "depth_network.encoder."), ("pose", "pose_network.decoder.")):
        for name, value in load(finished / "models/model0.pth")[part].items():
            assert torch.equal(value, first[prefix + name])


def test_averaged_gradients_are_those_of_the_joined_batch(root, ranks):
    assert all(
        torch.equal(value, ranks[1]["gradients"][name])
        for name, value in ranks[0]["gradients"].items()
    )
    flags = ("--batch_size", 2, "--no_eval")
    trainer = Trainer(train_options(arguments(root, "joined", *flags)), World())
    indices = ranks[0]["indices"] + ranks[1]["indices"]
    samples = [trainer.dataset[SampleIndex(0, index)] for index in indices]
    trainer.loader = [default_collate(samples)]
    _, gradients = first_gradients(trainer)
    trainer.log.close()
    for name, value in gradients.items():
        error = (ranks[0]["gradients"][name] - value).norm()
        assert error <= 1e-3 * value.norm() + 1e-7, name


def test_the_evaluation_of_two_ranks_is_that_of_one(root, finished):
    """Of three pictures one rank has two."""
    split = str(root / "split")
    predictor = DepthPredictor.from_checkpoint(finished / "models/model0.pth")
    trainer = Trainer(train_options(arguments(root, "one", *FLAGS)), World())
    _, data, lines, _ = trainer.benchmarks[0]
    trainer.log.close()
    assert lines == split_lines("kitti", split, "test")
    truth, protocol = kitti_ground_truth(split, len(lines)), PROTOCOLS["kitti_eigen"]
    (row,) = read_metrics(finished)
    for name, value in evaluate(predictor, data, truth, protocol, batch_size=1).mean().items():
        assert float(row[f"kitti_eigen/{name}"]) == pytest.approx(value, rel=1e-5)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


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
@pytest.mark.parametrize("step", [2, 4])
def test_two_processes_resume_as_if_never_interrupted(root, step):
    uninterrupted, name = root / "logs" / "uninterrupted", f"died at {step}"
    if not uninterrupted.exists():
        assert probe(root, uninterrupted.name).returncode == 0
    died = probe(root, name, "--save_frequency", 2, PROBE_DIES_AT=str(step))
    assert died.returncode != 0
    assert "killed by the probe" in died.stderr
    resumed = probe(root, name, "--save_frequency", 2, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    folder = root / "logs" / name
    for file in ("ckpt.pth", "models/model0.pth", "models/model1.pth"):
        assert differences(folder / file, uninterrupted / file) == []
    metrics = "metrics.csv"
    assert (folder / metrics).read_bytes() == (uninterrupted / metrics).read_bytes()


@pytest.mark.slow
def test_another_number_of_processes_does_not_resume(root, finished):
    assert finished.exists()
    alone = arguments(root, "finished", "--batch_size", 2, "--resume")
    refused = launch(("train",), alone)
    assert refused.returncode == 2
    assert "another batch_size: 1, now 2" in refused.stderr
    alone = arguments(root, "finished", *FLAGS, "--resume")
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
