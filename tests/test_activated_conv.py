"""Convolutions of activations against torch's own modules, one after the other."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from networks import activated_conv
from networks.activated_conv import conv_of_prelu, prelu_backward
from networks.depth_decoder import Lateral, UpConv


def blocks(slope: float) -> tuple[nn.PReLU, nn.Conv2d]:
    torch.manual_seed(0)
    prelu = nn.PReLU(init=slope).double()
    return prelu, nn.Conv2d(3, 2, 3, padding=1).double()


@pytest.mark.parametrize("enlarge", [False, True])
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5, 1.0, 1.5])
def test_value_and_gradients_are_those_of_the_modules(slope, enlarge):
    prelu, conv = blocks(slope)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    inputs = (x, prelu.weight, conv.weight, conv.bias)
    plain = nn.Upsample(scale_factor=2, mode="bilinear")(x) if enlarge else x
    expected = conv(prelu(plain))
    weights = torch.randn_like(expected)
    ours = conv_of_prelu(x, prelu, conv, enlarge)
    assert_close(ours, expected)
    for found, wanted in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        assert_close(found, wanted)


@pytest.mark.parametrize("frozen", ["x", "prelu", "conv"])
def test_what_needs_no_gradient_gets_none(frozen):
    prelu, conv = blocks(0.25)
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64, requires_grad=frozen != "x")
    for name, module in (("prelu", prelu), ("conv", conv)):
        module.requires_grad_(frozen != name)
    conv_of_prelu(x, prelu, conv, enlarge=True).sum().backward()
    given = {"x": x.grad, "prelu": prelu.weight.grad, "conv": conv.weight.grad}
    assert {name for name, grad in given.items() if grad is None} == {frozen}


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_cpu_s_way_back_through_prelu_is_torch_s(memory):
    x = torch.randn(2, 4, 6, 5).contiguous(memory_format=memory)
    x[0, 0, 0] = 0.0  # where the slope counts
    x.requires_grad_()
    slope = torch.tensor([0.3], requires_grad=True)
    grad = torch.randn(2, 4, 6, 5)
    expected = torch.autograd.grad(torch.prelu(x, slope), (x, slope), grad)
    found = prelu_backward(grad, x.detach(), slope.detach())
    assert_close(found, expected)


def test_other_devices_way_back_through_prelu_is_the_cpu_s():
    x, grad, slope = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4), torch.tensor([0.3])
    assert_close(activated_conv._prelu_backward_by_kernel(grad, x, slope),
                 prelu_backward(grad, x, slope))  # fmt: skip


def test_bfloat16_is_kept_where_autocast_computes_in_it():
    prelu, conv = (module.float() for module in blocks(0.25))
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours, expected = conv_of_prelu(x, prelu, conv), conv(prelu(x))
    assert ours.dtype == expected.dtype == torch.bfloat16
    found = torch.autograd.grad(ours.float().sum(), (x, prelu.weight, conv.weight))
    wanted = torch.autograd.grad(expected.float().sum(), (x, prelu.weight, conv.weight))
    for each, other in zip(found, wanted, strict=True):
        assert each.dtype == other.dtype
        assert_close(each, other, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(("block", "kept"), [(Lateral(4, 4), 2), (UpConv(4, 4), 1)])
def test_a_block_keeps_its_inputs_of_convolutions_alone(block, kept):
    """In maps of the input's size: the small input alone where a map is enlarged."""
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = block(x)
    weights = {each.untyped_storage().data_ptr() for each in block.parameters()}
    maps = sum(size for place, size in sizes.items() if place not in weights)
    assert maps == kept * x.nbytes
    y.sum().backward()
