"""Start-up: how soon a command answers, and a run takes its first step."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.material import write_drive
from benchmarks.measure import Effort, Result, Spread, Target, interleaved

ROOT = Path(__file__).resolve().parents[1]
PLAIN = "import sys; import torch, torchvision, numpy, PIL; import runpy; " \
        "sys.argv = ['train.py', '--help']; runpy.run_path('train.py', run_name='__main__')"


FIRST_SIZES = ((96, 320), (192, 640))  # (height, width)
FIRST = "epoch 0, batch 1/"  # how the log begins to tell of a step


def measure_start(place: Path, effort: Effort) -> list[Result]:
    """`train.py --help`, beside the same after importing what training needs; a first step."""
    sides = {"ours": partial(run_python, "train.py", "--help"),
             "textbook": partial(run_python, "-c", PLAIN)}  # fmt: skip
    spent = interleaved(sides, effort.repeats)
    return [
        Result("start-up: train.py --help", "seconds", "s", spent["ours"], None,
               Target(1, at_most=True)),
        Result("start-up: beside imports first", "", "s", **spent),
        *first_steps(place, effort),
    ]


def first_steps(place: Path, effort: Effort) -> list[Result]:
    """From the command to the log line of a run's first step: one sample, one thread, on the
    wall's clock. The step is in it: the smaller the picture, the more of it is start-up."""
    lines = write_drive(place / "drive", frames=3)
    split = place / "split"
    split.mkdir()
    (split / "train_files.txt").write_text("\n".join(lines))
    rows = []
    for height, width in FIRST_SIZES[: len(effort.sizes)]:
        command = [
            sys.executable, "train.py", "--data_path", str(place / "drive"), "--split", str(split),
            "--log_dir", str(place / "runs"), "--height", str(height), "--width", str(width),
            "--batch_size", "1", "--num_epochs", "1", "--log_frequency", "1", "--num_workers", "0",
            "--weights_init", "scratch", "--no_eval", "--no_cuda",
        ]  # fmt: skip
        seconds = [
            seconds_until(FIRST, [*command, "--exp_name", f"{width}_{turn}"])
            for turn in range(min(3, effort.repeats))
        ]
        rows.append(Result("start-up: to the first step", f"{width}x{height}, wall", "s",
                           Spread.of(seconds)))  # fmt: skip
    return rows


def seconds_until(words: str, command: list[str]) -> float:
    """From starting a command in the project's folder to a line of its output that begins so.

    It runs on to its end. Raises ValueError if there is no such line.
    """
    before, found = time.perf_counter(), None
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        for line in process.stdout:
            if found is None and line.startswith(words):
                found = time.perf_counter() - before
    if found is None:
        raise ValueError(f"no line of {command} begins with {words!r}")
    return found


def run_python(*words: str) -> None:
    """Run Python in the project's folder, its output unseen."""
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
