"""Runs of train.py --learn_intrinsics: what they leave, resume and refuse; data of no known camera.
"""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from assembly import build_training_set, build_training_step, build_validation_set
from checkpoint import load_checkpoint, load_parts
from datasets.keys import SampleIndex
from datasets.kitti_dataset import KITTIRawDataset
from options import train_options
from point_cloud import Intrinsics
from tests.tiny_kitti import (
    DRIVE,
    HEIGHT,
    WIDTH,
    arguments,
    differences,
    load,
    read_metrics,
    refused,
    run_train,
)
from training_step import prepare

CAMERA = [f"camera/{name}" for name in ("fx", "fy", "cx", "cy", "yaw", "pitch")]
SHARED_RUNS = "learned by *"
MODES = ("clip", "frame")
CLIPS = [f"{DRIVE}/image_{number}/data" for number in ("02", "03")]  # left and right


@pytest.fixture(scope="module")
def both(root) -> Path:
    """A split whose training list has both cameras of the drive, three frames each."""
    folder = root / "both"
    shutil.copytree(root / "split", folder)
    lines = [f"{DRIVE} {frame} {side}\n" for frame in (1, 3, 5) for side in "lr"]
    (folder / "train_files.txt").write_text("".join(lines))
    (folder / "val_files.txt").write_text(f"{DRIVE} 2 l\n{DRIVE} 4 r\n")
    return folder


@pytest.fixture(scope="module")
def finished(root, both):
    """The folder of a run of two epochs in a mode."""
    runs: dict[str, Path] = {}

    def run(mode: str) -> Path:
        if mode not in runs:
            flags = ("--learn_intrinsics", mode, "--split", both, "--val_split", both)
            runs[mode] = run_train(root, f"learned by {mode}", *flags, "--eval_split", both)
        return runs[mode]

    return run


def intrinsics(folder: Path) -> list[float]:
    """The camera of a run's intrinsics.txt, read as test_simple.py does, in the network's pixels;
    the drive's pictures are 150x48."""
    *_, size, numbers = (folder / "intrinsics.txt").read_text().splitlines()
    assert size == "# size: 150x48"
    fx, fy, cx, cy = (float(word) for word in numbers.split())
    K = Intrinsics.parse(str(folder / "intrinsics.txt")).matrix(HEIGHT, WIDTH, "picture")
    x, y = WIDTH / 150, HEIGHT / 48
    np.testing.assert_allclose(K, [[fx * x, 0, cx * x], [0, fy * y, cy * y], [0, 0, 1]])
    return [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]


def batch_of(opt, flips: tuple[bool, ...]) -> dict:
    """A batch of the training list's first sample, drawn with these flips."""
    dataset = build_training_set(opt)
    samples, draw = [], dataset.draw
    for flip in flips:
        dataset.draw = lambda where, flip=flip: draw(where)._replace(flip=flip)
        samples.append(dataset[SampleIndex(0, 0)])
    return default_collate(samples)


# ---- what a run leaves --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_camera_is_logged_drawn_tabled_and_written(finished, mode):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = finished(mode)
    rows = read_metrics(run)
    assert set(CAMERA) < rows[0].keys()
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    tags = EventAccumulator(str(run / "tensorboard" / "train")).Reload().Tags()["scalars"]
    assert set(CAMERA) < set(tags)
    log = (run / "logger.log").read_text()
    assert "epoch 1: learned camera for 64x32: fx " in log
    written = intrinsics(run)
    for name, value in zip(CAMERA[:4], written, strict=True):
        # Means over an epoch, which of a clip's camera move on as it ends.
        assert float(rows[-1][name]) == pytest.approx(value, rel=0.02)


def test_clips_have_a_row_each_and_their_mean_is_written(finished):
    run = finished("clip")
    with (run / "intrinsics_by_clip.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == CLIPS
    sides = {"fx": WIDTH, "fy": HEIGHT, "cx": WIDTH, "cy": HEIGHT}
    for (name, side), mean in zip(sides.items(), intrinsics(run), strict=True):
        first, second = (float(row[name]) * side for row in rows)
        assert first != second
        assert mean == pytest.approx((first + second) / 2, rel=1e-4)
    assert not (finished("frame") / "intrinsics_by_clip.csv").exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_holds_the_camera_as_a_network_of_its_own(finished, root, both, mode):
    state = load(finished(mode) / "models/model1.pth")
    assert len(state["intrinsics"]) == 3
    opt = train_options(arguments(root, "other", "--learn_intrinsics", mode, "--split", both))
    step = build_training_step(opt, False, dataset=build_training_set(opt))
    assert list(step.parts()) == ["encoder", "depth", "pose_encoder", "pose", "intrinsics"]
    load_parts(step.parts(), state, "model1.pth")
    plain = build_training_step(train_options(arguments(root, "other")), False)
    load_parts(plain.parts(), state, "model1.pth")  # as one that knows the camera


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_ends_with_the_same_bits(finished, root, both, mode):
    flags = ("--learn_intrinsics", mode, "--split", both, "--val_split", both, "--eval_split", both)
    name = f"resumed {mode}"
    run_train(root, name, *flags, "--num_epochs", 1)
    run = run_train(root, name, *flags, "--resume")
    for file in ("metrics.csv", "intrinsics.txt"):
        assert (run / file).read_bytes() == (finished(mode) / file).read_bytes()
    assert differences(run / "ckpt.pth", finished(mode) / "ckpt.pth") == []


def test_a_run_starts_from_anothers_camera(finished, root, both):
    path = finished("clip") / "models/model1.pth"
    flags = ("--learn_intrinsics", "--split", both, "--no_eval", "--num_epochs", 1)
    flags += ("--pretrained_path", path, "--models_to_load", "intrinsics")
    run = run_train(root, "from", *flags, "--learning_rate", 1e-12)
    after, before = (load_checkpoint(each)["intrinsics"] for each in (run / "ckpt.pth", path))
    assert all(torch.allclose(after[name], before[name], atol=1e-9) for name in before)


# ---- what is computed ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_learns_and_the_logged_camera_is_not_mirrored(root, both, mode):
    """A clip's camera is one number whether it is seen mirrored or not."""
    opt = train_options(arguments(root, "one", "--learn_intrinsics", mode, "--split", both))
    step = build_training_step(opt, False, dataset=build_training_set(opt)).train()
    torch.manual_seed(0)
    for parameter in step.camera.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    batch = batch_of(opt, (False, True))
    assert "K" not in batch
    terms, _ = step(batch)
    terms["loss"].backward()
    assert all(each.grad is not None and each.grad.any() for each in step.camera.parameters())
    K = step.views(prepare(batch))["full"].frames.K
    expected = (K[0, 0, 2] + WIDTH - K[1, 0, 2]) / 2
    assert terms["camera/cx"].item() == pytest.approx(expected.item(), rel=1e-5)
    if mode == "clip":
        own = step.camera.cameras()[0, 2].item() * WIDTH
        assert abs(own - WIDTH / 2) > 1e-3
        assert terms["camera/cx"].item() == pytest.approx(own, rel=1e-5)


def test_validation_knows_the_clips_of_training(root, both):
    flags = ("--learn_intrinsics", "--split", both, "--val_split", both)
    opt = train_options(arguments(root, "one", *flags))
    clips = list(build_training_set(opt).clip_numbers)
    assert clips == CLIPS
    assert [int(build_validation_set(opt, clips)[i]["clip"]) for i in (0, 1)] == [0, 1]
    assert [int(build_validation_set(opt, clips[1:])[i]["clip"]) for i in (0, 1)] == [-1, 0]


# ---- data without a camera, and refusals --------------------------------------------------------


def test_a_camera_that_nobody_knows_is_learned_or_asked_for(root, both, monkeypatch, capsys):
    monkeypatch.setattr(KITTIRawDataset, "intrinsics", lambda *_: None)
    message = refused(monkeypatch, capsys, arguments(root, "unknown", "--no_eval"))
    assert f"the camera of the clip {CLIPS[0]} is not known" in message
    assert "--learn_intrinsics" in message
    flags = ("--learn_intrinsics", "--no_eval", "--num_epochs", 1, "--split", both)
    run = run_train(root, "unknown", *flags, "--val_split", both)
    assert len(intrinsics(run)) == 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--learn_intrinsics", "--use_stereo", "--frame_ids", 0), "has the stereo partner alone"),
        (("--learn_intrinsics", "video"), "invalid choice: 'video'"),
    ],
)
def test_flags_that_make_no_sense_are_refused(root, monkeypatch, capsys, flags, words):
    assert words in refused(monkeypatch, capsys, arguments(root, "refused", *flags))
    assert not (root / "logs" / "refused").exists()


def test_a_run_is_not_resumed_with_another_camera(finished, root, both, monkeypatch, capsys):
    name = finished("clip").name
    flags = ("--split", both, "--val_split", both, "--eval_split", both, "--resume")
    for given, words in (
        (("--learn_intrinsics", "frame"), "another learn_intrinsics: clip, now frame"),
        ((), "another learn_intrinsics: clip, now None"),
    ):
        assert words in refused(monkeypatch, capsys, arguments(root, name, *flags, *given))


def test_a_file_of_options_takes_the_flag(root, tmp_path):
    (tmp_path / "learn.yaml").write_text("learn_intrinsics: frame\n")
    opt = train_options([*arguments(root, "one"), "--config", str(tmp_path / "learn.yaml")])
    assert opt.learn_intrinsics == "frame"
    assert train_options(arguments(root, "one", "--learn_intrinsics")).learn_intrinsics == "clip"
    assert train_options(arguments(root, "one")).learn_intrinsics is None
