"""The training step as textbooks have it: each view, source, scale and sample in its own code.

The formulas are those of `losses` and `view_synthesis`, and the losses agree; what differs is that
nothing is shared, batched or left out: pixel grids for every sample, the unwarped error anew for
every scale and view, statistics of the target anew for every source, and Python's loops over
samples wherever an augmentation differs between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import DepthNetwork, PoseNetwork
from training_step import Inputs

Maps = dict[int, Tensor]  # disparities by scale


class TextbookStep(nn.Module):
    """Networks and loss at the published settings: SSIM, auto-mask, minimum over the sources."""

    def __init__(
        self,
        depth_network: DepthNetwork,
        pose_network: PoseNetwork,
        frame_ids: Sequence[int] = (0, -1, 1),
        min_depth: float = 0.1,
        max_depth: float = 100.0,
        tie_break: float = 1e-5,
    ) -> None:
        super().__init__()
        self.depth_network, self.pose_network = depth_network, pose_network
        self.sources = list(frame_ids[1:])
        self.min_depth, self.max_depth, self.tie_break = min_depth, max_depth, tie_break

    def forward(self, inputs: Inputs) -> Tensor:
        """The loss of a batch."""
        motions = {frame: self.motion(inputs.jittered, frame) for frame in self.sources}
        full = self.depth_network(inputs.jittered[0])
        losses = [self.view_loss(full, inputs.full, motions, inputs)]
        consistency = 0.0
        if inputs.local is not None:
            local = self.depth_network(inputs.local_jittered)
            cameras = [crop_camera(inputs, b) for b in range(len(inputs.K))]
            moved = {frame: crop_motions(each, cameras) for frame, each in motions.items()}
            losses.append(self.view_loss(local, inputs.local, moved, inputs))
            consistency = consistency + self.crop_consistency(full, local, inputs)
        if inputs.reshuffled_jittered is not None:
            reshuffled = put_back(self.depth_network(inputs.reshuffled_jittered), inputs)
            losses.append(self.view_loss(reshuffled, inputs.full, motions, inputs))
            consistency = consistency + self.reshuffle_consistency(full, reshuffled)
        return sum(losses) / len(losses) + 0.07 * consistency

    def motion(self, images: Mapping[int, Tensor], frame: int) -> Tensor:
        """From the target to a source, (B, 4, 4)."""
        pair = [images[min(frame, 0)], images[max(frame, 0)]]
        axis_angle, translation = self.pose_network(pair)
        return rigid(axis_angle[:, 0, 0], translation[:, 0, 0], invert=frame < 0)

    def depth(self, disp: Tensor) -> Tensor:
        """Depth of disparities."""
        nearest, farthest = 1 / self.min_depth, 1 / self.max_depth
        return 1 / (farthest + (nearest - farthest) * disp)

    def view_loss(
        self, disps: Maps, pictures: Mapping, motions: Mapping[int, Tensor], inputs: Inputs
    ) -> Tensor:
        """Photometric and smoothness terms of one view, mean over scales."""
        total = 0.0
        target = pictures[0, 0]
        size = target.shape[-2:]
        for scale, disp in disps.items():
            large = F.interpolate(disp, size, mode="bilinear", align_corners=False)
            depth = self.depth(large)
            warped, unwarped = [], []
            for frame in self.sources:
                source = pictures[frame, 0]
                points = backproject(depth, inputs.inv_K)
                grid = project(points, inputs.K, motions[frame], *size)
                seen = F.grid_sample(source, grid, padding_mode="border", align_corners=True)
                warped.append(photometric(seen, target))
                unwarped.append(photometric(source, target))
            unwarped = torch.cat(unwarped, 1)
            unwarped = unwarped + self.tie_break * torch.randn(unwarped.shape)
            best = torch.cat([unwarped, torch.cat(warped, 1)], 1).min(1).values
            mean = disp.mean(2, True).mean(3, True)
            smooth = smoothness(disp / (mean + 1e-7), pictures[0, scale])
            total = total + best.mean() + 1e-3 * smooth / 2**scale
        return total / len(disps)

    def crop_consistency(self, full: Maps, local: Maps, inputs: Inputs) -> Tensor:
        """The crop's depth against its box of the full view's, sample by sample."""
        height, width = inputs.full[0, 0].shape[-2:]
        total = 0.0
        for scale in local:
            large = F.interpolate(full[scale], (height, width), mode="bilinear")
            for b, (ratio, resized_height, resized_width, y0, x0) in enumerate(inputs.crop):
                ratio = ratio.item()
                rows, columns = round(height / ratio), round(width / ratio)
                top = round(height * y0.item() / (resized_height.item() - 1))
                left = round(width * x0.item() / (resized_width.item() - 1))
                small = F.interpolate(local[scale][b : b + 1], (rows, columns), mode="bilinear")
                box = large[b : b + 1, :, top : top + rows, left : left + columns]
                small = small[:, :, : box.shape[2], : box.shape[3]]
                total = total + scale_invariant(self.depth(small) * ratio, self.depth(box))
        return total / len(local) / len(inputs.crop)

    def reshuffle_consistency(self, full: Maps, reshuffled: Maps) -> Tensor:
        """The reshuffled picture's depth against the full view's, sample by sample."""
        total = 0.0
        for scale, disps in full.items():
            for one, other in zip(reshuffled[scale], disps, strict=True):
                total = total + scale_invariant(self.depth(one), self.depth(other)) / len(disps)
        return total / len(full)


def put_back(disps: Maps, inputs: Inputs) -> Maps:
    """The pieces of every sample's reshuffled disparities in their places."""
    height, width = inputs.full[0, 0].shape[-2:]
    back: Maps = {}
    for scale, maps in disps.items():
        ordered = []
        for b, disp in enumerate(maps):
            rows = round((height - inputs.cut[b, 0].item()) / 2**scale)
            columns = round((width - inputs.cut[b, 1].item()) / 2**scale)
            disp = torch.cat([disp[:, rows:], disp[:, :rows]], 1)
            ordered.append(torch.cat([disp[:, :, columns:], disp[:, :, :columns]], 2))
        back[scale] = torch.stack(ordered)
    return back


def rigid(axis_angle: Tensor, translation: Tensor, invert: bool) -> Tensor:
    """Matrices (B, 4, 4) of motions (B, 3), (B, 3), entry by entry."""
    angle = axis_angle.norm(dim=1, keepdim=True)
    x, y, z = (axis_angle / (angle + 1e-7)).unbind(1)
    cos, sin = torch.cos(angle)[:, 0], torch.sin(angle)[:, 0]
    rest = 1 - cos
    rotation = torch.zeros(len(angle), 4, 4)
    rotation[:, 0, 0] = x * x * rest + cos
    rotation[:, 0, 1] = x * y * rest - z * sin
    rotation[:, 0, 2] = z * x * rest + y * sin
    rotation[:, 1, 0] = x * y * rest + z * sin
    rotation[:, 1, 1] = y * y * rest + cos
    rotation[:, 1, 2] = y * z * rest - x * sin
    rotation[:, 2, 0] = z * x * rest - y * sin
    rotation[:, 2, 1] = y * z * rest + x * sin
    rotation[:, 2, 2] = z * z * rest + cos
    rotation[:, 3, 3] = 1
    shift = torch.eye(4).repeat(len(angle), 1, 1)
    shift[:, :3, 3] = -translation if invert else translation
    return rotation.transpose(1, 2) @ shift if invert else shift @ rotation


def crop_camera(inputs: Inputs, b: int) -> Tensor:
    """Rc (3, 3), float64, of sample b: the full camera's points as the crop's camera has them."""
    height, width = inputs.full[0, 0].shape[-2:]
    _, resized_height, resized_width, y0, x0 = (each.item() for each in inputs.crop[b])

    def centre(start: float, size: int, resized: float) -> float:
        first, last = (2 * k / (resized - 1) - 1 for k in (start, start + size - 1))
        return 0.5 + (first + last) / 4

    extent = (width - 1) / (resized_width - 1)
    fx, cx = inputs.K[b, 0, 0].item() / width, inputs.K[b, 0, 2].item() / width
    fy, cy = inputs.K[b, 1, 1].item() / height, inputs.K[b, 1, 2].item() / height
    camera = torch.eye(3, dtype=torch.float64)
    camera[0, 2] = (cx - centre(x0, width, resized_width) + extent * (0.5 - cx)) / fx
    camera[1, 2] = (cy - centre(y0, height, resized_height) + extent * (0.5 - cy)) / fy
    camera[2, 2] = extent
    return camera


def crop_motions(motions: Tensor, cameras: Sequence[Tensor]) -> Tensor:
    """(Rc R Rc^-1 | Rc t) of every sample."""
    moved = []
    for motion, camera in zip(motions, cameras, strict=True):
        local = torch.eye(4, dtype=torch.float64)
        local[:3, :3] = camera @ motion[:3, :3].double() @ torch.inverse(camera)
        local[:3, 3] = camera @ motion[:3, 3].double()
        moved.append(local.float())
    return torch.stack(moved)


def backproject(depth: Tensor, inv_K: Tensor) -> Tensor:
    """Points (B, 4, H * W) of depths (B, 1, H, W), a pixel grid for each sample."""
    batch, _, height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x.reshape(-1), y.reshape(-1)]).float()
    ones = torch.ones(batch, 1, height * width)
    pixels = torch.cat([pixels[None].repeat(batch, 1, 1), ones], 1)
    points = depth.view(batch, 1, -1) * (inv_K[:, :3, :3] @ pixels)
    return torch.cat([points, ones], 1)


def project(points: Tensor, K: Tensor, motion: Tensor, height: int, width: int) -> Tensor:
    """Where a source sees the points, as `grid_sample` takes it: (B, H, W, 2)."""
    seen = (K @ motion)[:, :3] @ points
    pixels = seen[:, :2] / (seen[:, 2:] + 1e-7)
    grid = pixels.view(len(K), 2, height, width).permute(0, 2, 3, 1).clone()
    grid[..., 0] /= width - 1
    grid[..., 1] /= height - 1
    return (grid - 0.5) * 2


def photometric(image: Tensor, target: Tensor) -> Tensor:
    """0.85 SSIM + 0.15 L1, (B, 1, H, W)."""
    l1 = torch.abs(target - image).mean(1, True)
    return 0.85 * ssim(image, target).mean(1, True) + 0.15 * l1


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """(1 - SSIM) / 2 on 3x3 windows, cut to [0, 1]."""
    x, y = (F.pad(each, (1, 1, 1, 1), mode="reflect") for each in (x, y))
    mu_x, mu_y = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
    var_x = F.avg_pool2d(x**2, 3, 1) - mu_x**2
    var_y = F.avg_pool2d(y**2, 3, 1) - mu_y**2
    cov = F.avg_pool2d(x * y, 3, 1) - mu_x * mu_y
    above = (2 * mu_x * mu_y + 0.01**2) * (2 * cov + 0.03**2)
    below = (mu_x**2 + mu_y**2 + 0.01**2) * (var_x + var_y + 0.03**2)
    return torch.clamp((1 - above / below) / 2, 0, 1)


def smoothness(disp: Tensor, image: Tensor) -> Tensor:
    """Edge-aware, of a disparity over its mean."""
    disp_x = torch.abs(disp[:, :, :, :-1] - disp[:, :, :, 1:])
    disp_y = torch.abs(disp[:, :, :-1] - disp[:, :, 1:])
    edge_x = torch.abs(image[:, :, :, :-1] - image[:, :, :, 1:]).mean(1, True)
    edge_y = torch.abs(image[:, :, :-1] - image[:, :, 1:]).mean(1, True)
    return (disp_x * torch.exp(-edge_x)).mean() + (disp_y * torch.exp(-edge_y)).mean()


def scale_invariant(a: Tensor, b: Tensor) -> Tensor:
    """Of two depth maps of one sample."""
    d = torch.log(a) - torch.log(b)
    return (d**2).mean() - 0.5 * d.mean() ** 2
