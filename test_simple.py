"""Predict the depth of one picture, or of many, as coloured pictures and as numbers.

    python test_simple.py --image_path street.png --pretrained_path ckpt.pth
    python test_simple.py --image_path 'in/*.jpg' --pretrained_path ckpt.pth --save_depth
    python test_simple.py --image_path street.png --pretrained_path ckpt.pth --intrinsics kitti \
        --save_ply --show3d view.png
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import predict_image_options
from utils import UserError, run_script

if TYPE_CHECKING:
    from argparse import Namespace

    from PIL import Image

    from depth_files import Prediction
    from inference import DepthPredictor
    from pictures import Skips


def main(argv: Sequence[str] | None = None) -> None:
    """Find the pictures, load the network, write `NAME_disp.jpeg` and what else is asked for."""
    opt = predict_image_options(argv)

    from tqdm import tqdm

    from depth_files import check_outputs, find_truth, output_paths, write_prediction
    from inference import find_colormap, open_predictor
    from pictures import Skips, find_pictures, read_pictures
    from point_cloud import Intrinsics

    paths = find_pictures(opt.image_path, opt.ext)
    find_colormap(opt.cmap)
    if opt.intrinsics:
        Intrinsics.parse(opt.intrinsics)  # refused before the work, if it is
    truths = {}
    if opt.scale_from_gt:
        truths = {path: find_truth(path, len(paths), opt.scale_from_gt) for path in paths}
    check_outputs(paths, opt, truths.values())
    predictor = open_predictor(opt)
    skips = Skips(opt.strict or len(paths) == 1)
    pictures = read_pictures(tqdm(paths, desc="predict", unit="image"), skips)
    for prediction in predictions(predictor, pictures, truths, skips, opt):
        write_prediction(prediction, predictor, opt)
    done = len(paths) - skips.count
    if not done:
        raise UserError(f"none of the {len(paths)} images of {opt.image_path} could be predicted")
    result = output_paths(paths[0], opt)["colours"]
    skipped = f" ({skips.count} skipped)" if skips.count else ""
    print(f"{done} coloured disparities{skipped}: {result if len(paths) == 1 else result.parent}")


def predictions(
    predictor: DepthPredictor,
    pictures: Iterable[tuple[Path, Image.Image]],
    truths: dict[Path, Path],
    skips: Skips,
    opt: Namespace,
) -> Iterator[Prediction]:
    """The `complete` prediction of each picture, in batches; `skips` takes those without one.

    Raises UserError if the network predicts no numbers.
    """
    import torch

    from depth_files import Prediction, complete
    from inference import check_finite

    pictures = iter(pictures)
    while batch := list(islice(pictures, opt.batch_size)):
        images = torch.cat([predictor.prepare(image) for _, image in batch])
        scaled_disps = predictor.scaled_disp(images, opt.post_process).float().cpu().numpy()
        for (path, image), scaled_disp in zip(batch, scaled_disps, strict=True):
            check_finite(scaled_disp, path, opt.pretrained_path)
            prediction = Prediction(path, image, scaled_disp[None], opt.scale)
            try:
                prediction = complete(prediction, truths.get(path), opt)
            except UserError as error:
                skips.note(error)
                continue
            yield prediction


if __name__ == "__main__":
    run_script(main)
