"""evaluate_pose.py from its command line, on pictures of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_pose
from checkpoint import save_checkpoint
from networks import build_pose_network
from odometry import read_poses, write_poses
from tests.tiny_model import save_picture
from utils import UserError


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    parts = build_pose_network(18).parts()
    state = {name: part.state_dict() for name, part in parts.items()}
    save_checkpoint(tmp_path / "ckpt.pth", state | {"height": 32, "width": 64})
    return tmp_path / "ckpt.pth"


@pytest.fixture
def odometry(tmp_path):
    for frame in range(9):
        save_picture(tmp_path / f"odometry/sequences/06/image_2/{frame:06d}.png", frame)
    return tmp_path / "odometry"


def run(checkpoint, odometry, output, *flags):
    arguments = ["--pretrained_path", checkpoint, "--data_path", odometry, "--output", output]
    arguments += ["--no_cuda", "--num_workers", 0, "--batch_size", 2, *flags]
    evaluate_pose.main([str(argument) for argument in arguments])


def test_paths_plot_and_table(checkpoint, odometry, tmp_path, capsys):
    """A truth made of the first prediction, in other axes and another unit, is met exactly."""
    first, second = tmp_path / "first", tmp_path / "second"
    run(checkpoint, odometry, first, "--eval_split", "06")
    assert sorted(path.name for path in first.iterdir()) == ["06.png", "06.txt"]
    out = capsys.readouterr().out.splitlines()
    assert out[-2] == f"no true poses in {odometry}/poses of sequence 06: not scored"
    assert out[-1] == f"paths and plots are in {first}"
    predicted = read_poses(first / "06.txt")
    assert predicted.shape == (9, 4, 4)
    np.testing.assert_array_equal(predicted[0], np.eye(4))
    world = np.array([[0, 0, 1, 4], [1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 0, 1]], dtype=float)
    truth = predicted.copy()
    truth[:, :3, 3] *= 100
    truth = world @ truth
    write_poses(odometry / "poses/06.txt", truth)

    run(checkpoint, odometry, second, "--eval_split", "06")
    np.testing.assert_array_equal(read_poses(second / "06.txt"), predicted)
    np.testing.assert_allclose(read_poses(second / "06_aligned.txt"), truth, atol=1e-4)
    picture = np.asarray(Image.open(second / "06.png").convert("RGB"))
    assert picture.std() > 1
    out = capsys.readouterr().out.splitlines()
    assert out[-2].split() == ["06", "9", "0.0000", "0.0000", "-", "-", "0.00"]


def test_the_published_tests_are_the_default(checkpoint, odometry, tmp_path):
    with pytest.raises(UserError, match="the split line '9 0 l' is missing"):
        run(checkpoint, odometry, tmp_path / "out")
    assert not (tmp_path / "out").exists()
