"""Predict and score the camera's path on KITTI odometry sequences.

    python evaluate_pose.py --pretrained_path ckpt.pth --data_path ODOMETRY --output paths
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import evaluate_pose_options
from utils import atomic_path, run_script

if TYPE_CHECKING:
    from pose_inference import SequenceResult


def main(argv: Sequence[str] | None = None) -> None:
    """Look for all sequences, then predict, score, write and draw them."""
    opt = evaluate_pose_options(argv)
    from distributed import pick_device
    from freed_memory import keep_freed_memory
    from pose_inference import PosePredictor, evaluate_sequences, find_sequences, results_table

    keep_freed_memory()
    predictor = PosePredictor.from_checkpoint(
        opt.pretrained_path, opt.height, opt.width, pick_device(opt.no_cuda)
    )
    sequences = find_sequences(
        opt.data_path, opt.eval_split, predictor.height, predictor.width, jpg=opt.jpg
    )
    results = evaluate_sequences(
        predictor, sequences, batch_size=opt.batch_size, num_workers=opt.num_workers
    )
    for result in results:
        write_result(result, Path(opt.output))
    print(f"\n{results_table(results)}")
    unknown = [result.sequence.name for result in results if result.score is None]
    if unknown:
        names = ", ".join(unknown)
        print(f"no true poses in {opt.data_path}/poses of sequence {names}: not scored")
    print(f"paths and plots are in {opt.output}")


def write_result(result: SequenceResult, folder: Path) -> None:
    """NN.txt, the path from its first camera; NN_aligned.txt, in the truth's axes, where there is
    a truth; and NN.png, seen from above."""
    from odometry import write_poses

    name = result.sequence.name
    write_poses(folder / f"{name}.txt", result.path)
    if result.aligned is not None:
        write_poses(folder / f"{name}_aligned.txt", result.aligned)
    draw_from_above(result, folder / f"{name}.png")


def draw_from_above(result: SequenceResult, path: Path) -> None:
    """The predicted path over the true one, x to the right and z (ahead at the start) upwards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    truth, aligned = result.sequence.truth, result.aligned
    if truth is not None:
        axes.plot(truth[:, 0, 3], truth[:, 2, 3], color="0.6", linewidth=3, label="true")
    shown = result.path if aligned is None else aligned
    label = "predicted, of unknown scale" if aligned is None else "predicted, aligned"
    axes.plot(shown[:, 0, 3], shown[:, 2, 3], color="tab:red", label=label)
    axes.plot(shown[0, 0, 3], shown[0, 2, 3], "o", color="tab:red", label="start")
    unit = "" if aligned is None else " (m)"
    axes.set(xlabel=f"x{unit}", ylabel=f"z{unit}", title=f"sequence {result.sequence.name}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120)


if __name__ == "__main__":
    run_script(main)
