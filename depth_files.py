"""One picture's prediction as files: their names, units and formats, and true scale."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from cloud_files import write_cloud
from ground_truth import UNREADABLE
from inference import DepthPredictor, colourise, resize_disp
from kitti_utils import read_depth_png
from point_cloud import Cloud, Intrinsics, lift
from utils import UserError, atomic_path, check_results, reason

PNG_STEPS = 256  # 16-bit PNG, steps per unit of depth, as KITTI's depth maps have it
PNG_LARGEST = 2**16 - 1


class Prediction(NamedTuple):
    """What the network says of one picture."""

    path: Path
    image: Image.Image  # RGB, upright
    scaled_disp: np.ndarray  # 1 / depth, (1, 1, h, w) float32 at network size, unscaled
    scale: float | None  # metres of one unit of depth; None: not known
    cloud: Cloud | None = None  # its points, where they are asked for

    def disp_at(self, height: int, width: int) -> np.ndarray:
        """1 / depth, (height, width) float32, unscaled: bilinear, as the field resizes it."""
        resized = resize_disp(torch.from_numpy(self.scaled_disp), (height, width))
        return resized[0, 0].numpy()

    def depth(self) -> np.ndarray:
        """(H, W) float32 at the picture's size, in metres if the scale is known."""
        return (self.scale or 1) / self.disp_at(self.image.height, self.image.width)


def output_paths(path: Path, opt: Namespace) -> dict[str, Path]:
    """Every file that a picture's prediction is written to, by what it holds."""
    folder = Path(opt.output) if opt.output else path.parent
    depth = "depth_m" if opt.scale or opt.scale_from_gt else "depth_unscaled"
    paths = {"colours": folder / f"{path.stem}_disp.jpeg"}
    if opt.save_npy:
        paths["scaled_disp"] = folder / f"{path.stem}_disp.npy"
    if opt.save_depth:
        for ending in ("npy", "png", "json"):
            paths[f"depth_{ending}"] = folder / f"{path.stem}_{depth}.{ending}"
    if opt.save_ply:
        paths["points"] = folder / f"{path.stem}_{depth}.ply"
    if opt.show3d:
        paths["view"] = Path(opt.show3d)
    return paths


def check_outputs(pictures: Sequence[Path], opt: Namespace, truths: Iterable[Path] = ()) -> None:
    """Raise UserError, before long work, if the results cannot be written where they belong.

    Results that are there are replaced with --overwrite alone, what is read never (truths: the
    files of --scale_from_gt), and no two results are one file.
    """
    if opt.output and os.path.exists(opt.output) and not os.path.isdir(opt.output):
        raise UserError(f"--output {opt.output} is a file: name the folder for the results")
    real = cache(os.path.realpath)
    owners, results = {}, []
    for picture in pictures:
        for path in output_paths(picture, opt).values():
            results.append(path)
            owner = owners.setdefault(Path(real(path.parent), path.name), (path, picture))
            if owner[0] is not path:
                raise UserError(_both(path, owner[1], picture))
    check_results(results, [*pictures, *truths, opt.intrinsics, opt.pretrained_path], opt.overwrite)


def _both(result: Path, first: Path, second: Path) -> str:
    if first == second:
        return f"two results of {first} would be {result}: --show3d must name another file"
    return f"{first} and {second} would both become {result}: predict them apart"


def complete(prediction: Prediction, truth: Path | None, opt: Namespace) -> Prediction:
    """With scale and points as they are asked for: all that can fail before a file is written.

    truth: the picture's file of --scale_from_gt, if that is given. Raises UserError if it does not
    fit the picture, the camera does not, or no point is left.
    """
    if truth is not None:
        prediction = prediction._replace(scale=scale_to_truth(prediction, truth))
    if not (opt.save_ply or opt.show3d):
        return prediction
    image = np.asarray(prediction.image)
    K = Intrinsics.parse(opt.intrinsics).matrix(*image.shape[:2], prediction.path)
    cloud = lift(prediction.depth(), image, K, opt.far)
    if not len(cloud.points):
        raise UserError(f"there is no point of {prediction.path}: all are farther than --far")
    return prediction._replace(cloud=cloud)


def write_prediction(prediction: Prediction, predictor: DepthPredictor, opt: Namespace) -> None:
    """Write the files of `output_paths` for what is `complete`, each whole or not at all."""
    paths = output_paths(prediction.path, opt)
    disp = prediction.disp_at(prediction.image.height, prediction.image.width)
    with atomic_path(paths["colours"]) as partial:
        Image.fromarray(colourise(disp, opt.cmap)).save(partial, quality=95)
    if opt.save_npy:
        with atomic_path(paths["scaled_disp"]) as partial:
            np.save(partial, prediction.scaled_disp)
    if opt.save_depth:
        _write_depth(prediction, predictor, opt, paths)
    if prediction.cloud is not None:
        write_cloud(prediction.cloud, prediction.scale, paths.get("points"), paths.get("view"))


def _write_depth(
    prediction: Prediction, predictor: DepthPredictor, opt: Namespace, paths: dict[str, Path]
) -> None:
    """Float and 16-bit depth, and what they hold."""
    depth = prediction.depth()
    steps = np.rint(depth * PNG_STEPS)
    with atomic_path(paths["depth_npy"]) as partial:
        np.save(partial, depth)
    with atomic_path(paths["depth_png"]) as partial:
        # 0 means unknown there, which no predicted depth is.
        Image.fromarray(steps.clip(1, PNG_LARGEST).astype(np.uint16)).save(partial)
    about = {
        "picture": str(prediction.path),
        "checkpoint": str(opt.pretrained_path),
        "network_size": {"height": predictor.height, "width": predictor.width},
        "min_depth": predictor.min_depth,
        "max_depth": predictor.max_depth,
        "post_process": opt.post_process,
        "unit": "m" if prediction.scale else "unscaled: metres up to one unknown factor",
        "scale": prediction.scale,
        "scale_from_gt": opt.scale_from_gt,
        "files": {
            paths["depth_npy"].name: "depth, float32 (height, width), row 0 at the top",
            paths["depth_png"].name: f"depth * {PNG_STEPS}, 16 bits, at least 1, at most "
            f"{PNG_LARGEST} (depth {PNG_LARGEST / PNG_STEPS:.3f})",
        },
        "pixels_beyond_png": int((steps > PNG_LARGEST).sum()),
        "conventions": "depth runs along the optical axis, not along the ray; it is scale / "
        "scaled_disp; scaled_disp is 1 / max_depth + (1 / min_depth - 1 / max_depth) * output of "
        "the network, resized bilinearly to the picture, which is turned upright by its EXIF",
    }
    if opt.save_ply:
        about["files"][paths["points"].name] = (
            f"points in the unit of depth, x right, y down, z forward; camera {opt.intrinsics}"
        )
    with atomic_path(paths["depth_json"]) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def find_truth(picture: Path, pictures: int, source: str) -> Path:
    """The file of --scale_from_gt for one of so many pictures. Raises UserError if there is none.

    source: the file itself, for one picture; or a folder of NAME.npy or NAME.png.
    """
    if not os.path.isdir(source):
        if pictures > 1:
            raise UserError(
                f"--scale_from_gt {source} is no folder: for {pictures} pictures, a folder of true "
                "depth is expected, one file for each by its name"
            )
        return Path(source)
    for ending in (".npy", ".png", ".NPY", ".PNG"):
        path = Path(source) / f"{picture.stem}{ending}"
        if path.is_file():
            return path
    raise UserError(f"--scale_from_gt {source} holds neither {picture.stem}.npy nor "
                    f"{picture.stem}.png, the true depth of {picture}")  # fmt: skip


def scale_to_truth(prediction: Prediction, path: Path) -> float:
    """Median of true depth / median of predicted depth, over the pixels where truth is known.

    path: metres, (h, w), 0 or not finite where unknown: an .npy, or KITTI's 16-bit .png. Raises
    UserError if it is something else, or knows no pixel.
    """
    truth = _read_truth(path)
    height, width = truth.shape
    known = np.isfinite(truth) & (truth > 0)
    if not known.any():
        raise UserError(f"the true depth {path} is known at no pixel: metres above 0 are expected")
    if abs(width / height / (prediction.image.width / prediction.image.height) - 1) > 0.02:
        raise UserError(
            f"the true depth {path} is {width}x{height} (width x height), of another shape than "
            f"{prediction.path}, which is {prediction.image.width}x{prediction.image.height}"
        )
    predicted = 1 / prediction.disp_at(height, width)
    return float(np.median(truth[known]) / np.median(predicted[known]))


def _read_truth(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".png":
        return read_depth_png(path)
    try:
        truth = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise UserError(f"cannot read the true depth {path}: {reason(error)}") from error
    if not isinstance(truth, np.ndarray) or truth.ndim != 2 or truth.dtype.kind != "f":
        raise UserError(f"the true depth {path} is no array of floats (height, width)")
    return truth
