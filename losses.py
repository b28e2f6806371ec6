"""The objective: photometric error, auto-mask, smoothness and depth consistency, for every view.

The full, the cropped and the reshuffled view of a target differ in data, never in code. A view is
scored by `Objective.reconstruction`, two views of one scene by the `*_consistency` functions, and
`Objective.total` weighs the named terms (arXiv 2309.05254).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from augmentations import undo_reshuffle
from layers import disp_to_depth, sample_at_pixels, ssim_dissimilarity, window_moments
from view_synthesis import intrinsics_at, warp

Terms = dict[str, Tensor]


@dataclass
class Frames:
    """The un-jittered pictures that a view is scored against, and the camera that took them.

    target: {scale: (B, 3, H / 2**s, W / 2**s)}; sources: {scale: (B, N, 3, ...)}, scale 0 unless
    the loss is taken at each scale; K, inv_K: (B, 4, 4) in pixels of scale 0.
    """

    target: Mapping[int, Tensor]
    sources: Mapping[int, Tensor]
    K: Tensor
    inv_K: Tensor
    _identity_error: dict[int, Tensor] = field(default_factory=dict)
    _moments: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def error(self, images: Tensor, scale: int, ssim: bool) -> Tensor:
        """Photometric error of images (B, N, 3, h, w) against the target of a scale, (B, N, h, w).

        What depends on the target alone is computed once for all views that share it.
        """
        if ssim and scale not in self._moments:
            self._moments[scale] = window_moments(self.target[scale][:, None])
        return photometric_error(images, self.target[scale], ssim, self._moments.get(scale))

    def identity_error(self, scale: int, ssim: bool) -> Tensor:
        """Photometric error of the unwarped sources, (B, N, h, w); computed once for all views."""
        if scale not in self._identity_error:
            with torch.no_grad():
                self._identity_error[scale] = self.error(self.sources[scale], scale, ssim)
        return self._identity_error[scale]


@dataclass
class View:
    """One prediction to be scored: what a depth network made of one view of the target.

    disp: {scale: (B, 1, H / 2**s, W / 2**s)}, in the order of the frames' pixels;
    src_T_tgt: (B, N, 4, 4); mask: {scale: (B, N, ...)} in [0, 1] of --predictive_mask, or None.
    """

    frames: Frames
    disp: Mapping[int, Tensor]
    src_T_tgt: Tensor
    mask: Mapping[int, Tensor] | None = None
    _upsampled: dict[int, Tensor] = field(default_factory=dict)

    def upsampled_disp(self, scale: int) -> Tensor:
        """disp of a scale enlarged to full size, (B, 1, H, W)."""
        if scale not in self._upsampled:
            self._upsampled[scale] = enlarge(self.disp[scale], self.frames.target[0].shape[-2:])
        return self._upsampled[scale]


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to `size`, half-pixel centres (align_corners False)."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def photometric_error(
    images: Tensor,
    target: Tensor,
    ssim: bool = True,
    moments: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """0.85 * SSIM dissimilarity + 0.15 * L1, each the mean over channels; or L1 alone.

    images: (B, N, 3, H, W); target: (B, 3, H, W), both in [0, 1]; moments: `window_moments` of the
    target (B, 1, 3, H, W), where they are known. Returns (B, N, H, W).
    """
    target = target[:, None]
    l1 = (images - target).abs().mean(2)
    if not ssim:
        return l1
    return torch.lerp(l1, ssim_dissimilarity(images, target, moments).mean(2), 0.85)


def edge_aware_smoothness(disp: Tensor, image: Tensor) -> Tensor:
    """Mean |gradient of disp|, less where the image has an edge (Godard et al. 2017, eq. 3).

    disp: (B, 1, H, W), already divided by its mean where that is wanted; image: (B, 3, H, W).
    Forward differences along x and along y, each averaged over its own pixels, summed. Scalar.
    """
    along = []
    for axis in (-1, -2):
        edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
        along.append((disp.diff(dim=axis).abs() * torch.exp(-edge)).mean())
    return along[0] + along[1]


def mean_normalised(disp: Tensor) -> Tensor:
    """disp (B, 1, H, W) over its own mean per picture, so that smoothness cannot shrink it away."""
    return disp / (disp.mean((-2, -1), keepdim=True) + 1e-7)


def scale_invariant_log(
    a: Tensor, b: Tensor, mask: Tensor | None = None, variance_focus: float = 0.5
) -> Tensor:
    """mean(d^2) - variance_focus * mean(d)^2 with d = log a - log b (Eigen et al. 2014, eq. 4).

    a, b: depths (B, 1, H, W); mask: bool of that shape, the pixels that count. Means are taken
    per picture; returns the scalar mean over pictures.
    """
    d = torch.log(a + 1e-8) - torch.log(b + 1e-8)
    if mask is None:
        mean, mean_square = d.mean((1, 2, 3)), (d * d).mean((1, 2, 3))
    else:
        count = mask.sum((1, 2, 3))
        inside = d * mask
        mean, mean_square = inside.sum((1, 2, 3)) / count, (inside * d).sum((1, 2, 3)) / count
    return (mean_square - variance_focus * mean * mean).mean()


@dataclass(frozen=True)
class Objective:
    """The settings of the loss; the defaults are the paper's.

    tie_break: amplitude of the noise on the unwarped error. A static pixel and its warp tie
    exactly, and noise keeps the minimum from favouring one of them.
    """

    min_depth: float = 0.1
    max_depth: float = 100.0
    ssim: bool = True
    automask: bool = True
    avg_reprojection: bool = False
    v1_multiscale: bool = False
    disparity_smoothness: float = 1e-3
    consistency: float = 0.07
    mask_regularisation: float = 0.2
    tie_break: float = 1e-5

    def depth(self, disp: Tensor) -> Tensor:
        """Depth of a disparity map, within the model's limits."""
        return disp_to_depth(disp, self.min_depth, self.max_depth)[1]

    def reconstruction(self, view: View) -> tuple[Terms, dict[str, Tensor]]:
        """Score one view. Returns scalar terms, each the mean over scales and unweighted but for
        smoothness's 1 / 2**s, and pictures for people: `warped` (B, N, 3, H, W), `automask` and
        `error` (B, H, W), all of the finest scale.
        """
        terms: Terms = {}
        pictures: dict[str, Tensor] = {}
        for scale in sorted(view.disp, reverse=True):
            scale_terms, pictures = self._reconstruction_at(view, scale)
            for name, value in scale_terms.items():
                terms[name] = terms.get(name, 0) + value / len(view.disp)
        return terms, pictures

    def _reconstruction_at(self, view: View, scale: int) -> tuple[Terms, dict[str, Tensor]]:
        frames = view.frames
        at = scale if self.v1_multiscale else 0  # the scale whose pixels are compared
        target, sources = frames.target[at], frames.sources[at]
        disp = view.disp[scale] if self.v1_multiscale else view.upsampled_disp(scale)
        K, inv_K = intrinsics_at(frames.K, frames.inv_K, frames.target[0].shape[-1], disp.shape[-1])
        warped = warp(sources, self.depth(disp), view.src_T_tgt, K, inv_K)
        error = frames.error(warped, at, self.ssim)
        terms: Terms = {}
        if view.mask is not None:
            mask = enlarge(view.mask[scale], target.shape[-2:])
            error = error * mask
            terms["mask"] = F.binary_cross_entropy(mask, torch.ones_like(mask))
        if self.avg_reprojection:
            error = error.mean(1, keepdim=True)
        best, used = self._minimum(error, frames, at)
        smooth = edge_aware_smoothness(mean_normalised(view.disp[scale]), frames.target[scale])
        terms |= {"photometric": best.mean(), "smoothness": smooth / 2**scale}
        return terms, {"warped": warped.detach(), "automask": used, "error": best.detach()}

    def _minimum(self, error: Tensor, frames: Frames, at: int) -> tuple[Tensor, Tensor]:
        """The least error at each pixel, (B, h, w), and where a warped source attains it."""
        if not self.automask:
            best = error.min(1).values
            return best, torch.ones_like(best)
        identity = frames.identity_error(at, self.ssim)
        if self.avg_reprojection:
            identity = identity.mean(1, keepdim=True)
        identity = identity + self.tie_break * torch.randn_like(identity)
        best, winner = torch.cat([identity, error], 1).min(1)
        return best, (winner >= identity.shape[1]).to(best.dtype)

    def crop_consistency(self, full: View, local: View, crop: Tensor) -> Tensor:
        """Depth of the crop against the crop of the depth, mean over scales.

        crop: float64 (B, 5), see `view_synthesis.crop_camera`. The crop's disparity is laid over
        its box of the full picture, turned to depth, and times the ratio, by which a crop seems
        nearer; the full disparity is compared at full size.
        """
        height, width = full.frames.target[0].shape[-2:]
        box = CropOverlay(crop, height, width)
        total = crop.new_zeros((), dtype=torch.float32)
        for scale, disp in local.disp.items():
            local_depth = self.depth(box.lay(disp)) * box.ratio
            full_depth = self.depth(full.upsampled_disp(scale))
            total = total + scale_invariant_log(local_depth, full_depth, box.mask)
        return total / len(local.disp)

    def reshuffle_consistency(self, full: View, reshuffled: View) -> Tensor:
        """Depth of the reshuffled picture, already in order, against the full view's; mean over
        scales, each at its own size."""
        values = [
            scale_invariant_log(self.depth(reshuffled.disp[scale]), self.depth(disp))
            for scale, disp in full.disp.items()
        ]
        return torch.stack(values).mean()

    def score(
        self, views: Mapping[str, View], crop: Tensor | None
    ) -> tuple[Terms, dict[str, dict[str, Tensor]]]:
        """Score all views of a target: "full", and perhaps "local" (with its crop, (B, 5)) and
        "reshuffled". Returns terms named `<view>/<term>`, and each view's pictures.
        """
        terms: Terms = {}
        pictures = {}
        for name, view in views.items():
            scored, pictures[name] = self.reconstruction(view)
            terms |= {f"{name}/{term}": value for term, value in scored.items()}
        full = views["full"]
        if "local" in views:
            terms["local/consistency"] = self.crop_consistency(full, views["local"], crop)
        if "reshuffled" in views:
            reshuffled = views["reshuffled"]
            terms["reshuffled/consistency"] = self.reshuffle_consistency(full, reshuffled)
        return terms, pictures

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss: mean over views of their reconstruction terms, plus the weighted consistency.

        terms: scalars named `<view>/<term>`.
        """
        weights = {
            "photometric": 1.0,
            "smoothness": self.disparity_smoothness,
            "mask": self.mask_regularisation,
        }
        views = {name.split("/")[0] for name in terms if name.endswith("/photometric")}
        total = 0
        for name, value in terms.items():
            term = name.split("/")[1]
            weight = self.consistency if term == "consistency" else weights[term] / len(views)
            total = total + weight * value
        return total


class CropOverlay:
    """Where each sample's crop lies in the full picture, as whole-batch maps of fixed shape.

    crop: (B, 5). `mask` (B, 1, H, W): the pixels of the box, whose corner is
    round(size * start / (resized - 1)) and whose size is round(size / ratio), halves to even.
    """

    def __init__(self, crop: Tensor, height: int, width: int) -> None:
        ratio, resized_height, resized_width, y0, x0 = crop.double().unbind(1)
        self.ratio = ratio.float()[:, None, None, None]
        self.y, self.box_height = self._span(height, y0, resized_height, ratio)
        self.x, self.box_width = self._span(width, x0, resized_width, ratio)
        inside_y = (self.y >= 0) & (self.y < self.box_height)
        inside_x = (self.x >= 0) & (self.x < self.box_width)
        self.mask = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]

    @staticmethod
    def _span(size: int, start: Tensor, resized: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Along one axis: each pixel's index in the box (B, size), and the box's size (B, 1)."""
        first = torch.round(size * start / (resized - 1))
        index = torch.arange(size, device=start.device, dtype=start.dtype) - first[:, None]
        return index, torch.round(size / ratio)[:, None]

    def lay(self, maps: Tensor) -> Tensor:
        """Resize each crop's map (B, 1, h, w) bilinearly (half-pixel centres) to its box.

        Returns (B, 1, H, W); outside the box the border value continues.
        """
        height, width = maps.shape[-2:]
        y = (self.y + 0.5) * height / self.box_height - 0.5
        x = (self.x + 0.5) * width / self.box_width - 0.5
        y, x = torch.broadcast_tensors(y[:, :, None], x[:, None, :])
        return sample_at_pixels(maps, torch.stack([x, y], -1).to(maps.dtype))


def in_order(disp: Mapping[int, Tensor], cut: Tensor, size: Sequence[int]) -> dict[int, Tensor]:
    """A reshuffled picture's predictions at every scale, pixels back in their places.

    disp: {scale: (B, 1, h, w)}; cut: (B, 2), see `augmentations.reshuffle`; size: (H, W).
    """
    return {scale: undo_reshuffle(maps, cut, *size) for scale, maps in disp.items()}
