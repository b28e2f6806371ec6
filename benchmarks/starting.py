"""Start-up: how soon a command answers."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.measure import Effort, Result, Target, interleaved

ROOT = Path(__file__).resolve().parents[1]
PLAIN = "import sys; import torch, torchvision, numpy, PIL; import runpy; " \
        "sys.argv = ['train.py', '--help']; runpy.run_path('train.py', run_name='__main__')"


def measure_start(place: Path, effort: Effort) -> list[Result]:  # noqa: ARG001
    """`train.py --help`, beside the same after importing what training needs."""
    sides = {"ours": partial(run_python, "train.py", "--help"),
             "textbook": partial(run_python, "-c", PLAIN)}  # fmt: skip
    spent = interleaved(sides, effort.repeats)
    return [
        Result("start-up: train.py --help", "seconds", "s", spent["ours"], None,
               Target(1, at_most=True)),
        Result("start-up: beside imports first", "", "s", **spent),
    ]  # fmt: skip


def run_python(*words: str) -> None:
    """Run Python in the project's folder, its output unseen."""
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
