"""evaluate_depth.py from its command line, on a made-up drive with known depths."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import evaluate_depth
from datasets.mono_dataset import load_rgb
from evaluation import PROTOCOLS, score_image
from inference import DepthPredictor
from tests.tiny_model import save_picture, save_tiny_checkpoint
from utils import UserError

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
FRAMES = (0, 3, 5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "model.pth")


@pytest.fixture
def kitti(tmp_path):
    """A data root, and a split folder with its list and its ground truth (of two sizes)."""
    rng, depths = np.random.default_rng(0), {}
    for i, number in enumerate(FRAMES):
        save_picture(tmp_path / f"raw/{DRIVE}/image_02/data/{number:010d}.png", i)
        depths[f"depth_{i:05d}"] = rng.uniform(2, 60, (60 + i % 2, 200)).astype(np.float32)
    split = tmp_path / "split"
    split.mkdir()
    (split / "test_files.txt").write_text("".join(f"{DRIVE} {n} l\n" for n in FRAMES))
    np.savez(split / "gt_depths.npz", **depths)
    return tmp_path / "raw", split, list(depths.values())


def run(checkpoint, root, split, *flags):
    arguments = ["--pretrained_path", checkpoint, "--kitti_path", root, "--eval_split", split]
    arguments += ["--no_cuda", "--num_workers", 0, "--batch_size", 2, *flags]
    evaluate_depth.main([str(argument) for argument in arguments])


def test_the_table_holds_the_scores(checkpoint, kitti, capsys):
    root, split, depths = kitti
    run(checkpoint, root, split)
    lines = capsys.readouterr().out.splitlines()
    assert "32x64" in lines[0]
    assert "M parameters" in lines[0]
    assert "align_corners=True" in lines[2]
    predictor, rows = DepthPredictor.from_checkpoint(checkpoint), []
    for number, depth in zip(FRAMES, depths, strict=True):
        image = load_rgb(root / DRIVE / f"image_02/data/{number:010d}.png")
        disp = predictor.scaled_disp(predictor.prepare(image))[0, 0]
        rows.append(score_image(PROTOCOLS["kitti_eigen"], disp, depth))
    means = np.mean([row.metrics for row in rows], axis=0)
    table = {line.split()[0]: line.split()[1:] for line in lines[5:]}
    np.testing.assert_allclose([float(cell) for cell in table["mean"]], means, atol=6e-4)
    median = np.median([row.ratio for row in rows])
    assert lines[3].startswith(f"images: 3; median scaling, ratios: median {median:.3f}")


def test_flags_reach_the_evaluation(checkpoint, kitti, capsys):
    root, split, _ = kitti
    flags = ("--use_stereo", "--post_process", "--resize_convention", "half_pixel")
    run(checkpoint, root, split, *flags, "--height", 64, "--width", 96)
    printed = capsys.readouterr().out
    assert "64x96" in printed
    assert "align_corners=False" in printed
    assert "images: 3, post-processed; fixed scale 5.4 (stereo)" in printed


def test_cost_is_counted_on_a_copy(checkpoint):
    predictor = DepthPredictor.from_checkpoint(checkpoint)
    before = copy.deepcopy(predictor.network.state_dict())
    text = evaluate_depth.describe_cost(predictor)
    after = predictor.network.state_dict()
    assert list(before) == list(after)
    assert not any(module._forward_hooks for module in predictor.network.modules())
    count = sum(parameter.numel() for parameter in predictor.network.parameters())
    assert f"{count / 1e6:.3f} M parameters" in text
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_is_missing_is_named_before_any_prediction(checkpoint, kitti, monkeypatch):
    root, split, _ = kitti

    def predict(*_):
        raise AssertionError("predicted before everything was found")

    monkeypatch.setattr(DepthPredictor, "predict", predict)
    with pytest.raises(UserError, match="no_root"):
        run(checkpoint, root / "no_root", split)
    with pytest.raises(UserError, match=r"no_model\.pth"):
        run(root / "no_model.pth", root, split)
    (split / "test_files.txt").write_text(f"{DRIVE} 0 l\n")
    with pytest.raises(UserError, match="3 depth maps for 1 test images"):
        run(checkpoint, root, split)
    (split / "gt_depths.npz").unlink()
    with pytest.raises(UserError, match=r"export_gt_depth\.py"):
        run(checkpoint, root, split)


def test_an_image_without_ground_truth_is_named(checkpoint, kitti):
    root, split, depths = kitti
    depths[1][:] = 0
    np.savez(split / "gt_depths.npz", **{f"depth_{i:05d}": d for i, d in enumerate(depths)})
    with pytest.raises(UserError, match=f"{DRIVE} 3 l has no pixel"):
        run(checkpoint, root, split)
