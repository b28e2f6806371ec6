"""What the demo's network learned: a table against three baselines, and a picture to look at.

Called by run_demo.sh after training. All four are scored alike on the held-out street, each
picture scaled by medians: the network before training, one depth everywhere, the mean of the
training streets' true depth at each pixel, and the trained network.
"""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import demo_summary_options
from utils import UserError, atomic_path, run_script

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

METRICS_SHOWN = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
FARTHEST = 80.0  # metres; the sky counts as this far in the mean map


class FixedMap:
    """Predicts one map of 1 / depth for every picture, whatever it shows."""

    def __init__(self, scaled_disp: Tensor) -> None:
        """scaled_disp: (H, W)."""
        self.map = scaled_disp

    def scaled_disp(self, images: Tensor, post_process: bool = False) -> Tensor:  # noqa: ARG002
        """images: (B, 3, H, W). Returns (B, 1, H, W)."""
        return self.map.expand(len(images), 1, *self.map.shape)


def main(argv: Sequence[str] | None = None) -> None:
    """Score, write summary.json and the picture, print the table; exit 1 if nothing was learned."""
    opt = demo_summary_options(argv)
    started = time.monotonic()
    import matplotlib
    import torch

    matplotlib.use("Agg")
    from datasets import build_dataset
    from datasets.splits import split_lines
    from distributed import pick_device
    from evaluation import evaluate
    from evaluation_sets import kitti_ground_truth, kitti_protocol
    from freed_memory import keep_freed_memory
    from inference import DepthPredictor
    from networks import build_depth_network

    keep_freed_memory()
    split, output = str(Path(opt.data_path) / "split"), Path(opt.output)
    trained_with = json.loads((Path(opt.run) / "opt.json").read_text(encoding="utf-8"))
    lines = split_lines("kitti", split, "test")
    truth = kitti_ground_truth(split, len(lines))
    device = pick_device(opt.no_cuda)
    trained = DepthPredictor.from_checkpoint(Path(opt.run) / "ckpt.pth", device=device)
    size = trained.height, trained.width
    data = build_dataset("kitti", opt.data_path, lines, *size, frame_ids=(0,))
    torch.manual_seed(trained_with["seed"])  # the very weights that training began with
    beginning = build_depth_network(trained_with["backbone"], trained_with["num_layers"])
    mean_map = mean_training_map(Path(opt.data_path), split_lines("kitti", split, "train"), size)
    predictors = {
        "untrained": DepthPredictor(
            beginning, *size, trained.min_depth, trained.max_depth, device
        ),
        "constant": FixedMap(torch.ones(size)),
        "mean_map": FixedMap(torch.from_numpy(mean_map)),
        "trained": trained,
    }
    protocol = kitti_protocol(split)
    scores = {
        name: evaluate(predictor, data, truth, protocol, names=lines).mean()
        for name, predictor in predictors.items()
    }
    picture = output / "demo.png"
    image = data[0]["color", 0, 0]
    true_depth = true_depth_of(Path(opt.data_path), lines[0])
    draw(picture, image, trained.scaled_disp(image[None]), true_depth)
    steps = torch.load(Path(opt.run) / "ckpt.pth", weights_only=True)["step_in_total"]
    seconds = timings(opt, time.monotonic() - started)
    summary = scores | {"seconds": seconds, "steps": steps, "images": len(lines)}
    with atomic_path(output / "summary.json") as partial:
        partial.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(table(scores, len(lines), steps, seconds))
    print(f"summary: {output / 'summary.json'}\npicture: {picture}")
    if not opt.quick:
        check_learned(scores)


def timings(opt: Namespace, evaluate_seconds: float) -> dict[str, float]:
    """Seconds of each part, the earlier ones as run_demo.sh measured them, and in all."""
    seconds = {"install": opt.install, "render": opt.render, "train": opt.train}
    seconds["evaluate"] = round(opt.predict + evaluate_seconds, 1)
    return seconds | {"total": round(sum(seconds.values()), 1)}


def mean_training_map(root: Path, lines: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """1 / (mean true depth at each pixel over the left training pictures), float32 of `size`.

    root: a folder of render_demo.py; size: (height, width). Where the sky is, FARTHEST counts.
    """
    import numpy as np
    from skimage.transform import resize

    maps = []
    for line in lines:
        if line.endswith("l"):
            depth = true_depth_of(root, line)
            depth = np.where(depth > 0, np.minimum(depth, FARTHEST), FARTHEST)
            maps.append(resize(depth, size, order=0, anti_aliasing=False))
    return (1 / np.mean(maps, axis=0)).astype(np.float32)


def table(scores: Mapping[str, Mapping], images: int, steps: int, seconds: Mapping) -> str:
    """The four rows, for people."""
    names = {
        "untrained": "untrained network",
        "constant": "constant depth",
        "mean_map": "mean training depth map",
        "trained": f"trained network ({steps} steps)",
    }
    rows = [f"\nheld-out street, {images} pictures, median scaling; total {seconds['total']:.0f} s"]
    rows.append(" " * 30 + "".join(f"{name:>9}" for name in METRICS_SHOWN))
    for key, name in names.items():
        values = "".join(f"{scores[key][metric]:>9.3f}" for metric in METRICS_SHOWN)
        rows.append(f"{name:<30}{values}")
    return "\n".join(rows)


def check_learned(scores: Mapping[str, Mapping[str, float]]) -> None:
    """Raise UserError unless the trained network beats every baseline on abs_rel and a1."""
    trained = scores["trained"]
    for name in ("untrained", "constant", "mean_map"):
        other = scores[name]
        if trained["abs_rel"] >= other["abs_rel"] or trained["a1"] <= other["a1"]:
            raise UserError(
                f"the trained network does not beat {name} on abs_rel and a1: "
                f"{trained['abs_rel']:.3f}, {trained['a1']:.3f} against "
                f"{other['abs_rel']:.3f}, {other['a1']:.3f}"
            )


def draw(path: Path, image: Tensor, scaled_disp: Tensor, true_depth: np.ndarray) -> None:
    """Image, predicted and true disparity in the same colours, and the relative error of depth.

    image: uint8 (3, H, W); scaled_disp: (1, 1, H, W), 1 / predicted depth up to scale;
    true_depth: (h, w) metres, 0 in the sky.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    from inference import resize_disp

    predicted = 1 / resize_disp(scaled_disp.cpu(), true_depth.shape)[0, 0].numpy()
    depth = np.where(true_depth > 0, true_depth, np.inf)
    known = depth < FARTHEST
    predicted = predicted * np.median(depth[known]) / np.median(predicted[known])
    error = np.full_like(predicted, np.nan)
    error[known] = np.abs(predicted - depth)[known] / depth[known]
    disparity = {"cmap": "magma", "vmin": 0, "vmax": np.percentile(1 / depth, 98)}
    panels = (
        ("image (held-out street)", image.permute(1, 2, 0).numpy(), {}),
        ("predicted disparity", 1 / predicted, disparity),
        ("true disparity", 1 / depth, disparity),
        ("relative error of depth", error, {"cmap": "viridis", "vmin": 0, "vmax": 0.5}),
    )
    figure, axes = plt.subplots(2, 2, figsize=(12, 4.4), layout="constrained")
    for axis, (title, values, style) in zip(axes.flat, panels, strict=True):
        shown = axis.imshow(values, aspect="auto", **style)
        axis.set_title(title)
        axis.set_axis_off()
    figure.colorbar(shown, ax=axes[1, 1])
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)
    plt.close(figure)


def true_depth_of(root: Path, line: str) -> np.ndarray:
    """The renderer's depth map of a split line, float32 (h, w), metres, 0 in the sky."""
    import numpy as np

    folder, frame, _ = line.split()
    return np.load(root / folder / "depth_02" / "data" / f"{int(frame):010d}.npy")


if __name__ == "__main__":
    run_script(main)
