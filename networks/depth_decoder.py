"""The grid decoder: six rows (one for each feature map) by three columns."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence

from torch import Tensor, nn

from layers import in_float32
from networks.activated_conv import conv_of_prelu
from utils import LOGGER_NAME

ROWS, COLUMNS = 6, 3
Block = tuple[str, int, int]  # ("lateral" | "upconv" | "dispconv", row, column)


def block_order(scales: Collection[int]) -> list[Block]:
    """The blocks in their published order: the n-th one's tensors are named `decoder.{n}.*`.

    A disparity head exists for each of `scales` only, so the numbering depends on them.
    """
    order: list[Block] = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            order.append(("lateral", row, column))
            if row < ROWS - 1:
                order.append(("upconv", row, column))
        if row in scales:
            order.append(("dispconv", row, COLUMNS))
    return order


def stored_scales(names: Collection[str], prefix: str = "") -> list[int]:
    """The scales that have a head in a state dict with these tensor names, ascending."""
    scales: list[int] = []
    for row in range(ROWS):
        number = block_order([*scales, row]).index(("dispconv", row, COLUMNS))
        if f"{prefix}decoder.{number}.conv.weight" in names:
            scales.append(row)
    return scales


class DepthDecoder(nn.Module):
    """Feature maps to disparities, or to the masks of the predictive-mask ablation.

    channels: of the six feature maps, finest first. scales: those to predict, 0 the full size.
    State dicts carry the published numbering of `scales`; those written with other scales load too:
    heads not wanted are dropped, heads not stored keep their values and are named in a warning.
    """

    def __init__(
        self, channels: Sequence[int], scales: Sequence[int] = (0,), num_output_channels: int = 1
    ) -> None:
        super().__init__()
        self.scales = sorted(scales)
        rows = (16, *(channel // 2 for channel in channels[1:]))  # channels within each row
        self.number = {block: n for n, block in enumerate(block_order(self.scales))}
        self.decoder = nn.ModuleList()
        for kind, row, column in self.number:
            if kind == "lateral":
                block = Lateral(rows[row] if column else channels[row], rows[row])
            elif kind == "upconv":
                block = UpConv(rows[row + 1], rows[row])
            else:
                block = _dispconv(rows[row], num_output_channels)
            self.decoder.append(block)
        for module in self.decoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Features (B, C_i, H/2^i, W/2^i), i = 0..5, to {scale: (B, N, H/2^scale, W/2^scale)}.

        Values are in (0, 1); N is the number of output channels.
        """
        outputs: dict[int, Tensor] = {}
        below: list[Tensor] = []
        for row in reversed(range(ROWS)):
            x, columns = features[row], []
            for column in range(COLUMNS):
                x = self._block("lateral", row, column)(x)
                if below:
                    x += self._block("upconv", row, column)(below[column])
                columns.append(x)
            if row in self.scales:
                # Eight bits of mantissa would be too few steps of depth.
                outputs[row] = in_float32(self._block("dispconv", row, COLUMNS), x).sigmoid()
            below = columns
        return outputs

    def _block(self, *block: str | int) -> nn.Module:
        return self.decoder[self.number[block]]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        """Called by load_state_dict with a copy of the file's dict: give it our numbering."""
        stored = stored_scales(state_dict, prefix)
        if stored and stored != self.scales:
            self._renumber(state_dict, prefix + "decoder.", block_order(stored))
            self._keep_heads(state_dict, prefix, sorted(set(self.scales) - set(stored)))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _renumber(self, state_dict: dict, prefix: str, order: list[Block]) -> None:
        """From the numbering of `order` to ours, without the heads that we do not have."""
        names = [name for name in state_dict if name.startswith(prefix)]
        for name, tensor in [(name, state_dict.pop(name)) for name in names]:
            number, _, rest = name.removeprefix(prefix).partition(".")
            if not number.isdecimal() or int(number) >= len(order):
                state_dict[name] = tensor  # no name of the grid's: the strict load reports it
            elif order[int(number)] in self.number:
                state_dict[f"{prefix}{self.number[order[int(number)]]}.{rest}"] = tensor

    def _keep_heads(self, state_dict: dict, prefix: str, scales: list[int]) -> None:
        """Let the heads of `scales` load as they are, and say so."""
        heads = [f"decoder.{self.number['dispconv', scale, COLUMNS]}.conv" for scale in scales]
        for name, tensor in self.state_dict().items():
            if name.rpartition(".")[0] in heads:
                state_dict[prefix + name] = tensor
        if heads:
            logging.getLogger(LOGGER_NAME).warning(
                "the checkpoint was trained without the scales %s: their disparity heads (%s) keep "
                "their initial values",
                ", ".join(map(str, scales)),
                ", ".join(heads),
            )


class Lateral(nn.Sequential):
    """PReLU, 3x3 convolution, twice."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.PReLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels_out, H, W)."""
        prelu, conv, second_prelu, second_conv = self
        return conv_of_prelu(conv_of_prelu(x, prelu, conv), second_prelu, second_conv)


class UpConv(nn.Sequential):
    """Twice the size, PReLU, 3x3 convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.PReLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels_out, 2 H, 2 W)."""
        _, prelu, conv = self
        return conv_of_prelu(x, prelu, conv, enlarge=True)


def _dispconv(channels_in: int, channels_out: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(OrderedDict(conv=conv))
