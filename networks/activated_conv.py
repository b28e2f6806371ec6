"""A convolution of an activation that training does not keep.

Backward needs the activated map (for the weights) and the map before it (for the activation): two
maps a convolution. The first follows from the second at next to no cost, so only that is kept; and
where the map was enlarged before, only the small one, a quarter of its size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_of_prelu(x: Tensor, prelu: nn.PReLU, conv: nn.Conv2d, enlarge: bool = False) -> Tensor:
    """conv(prelu(x)), x first enlarged to twice its size (bilinear, half-pixel centres) if asked.

    x: (B, C, H, W); prelu has one slope; conv is 3x3 with zero padding of 1 and a bias.
    """
    # Compilers and exporters decide themselves what to keep, and see no further than modules.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _ConvOfPrelu.apply(x, prelu.weight, conv.weight, conv.bias, enlarge)
    return conv(prelu(_enlarged(x) if enlarge else x))


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class _ConvOfPrelu(torch.autograd.Function):
    """`conv_of_prelu`, with the tensors that it takes from the modules."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, slope: Tensor, weight: Tensor, bias: Tensor, enlarge: bool
    ) -> Tensor:
        ctx.save_for_backward(x, slope, weight)
        ctx.enlarge = enlarge
        activated = F.prelu(_enlarged(x) if enlarge else x, slope)
        return F.conv2d(activated, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        small, slope, weight = ctx.saved_tensors
        x = _enlarged(small) if ctx.enlarge else small
        slope = slope.to(x.dtype)
        wanted = ctx.needs_input_grad
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad, F.prelu(x, slope).to(grad.dtype), weight.to(grad.dtype), [len(weight)],
            [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
            [wanted[0] or wanted[1], wanted[2], wanted[3]],
        )  # fmt: skip
        grad_slope = None
        if grad_x is not None:
            grad_x, grad_slope = prelu_backward(grad_x.to(x.dtype), x, slope)
        if ctx.enlarge and wanted[0]:
            grad_x = torch.ops.aten.upsample_bilinear2d_backward(
                grad_x, x.shape[-2:], small.shape, False, 2.0, 2.0
            )
        return grad_x, grad_slope, grad_weight, grad_bias, None


def prelu_backward(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of prelu(x) (grad, of x's shape) to those of x and of its one slope."""
    if x.device.type != "cpu":
        return _prelu_backward_by_kernel(grad, x, slope)
    # The CPU's kernel is not vectorised: six times as slow as these passes.
    grad_slope = x.clamp(max=0).mul_(grad).sum().view(1)
    positive = torch.ops.aten.threshold_backward(grad, x, 0)
    return positive.lerp_(grad, slope), grad_slope


def _prelu_backward_by_kernel(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    kernel = torch.ops.aten._prelu_kernel_backward
    grad_x, grad_slope = kernel(grad, x, slope.view(1, 1, 1, 1))
    return grad_x, grad_slope.sum().view(1)
