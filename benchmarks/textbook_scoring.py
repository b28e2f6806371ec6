"""Evaluation as textbooks have it: everything is predicted and kept, then scored one by one.

Every picture goes through Pillow and torchvision, every disparity is resized whole, masks are as
large as the picture, and the ground truth is read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as TF


class TextbookPictures(Dataset):
    """Pictures at network size, float32 (3, H, W) in [0, 1]; size: (height, width)."""

    def __init__(self, paths: Sequence[str], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        height, width = self.size
        with Image.open(self.paths[index]) as file:
            picture = file.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        return TF.to_tensor(picture)


def predict_all(
    predict: Callable[[Tensor], Tensor], pictures: Dataset[Tensor], batch_size: int
) -> np.ndarray:
    """Scaled disparities, (images, H, W); predict: images (B, 3, H, W) to (B, 1, H, W)."""
    disps = []
    with torch.no_grad():
        for images in DataLoader(pictures, batch_size):
            disps.append(predict(images)[:, 0].cpu().numpy())
    return np.concatenate(disps)


def score_all(disps: np.ndarray, gt_depths: Sequence[np.ndarray]) -> np.ndarray:
    """KITTI Eigen's seven metrics of each image, (images, 7), after median scaling."""
    per_image = []
    for disp, gt_depth in zip(disps, gt_depths, strict=True):
        height, width = gt_depth.shape
        resized = F.interpolate(
            torch.from_numpy(disp)[None, None], (height, width), mode="bilinear", align_corners=True
        )
        pred_depth = 1 / resized[0, 0].numpy()
        mask = np.logical_and(gt_depth > 1e-3, gt_depth < 80)
        fractions = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
        top, bottom, left, right = (
            int(f * size) for f, size in zip(fractions, (height, height, width, width), strict=True)
        )
        crop = np.zeros(mask.shape)
        crop[top:bottom, left:right] = 1
        mask = np.logical_and(mask, crop)
        pred, gt = pred_depth[mask], gt_depth[mask]
        pred *= torch.from_numpy(gt).median().item() / torch.from_numpy(pred).median().item()
        pred[pred < 1e-3] = 1e-3
        pred[pred > 80] = 80
        per_image.append(compute_errors(gt, pred))
    return np.array(per_image)


def compute_errors(gt: np.ndarray, pred: np.ndarray) -> tuple[float, ...]:
    """abs_rel, sq_rel, rmse, rmse_log, a1, a2, a3 of the scored pixels of one image, (n,)."""
    ratio = np.maximum(gt / pred, pred / gt)
    a1 = (ratio < 1.25).mean()
    a2 = (ratio < 1.25**2).mean()
    a3 = (ratio < 1.25**3).mean()
    rmse = np.sqrt(((gt - pred) ** 2).mean())
    rmse_log = np.sqrt(((np.log(gt) - np.log(pred)) ** 2).mean())
    abs_rel = np.mean(np.abs(gt - pred) / gt)
    sq_rel = np.mean((gt - pred) ** 2 / gt)
    return abs_rel, sq_rel, rmse, rmse_log, a1, a2, a3
