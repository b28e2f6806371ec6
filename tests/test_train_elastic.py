"""torchrun starts killed processes anew, and joins several machines: two agents on this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import (
    CODE,
    environment,
    free_port,
    launch,
    leftovers,
    run_differences,
    run_job,
)
from tests.tiny_kitti import arguments, load, read_metrics

pytestmark = pytest.mark.slow
FLAGS = ("--batch_size", 1, "--save_frequency", 1)
SHARED_RUNS = "uninterrupted"
NARROW = {"PROBE_NARROW": "1"}


@pytest.fixture(scope="module")
def uninterrupted(root) -> Path:
    return run_job(root, "uninterrupted", *FLAGS, ranks=2, **NARROW)


def probe_folder(root: Path, name: str) -> Path:
    folder = root / f"{name} probe"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("rank", "lives"), [(1, 2), (0, 1)])
def test_a_killed_worker_starts_again_and_resumes_by_itself(root, uninterrupted, rank, lives):
    """Without --resume. A third death would be one too many."""
    name = f"killed {rank}"
    folder = probe_folder(root, name)
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    command_line = ["tests.train_probe", *arguments(root, name, *FLAGS)]
    run = launch(
        (*launcher, "--max-restarts", "2", "-m"), command_line,
        PROBE_FOLDER=str(folder), PROBE_AT="step 3 KILL", PROBE_RANK=str(rank),
        PROBE_LIVES=str(lives), **NARROW,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    log = (root / "logs" / name / "logger.log").read_text()
    assert log.count("resumed at epoch") == lives
    assert run_differences(uninterrupted, root / "logs" / name) == []
    assert leftovers(root / "logs" / name) == []


@pytest.mark.parametrize("killed", [False, True])
def test_two_agents_with_one_rendezvous_make_one_run(root, uninterrupted, killed):
    """As on two machines, which share the folder of runs. If a process dies, both start anew."""
    name = f"two nodes {killed}"
    folder = probe_folder(root, name)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"),
        *("--rdzv_id", "7", "--rdzv_backend", "c10d", "--max-restarts", "1"),
        *("--rdzv_endpoint", f"127.0.0.1:{free_port()}", "--local_addr", "127.0.0.1"),
        *("-m", "tests.train_probe", *arguments(root, name, *FLAGS)),
    ]
    accident = {"PROBE_AT": "step 3 KILL", "PROBE_RANK": "1"} if killed else {}
    given = environment(
        PROBE_FOLDER=str(folder), TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1", **NARROW, **accident
    )
    outputs = [folder / f"agent{n}" for n in range(2)]
    agents = []
    for path in outputs:
        with path.open("w") as file:
            agents.append(subprocess.Popen(command, cwd=CODE, env=given, stdout=file, stderr=file))
    try:
        codes = [agent.wait(240) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()  # hands it on to its workers
    printed = [path.read_text() for path in outputs]
    assert codes == [0, 0], printed
    assert sorted("done: " in text for text in printed) == [False, True]  # rank 0 alone tells
    run = root / "logs" / name
    assert run_differences(uninterrupted, run) == []
    assert [row["epoch"] for row in read_metrics(run)] == ["0", "1"]
    assert len(list((run / "tensorboard" / "train").iterdir())) == 1 + killed
    first, second = (load(folder / f"rank{rank}.pth")["weights"] for rank in range(2))
    assert all(value.equal(second[name]) for name, value in first.items())
