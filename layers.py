"""Small differentiable pieces: disparity to depth, pose vectors, pinhole cameras, sampling, SSIM.

One pixel convention holds everywhere: (x, y), and (0, 0) is the centre of the top left pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def in_float32(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), in float32 where autocast would compute in fewer bits."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return function(x)
    with torch.autocast(x.device.type, enabled=False):
        return function(x.float())


def disp_to_depth(disp: Tensor, min_depth: float, max_depth: float) -> tuple[Tensor, Tensor]:
    """Turn a network's disparity into depth (Monodepth2, section 3.3).

    disp: any shape, in [0, 1]. Returns (scaled_disp, depth) of the same shape: scaled_disp runs
    linearly from 1 / max_depth to 1 / min_depth, and depth is its inverse.
    """
    nearest, farthest = 1 / min_depth, 1 / max_depth
    scaled_disp = farthest + (nearest - farthest) * disp
    return scaled_disp, scaled_disp.reciprocal()


def rotation_from_axis_angle(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula. axis_angle: (..., 3), its norm the angle in radians. (..., 3, 3)."""
    angle = axis_angle.norm(dim=-1, keepdim=True)
    x, y, z = (axis_angle / (angle + 1e-7)).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    axis = torch.stack([x, y, z], -1)
    outer = axis[..., :, None] * axis[..., None, :]
    sin, cos = torch.sin(angle)[..., None], torch.cos(angle)[..., None]
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return cos * eye + sin * cross + (1 - cos) * outer


def transformation_from_parameters(
    axis_angle: Tensor, translation: Tensor, invert: bool = False
) -> Tensor:
    """The rigid motion of a pose vector: rotate, then translate; or its inverse.

    axis_angle, translation: (..., 3). Returns (..., 4, 4): `T @ R`, or `R^T @ T(-t)`.
    """
    rotation = rotation_from_axis_angle(axis_angle)
    top = torch.cat([rotation, translation[..., None]], -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3].fill_(1)
    motion = torch.cat([top, bottom], -2)
    return inverse_motion(motion) if invert else motion


def inverse_motion(motion: Tensor) -> Tensor:
    """The way back of rigid motions (..., 4, 4): of `T @ R`, `R^T @ T(-t)`."""
    rotation = motion[..., :3, :3].transpose(-1, -2)
    top = torch.cat([rotation, -(rotation @ motion[..., :3, 3:])], -1)
    return torch.cat([top, motion[..., 3:, :]], -2)


def camera_matrices(cameras: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """K and its inverse, each (B, 4, 4) in pixels of (height, width), of cameras (B, 4): fx, fy,
    cx, cy as fractions of the width, height, width, height."""
    fx, fy, cx, cy = cameras.unbind(-1)
    fx, fy, cx, cy = fx * width, fy * height, cx * width, cy * height
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    last = [zero, zero, one, zero, zero, zero, zero, one]
    K = [fx, zero, cx, zero, zero, fy, cy, zero, *last]
    inv_K = [1 / fx, zero, -cx / fx, zero, zero, 1 / fy, -cy / fy, zero, *last]
    return torch.stack(K, -1).unflatten(-1, (4, 4)), torch.stack(inv_K, -1).unflatten(-1, (4, 4))


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Homogeneous pixel centres (x, y, 1), row by row: (3, height * width), typed like `like`."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device),
        torch.arange(width, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack([x, y, torch.ones_like(x)]).flatten(1)


def backproject(depth: Tensor, inv_K: Tensor) -> Tensor:
    """Lift every pixel to a point in its own camera: x right, y down, z forward.

    depth: (B, 1, H, W); inv_K: (B, 4, 4), pixels to rays. Returns (B, 3, H * W), row by row.
    """
    rays = inv_K[:, :3, :3] @ pixel_grid(*depth.shape[-2:], like=depth)
    return depth.flatten(2) * rays


def project(points: Tensor, K: Tensor, src_T_tgt: Tensor) -> Tensor:
    """See target-camera points from other cameras.

    points: (B, 3, P); K: (B, 4, 4) in pixels; src_T_tgt: (B, N, 4, 4). Returns pixels
    (B, N, P, 2) as (x, y). A depth of exactly zero is kept finite by 1e-7.
    """
    matrix = (K[:, None] @ src_T_tgt)[:, :, :3]
    seen = matrix[..., :3] @ points[:, None] + matrix[..., 3:]
    return (seen[:, :, :2] / (seen[:, :, 2:] + 1e-7)).transpose(-1, -2)


def sample_at_pixels(image: Tensor, pixels: Tensor) -> Tensor:
    """Read an image bilinearly; outside it, the nearest border pixel counts.

    image: (B, C, H, W); pixels: (B, h, w, 2) as (x, y), (0, 0) a pixel's centre.
    Returns (B, C, h, w).
    """
    height, width = image.shape[-2:]
    x, y = pixels.unbind(-1)  # scaled by plain numbers: a tensor of them would wait for a GPU
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True)


def mean_3x3(images: Tensor) -> Tensor:
    """Mean over each pixel's 3x3 window, borders reflected. images: (..., C, H, W), same out."""
    padded = F.pad(images.flatten(0, -4), (1, 1, 1, 1), mode="reflect")
    return _window_mean(padded).view_as(images)


def _window_mean(images: Tensor) -> Tensor:
    """Mean of the 3x3 windows that lie within (N, C, H, W): (N, C, H - 2, W - 2)."""
    if images.device.type != "cpu":
        return F.avg_pool2d(images, 3, 1)
    # The CPU's pooling is not vectorised: the same sums, map by map, take an eighth of its time.
    height, width = images.shape[-2] - 2, images.shape[-1] - 2
    corners = [(y, x) for y in range(3) for x in range(3)]
    first, second, *others = (images[..., y : y + height, x : x + width] for y, x in corners)
    total = first + second
    for other in others:
        total += other
    return total.div_(9)


def _mean_3x3_backward(grad: Tensor) -> Tensor:
    """The gradient of the images from that of their `mean_3x3`, (..., C, H, W) both."""
    spread = _window_mean(F.pad(grad.flatten(0, -4), (2, 2, 2, 2)))
    for inner, border in ((2, 0), (-3, -1)):  # what borders reflected goes back inside
        spread[..., inner, :].add_(spread[..., border, :])
    for inner, border in ((2, 0), (-3, -1)):
        spread[..., inner].add_(spread[..., border])
    return spread[..., 1:-1, 1:-1].unflatten(0, grad.shape[:-3])


def window_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each pixel's 3x3 window. images: (..., C, H, W), same shape out."""
    mean, mean_square = mean_3x3(torch.stack([images, images * images])).unbind()
    return mean, mean_square - mean * mean


def ssim_dissimilarity(
    images: Tensor, target: Tensor, moments: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """(1 - SSIM) / 2, clamped to [0, 1], on 3x3 windows (Godard et al. 2017, C1, C2 of Wang 2004).

    images: (..., C, H, W) in [0, 1]; target: a shape that broadcasts against it, so that several
    images share one target, through which no gradient goes; moments: the target's
    `window_moments`, where they are known. Returns the shape of `images`.
    """
    mu_y, var_y = moments or window_moments(target)
    if torch.compiler.is_compiling():
        return _SsimFactors.of(images, target, mu_y, var_y).dissimilarity()
    return _SsimDissimilarity.apply(images, target, mu_y, var_y)


class _SsimFactors(NamedTuple):
    """SSIM = A C / (B D): of the means A / B, of the covariance and the variances C / D.

    With the window means mu_x of x, mu_y of y, q of x^2 and p of x y (Wang et al. 2004, eq. 13):
    A = 2 mu_x mu_y + C1, B = mu_x^2 + mu_y^2 + C1, C = 2 (p - mu_x mu_y) + C2 and
    D = q - mu_x^2 + var_y + C2.
    """

    mu_x: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, mu_y: Tensor, var_y: Tensor) -> _SsimFactors:
        c1, c2 = 0.01**2, 0.03**2
        mu_x, q, p = mean_3x3(torch.stack([x, x * x, x * y])).unbind()
        square = mu_x * mu_x
        return cls(
            mu_x,
            2 * mu_x * mu_y + c1,
            square + mu_y * mu_y + c1,
            2 * (p - mu_x * mu_y) + c2,
            q - square + var_y + c2,
        )

    def similarity(self) -> Tensor:
        """SSIM, in [-1, 1]."""
        return self.A * self.C / (self.B * self.D)

    def dissimilarity(self) -> Tensor:
        """(1 - SSIM) / 2, in [0, 1]."""
        return ((1 - self.similarity()) / 2).clamp(0, 1)


class _SsimDissimilarity(torch.autograd.Function):
    """`ssim_dissimilarity`; it keeps what it is given alone: the rest costs little."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, *target: Tensor) -> Tensor:
        ctx.save_for_backward(images, *target)
        return _SsimFactors.of(images, *target).dissimilarity()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Through the window means of x, x^2 and x y."""
        x, y, mu_y, var_y = ctx.saved_tensors
        factors = _SsimFactors.of(x, y, mu_y, var_y)
        mu_x, A, B, C, D = factors
        similarity = factors.similarity()
        grad = grad * (similarity.abs() <= 1)
        by_product = grad / (B * D)  # times -A: the gradient of p
        by_ratio = grad * similarity * mu_x
        of_mean = by_product * (A - C) * mu_y + by_ratio * (1 / B - 1 / D)
        means = torch.stack([of_mean, grad * similarity / D, by_product * A])
        of_x, of_square, of_product = _mean_3x3_backward(means).unbind()
        return of_x.addcmul(of_square, x).addcmul(of_product, y, value=-1), None, None, None
