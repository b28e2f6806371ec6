"""Every training mode: its loss and gradients against a plain reference, and that it trains."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from assembly import build_optimisation, build_training_set, build_training_step
from checkpoint import load_checkpoint
from datasets.keys import SampleIndex
from options import train_options
from tests import modes
from tests.modes import MODES, STEPS, Listener, Result, command_line, main, render, run_mode
from tests.tiny_kitti import write_list
from training_step import TrainingStep

OWN_LOSS = [name for name, mode in MODES.items() if mode.own_loss]
FALLING = (
    "mono", "stereo", "mono and stereo, both views", "pose from five frames", "v1 multiscale",
    "predictive mask",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(root) -> Path:
    """A made-up drive, and a list of its frames that have two neighbours on either side."""
    write_list(root / "split/train_files.txt", range(2, 6))
    return root


def options_of(name: str, root: Path) -> Namespace:
    return train_options(command_line(root / "raw", root / "split", root / "logs", name))


def first_batch(opt: Namespace) -> dict:
    samples = build_training_set(opt)
    return default_collate([samples[SampleIndex(epoch=0, index=index)] for index in (0, 3)])


def spoken(opt: Namespace) -> TrainingStep:
    """A step in training mode whose networks, fresh as they are, disagree with themselves:
    disparities and masks of all sizes, and a motion of its own for every source."""
    torch.manual_seed(0)
    dataset = build_training_set(opt) if opt.learn_intrinsics else None
    step = build_training_step(opt, pretrained=False, dataset=dataset).train()
    with torch.no_grad():
        for decoder in filter(None, (step.depth_network.depth, step.mask_decoder)):
            for parameter in decoder.parameters():
                parameter.mul_(2.5)
    if step.camera is not None:
        step.camera.register_forward_hook(
            lambda *heard: heard[2] + 0.05 * torch.randn_like(heard[2])
        )
    if step.pose_network is not None:
        step.pose_network.register_forward_hook(_shaken)
    return step


def _shaken(_module: object, _inputs: object, pose: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    axis_angle, translation = pose
    return (
        axis_angle + 0.003 * torch.randn_like(axis_angle),
        translation + 0.03 * torch.randn_like(translation),
    )


# ---- the loss is what the reference says ---------------------------------------------------------


@pytest.mark.parametrize("name", OWN_LOSS)
def test_the_loss_and_its_gradients_are_the_references(name, root):
    """One batch: every term within 2e-5, relative (float32 against float64). Gradients by what
    the networks said within 10 %, since a pixel may sit on an edge of the minimum or between two
    pixels of a source, and fall to either side."""
    opt = options_of(name, root)
    step = spoken(opt)
    listener = Listener(step, opt)
    step(first_batch(opt))
    outputs = listener.outputs()
    plain = [each.detach().double().requires_grad_() for each in outputs]
    reference = listener.reference(plain)
    assert listener.terms.keys() == reference.keys()
    for term, value in reference.items():
        assert listener.terms[term].item() == pytest.approx(value.item(), rel=2e-5), term
    gradients = torch.autograd.grad(listener.terms["loss"], outputs, materialize_grads=True)
    expected = torch.autograd.grad(reference["loss"], plain, materialize_grads=True)
    for own, other in zip(gradients, expected, strict=True):
        assert (own - other).norm() <= 0.1 * other.norm()


def test_the_listener_does_not_change_the_noise_that_training_has(root):
    opt = options_of("mono", root)
    step = spoken(opt)
    amplitude = step.objective.tie_break
    listener, batch = Listener(step, opt), first_batch(opt)
    step(batch)
    said = len(listener.outputs())
    step(batch)
    assert step.objective.tie_break == amplitude > 0
    assert len(listener.losses) == 2
    assert len(listener.outputs()) == said  # of the first pass alone


# ---- optimisers and schedules --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mono", [10] * 5),
        ("step schedule", [10] * 5 + [5] * 5),
        ("cosine schedule", [10, 8.68198, 5.5, 2.31802, 1]),
        ("warm-up, then steps", [2.5, 5, 7.5, 10, 10]),
        ("warm-up, then cosine", [2.5, 4.30438, 3.9375, 1.89124, 0.5]),
    ],
)
def test_every_schedule_gives_the_rates_worked_out_by_hand(name, expected, root):
    """In units of 1e-5; epochs of five steps."""
    optimizer, scheduler = build_optimisation(
        options_of(name, root), [torch.nn.Parameter(torch.ones(2))], 5
    )
    rates = []
    for _ in expected:
        rates.append(1e5 * optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected, rel=1e-5)


# ---- it trains -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    render(folder)
    return folder


@pytest.fixture(scope="module")
def logs(street):
    """The folder of runs, with one that others start from."""
    logs = street / "logs"
    run_mode(street, logs, "mono")
    yield logs
    shutil.rmtree(logs)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODES if name != "mono"])
def test_every_mode_trains_on_a_street_and_leaves_a_checkpoint(name, street, logs):
    result = run_mode(street, logs, name)
    assert result.sound
    state, opt = load_checkpoint(logs / name / "ckpt.pth"), options_of(name, street)
    assert (state["epoch"], state["step_in_total"]) == (opt.num_epochs, STEPS * opt.num_epochs)
    assert ("pose" in state) == (len(opt.frame_ids) > 1)
    assert ("predictive_mask" in state) == opt.predictive_mask
    assert ("intrinsics" in state) == bool(opt.learn_intrinsics)
    shutil.rmtree(logs / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FALLING)
def test_the_loss_of_a_repeated_batch_falls(name, root):
    opt = options_of(name, root)
    opt.learning_rate = 5e-4
    torch.manual_seed(0)
    step = build_training_step(opt, pretrained=False).train()
    optimizer, _ = build_optimisation(opt, step.parameters(), 100)
    batch, losses = first_batch(opt), []
    for _ in range(8):
        loss = step(batch)[0]["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3])


def test_the_table_names_the_modes_it_has(capsys):
    assert main(["mono", "sterio"]) == 2
    assert "'sterio'; there are mono, " in capsys.readouterr().err


def test_the_table_fails_with_a_mode_that_does(monkeypatch, capsys):
    """By an exception, or by another loss than the reference's."""
    results = {"mono": Result(1, 1, 1, 1), "stereo": Result(1, 1, 1.001, 1)}
    monkeypatch.setattr(modes, "render", lambda _: None)
    monkeypatch.setattr(modes, "run_mode", lambda _street, _logs, name: results[name])
    assert main(["mono"]) == 0
    assert "1 modes, all as the reference says" in capsys.readouterr().out
    assert main(["mono", "stereo", "sgd"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED --use_stereo" in printed
    assert "failed: KeyError: 'sgd'" in printed
    assert "3 modes, 2 failed" in printed
