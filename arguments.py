"""What command lines are made of: the parser, types of values, and groups that scripts share.

Nothing here or in the two files of options imports torch, so that `--help` and a bad value answer
at once. A bad value prints `error: <one sentence>` on stderr and exits with 2.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

# What `networks.build_depth_network` can build: depths of a ResNet, widths of an HRNet.
BACKBONES = {"resnet": (18, 34, 50, 101, 152), "hrnet": (18, 32, 48, 64), "hrnet_small": (18,)}
SIZE_STEP = 32  # the coarsest feature map is 1/32 of the input


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells a default where there is one to tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.required:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a bad value with one sentence, without the usage text."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def number_type(kind: Callable, low: float, high: float, say: str, open_low: bool = False) -> Callable:
    """An argparse type: a number of `kind` in [low, high], or (low, high] where open_low."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or (open_low and value == low):
            raise argparse.ArgumentTypeError(f"expected {say}, got {text!r}")
        return value

    return parse


INFINITY = float("inf")
COUNT = number_type(int, 1, INFINITY, "a whole number of at least 1")
INDEX = number_type(int, 0, INFINITY, "a whole number of at least 0")
POSITIVE = number_type(float, 0, 1e9, "a number above 0", open_low=True)
WEIGHT = number_type(float, 0, 1e9, "a number of at least 0")
SHARE = number_type(float, 0, 1, "a share between 0 and 1")
BETA = number_type(float, 0, math.nextafter(1, 0), "a number of at least 0 and below 1")
SEED = number_type(int, 0, 2**32 - 1, f"a whole number from 0 to {2**32 - 1}")


def size(text: str) -> int:
    """A height or width of the network input."""
    value = COUNT(text)
    if value % SIZE_STEP:
        near = max(SIZE_STEP, round(value / SIZE_STEP) * SIZE_STEP)
        raise argparse.ArgumentTypeError(
            f"expected a multiple of {SIZE_STEP}, such as {near}, got {value}"
        )
    return value


def add_no_cuda(group: argparse._ArgumentGroup) -> None:
    """--no_cuda."""
    group.add_argument("--no_cuda", action="store_true", help="compute on the CPU")


def add_backbone(group: argparse._ArgumentGroup, default: str | None) -> None:
    """--backbone and --num_layers; without a default, the checkpoint says."""
    group.add_argument(
        "--backbone",
        choices=tuple(BACKBONES),
        default=default,
        help="depth encoder" + ("" if default else " (default: as the checkpoint has it)"),
    )
    group.add_argument(
        "--num_layers",
        type=COUNT,
        default=18 if default else None,
        help="ResNet depth (18, 34, 50, 101, 152) or HRNet width (18, 32, 48, 64)",
    )


def add_model(parser: Parser, required: bool = True) -> None:
    """A checkpoint and the settings that it may record itself, for scripts that only predict."""
    group = parser.add_argument_group("model (a flag wins over what the checkpoint records)")
    group.add_argument("--pretrained_path", required=required, help="checkpoint to predict with")
    add_backbone(group, None)
    said = "(default: the checkpoint's, else {})"
    group.add_argument("--height", type=size, help=f"network input {said.format(192)}")
    group.add_argument("--width", type=size, help=f"network input {said.format(640)}")
    group.add_argument(
        "--min_depth", type=POSITIVE, help=f"depth of disparity 1 {said.format(0.1)}"
    )
    group.add_argument(
        "--max_depth", type=POSITIVE, help=f"depth of disparity 0 {said.format(100)}"
    )
    add_no_cuda(group)


def parse_model(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of a parser with `add_model`, checked as far as the model goes."""
    opt = parser.parse_args(argv)
    check_backbone(parser, opt)
    check_limits(parser, opt)
    return opt


def check_backbone(parser: Parser, opt: argparse.Namespace) -> None:
    """--num_layers must be one that --backbone comes with."""
    if opt.backbone is None or opt.num_layers is None:
        return
    if opt.num_layers not in BACKBONES[opt.backbone]:
        known = ", ".join(map(str, BACKBONES[opt.backbone]))
        parser.error(f"--num_layers {opt.num_layers}: {opt.backbone} comes with {known}")


def check_limits(parser: Parser, opt: argparse.Namespace) -> None:
    """--min_depth must be below --max_depth."""
    low, high = opt.min_depth, opt.max_depth
    if low is not None and high is not None and low >= high:
        parser.error(f"--min_depth {low:g} must be below --max_depth {high:g}")


def check_launcher(parser: Parser) -> None:
    """What a launcher says in the environment must be numbers."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        value = os.environ.get(name, "0")
        if not (value.isascii() and value.isdigit()):
            parser.error(f"{name} in the environment must be a whole number, got {value!r}")
