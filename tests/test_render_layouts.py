"""Every layout of the renderer, read by the data set that it is for: known truth comes back.

Two things are held against it: a training sample warps onto its target, and true depth scored as if
it were a prediction has no error but what the benchmark's own files and resizing leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import export_gt_depth
import prepare_cityscapes
import render_demo
import tool_options
from augmentations import Augmentation, CropBox
from datasets import build_dataset, cityscapes_raw, make3d_dataset, nyuv2_dataset
from datasets.keys import FrameKey
from datasets.mono_dataset import MonoDataset, resize, to_tensor
from evaluation import PROTOCOLS, EvaluationResult, evaluate
from ground_truth import load_gt_depths
from kitti_utils import read_depth_png
from rendering import (
    LAYOUTS,
    STEREO_BASELINE,
    Plan,
    Street,
    cityscapes,
    drive_poses,
    kitti_raw,
    make3d,
    nyuv2,
    render,
)
from rendering.raycast import pinhole_rays
from tests.rendered_truth import FLOOR, true_motions, warp_errors
from utils import UserError

SIDE = np.eye(4)
SIDE[0, 3] = STEREO_BASELINE
UNIT = 5.4  # metres in a unit of KITTI's training, whose baseline is 0.1


@cache
def street() -> Street:
    return Street(5, length=60)


def poses(frames: int) -> np.ndarray:
    """The drive through the street, from its fifth frame on."""
    return drive_poses(5, frames + 4)[4:]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function from a layout and its plan to the folder of one of its streets, made once."""

    @cache
    def write(name: str, plan: Plan, number: int) -> Path:
        root, layout = tmp_path_factory.mktemp(name), LAYOUTS[name]
        layout.write_street(root, number, street(), poses(plan.frames), plan)
        for path, text in layout.files(plan).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        assert (root / layout.folder(number, plan)).is_dir()
        return root

    return write


def lists_of(root: Path, part: str) -> list[str]:
    return next(root.rglob(f"{part}_files.txt")).read_text().splitlines()


# ---- training: a source warped with true depth and pose is the target ----------------------------


class Shot(NamedTuple):
    """A training sample and the truth about it, all in one unit of length."""

    dataset: MonoDataset  # of one line
    depth: np.ndarray  # of the target, as large as the picture that the data set resizes
    poses: dict[int | str, np.ndarray]  # world_T_cam of each frame


KITTI_PLAN = Plan(2, 3, 160, 480)


def kitti_shot(written: Callable, name: str, side: str) -> Shot:
    root = written(name, KITTI_PLAN, 1)
    drive, K = poses(3), kitti_raw.nominal_intrinsics(160, 480)
    other = np.linalg.inv(SIDE) if side == "r" else SIDE
    if side == "r":
        drive = drive @ SIDE
    views = {0: drive[1], -1: drive[0], 1: drive[2], "s": drive[1] @ other}
    (line,) = (line for line in lists_of(root, "train") if line.endswith(side))
    dataset = build_dataset(name, root, [line], 96, 288, tuple(views), is_train=True)
    return Shot(dataset, render(street(), drive[1], K, 160, 480, 1).depth / UNIT,
                {frame: _scaled(pose, 1 / UNIT) for frame, pose in views.items()})


def cityscapes_shot(written: Callable) -> Shot:
    root, drive = written("cityscapes", Plan(2, 5, 1, 1), 1), poses(5)
    prepared = root / "prepared"
    prepare_cityscapes.main(["--dataset_dir", str(root), "--dump_root", str(prepared),
                             "--img_width", "1024", "--img_height", "512", "--num_threads", "1"])
    lines = lists_of(root, "train")
    assert [f"{line.split()[1]}.png" for line in lines] == [p.name for p in prepared.rglob("*.png")]
    dataset = build_dataset("cityscapes", prepared, lines, 192, 512, is_train=True)
    depth = cityscapes.take(street(), drive[2], cityscapes.TRAINING_SHARE, 1).depth[:384]
    return Shot(dataset, depth, {0: drive[2], -1: drive[0], 1: drive[4]})


def nyuv2_shot(written: Callable) -> Shot:
    root, drive = written("nyuv2", Plan(2, 9, 1, 1), 1), poses(9)
    dataset = build_dataset("nyuv2", root, lists_of(root, "train"), 224, 304, is_train=True)
    depth = render(street(), drive[4], nyuv2.K, 480, 640, 1).depth[16:-16, 16:-16]
    views = {0: drive[4], -1: drive[3], 1: drive[5]}
    return Shot(dataset, nyuv2.SCALE * depth,
                {frame: _scaled(pose, nyuv2.SCALE) for frame, pose in views.items()})


def _scaled(pose: np.ndarray, factor: float) -> np.ndarray:
    """A pose in another unit of length."""
    scaled = pose.copy()
    scaled[:3, 3] *= factor
    return scaled


SHOTS = {
    "kitti left": lambda written: kitti_shot(written, "kitti", "l"),
    "kitti right": lambda written: kitti_shot(written, "kitti", "r"),
    "kitti_depth": lambda written: kitti_shot(written, "kitti_depth", "l"),
    "kitti_odom left": lambda written: kitti_shot(written, "kitti_odom", "l"),
    "kitti_odom right": lambda written: kitti_shot(written, "kitti_odom", "r"),
    "cityscapes": cityscapes_shot,
    "nyuv2": nyuv2_shot,
}


@pytest.fixture(scope="module", params=SHOTS)
def shot(request, written) -> Shot:
    return SHOTS[request.param](written)


# Ratio of the crop, and how far down and to the right it lies.
VIEWS = {"full": (1, 0, 0), "crop": (1.5, 0.6, 0.4), "corner crop": (1.9, 0, 1)}


def drawn(shot: Shot, flip: bool, view: str) -> tuple[dict, CropBox | None]:
    """The sample with a chosen flip and crop, and the crop's box."""
    height, width = shot.dataset.height, shot.dataset.width
    ratio, down, right = VIEWS[view]
    resized = int(height * ratio), int(width * ratio)
    corner = int((resized[0] - height) * down), int((resized[1] - width) * right)
    crop = None if view == "full" else CropBox(ratio, *resized, *corner)
    shot.dataset.draw = lambda where: Augmentation(flip=flip, crop=crop)  # noqa: ARG005
    return shot.dataset[0], crop


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("flip", [False, True])
def test_true_depth_and_pose_give_back_the_target(shot, flip, view):
    """The floor is resampling's; unwarped, sources are more than three times as far away."""
    sample, crop = drawn(shot, flip, view)
    motions = true_motions(shot.poses, flip)
    if "stereo_T" in sample:
        torch.testing.assert_close(sample["stereo_T"], motions[0, -1], rtol=0, atol=1e-6)
    after, before = warp_errors(sample, shot.depth, motions, flip, crop)
    assert max(after) < FLOOR
    assert all(a < b / 3 for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("name", ["cityscapes", "nyuv2"])
def test_a_flip_that_forgets_the_principal_point_is_seen(written, name):
    shot = SHOTS[name](written)
    sample, _ = drawn(shot, True, "full")
    wrong_K = sample["K"][None].clone()
    wrong_K[0, 0, 2] = shot.dataset.width - wrong_K[0, 0, 2]
    motions = true_motions(shot.poses, True)
    right, wrong = (sum(warp_errors(sample, shot.depth, motions, True, K=K)[0])
                    for K in (None, wrong_K))
    assert wrong > 1.1 * right


# ---- lenses, cameras and tables that are stated twice --------------------------------------------


def test_rays_through_a_lens_are_opencvs():
    rays = pinhole_rays(nyuv2.K, 480, 640, distortion=nyuv2.DISTORTION)
    points = np.stack([rays.x, rays.y, np.ones_like(rays.x)], axis=-1).reshape(-1, 1, 3)
    still = np.zeros(3)
    pixels, _ = cv2.projectPoints(points, still, still, nyuv2.K, np.array(nyuv2.DISTORTION))
    rows, columns = np.mgrid[:480, :640]
    np.testing.assert_allclose(pixels[:, 0, 0], columns.ravel(), atol=1e-6)
    np.testing.assert_allclose(pixels[:, 0, 1], rows.ravel(), atol=1e-6)


def test_the_nyuv2_loader_takes_the_lens_out_again(written):
    root = written("nyuv2", Plan(2, 9, 1, 1), 1)
    dataset = build_dataset("nyuv2", root, lists_of(root, "train"), 224, 304, is_train=True)
    path = dataset.image_path(dataset.refs[0], 0)
    straight = render(street(), poses(9)[4], nyuv2.K, 480, 640).image[16:-16, 16:-16].astype(float)
    with Image.open(path) as raw:
        bent = np.asarray(raw)[16:-16, 16:-16]
    found = np.abs(dataset.load_image(path) - straight).mean()
    assert found < 2.5  # grey levels: a second interpolation of the picture
    assert np.abs(bent - straight).mean() > 2 * found


def test_cameras_are_those_that_the_data_sets_read(written):
    assert (*nyuv2.K[[0, 1, 0, 1], [0, 1, 2, 2]],) == nyuv2_dataset.CAMERA
    assert nyuv2.DISTORTION == nyuv2_dataset.DISTORTION
    assert (nyuv2.HEIGHT, nyuv2.WIDTH) == (nyuv2_dataset.HEIGHT, nyuv2_dataset.WIDTH)
    assert nyuv2.ORDER == nyuv2_dataset.NYUv2Dataset.FRAMES
    assert (cityscapes.HEIGHT, cityscapes.WIDTH) == (cityscapes_raw.HEIGHT, cityscapes_raw.WIDTH)
    assert make3d.GRID == make3d_dataset.GRID
    assert make3d_dataset.BOX[2] == make3d.WIDTH
    root = written("cityscapes", TEST_PLAN, 2)
    lines = lists_of(root, "test")
    dataset = build_dataset("cityscapes", root, lines, 96, 256, (0,))
    expected = np.array(cityscapes.CAMERA) / (2048, 768, 2048, 768)
    np.testing.assert_allclose(dataset.intrinsics(dataset.refs[0]), expected)


def test_odometry_poses_start_at_the_first_camera(written):
    root = written("kitti_odom", KITTI_PLAN, 1)
    found = np.loadtxt(root / "poses/00.txt").reshape(3, 3, 4)
    drive = poses(3)
    np.testing.assert_allclose(found, (np.linalg.inv(drive[0]) @ drive)[:, :3], atol=1e-10)
    calibration = dict(row.split(": ") for row in
                       (root / "sequences/00/calib.txt").read_text().splitlines())
    P2, P3 = (np.array(calibration[name].split(), float).reshape(3, 4) for name in ("P2", "P3"))
    np.testing.assert_allclose(P2[:, :3], kitti_raw.nominal_intrinsics(160, 480))
    assert P3[0, 3] == pytest.approx(-P2[0, 0] * STEREO_BASELINE)


def test_the_held_out_sequence_is_the_ninth():
    plan = Plan(12, 3, 1, 1)
    folders = [LAYOUTS["kitti_odom"].folder(number, plan) for number in range(1, 13)]
    assert folders == [f"sequences/{n:02d}" for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 9)]


def test_the_improved_truth_ends_where_kittis_does(written):
    root = written("kitti_depth", KITTI_PLAN, 1)
    drive = root / kitti_raw.drive_name(1)
    depth = np.load(drive / "depth_02/data/0000000001.npy")
    improved = read_depth_png(drive / "proj_depth/groundtruth/image_02/0000000001.png")
    np.testing.assert_allclose(improved, np.where(depth > 80, 0, depth), atol=1 / 512)


# ---- benchmarks: true depth, scored --------------------------------------------------------------


TEST_PLAN = Plan(2, 4, 160, 480)  # frames 0 and 3 of street 2 are scored
FACTOR = 3.0  # predictions are known up to scale: theirs is wrong by this


class Truth:
    """A predictor that knows the answers, but for their scale."""

    def __init__(self, depths: Sequence[np.ndarray]) -> None:
        self.depths = iter(depths)

    def scaled_disp(self, images, post_process=False):  # noqa: ARG002
        depths = torch.from_numpy(np.stack([next(self.depths) for _ in images]))[:, None]
        return torch.where(depths > 0, FACTOR / depths, 0.0)  # the sky is infinitely far


def scored(name: str, dataset: MonoDataset, truth: Sequence, depths: Sequence) -> EvaluationResult:
    result = evaluate(Truth(depths), dataset, truth, PROTOCOLS[name])
    assert len(result.per_image) == 2
    return result


def kitti_depths(root: Path) -> list[np.ndarray]:
    """The true depth of the test frames' whole pictures."""
    folder = root / kitti_raw.drive_name(2) / "depth_02/data"
    return [np.load(folder / f"{frame:010d}.npy") for frame in (0, 3)]


def test_the_floor_of_kitti_eigen(written, tmp_path):
    """The laser's points lie anywhere in the pixel whose centre's depth is predicted, and the
    scanner, above the camera, sees past some edges: 1 percent on average."""
    root = written("kitti", TEST_PLAN, 2)
    export_gt_depth.main(["--data_path", str(root), "--split", str(root / "split"), "--output",
                          str(tmp_path / "gt.npz")])
    dataset = build_dataset("kitti", root, lists_of(root, "test"), 64, 192, (0,))
    result = scored("kitti_eigen", dataset, load_gt_depths(tmp_path / "gt.npz"),
                    kitti_depths(root))
    assert result.mean()["abs_rel"] < 0.01
    assert result.mean()["a1"] > 0.99
    np.testing.assert_allclose(result.ratios, FACTOR, rtol=2e-3)


def test_the_floor_of_kitti_eigen_benchmark(written):
    """16 bits: half of 1/256 m at most, a thousandth of the nearest depth, in ratios too."""
    root = written("kitti_depth", TEST_PLAN, 2)
    dataset = build_dataset("kitti_depth", root, lists_of(root, "test"), 64, 192, (0,))
    result = scored("kitti_eigen_benchmark", dataset, dataset.ground_truth(),
                    kitti_depths(root))
    assert result.mean()["abs_rel"] < 5e-4
    assert result.mean()["a1"] == 1
    np.testing.assert_allclose(result.ratios, FACTOR, rtol=1e-3)


@pytest.mark.parametrize("name", ["cityscapes", "nyuv2"])
def test_the_floor_of_cityscapes_and_nyuv2(written, name):
    """Float32, at the size that is scored: the rounding of a few operations."""
    root = written(name, TEST_PLAN, 2)
    dataset = build_dataset(name, root, lists_of(root, "test"), 96, 256, (0,))
    metres = nyuv2.SCALE if name == "nyuv2" else 1
    depths = [metres * take_native(name, frame)[1] for frame in (0, 3)]
    own = [root / "gt_depths"] if name == "cityscapes" else []
    result = scored(name, dataset, dataset.ground_truth(*own), depths)
    assert result.mean()["abs_rel"] < 1e-6
    np.testing.assert_allclose(result.ratios, FACTOR, rtol=1e-6)


def test_the_floors_of_make3d(written):
    """At the laser's size: rounding. At the picture's size, what the nearest neighbour takes for a
    cell is 12 to 27 rows above its centre, and far along the road that is a tenth of the depth."""
    root = written("make3d", TEST_PLAN, 2)
    dataset = build_dataset("make3d", root, lists_of(root, "test"), 128, 256, (0,))
    truth = dataset.ground_truth()
    grids = [make3d.laser_grid(street(), poses(4)[frame])[17:38, :, 3] for frame in (0, 3)]
    result = scored("make3d", dataset, truth, grids)
    assert result.mean()["abs_rel"] < 1e-6
    assert sum((gt < 70).sum() for gt in truth) > 0.5 * sum(gt.size for gt in truth)
    pictures = [take_native("make3d", frame)[1] for frame in (0, 3)]
    result = scored("make3d", dataset, truth, pictures)
    assert result.mean()["abs_rel"] < 0.12


@cache
def take_native(name: str, frame: int) -> tuple[Image.Image, np.ndarray]:
    """The scored part of a test picture and its true depth, from the renderer itself."""
    pose = poses(4)[frame]
    if name == "cityscapes":
        view, part = cityscapes.take(street(), pose, 1.0, 1), np.s_[:768]
    elif name == "nyuv2":
        view, part = render(street(), pose, nyuv2.K, 480, 640), np.s_[44:471, 40:601]
    else:
        view, part = render(street(), pose, make3d.K, 2272, 1704, 1), np.s_[710:1562]
    return Image.fromarray(view.image[part]), view.depth[part]


@pytest.mark.parametrize("name", ["cityscapes", "nyuv2", "make3d"])
def test_test_pictures_show_what_their_depth_says(written, name):
    """The picture as evaluation reads it, its camera and its true depth belong together."""
    root, size = written(name, TEST_PLAN, 2), {"nyuv2": (214, 280)}.get(name, (192, 512))
    sample = build_dataset(name, root, lists_of(root, "test"), *size, (0,))[0]
    target, source = poses(4)[[0, 3]]
    sample[FrameKey("color", 1, 0)] = to_tensor(resize(take_native(name, 3)[0], *size))
    if name == "make3d":  # whose camera only the renderer knows
        K = np.eye(4)
        K[:3, :3] = make3d.K - [[0, 0, 0], [0, 0, 710], [0, 0, 0]]
        K[:2] *= [[size[1] / 1704], [size[0] / 852]]
        sample["K"] = torch.from_numpy(K).float()
    motions = true_motions({0: target, 1: source}, False)
    after, before = warp_errors(sample, take_native(name, 0)[1], motions)
    assert after[0] < 1.5 * FLOOR  # three frames apart
    assert after[0] < 0.5 * before[0]


# ---- the script ----------------------------------------------------------------------------------


def test_layouts_are_the_options():
    assert tuple(LAYOUTS) == tool_options.LAYOUTS


def test_the_script_writes_a_layout_and_keeps_to_it(tmp_path, capsys):
    flags = ["--streets", "2", "--frames", "3", "--height", "32", "--width", "96"]
    render_demo.main(["--out", str(tmp_path / "new"), "--layout", "kitti_odom", *flags])
    assert "(2 rendered now" in capsys.readouterr().out
    files = {path.name for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert {"00.txt", "09.txt", "calib.txt", "times.txt", "train_files.txt", "000002.png"} <= files
    assert lists_of(tmp_path / "new", "train") == ["0 1 l", "0 1 r"]
    render_demo.main(["--out", str(tmp_path / "new"), "--layout", "kitti_odom", *flags])
    assert "(0 rendered now" in capsys.readouterr().out
    with pytest.raises(UserError, match="other settings"):
        render_demo.main(["--out", str(tmp_path / "new"), *flags])


@pytest.mark.parametrize(("layout", "frames"), [("nyuv2", 8), ("cityscapes", 4), ("all", 8)])
def test_too_few_frames_are_refused(tmp_path, layout, frames):
    with pytest.raises(UserError, match=f"--frames {frames}"):
        render_demo.main(["--out", str(tmp_path / "new"), "--layout", layout, "--frames",
                          str(frames)])
    assert not (tmp_path / "new").exists()
