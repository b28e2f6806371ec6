"""Whole runs of train.py on a made-up drive: what they leave, repeat, resume and refuse."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

import evaluate_depth
import losses
from checkpoint import load_checkpoint
from datasets import build_dataset
from datasets.splits import split_lines
from distributed import World
from evaluation import PROTOCOLS, evaluate
from evaluation_sets import kitti_ground_truth
from inference import DepthPredictor
from options import train_options
from run_evaluation import RunEvaluation
from tests.tiny_kitti import (
    HEIGHT,
    WIDTH,
    arguments,
    differences,
    load,
    read_metrics,
    refused,
    run_train,
    snapshot,
    write_list,
)
from trainer import Trainer
from utils import UserError

GOLDEN = Path(__file__).parent / "golden"
TERMS = [
    "full/photometric",
    "full/smoothness",
    "local/photometric",
    "local/smoothness",
    "reshuffled/photometric",
    "reshuffled/smoothness",
    "local/consistency",
    "reshuffled/consistency",
]
SCORES = [f"kitti_eigen/{name}" for name in PROTOCOLS["kitti_eigen"].metrics]
SHARED_RUNS = "finished"
STEPS = 3  # batches of two in an epoch of six samples


@pytest.fixture(scope="module")
def finished(root) -> Path:
    """The folder of a run of two epochs."""
    return run_train(root, "finished")


def make_trainer(root: Path, name: str, *flags: object) -> Trainer:
    return Trainer(train_options(arguments(root, name, *flags)), World())


def assert_equal_runs(first: Path, second: Path) -> None:
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    for name in ("ckpt.pth", "models/model0.pth", "models/model1.pth"):
        assert differences(first / name, second / name) == []


# ---- what a run leaves --------------------------------------------------------------------------


def test_a_run_leaves_its_files(finished):
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard/train/events")}
    assert len(events) == 1
    assert files - events == {
        "logger.log",
        "opt.json",
        "options.yaml",
        ".launch",
        "metrics.csv",
        "ckpt.pth",
        "ckpt_previous.pth",
        "models/model0.pth",
        "models/model1.pth",
        "code/commit.txt",
        "code/changes.diff",
        "environment.json",
    }
    options = json.loads((finished / "opt.json").read_text())
    assert (options["height"], options["exp_name"], options["seed"]) == (HEIGHT, "finished", 1234)


def test_metrics_has_a_row_an_epoch(finished):
    rows = read_metrics(finished)
    assert list(rows[0]) == ["epoch", "step", "loss", *TERMS, "lr", *SCORES]
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "3"), ("1", "6")]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())


def test_the_log_tells_every_term_rate_and_time_left(finished):
    log = (finished / "logger.log").read_text()
    lines = [line for line in log.splitlines() if "batch 2/3" in line]
    assert len(lines) == 2
    for word in ("epoch 0", "data ", "waiting ", "loss ", *TERMS, "lr 1.00e-04", "left"):
        assert word in lines[0]
    assert "KITTI" in log  # the evaluation's table


def test_checkpoints_hold_the_published_entries(finished):
    manifest = json.loads((GOLDEN / "state_dict_manifest.json").read_text())
    model, state = load(finished / "models/model1.pth"), load(finished / "ckpt.pth")
    extra = {"min_depth", "max_depth", "backbone", "num_layers"}
    assert set(model) == set(manifest["checkpoint"]["models/model3.pth"]) | extra
    own = {"course", "sums", "summed", "best", "best_of", "scaler"}
    published = set(manifest["checkpoint"]["ckpt.pth after the end of epoch 3"])
    assert set(state) >= published | extra | own
    assert (state["epoch"], state["batch_idx"], state["step_in_total"]) == (2, 0, 6)
    assert (model["height"], model["width"], model["use_stereo"]) == (HEIGHT, WIDTH, False)
    tensors = manifest["manifest"]["resnet-18"]
    for part in ("encoder", "depth", "pose_encoder", "pose"):
        named = tensors["depth (num_scales 1)" if part == "depth" else part]
        assert list(model[part]) == list(named)
        for key, (shape, kind) in named.items():
            assert list(model[part][key].shape) == shape
            assert str(model[part][key].dtype).removeprefix("torch.") in kind


def test_the_optimiser_numbers_the_parameters_in_file_order(finished):
    state = load(finished / "ckpt.pth")
    skipped = ("running_mean", "running_var", "num_batches_tracked", "fc.weight", "fc.bias")
    shapes = [
        tensor.shape
        for part in ("encoder", "depth", "pose_encoder", "pose")
        for name, tensor in state[part].items()
        if not name.endswith(skipped)
    ]
    moments = state["optimizer"]["state"]
    assert [moments[n]["exp_avg"].shape for n in range(len(moments))] == shapes


def test_the_saved_model_has_the_scores_of_its_epoch(finished, root, capsys):
    path, split = finished / "models/model1.pth", root / "split"
    lines = split_lines("kitti", str(split), "test")
    predictor = DepthPredictor.from_checkpoint(path)
    assert (predictor.height, predictor.width) == (HEIGHT, WIDTH)
    data = build_dataset("kitti", root / "raw", lines, HEIGHT, WIDTH, frame_ids=(0,))
    truth = kitti_ground_truth(str(split), len(lines))
    means = evaluate(predictor, data, truth, PROTOCOLS["kitti_eigen"], batch_size=2).mean()
    row = read_metrics(finished)[-1]
    for name, value in means.items():
        assert float(row[f"kitti_eigen/{name}"]) == pytest.approx(value, rel=1e-5)
    flags = ["--pretrained_path", path, "--kitti_path", root / "raw", "--eval_split", split]
    evaluate_depth.main([str(flag) for flag in [*flags, "--no_cuda", "--num_workers", 0]])
    assert f"{means['abs_rel']:.3f}" in capsys.readouterr().out


def test_tensorboard_holds_curves_scores_and_pictures(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = EventAccumulator(str(finished / "tensorboard" / "train")).Reload().Tags()
    assert "disp_0" in tags["histograms"]
    curves = {"loss", "loss/full/photometric", "lr", "gradient_norm", "waiting_for_data"}
    assert curves | {f"eval/{name}" for name in SCORES} <= set(tags["scalars"])
    shown = {"color_0_0/0", "color_-1_0/0", "color_pred_1_0/1", "disp_0/0", "automask_0/1"}
    assert shown | {"error_0/0"} <= set(tags["images"])


# ---- what is equal, and what is not -------------------------------------------------------------


def test_equal_seeds_give_equal_runs_whatever_the_workers(finished, root):
    assert_equal_runs(finished, run_train(root, "workers", "--num_workers", 2))


def test_another_seed_gives_another_run(finished, root):
    other = run_train(root, "seed", "--seed", 7, "--num_epochs", 1, "--no_eval")
    ours, theirs = read_metrics(finished)[0], read_metrics(other)[0]
    assert "kitti_eigen/abs_rel" not in theirs
    assert all(ours[name] != theirs[name] for name in ("loss", *TERMS))


class Killed(Exception):
    """Not a UserError: the run is to end as if by a crash."""


def train_until(monkeypatch, root: Path, name: str, calls: int, method: str, *flags) -> Path:
    """Start a run that dies at the given call (from 0) of a method of its trainer."""
    original, count = getattr(Trainer, method), iter(range(10**6))

    def dying(self, *rest):
        if next(count) == calls:
            raise Killed
        return original(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, method, dying)
        with pytest.raises(Killed):
            run_train(root, name, "--save_frequency", 2, *flags)
    return root / "logs" / name


@pytest.mark.parametrize(
    ("method", "calls", "position", "workers"),
    [
        ("train_step", 2, (0, 2), 0),  # within the first epoch
        ("train_step", 4, (1, 0), 2),  # a step after an epoch's end, with samples fetched ahead
        ("_save_epoch", 1, (1, 3), 0),  # its row was written, its model not
    ],
)
def test_a_resumed_run_ends_as_if_never_interrupted(
    finished, root, monkeypatch, method, calls, position, workers
):
    name = f"{method} {calls}"
    folder = train_until(monkeypatch, root, name, calls, method, "--num_workers", workers)
    state = load(folder / "ckpt.pth")
    assert (state["epoch"], state["batch_idx"]) == position
    assert state["step_in_total"] == position[0] * STEPS + position[1]
    run_train(root, name, "--num_workers", workers, "--resume")
    assert_equal_runs(finished, folder)


def test_resuming_a_finished_run_changes_nothing(finished, root):
    before = load(finished / "ckpt.pth")["step_in_total"]
    rows = read_metrics(finished)
    run_train(root, "finished", "--resume")
    assert load(finished / "ckpt.pth")["step_in_total"] == before
    assert read_metrics(finished) == rows


def test_resume_without_an_earlier_run_begins_one(root):
    folder = run_train(root, "begun", "--resume", "--num_epochs", 1, "--no_eval")
    assert load(folder / "ckpt.pth")["epoch"] == 1


# ---- training -----------------------------------------------------------------------------------


def test_the_loss_falls_on_a_repeated_batch(root):
    trainer = make_trainer(root, "falls", "--use_stereo", "--learning_rate", 3e-4, "--no_eval")
    trainer.networks.train()
    batch, values = next(iter(trainer.loader)), []
    for _ in range(10):
        trainer.sums = {}
        trainer.train_step([batch])
        values.append(trainer.sums["loss"].item())
    assert sum(values[-3:]) < 0.95 * sum(values[:3])
    trainer.log.close()


def test_flags_reach_the_parts(root):
    flags = ["--use_stereo", "--num_scales", 2, "--v1_multiscale", "--pose_model_input", "all"]
    flags += ["--avg_reprojection", "--no_ssim", "--disable_automasking", "--predictive_mask"]
    flags += ["--optimizer", "sgd", "--momentum", 0.5, "--lr_sche_type", "cos", "--warm_up", 0.5]
    flags += ["--clip_grad", 0.01, "--min_depth", 0.2, "--disparity_smoothness", 0.5]
    folder = run_train(root, "flags", *flags, "--num_epochs", 1, "--no_eval")
    state = load(folder / "ckpt.pth")
    assert "predictive_mask" in state
    assert (state["use_stereo"], state["min_depth"]) == (True, 0.2)
    group = state["optimizer"]["param_groups"][0]
    assert group["momentum"] == 0.5
    assert "full/mask" in read_metrics(folder)[0]


def test_a_short_list_leaves_out_the_odd_sample(root, tmp_path):
    write_list(tmp_path / "train_files.txt", range(1, 6))
    flags = ("--split", tmp_path, "--num_epochs", 1, "--no_eval")
    folder = run_train(root, "short", *flags)
    assert load(folder / "ckpt.pth")["step_in_total"] == 2


def test_a_run_starts_from_chosen_networks_of_another(finished, root):
    path = finished / "models/model1.pth"
    flags = ("--no_eval", "--pretrained_path", path, "--models_to_load", "encoder", "pose")
    trainer = make_trainer(root, "from", *flags)
    fresh = make_trainer(root, "fresh", "--no_eval")
    stored = load_checkpoint(path)
    for name, module in trainer.networks.parts().items():
        source = stored[name] if name in flags else fresh.networks.parts()[name].state_dict()
        assert all(torch.equal(value, source[key]) for key, value in module.state_dict().items())
    trainer.log.close()
    fresh.log.close()


# ---- bad numbers --------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_the_run_and_is_not_saved(root, monkeypatch):
    monkeypatch.setattr(losses, "edge_aware_smoothness", lambda disp, _: disp.sum() * math.nan)
    with pytest.raises(UserError, match=r"loss of step 1 is .*0001_sync.*full/smoothness nan"):
        run_train(root, "nan", "--save_frequency", 1)
    folder = root / "logs" / "nan"
    assert not (folder / "ckpt.pth").exists()
    assert not (folder / "models").exists()


def test_weights_that_are_no_numbers_are_not_saved_either(root, monkeypatch):
    """A bad gradient of an epoch's last step shows in no loss of that epoch."""
    original = Trainer.train_step

    def spoiling(self, batches):
        pictures = original(self, batches)
        if self.batch == STEPS:
            next(self.networks.depth_network.parameters()).data.fill_(math.nan)
        return pictures

    monkeypatch.setattr(Trainer, "train_step", spoiling)
    with pytest.raises(UserError, match="weights are no longer numbers"):
        run_train(root, "nan weights")
    folder = root / "logs" / "nan weights"
    assert not (folder / "ckpt.pth").exists()
    assert not (folder / "models").exists()
    assert not (folder / "metrics.csv").exists()


# ---- refusals -----------------------------------------------------------------------------------


def test_an_earlier_run_is_not_overwritten(finished, root, monkeypatch, capsys):
    before = snapshot(finished)
    message = refused(monkeypatch, capsys, arguments(root, "finished"))
    assert "finished already holds a run" in message
    assert "--resume" in message
    assert snapshot(finished) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--num_layers", 34), ("another backbone", "resnet 18", "resnet 34")),
        (("--batch_size", 3), ("another batch_size: 2, now 3",)),
        (("--optimizer", "sgd"), ("another optimizer: adamw, now sgd",)),
        (("--seed", 5), ("another seed: 1234, now 5",)),
        (("--pose_model_input", "all"), ("another pose_model_input: pairs, now all",)),
    ],
)
def test_a_run_resumes_with_its_own_settings_alone(
    finished, root, monkeypatch, capsys, flags, words
):
    before = snapshot(finished)
    message = refused(monkeypatch, capsys, arguments(root, "finished", "--resume", *flags))
    assert "ckpt.pth" in message
    assert all(word in message for word in words)
    assert snapshot(finished) == before


def test_networks_alone_cannot_be_resumed(finished, root, monkeypatch, capsys):
    folder = root / "logs" / "networks alone"
    folder.mkdir()
    shutil.copy(finished / "models/model1.pth", folder / "ckpt.pth")
    message = refused(monkeypatch, capsys, arguments(root, "networks alone", "--resume"))
    assert "--pretrained_path" in message


# ---- what an audit found ------------------------------------------------------------------------


def test_training_survives_a_failed_evaluation(finished, root, monkeypatch):
    def fail(*_):
        raise UserError("the picture of image 1 is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(RunEvaluation, "score", fail)
        with pytest.raises(UserError, match="damaged"):
            run_train(root, "evaluation fails")
    folder = root / "logs" / "evaluation fails"
    assert load(folder / "ckpt.pth")["step_in_total"] == STEPS
    run_train(root, "evaluation fails", "--resume")
    assert_equal_runs(finished, folder)


def test_the_rate_told_is_the_one_that_was_used(root):
    folder = run_train(root, "decay", "--decay_step", 1, "--no_eval")
    rates = [float(row["lr"]) for row in read_metrics(folder)]
    assert rates == pytest.approx([1e-4, 1e-5])


def test_networks_this_run_has_not_cannot_be_loaded(finished, root, monkeypatch, capsys):
    flags = ("--pretrained_path", finished / "ckpt.pth", "--models_to_load", "predictive_mask")
    message = refused(monkeypatch, capsys, arguments(root, "no mask", *flags))
    assert "predictive_mask" in message
    assert "encoder, depth, pose_encoder, pose" in message


def test_an_unwritable_log_dir_is_found_before_anything_else(root, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    command = arguments(root, "run", "--log_dir", tmp_path / "file" / "logs", "--data_path", "none")
    assert "file is not a folder" in refused(monkeypatch, capsys, command)
