"""What a run has learned of its cameras, for people and for other programs."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets.camera_file import write_camera_file
from networks import ClipCameras, FrameCamera
from utils import atomic_path

NAMES = ("fx", "fy", "cx", "cy")


def describe_camera(means: Mapping[str, float], size: tuple[int, int]) -> str:
    """A sentence on the means of an epoch's camera terms, in pixels of size (width, height), and on
    how well they can be known: a rotation by r radians shows that a focal length is wrong where
    the picture's border is off by r w^2 error / (2 f^2) pixels (Gordon et al. 2019)."""
    camera = ", ".join(f"{name} {means[f'camera/{name}']:.2f}" for name in NAMES)
    turns = []
    for focal, turn, side in (("fx", "yaw", size[0]), ("fy", "pitch", size[1])):
        degrees = means[f"camera/{turn}"]
        pixel = 2 * means[f"camera/{focal}"] / (math.radians(max(degrees, 1e-3)) * side**2)
        tells = f"a pixel at the border is {pixel:.0%} of {focal}" if pixel < 1 else (
            f"too little to tell {focal}")
        turns.append(f"{degrees:.2f} degrees of {turn}, {tells}")
    return f"learned camera for {size[0]}x{size[1]}: {camera}; frames differ by {'; '.join(turns)}"


def write_cameras(
    folder: Path,
    learned: ClipCameras | FrameCamera,
    clips: Sequence[str],
    means: Mapping[str, float],
    seen: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Write `intrinsics.txt` into a run's folder, in pixels of pictures of `size`.

    Of learned clips the mean over them, and `intrinsics_by_clip.csv`, as fractions of the size,
    where there are several; of a camera that is predicted the mean over the epoch whose terms have
    these means. seen: the network's input; both sizes are (width, height).
    """
    if isinstance(learned, ClipCameras):
        cameras = learned.cameras().tolist()
        if len(clips) > 1:
            _write_table(folder / "intrinsics_by_clip.csv", clips, cameras)
    else:
        sides = zip(NAMES, (*seen, *seen), strict=True)
        cameras = [[means[f"camera/{name}"] / side for name, side in sides]]
    means_of = (sum(values) / len(cameras) for values in zip(*cameras, strict=True))
    pixels = tuple(mean * side for mean, side in zip(means_of, (*size, *size), strict=True))
    write_camera_file(folder / "intrinsics.txt", pixels, size)


def _write_table(path: Path, clips: Sequence[str], cameras: Sequence[Sequence[float]]) -> None:
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["clip", *NAMES])
        table.writerows([clip, *camera] for clip, camera in zip(clips, cameras, strict=True))
