"""One evaluation in a process, or in one of several ranks, that tells what it took.

    python -m benchmarks.scoring_process ours|textbook|network FOLDER IMAGES
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.material import DRIVE
from benchmarks.measure import processor_seconds
from benchmarks.scoring import Standin, ours, random_network, textbook
from distributed import gather_objects, init_world, leave_world
from freed_memory import keep_freed_memory


def main(side: str, folder: str, images: int) -> None:
    """Print the peak of memory in MB, seconds on the wall's clock and of the processor, as JSON.

    side: `ours` or `textbook` without a network's cost, or `network`: ours with resnet 18.
    """
    torch.set_num_threads(1)
    if side != "textbook":
        keep_freed_memory()  # as evaluate_depth.py does
    world, root = init_world(no_cuda=True), Path(folder)
    lines = [f"{DRIVE} {frame} l" for frame in range(images)]
    predictor = random_network() if side == "network" else Standin()

    def work() -> None:
        if side == "textbook":
            textbook(root, lines, predictor)
        else:
            ours(root, lines, predictor, world)

    gather_objects(world, None)  # a barrier: no rank waits for another's imports
    before = time.perf_counter()
    processor = processor_seconds(work)
    wall = time.perf_counter() - before
    told = json.dumps({"peak": peak_memory(), "wall": wall, "processor": processor})
    sys.stdout.write(told + "\n")  # in one piece: several ranks write to one pipe
    sys.stdout.flush()
    leave_world(world)


def peak_memory() -> float:
    """MB that this process has held at most, as Linux counts: rusage would begin with what the
    parent had."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
