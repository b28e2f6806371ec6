"""From depth, pose and intrinsics to the target seen in another frame, and the camera of a crop."""

from __future__ import annotations

import torch
from torch import Tensor

from layers import backproject, project, sample_at_pixels


def warp(sources: Tensor, depth: Tensor, src_T_tgt: Tensor, K: Tensor, inv_K: Tensor) -> Tensor:
    """Rebuild the target from each source: look up where every target pixel is seen in it.

    sources: (B, N, C, H, W); depth: (B, 1, H, W) of the target; src_T_tgt: (B, N, 4, 4);
    K, inv_K: (B, 4, 4) in pixels of this size. Returns the warped sources, (B, N, C, H, W).
    """
    pixels = project(backproject(depth, inv_K), K, src_T_tgt)
    pixels = pixels.flatten(0, 1).unflatten(1, depth.shape[-2:])
    return sample_at_pixels(sources.flatten(0, 1), pixels).view_as(sources)


def intrinsics_at(K: Tensor, inv_K: Tensor, full: int, size: int) -> tuple[Tensor, Tensor]:
    """K and inv_K (B, 4, 4), in pixels of a picture `full` wide, for the same picture `size` wide.

    Both sizes are powers of two apart, so height and width shrink by one factor.
    """
    if size == full:
        return K, inv_K
    shrink = size / full
    shrunk = torch.cat([K[:, :2] * shrink, K[:, 2:]], 1)
    return shrunk, torch.cat([inv_K[:, :, :2] / shrink, inv_K[:, :, 2:]], 2)


def crop_camera(crop: Tensor, K: Tensor, height: int, width: int) -> Tensor:
    """The camera of a resized crop that is looked at through the full picture's K.

    A point X of the full camera is `Rc @ X` in the crop's, to a fraction of a pixel.
    crop: (B, 5) as (ratio, resized height, resized width, y0, x0); K: (B, 4, 4) in pixels of
    (height, width), each sample's own. Returns Rc, float64 (B, 3, 3).

    The published formula is the case of a centred principal point; this one holds for any.
    """
    _, resized_height, resized_width, y0, x0 = crop.double().unbind(1)
    K = K.double()
    center_x = _center(x0, width, resized_width)
    center_y = _center(y0, height, resized_height)
    extent = (width - 1) / (resized_width - 1)
    fx, cx = K[:, 0, 0] / width, K[:, 0, 2] / width
    fy, cy = K[:, 1, 1] / height, K[:, 1, 2] / height
    Rc = torch.eye(3, dtype=torch.float64, device=K.device).repeat(len(crop), 1, 1)
    Rc[:, 0, 2] = (cx - center_x + extent * (0.5 - cx)) / fx
    Rc[:, 1, 2] = (cy - center_y + extent * (0.5 - cy)) / fy
    Rc[:, 2, 2] = extent
    return Rc


def _center(start: Tensor, size: int, resized: Tensor) -> Tensor:
    """Centre of the span of `size` pixels from `start`, as a fraction of the full picture."""
    return (2 * start + (size - 1)) / (2 * (resized - 1))


def crop_motion(src_T_tgt: Tensor, Rc: Tensor) -> Tensor:
    """The same motion between the cropped views: `(Rc R Rc^-1 | Rc t)`.

    src_T_tgt: (B, N, 4, 4); Rc: float64 (B, 3, 3). Formed in float64, returned as src_T_tgt's
    type: in float32 single pixels of the photometric minimum flip.
    """
    Rc = Rc[:, None]
    motion = src_T_tgt.double()
    turned = Rc @ motion[..., :3, :3]
    rotation = torch.linalg.solve_triangular(Rc, turned, upper=True, left=False)  # times Rc^-1
    translation = Rc @ motion[..., :3, 3:]
    top = torch.cat([rotation, translation], -1)
    return torch.cat([top, motion[..., 3:, :]], -2).to(src_T_tgt.dtype)
