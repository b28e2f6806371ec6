"""Measure what this code costs beside a textbook's way of doing the same, as ratios in one run.

    python benchmarks/run.py [--quick] [--only loading]

Prints a table, writes results.json and results.png; exits with 1 if a target is missed for which
no reason is stated, or further than that reason goes. A measurement is one function: from a folder
to work in, and how much to do, to rows of the table; `MEASUREMENTS` lists them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

OUT = Path(__file__).parent / "out"
# Name of a measurement: module and function; imported when it is its turn.
MEASUREMENTS = {
    "start": ("benchmarks.starting", "measure_start"),
    "loading": ("benchmarks.loading", "measure_loading"),
    "step": ("benchmarks.stepping", "measure_step"),
    "export": ("benchmarks.preparing", "measure_export"),
    "cityscapes": ("benchmarks.preparing", "measure_cityscapes"),
    "scoring": ("benchmarks.scoring", "measure_scoring"),
    "evaluation_runs": ("benchmarks.scoring", "measure_runs"),
}


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    from arguments import Parser

    parser = Parser("Measure what this code costs beside a textbook's way of doing the same.")
    parser.add_argument("--quick", action="store_true", help="fewer turns and sizes")
    parser.add_argument("--only", nargs="+", choices=tuple(MEASUREMENTS), metavar="NAME",
                        default=list(MEASUREMENTS), help="which, of: " + ", ".join(MEASUREMENTS))
    parser.add_argument("--output", default=str(OUT), help="folder of results.json and results.png")
    return parser.parse_args(argv)


def find_measurement(name: str) -> Callable:
    """From a folder to work in and an `Effort` to rows of the table."""
    module, function = MEASUREMENTS[name]
    return getattr(import_module(module), function)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write; exits with 1 if a target is missed without a reason."""
    opt = parse_options(argv)
    for library in ("OPENBLAS", "MKL"):  # NumPy's products: read when it is imported
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "7")  # torch's profiler keeps its steps to itself
    import tempfile

    import cv2
    import torch

    from benchmarks.measure import FULL, QUICK
    from benchmarks.tables import report, table

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    effort, results = QUICK if opt.quick else FULL, []
    for name in opt.only:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="benchmark_") as place:
            results += find_measurement(name)(Path(place), effort)
        report(results, effort, Path(opt.output))  # whatever becomes of the others
    print(table(results))
    missed = [each for each in results if each.met is False]
    for each in missed:
        print(f"missed: {each.name}: {each.reason or 'no reason is stated that goes so far'}")
    if not all(each.reason for each in missed):
        sys.exit(1)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # for `python benchmarks/run.py`
    from utils import run_script

    run_script(main)
