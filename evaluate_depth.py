"""Score a trained depth network on the KITTI test splits: one table a split.

    python evaluate_depth.py --pretrained_path ckpt.pth --kitti_path KITTI --eval_split eigen
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from options import evaluate_options
from utils import run_script

if TYPE_CHECKING:
    from inference import DepthPredictor


def main(argv: Sequence[str] | None = None) -> None:
    """Look for everything that is needed, then predict and score split by split."""
    opt = evaluate_options(argv)
    from datasets import build_dataset
    from datasets.splits import split_lines
    from distributed import pick_device
    from evaluation import evaluate, kitti_ground_truth, kitti_protocol
    from inference import DepthPredictor

    lines = {split: split_lines("kitti", split, "test") for split in opt.eval_split}
    depths = {split: kitti_ground_truth(split, len(lines[split])) for split in opt.eval_split}
    predictor = DepthPredictor.from_checkpoint(
        opt.pretrained_path, opt.backbone, opt.num_layers, opt.height, opt.width,
        opt.min_depth, opt.max_depth, pick_device(opt.no_cuda),
    )  # fmt: skip
    height, width = predictor.height, predictor.width
    data = {
        split: build_dataset(
            "kitti", opt.kitti_path, lines[split], height, width, frame_ids=(0,), jpg=opt.jpg
        )
        for split in opt.eval_split
    }
    print(describe_cost(predictor))
    for split in opt.eval_split:
        result = evaluate(
            predictor, data[split], depths[split], kitti_protocol(split, opt.resize_convention),
            names=lines[split], post_process=opt.post_process, stereo=opt.use_stereo,
            batch_size=opt.batch_size, num_workers=opt.num_workers,
        )  # fmt: skip
        print(f"\n{result.table()}", flush=True)


def describe_cost(predictor: DepthPredictor) -> str:
    """Multiply-adds of one image and parameters of the depth network, as thop counts them."""
    import copy
    import warnings

    import thop
    import torch

    # On a copy: thop leaves its counters behind as buffers, which would end up in checkpoints.
    network = copy.deepcopy(predictor.network).eval()
    image = torch.zeros(1, 3, predictor.height, predictor.width, device=predictor.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thop announces deprecations of its own functions
        flops, parameters = thop.profile(network, inputs=(image,), verbose=False)
    return (
        f"depth network, input {predictor.height}x{predictor.width} (height x width): "
        f"{flops / 1e9:.3f} G multiply-adds (thop's FLOPs), {parameters / 1e6:.3f} M parameters"
    )


if __name__ == "__main__":
    run_script(main)
