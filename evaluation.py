"""Scoring depth against ground truth: protocols as data, masks, scaling, metrics, one table.

Every benchmark goes through `score_image` and every caller (the trainer, evaluate_depth.py) through
`evaluate`, so that a number means the same wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from distributed import World, gather_objects
from ground_truth import load_gt_depths
from utils import UserError

STEREO_SCALE = 5.4  # the family trains with a baseline of 0.1; KITTI's rig measures 0.54 m


def _within(limit: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The share of pixels that are off by a factor below `limit`, in either direction."""
    return lambda gt, pred: (torch.maximum(gt / pred, pred / gt) < limit).to(pred.dtype).mean()


# Eigen et al. 2014 (arXiv 1406.2283), over the scored pixels of one image: `gt` and `pred` are
# (pixels,) in metres. rmse_log10 is Make3D's.
METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "abs_rel": lambda gt, pred: ((gt - pred).abs() / gt).mean(),
    "sq_rel": lambda gt, pred: ((gt - pred) ** 2 / gt).mean(),
    "rmse": lambda gt, pred: ((gt - pred) ** 2).mean().sqrt(),
    "rmse_log": lambda gt, pred: ((gt.log() - pred.log()) ** 2).mean().sqrt(),
    "rmse_log10": lambda gt, pred: ((gt.log10() - pred.log10()) ** 2).mean().sqrt(),
    "a1": _within(1.25),
    "a2": _within(1.25**2),
    "a3": _within(1.25**3),
}
SEVEN = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")


@dataclass(frozen=True)
class Crop:
    """The scored window, in pixels or in fractions of the image's size; bottom None: the end."""

    top: float
    bottom: float | None
    left: float
    right: float
    fractions: bool

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of an image of (height, width), fractions truncated to whole pixels."""
        rows, columns = (height, width) if self.fractions else (1, 1)
        bottom = height if self.bottom is None else int(self.bottom * rows)
        return (
            slice(int(self.top * rows), bottom),
            slice(int(self.left * columns), int(self.right * columns)),
        )


# Garg et al. 2016 (arXiv 1603.04992), as every KITTI Eigen table uses it.
GARG_CROP = Crop(0.40810811, 0.99189189, 0.03594771, 0.96405229, fractions=True)


@dataclass(frozen=True)
class Protocol:
    """How one benchmark scores an image. Depths in metres, sizes (height, width)."""

    name: str  # key in files and tables, without spaces
    title: str  # what is scored, for a reader
    min_depth: float  # ground truth outside (min_depth, max_depth) is not scored
    max_depth: float
    cap: tuple[float | None, float]  # predictions are clamped to it after scaling
    crop: Crop | None = None
    kept_rows: float = 1.0  # share of the ground truth's rows, from the top, that is used at all
    resize: str = "disp"  # "disp": disparity, bilinear; "depth": depth, nearest neighbour
    align_corners: bool = True  # of the bilinear resize; True made the published tables
    metrics: tuple[str, ...] = SEVEN

    @property
    def resize_name(self) -> str:
        """The resize convention in words: numbers with different ones do not compare."""
        if self.resize == "depth":
            return "depth resized by nearest neighbour"
        if self.align_corners:
            return "disparity resized with align_corners=True (published)"
        return "disparity resized with align_corners=False (half-pixel, as Monodepth2)"

    def resized_depth(self, scaled_disp: Tensor, size: tuple[int, int]) -> Tensor:
        """Depth (h, w) of the wanted size from scaled_disp = 1 / depth, (H, W)."""
        disp = scaled_disp[None, None]
        if self.resize == "depth":
            return F.interpolate(1 / disp, size, mode="nearest")[0, 0]
        resized = F.interpolate(disp, size, mode="bilinear", align_corners=self.align_corners)
        return 1 / resized[0, 0]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "kitti_eigen", "KITTI Eigen (raw laser depth, Garg crop, 80 m)",
            1e-3, 80.0, (1e-3, 80.0), crop=GARG_CROP,
        ),
        Protocol(
            "kitti_eigen_benchmark", "KITTI Eigen benchmark (improved ground truth, 80 m)",
            0.0, float("inf"), (1e-3, 80.0),
        ),
        Protocol(
            "cityscapes", "Cityscapes (lower quarter cut, centre crop, 80 m)",
            1e-3, 80.0, (1e-3, 80.0), crop=Crop(256, None, 192, 1856, False), kept_rows=0.75,
        ),
        Protocol("nyuv2", "NYUv2 (10 m)", 0.0, 10.0, (None, 10.0), resize="depth"),
        Protocol(
            "make3d", "Make3D (C1, 70 m)", 0.0, 70.0, (None, 70.0), resize="depth",
            metrics=("abs_rel", "sq_rel", "rmse", "rmse_log10"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class ImageScore:
    """The metrics of one image, in the protocol's order; its median ratio, None if not used."""

    metrics: tuple[float, ...]
    ratio: float | None


def depth_errors(gt: Tensor, pred: Tensor, names: Sequence[str] = SEVEN) -> tuple[float, ...]:
    """The named METRICS over positive depths gt and pred, both (pixels,), in metres."""
    return tuple(torch.stack([METRICS[name](gt, pred) for name in names]).tolist())


def score_image(
    protocol: Protocol,
    scaled_disp: Tensor,
    gt_depth: np.ndarray,
    scale: float | None = None,
    name: str = "the image",
) -> ImageScore:
    """Score one prediction, in its own precision and on its device.

    scaled_disp: (H, W), 1 / depth at network size; gt_depth: (h, w) metres, 0 where unknown.
    scale: a fixed factor for predicted depths (stereo models); None scales each image so that the
    medians inside the mask agree. As in the published code the median of an even number of
    values is the lower of the middle two. Raises UserError naming the image if no pixel counts.
    """
    gt = torch.as_tensor(np.asarray(gt_depth, dtype=np.float32), device=scaled_disp.device)
    gt = gt[: round(gt.shape[0] * protocol.kept_rows)]
    pred = protocol.resized_depth(scaled_disp, gt.shape)
    if protocol.crop is not None:
        window = protocol.crop.window(*gt.shape)
        gt, pred = gt[window], pred[window]
    mask = (gt > protocol.min_depth) & (gt < protocol.max_depth)
    if not mask.any():
        raise UserError(
            f"the ground truth of {name} has no pixel to score: {protocol.title} needs depths "
            f"between {protocol.min_depth:g} and {protocol.max_depth:g} m inside its crop"
        )
    gt, pred = gt[mask], pred[mask]
    ratio = (gt.median() / pred.median()).item() if scale is None else None
    pred = (pred * (scale if ratio is None else ratio)).clamp(*protocol.cap)
    return ImageScore(depth_errors(gt, pred, protocol.metrics), ratio)


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Scores of a data set, one row an image in the data set's order.

    per_image: float64 (images, metrics); ratios: float64 (images,) or None without median scaling.
    """

    protocol: Protocol
    per_image: np.ndarray
    ratios: np.ndarray | None
    post_process: bool = False

    def mean(self) -> dict[str, float]:
        """Each metric, averaged over images."""
        return dict(zip(self.protocol.metrics, self.per_image.mean(axis=0).tolist(), strict=True))

    def standard_error(self) -> dict[str, float]:
        """Standard error of each mean over images (n - 1); NaN for a single image."""
        count = len(self.per_image)
        spread = self.per_image.std(axis=0, ddof=1) if count > 1 else self.per_image[0] * np.nan
        return dict(zip(self.protocol.metrics, (spread / count**0.5).tolist(), strict=True))

    @property
    def ratio_median(self) -> float | None:
        """Median of the scaling ratios (lower of the middle two); None without median scaling."""
        return None if self.ratios is None else torch.as_tensor(self.ratios).median().item()

    @property
    def ratio_std(self) -> float | None:
        """Standard deviation (n - 1) of ratios / median; NaN for a single image."""
        if self.ratios is None:
            return None
        relative = self.ratios / self.ratio_median
        return float(relative.std(ddof=1)) if len(relative) > 1 else float("nan")

    def table(self) -> str:
        """What was scored and how, then a header and the means with their standard errors."""
        if self.ratios is None:
            scaling = f"fixed scale {STEREO_SCALE} (stereo)"
        else:
            scaling = f"median scaling, ratios: median {self.ratio_median:.3f}, "
            scaling += f"std {self.ratio_std:.3f}"
        flip = ", post-processed" if self.post_process else ""
        rows = [("", self.protocol.metrics)]
        for label, values in (("mean", self.mean()), ("std err", self.standard_error())):
            rows.append((label, [f"{value:.3f}" for value in values.values()]))
        return "\n".join([
            f"{self.protocol.title}; {self.protocol.resize_name}",
            f"images: {len(self.per_image)}{flip}; {scaling}",
            *(f"{label:>8}" + "".join(f"{cell:>10}" for cell in cells) for label, cells in rows),
        ])  # fmt: skip


class Predictor(Interface):
    """What `evaluate` needs of a depth network (inference.DepthPredictor has it)."""

    def scaled_disp(self, images: Tensor, post_process: bool = False) -> Tensor:
        """Images (B, 3, H, W), uint8, to 1 / depth (B, 1, H, W)."""


def evaluate(
    predictor: Predictor,
    dataset: Dataset[Mapping[Any, Tensor]],
    ground_truth: Sequence[np.ndarray],
    protocol: Protocol,
    *,
    names: Sequence[str] | None = None,
    world: World | None = None,
    post_process: bool = False,
    stereo: bool = False,
    batch_size: int = 4,
    num_workers: int = 0,
) -> EvaluationResult:
    """Predict and score every image of a data set, shared out over the processes of `world`.

    dataset: samples whose ("color", 0, 0) is the picture at network size, in the order of
    ground_truth; names: one a sample, for messages. Each rank takes every size-th image and the
    scores are gathered back into the data set's order, so all ranks return the result of one.
    Memory does not grow with the number of images. Raises UserError, on every rank, if the counts
    differ or an image cannot be scored.
    """
    check_count(ground_truth, len(dataset), "the ground truth")
    world = world or World()
    indices = range(world.rank, len(dataset), world.size)
    loader = DataLoader(
        Subset(dataset, indices), batch_size, pin_memory=torch.cuda.is_available(),
        num_workers=min(num_workers, -(-len(indices) // batch_size)),  # no worker without a batch
        generator=torch.Generator(),  # its own: an evaluation leaves a training's draws alone
    )  # fmt: skip
    disps = _predictions(predictor, loader, post_process)
    label = f"evaluate {protocol.name}"
    progress = tqdm(indices, desc=label, unit="image", disable=not world.is_main)
    scale = STEREO_SCALE if stereo else None
    try:
        scores: list[ImageScore] | UserError = []
        for index, disp in zip(progress, disps, strict=True):
            name = names[index] if names else f"image {index}"
            scores.append(score_image(protocol, disp, ground_truth[index], scale, name))
    except UserError as error:  # carried through the gather: the other ranks wait there
        scores = error
    shards = gather_objects(world, scores)
    for shard in shards:
        if isinstance(shard, UserError):
            raise shard
    ordered = [shards[index % world.size][index // world.size] for index in range(len(dataset))]
    per_image = np.array([score.metrics for score in ordered])
    ratios = None if stereo else np.array([score.ratio for score in ordered])
    return EvaluationResult(protocol, per_image, ratios, post_process)


def _predictions(predictor: Predictor, loader: DataLoader, post_process: bool) -> Iterator[Tensor]:
    """The scaled disparity (H, W) of one image after the other."""
    for batch in loader:
        yield from predictor.scaled_disp(batch["color", 0, 0], post_process)[:, 0]


KITTI_SPLITS = {"eigen": "kitti_eigen", "eigen_benchmark": "kitti_eigen_benchmark"}


def kitti_protocol(split: str, resize_convention: str = "published") -> Protocol:
    """The protocol of a KITTI test split; a folder of the user's own is scored as `eigen`.

    resize_convention: "published" (align_corners True) or "half_pixel" (False).
    """
    protocol = PROTOCOLS["kitti_eigen" if _is_own_folder(split) else KITTI_SPLITS[split]]
    if _is_own_folder(split):
        protocol = replace(protocol, title=f"{protocol.title} on {split}")
    return replace(protocol, align_corners=resize_convention == "published")


def kitti_ground_truth(split: str, count: int) -> Sequence[np.ndarray]:
    """The depth maps of a published KITTI split (under splits/kitti) or of a folder.

    Raises UserError, with the command that makes the file, if it is missing, unreadable or does
    not hold one depth map for each of `count` images.
    """
    published = Path(__file__).parent / "splits" / "kitti" / split
    path = (Path(split) if _is_own_folder(split) else published) / "gt_depths.npz"
    if not path.is_file():
        raise UserError(
            f"no ground truth at {path}: make it with "
            f"`python export_gt_depth.py --data_path KITTI_FOLDER --split {split}`"
        )
    depths = load_gt_depths(path)
    check_count(depths, count, str(path))
    return depths


def _is_own_folder(split: str) -> bool:
    """Whether `split` is a folder with a list of the user's own, which wins as it does there."""
    return split not in KITTI_SPLITS or (Path(split) / "test_files.txt").is_file()


def check_count(depths: Sequence[np.ndarray], count: int, source: str) -> None:
    """Raise UserError unless `depths`, read from `source`, has one entry an image."""
    if len(depths) != count:
        raise UserError(f"{source} holds {len(depths)} depth maps for {count} test images")
