"""Scoring depth against ground truth: protocols as data, masks, scaling, metrics, one table.

Every benchmark goes through `score_image` and every caller (the trainer, evaluate_depth.py) through
`evaluate`, so that a number means the same wherever it is printed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from distributed import World, gather_outcomes
from sparse_depth import EVERYTHING, known_pixels, lower_median, resized_at
from stopping import outlive_signals
from utils import UserError

STEREO_SCALE = 5.4  # the family trains with a baseline of 0.1; KITTI's rig measures 0.54 m
AHEAD = 8  # predictions that may wait to be scored
FEW = 4  # where fewer than one in so many pixels are scored, they are read one by one


class Errors:
    """What metrics are made of: gt and pred, (pixels,) in metres, and what several of them need."""

    def __init__(self, gt: Tensor, pred: Tensor) -> None:
        self.gt, self.off = gt, gt - pred
        self.square, self.log = self.off**2, (gt / pred).log()
        self.factor = torch.maximum(gt / pred, pred / gt)


def _within(limit: float) -> Callable[[Errors], Tensor]:
    """The share of pixels that are off by a factor below `limit`, in either direction."""
    return lambda e: (e.factor < limit).mean(dtype=e.factor.dtype)


# Eigen et al. 2014 (arXiv 1406.2283), over the scored pixels of one image. rmse_log10 is Make3D's.
METRICS: dict[str, Callable[[Errors], Tensor]] = {
    "abs_rel": lambda e: (e.off.abs() / e.gt).mean(),
    "sq_rel": lambda e: (e.square / e.gt).mean(),
    "rmse": lambda e: e.square.mean().sqrt(),
    "rmse_log": lambda e: (e.log**2).mean().sqrt(),
    "rmse_log10": lambda e: ((e.log / math.log(10)) ** 2).mean().sqrt(),
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

    def depth_at(
        self, scaled_disp: Tensor, size: tuple[int, int], rows: np.ndarray, columns: np.ndarray
    ) -> Tensor:
        """`resized_depth` at some pixels: (n,); rows, columns: int64 (n,), inside `size`.

        Laser depth is known for few pixels of a picture: the others need no prediction.
        """
        if len(rows) * FEW > size[0] * size[1]:
            pixels = torch.from_numpy(rows * size[1] + columns).to(scaled_disp.device)
            return self.resized_depth(scaled_disp, size).flatten().index_select(0, pixels)
        align_corners = None if self.resize == "depth" else self.align_corners
        return 1 / resized_at(scaled_disp, size, rows, columns, align_corners)


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

# True depth of a user's own beside a user's own frames: not one of the published benchmarks.
FOLDER = Protocol("folder", "folder of frames (all known depths, 80 m)", 1e-3, 80.0, (1e-3, 80.0))


@dataclass(frozen=True)
class ImageScore:
    """The metrics of one image, in the protocol's order; its median ratio, None if not used."""

    metrics: tuple[float, ...]
    ratio: float | None


def depth_errors(gt: Tensor, pred: Tensor, names: Sequence[str] = SEVEN) -> tuple[float, ...]:
    """The named METRICS over positive depths gt and pred, both (pixels,), in metres."""
    errors = Errors(gt, pred)
    return tuple(torch.stack([METRICS[name](errors) for name in names]).tolist())


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
    truth = np.asarray(gt_depth, dtype=np.float32)
    truth = truth[: round(truth.shape[0] * protocol.kept_rows)]
    window = protocol.crop.window(*truth.shape) if protocol.crop else EVERYTHING
    rows, columns, gt = known_pixels(truth, protocol.min_depth, protocol.max_depth, window)
    if not rows.size:
        raise UserError(
            f"the ground truth of {name} has no pixel to score: {protocol.title} needs depths "
            f"between {protocol.min_depth:g} and {protocol.max_depth:g} m inside its crop"
        )
    gt = torch.from_numpy(gt).to(scaled_disp.device)
    pred = protocol.depth_at(scaled_disp, truth.shape, rows, columns)
    ratio = (lower_median(gt) / lower_median(pred)).item() if scale is None else None
    pred = (pred * (scale if ratio is None else ratio)).clamp(*protocol.cap)
    return ImageScore(depth_errors(gt, pred, protocol.metrics), ratio)


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Scores of a data set, one row an image in the data set's order.

    per_image: float64 (images, metrics); ratios: float64 (images,), or None where predictions were
    multiplied by one fixed scale instead.
    """

    protocol: Protocol
    per_image: np.ndarray
    ratios: np.ndarray | None
    post_process: bool = False
    scale: float | None = None

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

    def report(self) -> dict[str, Any]:
        """All that is known of the result but single images, as JSON takes it: NaN is None."""
        return {
            "title": self.protocol.title,
            "resize": self.protocol.resize_name,
            "images": len(self.per_image),
            "post_process": self.post_process,
            "scale": "median" if self.ratios is not None else self.scale,
            "ratio_median": _number_or_none(self.ratio_median),
            "ratio_std": _number_or_none(self.ratio_std),
            "metrics": {name: _number_or_none(value) for name, value in self.mean().items()},
            "standard_errors": {
                name: _number_or_none(value) for name, value in self.standard_error().items()
            },
        }

    def table(self) -> str:
        """What was scored and how, then a header and the means with their standard errors."""
        if self.ratios is None:
            scaling = f"fixed scale {self.scale:g}, no median scaling"
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
            *(f"{label:>8}" + "".join(f"{cell:>12}" for cell in cells) for label, cells in rows),
        ])  # fmt: skip


def _number_or_none(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


class Predictor(Interface):
    """What `evaluate` needs of a depth network (inference.DepthPredictor has it).

    One that computes on a GPU has a `device` that says so.
    """

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
    scale: float | None = None,
    batch_size: int = 4,
    num_workers: int = 0,
    check: Callable[[], None] = lambda: None,
) -> EvaluationResult:
    """Predict and score every image of a data set, shared out over the processes of `world`.

    dataset: samples whose ("color", 0, 0) is the picture at network size, in the order of
    ground_truth; check: called before each batch, may raise Interrupted, which all ranks then do;
    the rest: as `predictions` and `score` take it. Raises UserError, on every rank,
    if the counts differ or an image cannot be scored.
    """
    check_count(ground_truth, len(dataset), "the ground truth")
    indices = share(len(dataset), world)
    disps = predictions(predictor, dataset, indices, post_process, batch_size, num_workers, check)
    return score(
        disps, ground_truth, protocol,
        names=names, world=world, post_process=post_process, scale=scale,
    )  # fmt: skip


def share(count: int, world: World | None = None) -> range:
    """The images, of `count`, that this process takes: every size-th, starting with its rank."""
    return range(world.rank, count, world.size) if world else range(count)


def predictions(
    predictor: Predictor,
    dataset: Dataset[Mapping[Any, Tensor]],
    indices: Sequence[int],
    post_process: bool = False,
    batch_size: int = 4,
    num_workers: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """The scaled disparity (H, W) of one image of `indices` after the other, when asked for."""
    device = getattr(predictor, "device", torch.device("cpu"))
    loader = DataLoader(
        Subset(dataset, indices), batch_size, pin_memory=device.type == "cuda",
        num_workers=min(num_workers, -(-len(indices) // batch_size)),  # no worker without a batch
        generator=torch.Generator(),  # its own: an evaluation leaves a training's draws alone
        worker_init_fn=outlive_signals,
    )  # fmt: skip
    for batch in loader:
        check()
        yield from predictor.scaled_disp(batch["color", 0, 0], post_process)[:, 0]


def score(
    disps: Iterable[Tensor],
    ground_truth: Sequence[np.ndarray],
    protocol: Protocol,
    *,
    names: Sequence[str] | None = None,
    world: World | None = None,
    post_process: bool = False,
    scale: float | None = None,
) -> EvaluationResult:
    """Score predictions against the ground truth, while the next ones are being made.

    disps: scaled disparity (H, W) of this process's `share` of the images, in order; names: one an
    image, for messages; scale: as for `score_image`. The scores of all processes are gathered back
    into the order of images, so every rank returns what one process would. Memory does not grow
    with the number of images. Raises UserError, on every rank, if an image cannot be scored.
    """
    world = world or World()
    count = len(ground_truth)
    indices = share(count, world)

    def score_one(index: int, disp: Tensor) -> ImageScore:
        name = names[index] if names else f"image {index}"
        return score_image(protocol, disp, ground_truth[index], scale, name)

    found = _overlapping(score_one, zip(indices, disps, strict=True))
    progress = tqdm(
        found, f"evaluate {protocol.name}", len(indices), unit="image", disable=not world.is_main
    )
    try:
        scores: list[ImageScore] | Exception = list(progress)
    except Exception as error:  # carried through the gather: others wait there
        scores = error
    shards = gather_outcomes(world, scores)
    ordered = [shards[index % world.size][index // world.size] for index in range(count)]
    per_image = np.array([each.metrics for each in ordered])
    ratios = None if scale is not None else np.array([each.ratio for each in ordered])
    return EvaluationResult(protocol, per_image, ratios, post_process, scale)


def _overlapping(
    work: Callable[[int, Tensor], ImageScore], items: Iterable[tuple[int, Tensor]]
) -> Iterator[ImageScore]:
    """work(*item) of every item, in order, on a thread that goes on while items are made."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting: deque[Future[ImageScore]] = deque()
        for item in items:
            waiting.append(thread.submit(work, *item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def check_count(depths: Sequence[np.ndarray], count: int, source: str) -> None:
    """Raise UserError unless `depths`, read from `source`, has one entry an image."""
    if len(depths) != count:
        raise UserError(f"{source} holds {len(depths)} depth maps for {count} test images")
