"""Batch norm of maps whose channels do not fill the processor's vectors, such as HRNet's 18.

With channels innermost the CPU's kernels take one pixel after the other, its channels in vectors of
16: what is left over, 2 of 18, costs more than the rest. Here several pixels count as one with as
many times the channels, which the same kernels take in a quarter of the time; what they find of
these wide channels is put together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

VECTOR = 16  # float32 values that the widest processors take at once
WIDE = 512  # channels at most, once they are widened
SMALLEST = 100_000  # values of a map: of fewer, putting together costs what is gained


def widen_batch_norms(networks: nn.Module) -> None:
    """Let every batch norm that gains by it take several pixels for one, in place: its tensors,
    their names and what it computes stay."""
    for module in networks.modules():
        if type(module) is nn.BatchNorm2d and module.num_features % VECTOR:
            module.__class__ = WideBatchNorm2d


class WideBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` in less time on the CPU, in training, of large maps with channels innermost;
    elsewhere it is `BatchNorm2d`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if not self._is_quicker(x):
            return super().forward(x)
        y, mean, var = _WideBatchNorm.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            count = x.numel() // x.shape[1]
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        return y

    def _is_quicker(self, x: Tensor) -> bool:
        """Whether this module, of whatever settings, is in the case that is taken care of here."""
        return (
            self.training
            and not torch.compiler.is_compiling()
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and x.numel() >= SMALLEST
            and x.is_contiguous(memory_format=torch.channels_last)
            and self.affine
            and self.track_running_stats
            and self.momentum is not None
        )


class _WideBatchNorm(torch.autograd.Function):
    """x (B, C, H, W) normalised, and its channels' mean and (biased) variance, (C,)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        pixels = _pixels_for_one(x)
        wide = _widened(x, pixels)
        # Of each wide channel; all have as many values.
        means, variances = torch.batch_norm_update_stats(wide, None, None, 0.0)
        means, variances = means.view(pixels, -1), variances.view(pixels, -1)
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        y = torch.empty_like(x)  # not a view of what is computed: ReLU changes it in place
        repeated = (each.repeat(pixels) for each in (weight, bias, mean, var))
        out = _widened(y, pixels), x.new_empty(0), x.new_empty(0)
        torch.native_batch_norm(wide, *repeated, False, 0.0, eps, out=out)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        pixels = _pixels_for_one(x)
        wide = _widened(x, pixels)
        grad = _widened(grad.contiguous(memory_format=torch.channels_last), pixels)
        repeated = (each.repeat(pixels) for each in (weight, mean, var))
        # As of an affine map of constants; then what x does to its own mean and variance.
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, wide, *repeated, None, None, False, ctx.eps, [True, True, True]
        )
        grad_weight = grad_weight.view(pixels, -1).sum(0)
        grad_bias = grad_bias.view(pixels, -1).sum(0)
        scale = (var + ctx.eps).rsqrt()
        share = weight * scale / (x.numel() // x.shape[1])
        slope = -share * scale * grad_weight
        offset = -share * grad_bias - slope * mean
        grad_x.addcmul_(wide, slope.repeat(pixels)).add_(offset.repeat(pixels))
        return _narrowed(grad_x, x), grad_weight, grad_bias, None


def _pixels_for_one(x: Tensor) -> int:
    """A power of two that divides the pixels of x, with no more than WIDE channels then."""
    channels, pixels, many = x.shape[1], x.numel() // x.shape[1], 1
    while pixels % (2 * many) == 0 and 2 * many * channels <= WIDE:
        many *= 2
    return many


def _widened(x: Tensor, pixels: int) -> Tensor:
    """x, channels innermost, as (rows, wide channels), sharing its memory."""
    return x.permute(0, 2, 3, 1).view(-1, pixels * x.shape[1])


def _narrowed(wide: Tensor, like: Tensor) -> Tensor:
    """The way back from `_widened`, to the shape of `like`."""
    batch, channels, height, width = like.shape
    return wide.view(batch, height, width, channels).permute(0, 3, 1, 2)
