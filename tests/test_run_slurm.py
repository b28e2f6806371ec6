"""run_slurm.sh with stand-ins for Slurm's programs and torchrun, which note what they are told."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from options import train_options
from tests.test_floors import ROOT

SCRIPT = ROOT / "run_slurm.sh"
STAND_INS = {
    "scontrol": 'echo "scontrol $*" >>"$CALLS"; printf "node7\\nnode9\\n"',
    "srun": 'echo "srun $*" >>"$CALLS"; while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "torchrun": 'env | grep ^TORCH_ >"$CALLS.env"; printf "%s\\n" "$@" >"$CALLS.torchrun"',
}
SLURM = {
    "SLURM_JOB_ID": "41234",
    "SLURM_JOB_NODELIST": "node[7,9]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_CPUS_PER_TASK": "52",
    "SLURM_SUBMIT_DIR": str(ROOT),
}


def run_script(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """As Slurm does: a copy of the file, elsewhere."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in STAND_INS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(0o755)
    copy = tmp_path / "slurm_script"
    copy.write_text(SCRIPT.read_text())
    given = {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    return subprocess.run(
        ["bash", str(copy), *arguments], cwd=tmp_path, env={"HOME": "/home/me", **given,
        **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_one_torchrun_a_machine_meets_the_others_on_the_first(tmp_path: Path):
    run = run_script(tmp_path, "--num_epochs", "40", DATA="/my data", **SLURM)
    assert run.returncode == 0, run.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "scontrol show hostnames node[7,9]"
    assert calls[1].startswith("srun --cpus-per-task=52 torchrun ")
    told = (tmp_path / "calls.torchrun").read_text().splitlines()
    script = told.index(f"{ROOT}/train.py")
    assert set(told[:script]) == {
        "--nnodes=2", "--nproc_per_node=4", "--max-restarts=3", "--rdzv_id=41234",
        "--rdzv_backend=c10d", "--rdzv_endpoint=node7:21234",
    }  # fmt: skip
    opt = train_options(told[script + 1 :])
    assert (opt.data_path, opt.log_dir, opt.num_epochs) == ("/my data", "/home/me/tmp", 40)
    assert (opt.exp_name, opt.resume) == ("kitti_hrnet18_640x192", True)
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in (tmp_path / "calls.env").read_text()


@pytest.mark.parametrize(
    ("given", "word"), [(SLURM, "set DATA"), ({"DATA": "/data"}, "submit this file with sbatch")]
)
def test_what_is_missing_is_said(tmp_path: Path, given, word):
    run = run_script(tmp_path, **given)
    assert run.returncode == 1
    assert word in run.stderr
    assert not (tmp_path / "calls").exists()


def test_what_slurm_is_asked_for():
    """One task a machine, warned in time and not through the shell alone (B:), which would keep it
    from torchrun."""
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPT.read_text(), re.M))
    assert (asked["ntasks-per-node"], asked["signal"], asked["requeue"]) == ("1", "TERM@120", "")
    workers = train_options(["--data_path", "x"]).num_workers
    assert int(asked["cpus-per-task"]) == int(asked["gpus-per-node"]) * (workers + 1)
