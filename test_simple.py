"""Predict the disparity of one image, or of every image in a folder, as coloured pictures.

    python test_simple.py --image_path street.png --pretrained_path ckpt.pth
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import predict_image_options
from utils import UserError, atomic_path, run_script

if TYPE_CHECKING:
    from inference import DepthPredictor


def main(argv: Sequence[str] | None = None) -> None:
    """Find the images, load the network, write `NAME_disp.jpeg` (and .npy) for each image."""
    opt = predict_image_options(argv)
    source = Path(opt.image_path)
    images = images_of(source, opt.ext)
    output = Path(opt.output) if opt.output else images[0].parent
    if os.path.exists(output) and not os.path.isdir(output):
        raise UserError(f"--output {output} is a file: name the folder for the results")

    from tqdm import tqdm

    from distributed import pick_device
    from inference import DepthPredictor

    predictor = DepthPredictor.from_checkpoint(
        opt.pretrained_path, opt.backbone, opt.num_layers, opt.height, opt.width,
        opt.min_depth, opt.max_depth, pick_device(opt.no_cuda),
    )  # fmt: skip
    for path in tqdm(images, desc="predict", unit="image"):
        predict_image(predictor, path, output, opt.save_npy)
    what = output / f"{images[0].stem}_disp.jpeg" if len(images) == 1 else output
    print(f"{len(images)} coloured disparities: {what}")


def images_of(source: Path, ext: str) -> list[Path]:
    """The image itself, or those of a folder; says how many other files were passed over."""
    from inference import find_images, is_prediction

    if os.path.isdir(source):  # False too for a name that is too long: Path.is_dir raises
        images, others = find_images(source, ext)
        outputs = sum(map(is_prediction, others))
        if others:
            print(
                f"predicting {len(images)} of the {len(images) + len(others)} files in {source}: "
                f"{outputs} are predictions, {len(others) - outputs} are not .{ext.lstrip('.')}"
            )
        return images
    if not os.path.isfile(source):
        raise UserError(f"--image_path {source} is neither an image nor a folder")
    if is_prediction(source):
        raise UserError(f"--image_path {source} is a prediction (its name ends in _disp)")
    return [source]


def predict_image(predictor: DepthPredictor, path: Path, output: Path, save_npy: bool) -> None:
    """Write the coloured disparity of one image at the image's size.

    With save_npy also the scaled disparity, 1 / depth, float32 (1, 1, H, W) at network size.
    """
    import numpy as np
    from PIL import Image

    from datasets.mono_dataset import load_rgb
    from inference import colourise, resize_disp

    image = load_rgb(path)
    scaled_disp = predictor.scaled_disp(predictor.prepare(image))
    if save_npy:
        with atomic_path(output / f"{path.stem}_disp.npy") as partial:
            np.save(partial, scaled_disp.cpu().numpy())
    resized = resize_disp(scaled_disp, (image.height, image.width))[0, 0].cpu().numpy()
    with atomic_path(output / f"{path.stem}_disp.jpeg") as partial:
        Image.fromarray(colourise(resized)).save(partial, quality=95)


if __name__ == "__main__":
    run_script(main)
