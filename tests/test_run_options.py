"""Options of a run that change how it gets there: equal results, and what is kept of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

from checkpoint import load_checkpoint, previous_path, save_checkpoint
from datasets.keys import SampleIndex
from distributed import World
from options import train_options
from tests.test_checkpoint import refuse
from tests.tiny_kitti import (
    arguments,
    differences,
    load,
    read_metrics,
    refused,
    run_train,
    write_list,
)
from trainer import Trainer
from utils import UserError

QUICK = ("--num_epochs", 1, "--no_eval")


@pytest.fixture(scope="module")
def root(root):
    write_list(root / "split" / "val_files.txt", [2, 5, 4])
    return root


def make_trainer(root: Path, name: str, *flags: object) -> Trainer:
    trainer = Trainer(train_options(arguments(root, name, "--no_eval", *flags)), World())
    trainer.log.close()
    return trainer


def gradients(trainer: Trainer, *batches: list[int]) -> dict[str, torch.Tensor]:
    """Of one step on the samples of these indices, batch norm in evaluation mode, no noise."""
    trainer.networks.eval()
    trainer.networks.objective = replace(trainer.networks.objective, tie_break=0)
    samples = [[trainer.dataset[SampleIndex(0, index)] for index in batch] for batch in batches]
    trainer.train_step([default_collate(each) for each in samples])
    return {name: p.grad for name, p in trainer.networks.named_parameters()}


def assert_near(found: dict, expected: dict, share: float) -> None:
    for name, value in expected.items():
        assert (found[name] - value).norm() <= share * value.norm() + 1e-7, name


# ---- accumulation -------------------------------------------------------------------------------


def test_accumulated_batches_give_the_gradients_of_the_joined_one(root):
    one = gradients(make_trainer(root, "joined", "--batch_size", 4), [0, 1, 2, 3])
    trainer = make_trainer(root, "accumulated", "--batch_size", 2, "--accumulate", 2)
    assert_near(gradients(trainer, [0, 1], [2, 3]), one, 1e-3)
    assert trainer.step == trainer.scheduler.last_epoch == 1


def test_an_epoch_of_accumulated_batches_counts_its_steps(root):
    flags = ("--batch_size", 1, "--accumulate", 4, *QUICK)  # of six samples two are left over
    state = load(run_train(root, "accumulated", *flags) / "ckpt.pth")
    assert (state["epoch"], state["step_in_total"]) == (1, 1)
    log = (root / "logs" / "accumulated" / "logger.log").read_text()
    assert "a step takes 4 (4 x 1 on each of 1 processes), an epoch 1 steps" in log


def test_too_few_samples_for_a_step_are_refused(root, monkeypatch, capsys):
    command = arguments(root, "few", "--batch_size", 2, "--accumulate", 4)
    assert "one step of 4 x 2" in refused(monkeypatch, capsys, command)


# ---- what is kept -------------------------------------------------------------------------------


def test_validation_chooses_the_best_epoch_without_test_truth(root):
    folder = run_train(root, "best", "--val_split", root / "split", "--no_eval", "--num_epochs", 3,
                       "--learning_rate", 3e-3)  # fmt: skip
    rows = read_metrics(folder)
    values = [float(row["val/photometric"]) for row in rows]
    assert len(set(values)) == 3
    assert not any("kitti_eigen" in name for name in rows[0])
    best = values.index(min(values))
    assert differences(folder / "models/best.pth", folder / f"models/model{best}.pth") == []
    assert load(folder / "ckpt.pth")["best"] == pytest.approx(min(values))


def test_another_validation_list_begins_its_own_best(root, tmp_path):
    flags = ("--val_split", root / "split")
    folder = run_train(root, "lists", *QUICK, *flags)
    best = load(folder / "ckpt.pth")["best"]
    assert make_trainer(root, "lists", "--resume", *flags).best == best
    write_list(tmp_path / "val_files.txt", [3])
    assert make_trainer(root, "lists", "--resume", "--val_split", tmp_path).best is None


def test_validation_is_the_loss_of_the_list_without_noise_and_augmentation(root):
    from training_step import prepare
    from validation import validate

    trainer = make_trainer(root, "value", "--val_split", root / "split")
    data = trainer.evaluation.validation
    means = validate(trainer.networks, data, World(), 2, 0)
    trainer.networks.eval()
    values = []
    for index in range(3):
        sample = data[index]
        assert not {"jitter", "crop", "cut"} & sample.keys()
        objective = replace(trainer.networks.objective, tie_break=0)
        with torch.no_grad():
            views = trainer.networks.views(prepare(default_collate([sample])))
            values.append(objective.reconstruction(views["full"])[0]["photometric"])
    assert means["val/photometric"] == pytest.approx(float(sum(values)) / 3, rel=1e-5)
    assert 0 <= means["val/automask"] <= 1
    assert means == validate(trainer.networks, data, World(), 2, 0)


def test_only_so_many_epochs_are_kept(root):
    folder = run_train(root, "keep", "--keep", 2, "--num_epochs", 4, "--no_eval")
    names = sorted(path.name for path in (folder / "models").iterdir())
    assert names == ["model2.pth", "model3.pth"]


# ---- restarts -----------------------------------------------------------------------------------


def test_a_restart_goes_on_with_its_own_run_alone(root):
    """As torchrun restarts it; another launch's run asks for --resume, restarted or not."""
    options = train_options(arguments(root, "own", *QUICK))
    first = World(launch="a 1")
    Trainer(options, first).run()
    for world in (first, World(restarts=1, launch="b 1")):
        with pytest.raises(UserError, match="already holds a run"):
            Trainer(options, world)
    trainer = Trainer(options, World(restarts=1, launch="a 1"))
    trainer.log.close()
    assert trainer.epoch == 1


def test_processes_that_see_different_checkpoints_stop(root, monkeypatch):
    import trainer

    monkeypatch.setattr(trainer, "gather_objects", lambda _, value: [value, (3, 0, 9)])
    with pytest.raises(UserError, match="must share --log_dir"):
        make_trainer(root, "places")


# ---- files that are damaged or foreign ----------------------------------------------------------


def test_a_damaged_checkpoint_falls_back_and_ends_the_same(root):
    whole = run_train(root, "whole", "--save_frequency", 1, "--no_eval")
    folder = run_train(root, "damaged", "--save_frequency", 1, *QUICK)
    path = folder / "ckpt.pth"
    path.write_bytes(path.read_bytes()[:-5000])
    run_train(root, "damaged", "--save_frequency", 1, "--no_eval", "--resume")
    log = (folder / "logger.log").read_text()
    assert f"is damaged or truncated, or no file of torch.save: copy or download it again; going " \
        f"on from {previous_path(path)}" in log
    assert differences(path, whole / "ckpt.pth") == []
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_the_damaged_file_does_not_become_the_previous_one(root):
    folder = run_train(root, "damaged", "--save_frequency", 1, *QUICK)
    path = folder / "ckpt.pth"
    path.write_bytes(b"")
    trainer = make_trainer(root, "damaged", "--resume")
    with trainer.background:
        trainer._save_checkpoint()
        trainer.background.finish()
        assert load_checkpoint(previous_path(path))["batch_idx"] == 2
        trainer._save_checkpoint()
    assert load_checkpoint(path)["batch_idx"] == 2


def published(folder: Path, **changes: object) -> Path:
    """A ckpt.pth as the published code writes it, of a run of ours."""
    state = load(folder / "ckpt.pth")
    for name in ("course", "sums", "summed", "best", "best_of", "scaler", "min_depth", "max_depth",
                 "backbone", "num_layers"):
        del state[name]
    state["lr_scheduler"] = {"milestones": {15: 1}, "gamma": 0.1, "last_epoch": 1}
    save_checkpoint(folder / "ckpt.pth", state | changes)
    return folder / "ckpt.pth"


def test_a_published_checkpoint_is_gone_on_with(root):
    """Networks and counters; the learning rate is that of its step."""
    folder = run_train(root, "published", *QUICK)
    path = published(folder)
    trainer = make_trainer(root, "published", "--resume", "--decay_step", 1)
    assert (trainer.epoch, trainer.batch, trainer.step) == (1, 0, 3)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-5)
    stored = load(path)
    for name, module in trainer.networks.parts().items():
        assert all(torch.equal(v, stored[name][key]) for key, v in module.state_dict().items())
    trainer.log.close()
    assert "is of the published code" in (folder / "logger.log").read_text()
    run_train(root, "published", "--resume", "--no_eval")
    assert load(path)["step_in_total"] == 6


def test_a_published_checkpoint_within_an_epoch_is_gone_on_with(root):
    folder = run_train(root, "within", *QUICK)
    published(folder, epoch=0, batch_idx=2, step_in_total=2)
    run_train(root, "within", *QUICK, "--resume")
    assert load(folder / "ckpt.pth")["step_in_total"] == 3
    assert float(read_metrics(folder)[0]["loss"]) > 0.01  # the mean of the one step that it saw


def test_a_published_checkpoint_at_an_epochs_last_step_begins_the_next(root):
    folder = run_train(root, "last", *QUICK)
    published(folder, epoch=0, batch_idx=3, step_in_total=3)
    trainer = make_trainer(root, "last", "--resume")
    assert (trainer.epoch, trainer.batch, trainer.step) == (1, 0, 3)


@pytest.mark.parametrize(
    "changes",
    [{"batch_idx": 100}, {"batch_idx": -1}, {"epoch": "one"}, {"step_in_total": None},
     {"course": 3}, {"course": {}, "optimizer": {}}],
)  # fmt: skip
def test_surprising_contents_are_refused(root, monkeypatch, capsys, changes):
    folder = run_train(root, "odd", *QUICK)
    path = published(folder, **changes)
    before = path.read_bytes()
    message = refused(monkeypatch, capsys, arguments(root, "odd", *QUICK, "--resume"))
    assert str(path) in message
    assert path.read_bytes() == before


# ---- speed --------------------------------------------------------------------------------------


def terms_of(root: Path, name: str, *flags: object) -> dict[str, float]:
    trainer = make_trainer(root, name, "--batch_size", 4, *flags)
    gradients(trainer, [0, 1, 2, 3])
    return {name: float(value) for name, value in trainer.sums.items()}


def test_bf16_changes_little_and_keeps_depth_fine(root):
    exact = terms_of(root, "float32")
    for name, value in terms_of(root, "bf16", "--amp", "bf16").items():
        if name.endswith("photometric"):
            assert value == pytest.approx(exact[name], rel=0.02)
    trainer = make_trainer(root, "fine", "--amp", "bf16")
    sample = default_collate([trainer.dataset[SampleIndex(0, 0)]])
    seen = []
    hook = trainer.networks.pose_network.encoder.register_forward_hook(
        lambda _module, _inputs, features: seen.append(features)
    )
    _, pictures = trainer.networks(sample)
    hook.remove()
    assert torch.as_tensor(seen[0][-1] if isinstance(seen[0], list) else seen[0]).dtype == (
        torch.bfloat16
    )
    assert pictures["disp"].dtype == pictures["warped"].dtype == torch.float32
    coarse = pictures["disp"].bfloat16().float()
    assert (pictures["disp"] != coarse).float().mean() > 0.9


def test_channels_last_changes_nothing_that_matters(root):
    exact = gradients(make_trainer(root, "plain"), [0, 1])
    trainer = make_trainer(root, "last", "--channels_last")
    weight = trainer.networks.depth_network.encoder.encoder.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert_near(gradients(trainer, [0, 1]), exact, 1e-3)


@pytest.mark.slow
def test_compiled_networks_give_equal_results(root):
    plain = make_trainer(root, "plain")
    exact = gradients(plain, [0, 1])
    trainer = make_trainer(root, "compiled", "--compile")
    assert_near(gradients(trainer, [0, 1]), exact, 1e-3)
    for name, part in trainer.networks.parts().items():
        assert list(part.state_dict()) == list(plain.networks.parts()[name].state_dict())


def test_the_fast_settings_are_traded_back(root):
    try:
        make_trainer(root, "exact", "--deterministic", "--no_tf32")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.allow_tf32
    finally:
        make_trainer(root, "fast")
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32  # geometry's products, always exact


def test_equal_seeds_give_equal_bits_in_deterministic_mode_too(root):
    flags = (*QUICK, "--deterministic")
    first, second = (run_train(root, name, *flags) for name in ("first", "second"))
    assert differences(first / "ckpt.pth", second / "ckpt.pth") == []
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()


def test_fp16_is_for_gpus(root, monkeypatch, capsys):
    command = arguments(root, "fp16", "--amp", "fp16")
    assert "--amp fp16" in refused(monkeypatch, capsys, command)


# ---- bad gradients ------------------------------------------------------------------------------


def test_a_gradient_that_is_no_number_stops_the_run_with_its_samples(root):
    trainer = make_trainer(root, "gradient", "--seed", 5)
    parameter = trainer.networks.depth_network.depth.decoder[0][0].weight
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    batch = default_collate([trainer.dataset[SampleIndex(0, index)] for index in (3, 1)])
    trainer.networks.train()
    trainer.train_step([batch])
    with pytest.raises(UserError, match=r"gradient of step 1 .*: \S+ 4 l; \S+ 2 l; loss 0\.\d+,"):
        trainer._check()
    assert refuse(trainer.checkpoint_path)


def test_a_bad_step_long_before_the_next_look_is_told_all_the_same(root):
    """On the CPU, what goes back from a loss that is no number crashes grid_sample."""
    trainer = make_trainer(root, "long", "--log_frequency", 1000)
    parameter = trainer.networks.depth_network.depth.decoder[0][0].weight
    hook = parameter.register_hook(lambda gradient: gradient * math.nan)
    trainer.networks.train()
    batch = next(iter(trainer.loader))
    trainer.train_step([batch])
    hook.remove()
    with pytest.raises(UserError, match="the gradient of step 1 is not a number"):
        trainer.train_step([batch])


def test_the_noise_of_every_step_process_and_seed_is_its_own(root):
    trainer = make_trainer(root, "noise")
    draws = set()
    for seed, rank, step in itertools.product((1, 2), (0, 1), (0, 1)):
        trainer.opt.seed, trainer.world, trainer.step = seed, World(rank, 2), step
        torch.manual_seed(trainer._step_seed())
        draws.add(torch.rand(()).item())
    assert len(draws) == 8


def test_intrinsics_of_another_size_are_named(root, monkeypatch):
    from datasets.kitti_dataset import KITTIDataset
    monkeypatch.setattr(KITTIDataset, "intrinsics", lambda *_: (0.58, 1.92, 320.0, 0.5))
    trainer = make_trainer(root, "camera")
    with pytest.raises(UserError, match=r"0001_sync 1 l.* cx 320 times the picture's width"):
        trainer.dataset[0]
