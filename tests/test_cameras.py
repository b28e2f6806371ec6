"""Learned cameras: their numbers, what they follow from, and what can and cannot be found of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.testing import assert_close

from layers import backproject, camera_matrices, project
from losses import Objective
from networks import ClipCameras, FrameCamera
from networks.cameras import as_camera, mirrored
from rendering import Street, drive_poses, render
from tests.rendered_truth import true_motions
from training_step import Inputs, TrainingStep

SIZE = (128, 96)  # (width, height) of the rendered video
CAMERA = (0.6, 0.8, 0.47, 0.53)  # its true one
SWAY = (30.0, 15.0, 12.0)  # degrees of yaw, pitch and roll: a camera in a hand
TARGETS = (4, 12, 20, 28)
LIMITS = {"min_depth": 0.5, "max_depth": 80.0}


# ---- numbers ------------------------------------------------------------------------------------


def test_matrices_are_in_pixels_and_each_others_inverse():
    cameras = torch.tensor([[0.5, 2.0, 0.25, 0.75], [1.0, 1.0, 0.5, 0.5]])
    K, inv_K = camera_matrices(cameras, 50, 200)
    expected = torch.tensor([[100.0, 0, 50, 0], [0, 100, 37.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert_close(K[0], expected)
    assert_close(K @ inv_K, torch.eye(4).expand(2, 4, 4))


def test_gradients_flow_through_both_matrices():
    cameras = torch.tensor([[0.5, 2.0, 0.25, 0.75]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: camera_matrices(c, 5, 20), cameras)


def test_any_numbers_are_a_camera():
    cameras = as_camera(torch.tensor([[-10.0, 10, -10, 10], [0.0, 0, 0, 0]]))
    assert (cameras[:, :2] > 0).all()
    assert ((cameras[:, 2:] > 0) & (cameras[:, 2:] < 1)).all()
    assert_close(cameras[1], torch.tensor([0.6931472, 0.6931472, 0.5, 0.5]))  # ln 2 and a half


@pytest.mark.parametrize("size", [(1242, 375), (1080, 1920)])
def test_the_first_guess_has_square_pixels_and_a_centre(size):
    cameras = ClipCameras(1, size).cameras().detach()
    fx, fy, cx, cy = (cameras[0] * torch.tensor([*size, *size])).tolist()
    assert fx == pytest.approx(0.8 * max(size))
    assert fy == pytest.approx(fx)
    assert (cx, cy) == (size[0] / 2, size[1] / 2)


# ---- clips and frames ---------------------------------------------------------------------------


def test_a_clip_has_its_own_camera_and_an_unknown_one_the_shared():
    cameras = ClipCameras(3, SIZE)
    nn.init.normal_(cameras.shared, std=0.02)
    nn.init.normal_(cameras.own, std=0.02)
    clip, flip = torch.tensor([2, 0, -1]), torch.zeros(3, dtype=torch.bool)
    seen = cameras([], clip, flip)
    assert_close(seen[:2], cameras.cameras()[[2, 0]])
    with torch.no_grad():
        cameras.own.zero_()
    assert_close(cameras([], clip, flip), seen[2:].expand(3, 4))


def test_a_mirrored_clip_has_its_centre_mirrored():
    cameras = ClipCameras(1, SIZE)
    nn.init.normal_(cameras.shared, std=0.02)
    plain, seen = cameras([], torch.tensor([0, 0]), torch.tensor([False, True]))
    assert_close(seen, plain * torch.tensor([1, 1, -1, 1]) + torch.tensor([0, 0, 1, 0]))
    assert_close(mirrored(seen[None], torch.tensor([True])), plain[None])


def test_a_clip_that_is_not_seen_learns_what_all_share_alone():
    cameras = ClipCameras(2, SIZE)
    cameras([], torch.tensor([1, -1]), torch.tensor([False, False])).sum().backward()
    assert not cameras.own.grad[0].any()
    assert cameras.own.grad[1].all()
    assert_close(cameras.shared.grad, 2 * cameras.own.grad[1])


def test_a_frames_camera_is_the_mean_answer_of_its_passes():
    camera = FrameCamera(8, SIZE)
    features = [torch.rand(2, 8, 3, 4), torch.rand(2, 8, 3, 4)]
    assert_close(camera(features, None, None), as_camera(camera.first).expand(2, 4))
    nn.init.normal_(camera.linear.weight)
    own = camera.linear(sum(maps.mean((2, 3)) for maps in features) / 2)
    assert_close(camera(features, None, None), as_camera(camera.first + 0.1 * own))


# ---- what can be found of a camera ---------------------------------------------------------------


def pixels_of(camera: np.ndarray, motion: np.ndarray, depth: Tensor) -> Tensor:
    """Where the pixels of a picture of SIZE are seen after a motion (4, 4), float64."""
    K, inv_K = camera_matrices(torch.tensor(camera, dtype=torch.float64)[None], *SIZE[::-1])
    return project(backproject(depth, inv_K), K, torch.tensor(motion)[None, None])


def moved(turn: tuple[float, float, float], translation: np.ndarray) -> np.ndarray:
    """A motion (4, 4): a rotation vector in radians, and a translation."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    motion[:3, 3] = translation
    return motion


@pytest.mark.parametrize("scale", [0.5, 0.9, 2.0])
def test_without_rotation_any_focal_length_explains_the_same_video(scale):
    """A camera of another focal length that moves less to the sides sees every pixel, at the same
    depth, go the same way."""
    rng = np.random.default_rng(0)
    depth = torch.tensor(rng.uniform(2, 50, (1, 1, *SIZE[::-1])))
    other = np.array(CAMERA) * [scale, scale, 1, 1]
    for translation in rng.uniform(-1, 1, (5, 3)):
        true = pixels_of(CAMERA, moved((0, 0, 0), translation), depth)
        less = translation / [scale, scale, 1]
        assert_close(pixels_of(other, moved((0, 0, 0), less), depth), true)


@pytest.mark.parametrize("turn", [0.02, 0.06])
def test_how_much_a_rotation_tells_is_gordons_formula(turn):
    """A camera whose fx is wrong and that turns so that the middle goes the true way is wrong at
    the border by r w^2 error / (2 f^2) pixels: what the log tells follows from it."""
    width, error = SIZE[0], 0.01
    camera = np.array([0.6, 0.8, 0.5, 0.5])
    depth = torch.ones(1, 1, *SIZE[::-1], dtype=torch.float64)
    row = SIZE[1] // 2 * width  # that of the optical axis
    places = [row, row + width // 2, row + width - 1]  # left, middle, right
    true = pixels_of(camera, moved((0, turn, 0), np.zeros(3)), depth)[0, 0, places, 0]
    less = np.arctan(np.tan(turn) / (1 + error))
    wrong = camera * [1 + error, 1, 1, 1]
    seen = pixels_of(wrong, moved((0, less, 0), np.zeros(3)), depth)[0, 0, places, 0]
    left, middle, right = (seen - true).abs().tolist()
    fx = camera[0] * width
    predicted = turn * width**2 * (error * fx) / (2 * fx**2)
    assert middle < 1e-6
    assert (left + right) / 2 == pytest.approx(predicted, rel=0.05)


@cache
def video() -> tuple[dict, Tensor, Tensor]:
    """Pictures (frame, 0) to (B, 3, H, W); disparity (B, 1, H, W) and motions next_T_this between
    frames (B, 2, 4, 4) of TARGETS, all true."""
    (width, height), poses = SIZE, drive_poses(1, 40, SWAY)
    fx, fy, cx, cy = np.array(CAMERA) * [width, height, width, height]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    street = Street(1, length=poses[-1, 2, 3] + 60)
    frames = [target + near for target in TARGETS for near in (-1, 0, 1)]
    seen = {frame: render(street, poses[frame], K, height, width) for frame in frames}
    pictures = {
        (frame, 0): torch.stack([
            torch.from_numpy(seen[t + frame].image.copy()).permute(2, 0, 1) / 255 for t in TARGETS
        ]) for frame in (0, -1, 1)
    }  # fmt: skip
    near, far = LIMITS.values()
    depth = torch.from_numpy(np.stack([seen[t].depth for t in TARGETS]))[:, None]
    depth = torch.where(depth > 0, depth, far).clamp(near, far)  # the sky has none
    motions = torch.cat(
        [true_motions({i: poses[target + i] for i in (0, -1, 1)}, False) for target in TARGETS]
    )
    motions[:, 0] = torch.linalg.inv(motions[:, 0])
    return pictures, (1 / depth - 1 / far) / (1 / near - 1 / far), motions


class KnownDepth(nn.Module):
    """In place of the depth network."""

    def __init__(self, disp: Tensor) -> None:
        super().__init__()
        self.disp, self.encoder = disp, nn.Identity()

    def depth(self, _features: Tensor) -> dict[int, Tensor]:
        return {0: self.disp}


class FreeDepth(nn.Module):
    """Disparities that are learned themselves, a fourth of the size, from 10 m everywhere."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.size, self.encoder = like.shape[-2:], nn.Identity()
        self.moves = nn.Parameter(torch.zeros_like(like[..., ::4, ::4]))
        near, far = LIMITS.values()
        self.start = torch.tensor((1 / 10 - 1 / far) / (1 / near - 1 / far)).logit()

    def depth(self, _features: Tensor) -> dict[int, Tensor]:
        moves = F.interpolate(30 * self.moves, self.size, mode="bilinear", align_corners=False)
        return {0: torch.sigmoid(self.start + moves)}


class LearnedMotions(nn.Module):
    """In place of the pose network: each pair's own motion, which starts beside the true one."""

    def __init__(self, motions: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        turns = Rotation.from_matrix(motions[..., :3, :3].flatten(0, 1).numpy()).as_rotvec()
        turns = torch.from_numpy(turns).float().view(-1, 2, 3)
        self.turns = turns + 0.005 * torch.randn_like(turns)  # 0.3 degrees
        self.translations = motions[..., :3, 3] + 0.05 * torch.randn_like(turns)  # metres
        self.moves = nn.Parameter(torch.zeros(2, *turns.shape))
        self.calls = 0

    def forward(self, _images: object, _features: object) -> tuple[Tensor, Tensor]:
        source, self.calls = self.calls % 2, self.calls + 1
        turns = self.turns + 0.5 * self.moves[0]
        translations = self.translations + 5 * self.moves[1]
        return turns[:, source, None, None], translations[:, source, None, None]


def learn(depth: nn.Module, steps: int) -> list[float]:
    """The camera that the loss leads to, from a guess a third too long, with everything that
    `depth` and motions learn beside it."""
    pictures, _, motions = video()
    camera, count = ClipCameras(1, SIZE), len(TARGETS)
    assert min(camera.cameras()[0, :2].detach().numpy() / CAMERA[:2]) > 1.3
    inputs = Inputs(
        full=pictures, jittered={frame: image for (frame, _), image in pictures.items()},
        K=None, inv_K=None, clip=torch.zeros(count, dtype=torch.int64),
        flip=torch.zeros(count, dtype=torch.bool),
    )  # fmt: skip
    objective = Objective(automask=False, disparity_smoothness=1e-2, **LIMITS)
    step = TrainingStep(depth, LearnedMotions(motions), objective, (0, -1, 1), camera=camera)
    optimizer = torch.optim.Adam(step.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        objective.total(step.score(inputs)[0]).backward()
        optimizer.step()
        schedule.step()
    return camera.cameras()[0].tolist()


def test_with_rotation_the_loss_finds_the_camera():
    """Beside motions that are a little wrong, where depth is known."""
    fx, fy, cx, cy = learn(KnownDepth(video()[1]), 80)
    assert fx == pytest.approx(CAMERA[0], rel=0.05)
    assert fy == pytest.approx(CAMERA[1], rel=0.05)
    assert (cx, cy) == pytest.approx(CAMERA[2:], abs=0.03)


@pytest.mark.slow
def test_with_rotation_the_loss_finds_the_camera_beside_depth():
    """Depth is learned too, from one value everywhere, pixel by pixel. The picture is less high
    than wide, and the camera pitches less than it yaws: fy is known less well than fx."""
    fx, fy, cx, cy = learn(FreeDepth(video()[1]), 120)
    assert fx == pytest.approx(CAMERA[0], rel=0.05)
    assert fy == pytest.approx(CAMERA[1], rel=0.1)
    assert (cx, cy) == pytest.approx(CAMERA[2:], abs=0.03)
