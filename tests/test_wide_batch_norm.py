"""Batch norm that takes several pixels for one, against float64's, and where it leaves it alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from assembly import build_training_step, place
from distributed import World
from networks.wide_batch_norm import SMALLEST, WideBatchNorm2d, _WideBatchNorm, widen_batch_norms
from options import train_options

# Channels, height, width of two pictures: 16, 8, 2 and 1 pixels for one.
SHAPES = [(18, 64, 80), (36, 48, 48), (20, 79, 83), (300, 20, 20)]


def pair(channels: int) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    """torch's in float64, and ours with the same tensors."""
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    for each in (norm.weight, norm.bias):
        nn.init.normal_(each, 1, 0.5)
    ours = copy.deepcopy(norm)
    widen_batch_norms(ours)
    return norm.double(), ours


def maps(channels: int, height: int, width: int, mean: float = 3.0) -> Tensor:
    """Two pictures' maps of unlike channels, channels innermost."""
    torch.manual_seed(height)
    x = torch.randn(2, channels, height, width) * (0.5 + torch.rand(channels, 1, 1)) + mean
    return x.contiguous(memory_format=torch.channels_last)


def follow(norm: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """What a batch norm gives in the second of two training steps, and what both leave."""
    for _ in range(2):
        norm.zero_grad()
        x = x.detach().requires_grad_()
        y = norm(x)
        y.backward(grad)
    kept = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, *kept]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_it_is_as_exact_as_torchs(shape: tuple[int, int, int], mean: float) -> None:
    exact, ours = pair(shape[0])
    plain = copy.deepcopy(ours)
    plain.__class__ = nn.BatchNorm2d
    x = maps(*shape, mean)
    assert ours._is_quicker(x)
    grad = torch.randn(x.shape)  # channels outermost, as some operators have it
    wanted = follow(exact, x.double(), grad.double())
    for true, mine, torchs in zip(wanted, follow(ours, x, grad), follow(plain, x, grad),
                                  strict=True):  # fmt: skip
        scale = true.abs().max().double()
        off, allowed = ((each.double() - true).abs().max() / scale for each in (mine, torchs))
        assert off <= max(2 * allowed, 2e-6)


def test_what_comes_out_may_be_changed_in_place() -> None:
    _, ours = pair(18)
    x = maps(18, 64, 80).requires_grad_()
    grad = torch.randn(x.shape)
    apart, in_place = (
        torch.autograd.grad(relu(ours(x)), (x, ours.weight), grad)
        for relu in (torch.relu, torch.relu_)
    )
    torch.testing.assert_close(in_place, apart, atol=0, rtol=0)


def test_it_takes_wide_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    statistics = torch.batch_norm_update_stats

    def spied(wide: Tensor, *others: object) -> tuple[Tensor, Tensor]:
        widths.append(wide.shape[1])
        return statistics(wide, *others)

    monkeypatch.setattr(torch, "batch_norm_update_stats", spied)
    for shape in SHAPES:
        pair(shape[0])[1](maps(*shape))
    assert widths == [16 * 18, 8 * 36, 2 * 20, 300]


@pytest.mark.parametrize("case", ["evaluation", "small", "rows", "bfloat16", "no momentum"])
def test_elsewhere_it_is_torchs(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_WideBatchNorm, "apply", None)  # a call would fail
    _, ours = pair(18)
    x = maps(18, 64, 80)
    if case == "evaluation":
        ours.eval()
    elif case == "small":
        x = maps(18, 8, 8)
        assert x.numel() < SMALLEST
    elif case == "rows":
        x = x.contiguous()
    elif case == "bfloat16":
        x = x.bfloat16()
    else:
        ours.momentum = None
    plain = copy.deepcopy(ours)
    plain.__class__ = nn.BatchNorm2d
    torch.testing.assert_close(ours(x), plain(x), atol=0, rtol=0)
    torch.testing.assert_close(ours.state_dict(), plain.state_dict(), atol=0, rtol=0)


def test_frozen_weights_get_no_gradient() -> None:
    _, ours = pair(18)
    ours.requires_grad_(False)
    x = maps(18, 64, 80).requires_grad_()
    ours(x).square().sum().backward()
    assert ours.weight.grad is ours.bias.grad is None
    assert x.grad is not None


def test_only_what_gains_by_it_is_widened_and_names_stay() -> None:
    networks = nn.Sequential(nn.BatchNorm2d(64), nn.BatchNorm2d(18), nn.BatchNorm1d(18))
    names = list(networks.state_dict())
    widen_batch_norms(networks)
    assert [type(each) for each in networks] == [nn.BatchNorm2d, WideBatchNorm2d, nn.BatchNorm1d]
    assert list(networks.state_dict()) == names


@pytest.mark.parametrize(("backbone", "widened"), [("hrnet", 256), ("resnet", 0)])
def test_networks_on_the_cpu_are_widened_where_channels_are_innermost(
    backbone: str, widened: int
) -> None:
    opt = train_options(["--data_path", "", "--backbone", backbone, "--no_cuda"])
    for channels_last in (True, False):
        step = place(build_training_step(opt, pretrained=False), World(), channels_last)
        found = sum(isinstance(each, WideBatchNorm2d) for each in step.modules())
        assert found == (widened if channels_last else 0)
