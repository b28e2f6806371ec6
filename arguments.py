"""What command lines are made of: the parser, types of values, and groups that scripts share.

Nothing here or in the two files of options imports torch, so that `--help` and a bad value answer
at once. A bad value prints `error: <one sentence>` on stderr and exits with 2.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

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
    """An ArgumentParser that answers a bad value with one sentence, without the usage text.

    With `config` it takes `--config FILE` too: a file's values lie between the defaults and the
    command line, and are checked by the types and choices of their options.
    """

    def __init__(self, description: str, config: bool = False) -> None:
        super().__init__(
            description=description,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        self._takes_files = config
        if config:
            group = self.add_argument_group("options from files")
            group.add_argument(
                "--config",
                nargs="+",
                action="extend",
                default=argparse.SUPPRESS,
                metavar="FILE",
                help="YAML files of options by their names, `height: 192`; a later file wins over "
                "an earlier one, the command line over all: --no-NAME switches off what a file "
                "switches on",
            )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {' '.join(message.splitlines())}\n")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse has it. Of --config only what the files say is in the result."""
        args = sys.argv[1:] if args is None else args
        for word in args:
            name, _, value = word.partition("=")
            if value == "--":  # argparse before Python 3.13 would leave an empty list
                self.error(f"argument {name}: expected a value, got '--'")
        if self._takes_files:
            namespace = argparse.Namespace(**self._from_files(args))
            for action in list(self._actions):
                if action.dest in namespace:
                    action.required = False
                if isinstance(action, argparse._StoreTrueAction):
                    self.add_argument(
                        *(f"--no-{name[2:]}" for name in action.option_strings),
                        dest=action.dest,
                        action="store_false",
                        default=argparse.SUPPRESS,
                        help=argparse.SUPPRESS,
                    )
        opt = super().parse_args(args, namespace)
        vars(opt).pop("config", None)
        return opt

    def _from_files(self, args: Sequence[str]) -> dict[str, object]:
        """What the files of --config say, by the options' names in the result."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.error = self.error  # type: ignore[method-assign]
        first.add_argument("--config", nargs="+", action="extend", default=[])
        found: dict[str, object] = {}
        for path in first.parse_known_args(args)[0].config:
            try:
                found |= self._from_file(path)
            except argparse.ArgumentTypeError as error:
                self.error(f"{path}: {error}")
        return found

    def _from_file(self, path: str) -> dict[str, object]:
        """Raises ArgumentTypeError, a sentence without the path."""
        options = {
            name.removeprefix("--"): action
            for action in self._actions
            for name in action.option_strings
            if action.default != argparse.SUPPRESS  # --help and --config
        }
        found: dict[str, object] = {}
        for name, value in read_yaml(path).items():
            if name == "config":
                raise argparse.ArgumentTypeError("config: a file of options names no other")
            if name not in options:
                near = difflib.get_close_matches(name, options, 1)
                hint = f"did you mean {near[0]}?" if near else "--help lists the options"
                raise argparse.ArgumentTypeError(f"{name} is no option of a file: {hint}")
            action = options[name]
            if action.dest in found:
                raise argparse.ArgumentTypeError(f"{name} is there under another spelling too")
            try:
                found[action.dest] = value_of(action, value)
            except (argparse.ArgumentTypeError, ValueError) as error:
                raise argparse.ArgumentTypeError(f"{name}: {error}") from error
        return found


def read_yaml(path: str) -> dict[str, Any]:
    """The values of a YAML file by name: texts, numbers, true, false, and lists of these.

    Raises ArgumentTypeError, a sentence without the path, for a file of anything else.
    """
    import yaml  # what yacs reads with; here, as few command lines name a file
    from yacs.config import CfgNode

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        names = list(_checked_names(yaml.compose(text, yaml.SafeLoader)))
        return dict(zip(names, CfgNode.load_cfg(text).values(), strict=True))
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        message = "cannot be read: it is no text in UTF-8"
    except yaml.MarkedYAMLError as error:
        message = f"is no YAML file: {error.problem} in line {error.problem_mark.line + 1}"
    except (yaml.YAMLError, ValueError, KeyError, OverflowError, RecursionError) as error:
        message = f"is no YAML file of options: {error}"
    raise argparse.ArgumentTypeError(message)


def _checked_names(root: Any) -> Iterator[str]:
    """The names in a file's syntax tree; None: of an empty file. Raises ArgumentTypeError for what
    a dict would hide, names that are there twice, and for values that no option takes."""
    if root is not None and root.id != "mapping":
        raise argparse.ArgumentTypeError("expected lines such as `height: 192`")
    seen: dict[str, int] = {}
    for key, value in [] if root is None else root.value:
        line = key.start_mark.line + 1
        if key.id != "scalar" or not key.tag.endswith(":str"):
            raise argparse.ArgumentTypeError(f"line {line} does not begin with an option's name")
        if key.value in seen:
            raise argparse.ArgumentTypeError(f"{key.value} is there twice, in lines "
                                             f"{seen[key.value]} and {line}")  # fmt: skip
        seen[key.value] = line
        for each in value.value if value.id == "sequence" else [value]:
            kind = each.tag.rpartition(":")[2]
            if each.id != "scalar" or kind not in ("str", "int", "float", "bool"):
                raise argparse.ArgumentTypeError(
                    f"{key.value}: expected a text, a number, true, false or a list of them, got "
                    f"what YAML takes for a {kind}: put texts in quotes"
                )
    yield from seen


def value_of(action: argparse.Action, value: Any) -> Any:
    """A file's value as the command line would leave it in the options.

    Raises ArgumentTypeError or ValueError, a sentence, if the option does not take it.
    """
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"expected true or false, got {value!r}")
        return value
    if action.nargs in (None, "?"):
        if isinstance(value, list):
            raise argparse.ArgumentTypeError(f"expected one value, got the list {value}")
        return _parsed(action, value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise argparse.ArgumentTypeError("expected at least one value, got none")
    return [_parsed(action, each) for each in values]


def _parsed(action: argparse.Action, value: Any) -> Any:
    """One value by the type and the choices of its option."""
    if action.type is None and not isinstance(value, str):
        raise argparse.ArgumentTypeError(f"expected a text, got {value!r}: put it in quotes")
    text = str(value)
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a text without zero bytes, got {text!r}")
    os.fsencode(text)  # a ValueError, if no command line could hold it
    if action.type is not None:
        try:
            value = action.type(text)
        except ValueError as error:
            kind = getattr(action.type, "__name__", "")
            raise argparse.ArgumentTypeError(f"invalid {kind} value: {text!r}") from error
    if action.choices is not None and value not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise argparse.ArgumentTypeError(f"expected one of {choices}, got {value!r}")
    return value


def number_type(
    kind: Callable, low: float, high: float, say: str, open_low: bool = False
) -> Callable:
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


def add_model(parser: Parser, required: bool = True, no_cuda: bool = True) -> None:
    """A checkpoint and the settings that it may record itself, for scripts that only predict.

    no_cuda: whether the script computes on CUDA unless --no_cuda is given.
    """
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
    if no_cuda:
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
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            parser.error(f"{name} in the environment must be a whole number, got {value!r}")
