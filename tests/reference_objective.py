"""The whole objective a second time: slow, plain and in float64, to hold the real one against.

Written from the method's description alone (arXiv 2309.05254), sample by sample, source by
source, scale by scale, with pieces of its own: nothing of `losses`, `layers`, `view_synthesis` or
`augmentations` is used. Differentiable, so that gradients can be compared too. There is no
tie-breaking noise here: set `Objective.tie_break` to 0 to compare.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Maps = Mapping[int, Tensor]  # by scale


@dataclass
class Said:
    """What the networks said about a batch.

    disp, mask: by view ("full", "local", "reshuffled"), then by scale, (B, 1 or N, H / 2**s,
    W / 2**s); those of the reshuffled view are out of order, as the network saw it. src_T_tgt:
    (B, N, 4, 4), of the full view; camera: (B, 4), fx, fy, cx, cy as fractions of the size, where
    they are learned. All in float64.
    """

    disp: dict[str, Maps] = field(default_factory=dict)
    mask: dict[str, Maps] = field(default_factory=dict)
    src_T_tgt: Tensor | None = None
    camera: Tensor | None = None


def reference_terms(batch: Mapping, said: Said, opt: Namespace) -> dict[str, Tensor]:
    """The named terms of `TrainingStep`, "loss" first, of a collated batch.

    opt: options of train.py. Every term is the mean over samples of what one sample gives.
    """
    samples = [Sample(batch, said, opt, b).terms() for b in range(len(batch["index"]))]
    terms = {name: sum(each[name] for each in samples) / len(samples) for name in samples[0]}
    return {"loss": total(terms, opt)} | terms


def total(terms: Mapping[str, Tensor], opt: Namespace) -> Tensor:
    """Mean of the views' losses, plus 0.07 times the consistency terms."""
    bases, consistency = [], 0.0
    for view in ("full", "local", "reshuffled"):
        if f"{view}/photometric" in terms:
            bases.append(
                terms[f"{view}/photometric"]
                + opt.disparity_smoothness * terms[f"{view}/smoothness"]
                + 0.2 * terms.get(f"{view}/mask", 0.0)
            )
            consistency = consistency + terms.get(f"{view}/consistency", 0.0)
    return sum(bases) / len(bases) + 0.07 * consistency


class Sample:
    """Sample b of a batch."""

    def __init__(self, batch: Mapping, said: Said, opt: Namespace, b: int) -> None:
        self.batch, self.opt, self.b = batch, opt, b
        self.height, self.width = batch["color", 0, 0].shape[-2:]
        self.K = batch["K"][b, :3, :3].double() if said.camera is None else self._K(said.camera[b])
        self.sources = [*opt.frame_ids[1:], *(["s"] if opt.use_stereo else [])]
        self.disp = {view: self._own(maps, view) for view, maps in said.disp.items()}
        self.mask = {view: self._own(maps, view) for view, maps in said.mask.items()}
        self.motions = list(said.src_T_tgt[b])

    def _K(self, camera: Tensor) -> Tensor:
        """K (3, 3) of fx, fy, cx, cy (4,) as fractions of the size."""
        fx, fy, cx, cy = camera
        width, height = self.width, self.height
        return matrix([[fx * width, 0, cx * width], [0, fy * height, cy * height], [0, 0, 1]])

    def camera_terms(self) -> dict[str, Tensor]:
        """The camera of the picture as it was before mirroring, and the mean turn from frame to
        frame, in degrees."""
        (fx, _, cx), (_, fy, cy), _ = self.K.detach()
        turns = [motion[:3, :3].detach() for motion in self.motions[: len(self.opt.frame_ids) - 1]]
        found = {
            "fx": fx, "fy": fy, "cx": self.width - cx if self.batch["flip"][self.b] else cx,
            "cy": cy, "yaw": sum(abs(math.degrees(math.asin(R[0, 2]))) for R in turns) / len(turns),
            "pitch": sum(abs(math.degrees(math.asin(R[2, 1]))) for R in turns) / len(turns),
        }  # fmt: skip
        return {f"camera/{name}": torch.as_tensor(value) for name, value in found.items()}

    def _own(self, maps: Maps, view: str) -> dict[int, Tensor]:
        """This sample's maps (channels, h, w); those of the reshuffled view back in order."""
        own = {scale: each[self.b] for scale, each in maps.items()}
        if view == "reshuffled":
            cut_height, cut_width = self.batch["cut"][self.b].tolist()
            for s in own:
                rows = round((self.height - cut_height) / 2**s)
                columns = round((self.width - cut_width) / 2**s)
                own[s] = own[s].roll((-rows, -columns), (-2, -1))
        return own

    def picture(self, view: str, frame: int | str, scale: int) -> Tensor:
        """(3, h, w) in [0, 1]: un-jittered, and of the crop in the local view."""
        kind = "color_local" if view == "local" else "color"
        return self.batch[kind, frame, scale][self.b].double() / 255

    def depth(self, disp: Tensor) -> Tensor:
        low, high = 1 / self.opt.max_depth, 1 / self.opt.min_depth
        return 1 / (low + (high - low) * disp)

    def terms(self) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for view, scales in self.disp.items():
            for scale in scales:
                for name, value in self.terms_at(view, scale).items():
                    name = f"{view}/{name}"
                    terms[name] = terms.get(name, 0.0) + value / len(scales)
        if "local" in self.disp:
            terms["local/consistency"] = self.crop_consistency()
        if "reshuffled" in self.disp:
            terms["reshuffled/consistency"] = self.reshuffle_consistency()
        return terms | (self.camera_terms() if self.opt.learn_intrinsics else {})

    def terms_at(self, view: str, scale: int) -> dict[str, Tensor]:
        """Photometric error, smoothness and the cost of a mask, of one view at one scale."""
        opt, disp = self.opt, self.disp[view][scale]
        at = scale if opt.v1_multiscale else 0
        target = self.picture(view, 0, at)
        size = target.shape[-2:]
        K = self.K / torch.tensor([[2**at], [2**at], [1]])
        masks = self.mask[view][scale] if view in self.mask else None
        errors, unwarped, terms = [], [], {}
        for n, frame in enumerate(self.sources):
            source = self.picture(view, frame, at)
            motion = self.motions[n]
            if view == "local":
                motion = crop_motion(motion, self.crop_camera())
            seen = warp(source, self.depth(resize(disp[0], *size)), motion, K)
            error = photometric_error(seen, target, opt.no_ssim)
            if masks is not None:
                mask = resize(masks[n], *size)
                error = mask * error
                cost = -mask.log().mean() / len(self.sources)  # cross entropy with 1
                terms["mask"] = terms.get("mask", 0.0) + cost
            errors.append(error)
            unwarped.append(photometric_error(source, target, opt.no_ssim))
        if opt.avg_reprojection:
            errors, unwarped = [sum(errors) / len(errors)], [sum(unwarped) / len(unwarped)]
        competing = errors if opt.disable_automasking else [*unwarped, *errors]
        terms["photometric"] = torch.stack(competing).amin(0).mean()
        terms["smoothness"] = smoothness(disp[0], self.picture(view, 0, scale)) / 2**scale
        return terms

    def crop_camera(self) -> Tensor:
        """Rc (3, 3): where a point of the full camera is for the crop's, seen through one K."""
        _, resized_height, resized_width, y0, x0 = self.batch["crop"][self.b].tolist()
        f = (self.width - 1) / (resized_width - 1)
        c_x = crop_centre(x0, self.width, resized_width)
        c_y = crop_centre(y0, self.height, resized_height)
        fx, cx = self.K[0, 0] / self.width, self.K[0, 2] / self.width
        fy, cy = self.K[1, 1] / self.height, self.K[1, 2] / self.height
        a_x = (cx - c_x + f * (1 / 2 - cx)) / fx
        a_y = (cy - c_y + f * (1 / 2 - cy)) / fy
        return matrix([[1, 0, a_x], [0, 1, a_y], [0, 0, f]])

    def crop_consistency(self) -> Tensor:
        ratio, resized_height, resized_width, y0, x0 = self.batch["crop"][self.b].tolist()
        rows, columns = round(self.height / ratio), round(self.width / ratio)
        top = round(self.height * y0 / (resized_height - 1))
        left = round(self.width * x0 / (resized_width - 1))
        values = []
        for scale, disp in self.disp["local"].items():
            local = ratio * self.depth(resize(disp[0], rows, columns))
            full = self.depth(resize(self.disp["full"][scale][0], self.height, self.width))
            full = full[top : top + rows, left : left + columns]
            local = local[: full.shape[0], : full.shape[1]]  # a box may end beyond the picture
            values.append(scale_invariant(local, full))
        return sum(values) / len(values)

    def reshuffle_consistency(self) -> Tensor:
        values = [
            scale_invariant(self.depth(disp[0]), self.depth(self.disp["full"][scale][0]))
            for scale, disp in self.disp["reshuffled"].items()
        ]
        return sum(values) / len(values)


def matrix(rows: list[list]) -> Tensor:
    """Of numbers and scalars, through which gradients flow, in float64."""
    return torch.stack([
        torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in row]) for row in rows
    ])  # fmt: skip


def crop_centre(start: float, size: int, resized: float) -> float:
    """Centre of a crop along one axis, in the full picture's normalised coordinates."""

    def g(k: float) -> float:
        return -1 + 2 * k / (resized - 1)

    return 1 / 2 + (g(start) + g(start + size - 1)) / 4


def crop_motion(motion: Tensor, Rc: Tensor) -> Tensor:
    """(Rc R Rc^-1 | Rc t) of a motion (4, 4)."""
    local = torch.eye(4, dtype=torch.float64)
    local[:3, :3] = Rc @ motion[:3, :3] @ torch.linalg.inv(Rc)
    local[:3, 3] = Rc @ motion[:3, 3]
    return local


def scale_invariant(a: Tensor, b: Tensor) -> Tensor:
    d = a.log() - b.log()
    return (d**2).mean() - 0.5 * d.mean() ** 2


def smoothness(disp: Tensor, image: Tensor) -> Tensor:
    """Edge-aware smoothness of disp (h, w) over its mean, against image (3, h, w)."""
    disp = disp / (disp.mean() + 1e-7)
    edge_x = (image[:, :, 1:] - image[:, :, :-1]).abs().mean(0)
    edge_y = (image[:, 1:] - image[:, :-1]).abs().mean(0)
    along_x = (disp[:, 1:] - disp[:, :-1]).abs() * (-edge_x).exp()
    along_y = (disp[1:] - disp[:-1]).abs() * (-edge_y).exp()
    return along_x.mean() + along_y.mean()


def photometric_error(image: Tensor, target: Tensor, no_ssim: bool) -> Tensor:
    """Of two pictures (3, h, w), per pixel: (h, w)."""
    difference = (target - image).abs().mean(0)
    if no_ssim:
        return difference
    dissimilarity = ((1 - ssim(image, target)) / 2).clamp(0, 1).mean(0)
    return 0.85 * dissimilarity + 0.15 * difference


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Per pixel and channel, on 3x3 windows."""
    c1, c2 = 0.01**2, 0.03**2
    mu_a, mu_b = window_mean(a), window_mean(b)
    var_a, var_b = window_mean(a * a) - mu_a**2, window_mean(b * b) - mu_b**2
    covariance = window_mean(a * b) - mu_a * mu_b
    above = (2 * mu_a * mu_b + c1) * (2 * covariance + c2)
    return above / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))


def window_mean(image: Tensor) -> Tensor:
    """Mean of the 3x3 pixels around each of (3, h, w); beyond the border it is mirrored."""
    height, width = image.shape[-2:]
    mirrored = image[:, [1, *range(height), height - 2]][:, :, [1, *range(width), width - 2]]
    shifted = [mirrored[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return sum(shifted) / 9


def warp(source: Tensor, depth: Tensor, src_T_tgt: Tensor, K: Tensor) -> Tensor:
    """source (3, h, w) as the target camera sees it, whose depth (h, w) is given."""
    height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).double().reshape(3, -1)
    points = torch.linalg.inv(K) @ pixels * depth.reshape(-1)
    seen = K @ (src_T_tgt[:3, :3] @ points + src_T_tgt[:3, 3:])
    u = (seen[0] / (seen[2] + 1e-7)).clamp(0, width - 1)
    v = (seen[1] / (seen[2] + 1e-7)).clamp(0, height - 1)
    left = u.detach().floor().long().clamp(max=width - 2)
    top = v.detach().floor().long().clamp(max=height - 2)
    to_right, to_lower = u - left, v - top
    upper = source[:, top, left] * (1 - to_right) + source[:, top, left + 1] * to_right
    lower = source[:, top + 1, left] * (1 - to_right) + source[:, top + 1, left + 1] * to_right
    return (upper * (1 - to_lower) + lower * to_lower).reshape(3, height, width)


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, half-pixel centres (align_corners False), without antialiasing. (h, w) in."""
    rows, columns = image.shape
    return resize_weights(rows, height) @ image @ resize_weights(columns, width).T


def resize_weights(old: int, new: int) -> Tensor:
    """(new, old): what each new pixel of a row takes from the old ones."""
    weights = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        place = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
        first = int(place)
        weights[i, first] += 1 - (place - first)
        weights[i, min(first + 1, old - 1)] += place - first
    return weights


def motion(axis_angle: Tensor, translation: Tensor, invert: bool) -> Tensor:
    """(4, 4) of a pose vector (3,), (3,): T @ R, or inverted R^T @ T(-t). Rodrigues' formula."""
    angle = axis_angle.norm()
    x, y, z = axis_angle / (angle + 1e-7)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    axis = torch.stack([x, y, z])
    c, s = angle.cos(), angle.sin()
    R = c * torch.eye(3).double() + s * cross + (1 - c) * torch.outer(axis, axis)
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = R.T if invert else R
    T[:3, 3] = -(R.T @ translation) if invert else translation
    return T
