"""The demo's training by two processes, and by one with their batches joined, side by side.

    python -m tests.side_by_side         about a minute on two quiet cores

The samples of each step are the same. Batch norm on the CPU is not: each process normalises by its
own batch; and the noise that breaks ties is drawn anew. So the numbers are close, not equal.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import export_gt_depth
import render_demo
from tests.processes import run_job
from tests.tiny_kitti import read_metrics

STREETS, FRAMES, EPOCHS, BATCH = 3, 16, 1, 3  # BATCH of each of the two, as in run_demo.sh
FLAGS = (
    "--width 128 --height 64 --use_stereo --min_depth 0.5 --max_depth 40 --learning_rate 3e-4 "
    f"--num_epochs {EPOCHS} --log_frequency 25 --num_workers 1"
)
SHOWN = ("full/photometric", "local/consistency", "reshuffled/consistency", "loss",
         "kitti_eigen/abs_rel", "kitti_eigen/rmse", "kitti_eigen/a1")  # fmt: skip


def prepare(folder: Path) -> list[str]:
    """Render the streets with their true depths; returns the flags that name them."""
    data = str(folder / "streets")
    size = ["--streets", str(STREETS), "--frames", str(FRAMES)]
    with contextlib.redirect_stdout(io.StringIO()):
        render_demo.main(["--out", data, *size])
        export_gt_depth.main(["--data_path", data, "--split", f"{data}/split"])
    return [f"--data_path={data}", f"--split={data}/split", f"--eval_split={data}/split"]


def main() -> int:
    """Print a column for each of the two runs, epoch after epoch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = [*FLAGS.split(), *prepare(folder)]
        runs = [
            run_job(folder, f"by {ranks}", *flags, "--batch_size", 2 * BATCH // ranks, ranks=ranks)
            for ranks in (1, 2)
        ]
        print(f"train.py {FLAGS}")
        print(f"{'epoch':28}{f'1 process x {2 * BATCH}':>16}{f'2 processes x {BATCH}':>16}")
        for epoch, rows in enumerate(zip(*map(read_metrics, runs), strict=True)):
            for term in SHOWN:
                values = "".join(f"{float(row[term]):16.5f}" for row in rows)
                print(f"{epoch} {term:26}{values}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
