"""The pipeline as textbooks have it: right, plain, and with no thought of its cost.

Each picture goes through Pillow and torchvision on its own, every view of a sample leaves the
worker in floating point, and loops are Python's. What is measured is measured beside this; the
tests hold the two to the same pictures and depths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import functional as TF

from augmentations import Augmentation
from datasets.cityscapes_raw import read_camera
from datasets.keys import SampleIndex
from datasets.mono_dataset import MonoDataset
from kitti_utils import load_velodyne, velo_to_image

ADJUST = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)


class TextbookDataset(Dataset):
    """The samples of a `MonoDataset` of image files, augmented by the same draws.

    Of every frame the whole picture and its crop, and the target reshuffled: each as it is
    (`(view, frame)`) and with its colours changed (`(view + "_jittered", frame)`), float32
    (3, H, W) in [0, 1]. K, inv_K: float32 (4, 4).
    """

    def __init__(self, ours: MonoDataset) -> None:
        self.ours = ours

    def __len__(self) -> int:
        return len(self.ours)

    def __getitem__(self, index: int) -> dict[object, Tensor]:
        ours = self.ours
        ref, drawn = ours.refs[index], ours.draw(SampleIndex(0, index))
        sample: dict[object, Tensor] = {}
        for frame in ours.frame_ids:
            with Image.open(ours.image_path(ref, frame)) as file:
                native = file.convert("RGB")
            if drawn.flip:
                native = native.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            for view, picture in self.views(native, frame, drawn).items():
                sample[view, frame] = TF.to_tensor(picture)
                sample[f"{view}_jittered", frame] = TF.to_tensor(jittered(picture, drawn.jitter))
        fx, fy, cx, cy = ours.intrinsics(ref)
        K = np.eye(4, dtype=np.float32)
        K[0, :3] = fx * ours.width, 0, (1 - cx if drawn.flip else cx) * ours.width
        K[1, 1:3] = fy * ours.height, cy * ours.height
        sample["K"], sample["inv_K"] = torch.from_numpy(K), torch.from_numpy(np.linalg.pinv(K))
        return sample

    def views(
        self, native: Image.Image, frame: int | str, drawn: Augmentation
    ) -> dict[str, Image.Image]:
        """A frame whole, cropped, and, if it is the target, reshuffled."""
        width, height = size = self.ours.width, self.ours.height
        views = {"color": native.resize(size, Image.Resampling.LANCZOS)}
        if drawn.crop is not None:
            _, large_height, large_width, y0, x0 = drawn.crop
            large = native.resize((large_width, large_height), Image.Resampling.LANCZOS)
            views["color_local"] = large.crop((x0, y0, x0 + width, y0 + height))
        if drawn.cut is not None and frame == 0:
            views["reshuffled"] = swap_pieces(views["color"], *drawn.cut)
        return views


def jittered(picture: Image.Image, jitter: Sequence[float]) -> Image.Image:
    """torchvision's four adjustments in the drawn order; jitter: as in `Augmentation`."""
    if jitter == Augmentation().jitter:
        return picture
    for operation in sorted(range(4), key=lambda operation: jitter[4 + operation]):
        picture = ADJUST[operation](picture, jitter[operation])
    return picture


def swap_pieces(picture: Image.Image, cut_height: int, cut_width: int) -> Image.Image:
    """Cut a picture in four, and put each piece into the opposite corner."""
    width, height = picture.size
    result = Image.new("RGB", picture.size)
    left, right = (0, cut_width), (cut_width, width)
    top, bottom = (0, cut_height), (cut_height, height)
    for rows, y in ((top, height - cut_height), (bottom, 0)):
        for columns, x in ((left, width - cut_width), (right, 0)):
            piece = picture.crop((columns[0], rows[0], columns[1], rows[1]))
            result.paste(piece, (x, y))
    return result


def laser_depth(calib_dir: str | Path, velo_path: str | Path, cam: int = 2) -> np.ndarray:
    """Distances forward of the scanner in the picture: float64 (height, width), 0 unknown.

    Points that meet are looked for one pixel after the other (`kitti_utils.splat_nearest` says
    which count as one).
    """
    projection, (height, width) = velo_to_image(calib_dir, cam)
    points = load_velodyne(velo_path)
    points = points[points[:, 0] >= 0]
    forward = points[:, 0].copy()
    points[:, 3] = 1
    projected = np.dot(projection, points.T).T
    pixels = np.round(projected[:, :2] / projected[:, 2:]) - 1
    inside = (pixels[:, 0] >= 0) & (pixels[:, 1] >= 0)
    inside &= (pixels[:, 0] < width) & (pixels[:, 1] < height)
    columns, rows = pixels[inside].astype(int).T
    values = forward[inside]
    depth = np.zeros((height, width))
    depth[rows, columns] = values
    keys = rows * (width - 1) + columns - 1
    for key in [key for key, count in Counter(keys).items() if count > 1]:
        places = np.flatnonzero(keys == key)
        depth[rows[places[0]], columns[places[0]]] = values[places].min()
    depth[depth < 0] = 0
    return depth


def prepare_triplets(root: Path, dump_root: Path, size: tuple[int, int]) -> None:
    """Cityscapes' training triplets, each from its own three files; size: (width, height)."""
    for city in sorted((root / "leftImg8bit_sequence/train").iterdir()):
        folder = dump_root / city.name
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(city.glob("*_leftImg8bit.png")):
            name = path.name.removesuffix("_leftImg8bit.png")
            sequence, number = name[:-7], int(name[-6:])
            paths = [
                city / f"{sequence}_{number + step:06d}_leftImg8bit.png" for step in (-2, 0, 2)
            ]
            if not all(each.is_file() for each in paths):
                continue
            frames = [small_frame(each, size) for each in paths]
            triplet = Image.fromarray(np.concatenate(frames))
            triplet.save(folder / f"{name}.png")
            (file,) = (root / "camera/train" / city.name).glob(f"{sequence}_*_camera.json")
            fx, fy, cx, cy = read_camera(file)
            with Image.open(path) as raw:
                x, y = size[0] / raw.width, size[1] / raw.height
            camera = f"{fx * x:f},0.,{cx * x:f},0.,{fy * y:f},{cy * y:f},0.,0.,1."
            (folder / f"{name}_cam.txt").write_text(camera)


def small_frame(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A raw frame resized to (width, height), without its lower quarter."""
    with Image.open(path) as file:
        picture = np.asarray(file.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    return picture[: int(size[1] * 0.75)]
