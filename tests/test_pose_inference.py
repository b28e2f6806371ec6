"""Paths from a pose network whose motions are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import distributed
from checkpoint import save_checkpoint
from datasets.keys import FrameKey
from distributed import World
from layers import transformation_from_parameters
from networks import build_depth_network, build_pose_network
from odometry import write_poses
from options import train_options
from pose_inference import (
    PosePredictor,
    evaluate_sequences,
    evaluate_training,
    find_sequences,
    find_training_sequences,
    predict_path,
    results_scores,
    results_table,
)
from tests.tiny_model import save_picture
from tests.tiny_pose import FRAMES, true_path, write_sequence
from training_step import Inputs, TrainingStep
from utils import UserError


class KnownPose(nn.Module):
    """Tells frames apart by their grey level, i / 255 for frame i, and knows how they lie:
    points of the first camera as the second one sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, frames):
        assert not self.training
        a, b = ((x.mean((1, 2, 3)) * 255).round().long().numpy() for x in frames)
        self.seen.append(len(a))
        path = true_path()
        b_T_a = torch.from_numpy(np.linalg.inv(path[b]) @ path[a])
        yaw = torch.atan2(b_T_a[:, 0, 2], b_T_a[:, 2, 2])
        axis_angle = torch.stack([0 * yaw, yaw, 0 * yaw], -1)
        # The second motion is the published network's idle one.
        motions = torch.stack([axis_angle, axis_angle + 1], 1)[:, :, None]
        shifts = torch.stack([b_T_a[:, :3, 3], b_T_a[:, :3, 3] + 1], 1)[:, :, None]
        return motions.float(), shifts.float()


class Grey(Dataset):
    """Frame i has grey level i."""

    def __init__(self, count: int = FRAMES) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        if index >= self.count:
            raise IndexError(index)
        return {FrameKey("color", 0, 0): torch.full((3, 32, 64), index, dtype=torch.uint8)}


# ---- which way round ---------------------------------------------------------------------------


def test_the_stub_means_what_training_means():
    """The same answers, put where training asks for them, are its src_T_tgt on both sides."""
    step = TrainingStep(nn.Identity(), KnownPose(), None, (0, -1, 1)).eval()
    target = torch.tensor([5, 9])
    jittered = {
        f: ((target + f) / 255).view(2, 1, 1, 1).expand(2, 3, 32, 64) for f in (0, -1, 1)
    }
    inputs = Inputs({}, jittered, K=torch.eye(4), inv_K=torch.eye(4))
    motions = step.motions(inputs).numpy()
    path = true_path()
    for n, source in enumerate((-1, 1)):
        src_T_tgt = np.linalg.inv(path[target + source]) @ path[target]
        np.testing.assert_allclose(motions[:, n], src_T_tgt, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_path_comes_out_the_right_way_round(batch_size):
    network = KnownPose().train()
    path = predict_path(PosePredictor(network, 32, 64), Grey(), batch_size=batch_size)
    np.testing.assert_allclose(path, true_path(), atol=1e-4)
    assert path[-1, 2, 3] > 1  # it went ahead
    assert sum(network.seen) == FRAMES - 1  # each pair once
    assert max(network.seen) <= batch_size
    assert network.training


def test_processes_share_a_sequence_out(monkeypatch):
    shards = []
    monkeypatch.setattr(
        distributed, "gather_objects", lambda _, own: shards.append(own) or [own]
    )
    predictor = PosePredictor(KnownPose(), 32, 64)
    for rank in range(3):
        predict_path(predictor, Grey(), world=World(rank, 3), batch_size=2)
    assert all(shards)
    monkeypatch.setattr(distributed, "gather_objects", lambda *_: shards)
    path = predict_path(predictor, Grey(), world=World(1, 3), batch_size=2)
    np.testing.assert_allclose(path, true_path(), atol=1e-4)


def test_a_process_without_a_pair_has_nothing_to_tell(monkeypatch):
    gathered = []
    monkeypatch.setattr(
        distributed, "gather_objects",
        lambda _, own: gathered.append(own) or [own, [np.eye(4)[None]]],
    )  # fmt: skip
    predict_path(PosePredictor(KnownPose(), 32, 64), Grey(2), world=World(0, 2))
    assert gathered == [[]]


# ---- checkpoints -------------------------------------------------------------------------------


def save_pose(path, num_layers=18, frames=2, **settings):
    torch.manual_seed(0)
    network = build_pose_network(num_layers, frames)
    state = {name: part.state_dict() for name, part in network.parts().items()}
    save_checkpoint(path, state | settings)
    return network


def test_a_checkpoint_tells_depth_and_size(tmp_path):
    network = save_pose(tmp_path / "a.pth", 34, height=32, width=64).eval()
    predictor = PosePredictor.from_checkpoint(tmp_path / "a.pth", width=96)
    assert (predictor.height, predictor.width) == (32, 96)
    images = torch.rand(3, 3, 32, 96)
    axis_angle, translation = network([images[:-1], images[1:]])
    expected = transformation_from_parameters(axis_angle[:, 0, 0], translation[:, 0, 0])
    torch.testing.assert_close(predictor.motions(images).float(), expected)
    save_pose(tmp_path / "b.pth")
    predictor = PosePredictor.from_checkpoint(tmp_path / "b.pth")
    assert (predictor.height, predictor.width) == (192, 640)


def test_a_recorded_size_that_cannot_be_is_refused(tmp_path):
    save_pose(tmp_path / "a.pth", height=50)
    with pytest.raises(UserError, match=r"a\.pth records the height 50, where a multiple of 32"):
        PosePredictor.from_checkpoint(tmp_path / "a.pth")
    assert PosePredictor.from_checkpoint(tmp_path / "a.pth", height=64).height == 64


def test_checkpoints_without_a_pose_network_of_pairs(tmp_path):
    depth = build_depth_network("resnet", 18)
    save_checkpoint(tmp_path / "depth.pth", {n: m.state_dict() for n, m in depth.parts().items()})
    odd = {f"encoder.layer3.{block}.conv1.weight": torch.ones(1) for block in range(2)}
    for first in ({}, {"encoder.conv1.weight": torch.ones(6)}):
        save_checkpoint(tmp_path / "odd.pth", {"pose_encoder": odd | first})
        with pytest.raises(UserError, match=r"odd.pth holds no pose network"):
            PosePredictor.from_checkpoint(tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"depth.pth holds no pose network"):
        PosePredictor.from_checkpoint(tmp_path / "depth.pth")
    save_pose(tmp_path / "all.pth", frames=3)
    with pytest.raises(UserError, match=r"all.pth sees 3 frames at once: .* pairs"):
        PosePredictor.from_checkpoint(tmp_path / "all.pth")


# ---- sequences on disk -------------------------------------------------------------------------


def test_a_sequence_is_scored_against_its_true_poses(tmp_path):
    """Frames and poses go together by number, also where the first frames are not there."""
    write_sequence(tmp_path, "06", range(3, FRAMES))
    write_poses(tmp_path / "poses/06.txt", true_path())
    write_sequence(tmp_path, "11", range(6))
    sequences = find_sequences(tmp_path, ["6", "11"], 32, 64)
    assert [sequence.name for sequence in sequences] == ["06", "11"]
    results = evaluate_sequences(PosePredictor(KnownPose(), 32, 64), sequences)
    np.testing.assert_allclose(results[0].aligned, true_path()[3:], atol=1e-3)
    assert (results[1].aligned, results[1].score) == (None, None)
    scores = results_scores(results)
    assert list(scores) == [
        f"kitti_odom_06/{name}"
        for name in ("snippet_ate", "snippet_ate_std", "t_err", "r_err", "ate")
    ]
    assert scores["kitti_odom_06/ate"] == pytest.approx(0, abs=1e-3)
    assert len(results_table(results).splitlines()) == 4


def test_the_published_tests_reach_one_frame_beyond_their_lists(tmp_path):
    """The list of test 10 ends at frame 1199; with the next one there are as many frames as rows
    in the published pose file."""
    write_sequence(tmp_path, "10", [])
    folder = tmp_path / "sequences/10/image_2"
    for frame in range(1201):
        (folder / f"{frame:06d}.png").touch()
    with pytest.raises(UserError, match=r"cannot read .*poses/10.txt"):
        find_sequences(tmp_path, ["odom_10"], 32, 64)
    write_poses(tmp_path / "poses/10.txt", np.tile(np.eye(4), (1201, 1, 1)))
    [sequence] = find_sequences(tmp_path, ["odom_10"], 32, 64)
    assert len(sequence.frames) == len(sequence.truth) == 1201


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["eigen"], "'eigen' is no odometry sequence: odom_9, odom_10 or a number such as 06"),
        (["7"], "sequence 7 has 0 frames, and 5 are the least"),
        (["6", "06"], "names sequence 06 twice"),
        (["5"], r"frame 4 follows on frame 2 of the sequence"),
        (["8"], r"poses/08.txt holds 13 poses, none for frame 13"),
        (["odom_9"], r"frame 0 of the split line '9 0 l' is missing"),
    ],
)
def test_what_is_missing_is_told_in_a_sentence(tmp_path, names, sentence):
    write_sequence(tmp_path, "06", range(6))
    write_sequence(tmp_path, "05", [0, 1, 2, 4, 5])
    write_sequence(tmp_path, "08", range(5, 14))
    write_poses(tmp_path / "poses/08.txt", true_path()[:13])
    with pytest.raises(UserError, match=sentence):
        find_sequences(tmp_path, names, 32, 64)


def test_a_damaged_frame_is_named(tmp_path):
    write_sequence(tmp_path, "06", range(6))
    sequences = find_sequences(tmp_path, ["06"], 32, 64)
    damaged = tmp_path / "sequences/06/image_2/000003.png"
    damaged.write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"cannot read the image {damaged}"):
        evaluate_sequences(PosePredictor(KnownPose(), 32, 64), sequences)
    save_picture(damaged, 0)
    evaluate_sequences(PosePredictor(build_pose_network(18), 32, 64), sequences)


# ---- in a run of train.py ------------------------------------------------------------------------


def run_options(root, *flags):
    words = ["--data_path", root, "--dataset", "kitti_odom", "--height", 32, "--width", 64]
    words += ["--num_workers", 0, *flags]
    return train_options([str(word) for word in words])


def test_a_run_is_scored_on_the_sequences_it_names(tmp_path):
    write_sequence(tmp_path, "06", range(FRAMES))
    write_poses(tmp_path / "poses/06.txt", true_path())
    opt = run_options(tmp_path, "--eval_split", "06", "eigen")
    sequences = find_training_sequences(opt)
    results = evaluate_training(KnownPose().train(), sequences, opt, World())
    assert results_scores(results)["kitti_odom_06/ate"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "the split line '9 0 l' is missing"),
        (["--eval_split", "11"], r"no true poses .*poses/11.txt"),
        (["--pose_model_input", "all"], "--pose_model_input all.*: add --no_eval"),
    ],
)
def test_truth_is_looked_for_before_the_run(tmp_path, flags, sentence):
    write_sequence(tmp_path, "11", range(6))
    with pytest.raises(UserError, match=sentence):
        find_training_sequences(run_options(tmp_path, *flags))


@pytest.mark.parametrize(
    "flags", [["--no_eval"], ["--dataset", "kitti"], ["--frame_ids", 0, "--use_stereo"]]
)
def test_runs_without_a_path_to_score(tmp_path, flags):
    assert find_training_sequences(run_options(tmp_path, *flags)) == []
