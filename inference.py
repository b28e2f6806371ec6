"""From images to disparity with a trained depth network: loading, sizes, mirroring, colours."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from checkpoint import describe_backbone, load_checkpoint, load_parts
from datasets.resizing import resize, to_tensor
from distributed import pick_device
from freed_memory import keep_freed_memory
from layers import disp_to_depth
from networks import BACKBONES, build_depth_network
from onnx_network import OnnxNetwork, is_onnx
from utils import UserError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# What holds where neither a flag nor the checkpoint says otherwise (the published defaults).
DEFAULTS = {"height": 192, "width": 640, "min_depth": 0.1, "max_depth": 100.0}
SIZE_STEP = 32  # the networks halve their input five times


class DepthPredictor:
    """A depth network with the input size and the depth limits it was trained for.

    The network may be one in training: each prediction puts it in evaluation mode and back.
    """

    def __init__(
        self,
        network: nn.Module,
        height: int = DEFAULTS["height"],
        width: int = DEFAULTS["width"],
        min_depth: float = DEFAULTS["min_depth"],
        max_depth: float = DEFAULTS["max_depth"],
        device: torch.device | str = "cpu",
    ) -> None:
        """network: images (B, 3, H, W) in [0, 1] to {0: disp (B, 1, H, W)}; moved to device."""
        self.network = network.to(device)
        self.height, self.width = height, width
        self.min_depth, self.max_depth = min_depth, max_depth
        self.device = torch.device(device)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        backbone: str | None = None,
        num_layers: int | None = None,
        height: int | None = None,
        width: int | None = None,
        min_depth: float | None = None,
        max_depth: float | None = None,
        device: torch.device | str = "cpu",
    ) -> DepthPredictor:
        """The depth network of a checkpoint, published or ours.

        A value that is not None wins, else what the checkpoint records, else the default; the
        backbone of a file that records none is told from its tensors. Raises UserError if the
        file is unreadable, holds another network or records what cannot be.
        """
        path = Path(path)
        state = load_checkpoint(path)
        network = build_depth_network(*_choose_backbone(backbone, num_layers, state, path))
        load_parts(network.parts(), state, path)
        given = {"height": height, "width": width, "min_depth": min_depth, "max_depth": max_depth}
        settings = choose_settings(given, state, path)
        if settings["min_depth"] >= settings["max_depth"]:
            raise UserError(
                f"min_depth {settings['min_depth']:g} must be below max_depth "
                f"{settings['max_depth']:g} (--min_depth and --max_depth, else those of {path})"
            )
        return cls(network, device=device, **settings)

    @classmethod
    def from_onnx(
        cls, path: str | Path, device: torch.device | str = "cpu", **given: object
    ) -> DepthPredictor:
        """The network of an ONNX file that export_model.py wrote, with the settings it records.

        given: those that must be so, named as for `from_checkpoint`; None agrees with any. Raises
        UserError if they are not, the file is another one, or onnxruntime is not installed.
        """
        network = OnnxNetwork(path, device)
        network.check_flags(given, path)
        return cls(network, device=device, **{name: network.settings[name] for name in DEFAULTS})

    @torch.no_grad()
    def predict(self, images: Tensor, post_process: bool = False) -> Tensor:
        """Disparity in [0, 1], (B, 1, H, W), on the predictor's device.

        images: (B, 3, H, W), uint8 or float in [0, 1], at network size. post_process: blended
        with the prediction for the mirrored images, in float64.
        """
        images = images.to(self.device, non_blocking=True)
        if images.dtype == torch.uint8:
            images = images.float() / 255
        was_training = self.network.training
        self.network.eval()
        try:
            disp = self.network(images)[0]
            if post_process:
                disp = blend_mirrored(disp, self.network(images.flip(-1))[0].flip(-1))
        finally:
            self.network.train(was_training)
        return disp

    def scaled_disp(self, images: Tensor, post_process: bool = False) -> Tensor:
        """1 / depth, (B, 1, H, W), within the model's depth limits; arguments as for `predict`."""
        disp = self.predict(images, post_process)
        return disp_to_depth(disp, self.min_depth, self.max_depth)[0]

    def prepare(self, image: Image.Image) -> Tensor:
        """An RGB picture of any size as network input: uint8 (1, 3, H, W), Lanczos-resized."""
        return to_tensor(resize(image, self.height, self.width))[None]


def open_predictor(opt: Namespace) -> DepthPredictor:
    """The predictor that a script's flags ask for (`arguments.add_model`), on its device.

    Memory that is freed stays with the process from now on: it then predicts in less time. A file
    named .onnx is one of export_model.py's. Raises UserError as `DepthPredictor.from_onnx` and
    `from_checkpoint` do.
    """
    keep_freed_memory()
    exported = is_onnx(opt.pretrained_path)
    load = DepthPredictor.from_onnx if exported else DepthPredictor.from_checkpoint
    return load(
        opt.pretrained_path, backbone=opt.backbone, num_layers=opt.num_layers, height=opt.height,
        width=opt.width, min_depth=opt.min_depth, max_depth=opt.max_depth,
        device=pick_device(opt.no_cuda),
    )  # fmt: skip


def _choose_backbone(
    backbone: str | None, num_layers: int | None, state: Mapping[str, object], path: Path
) -> tuple[str, int]:
    """What is given, else what the checkpoint records, else what its tensors look like."""
    looks = describe_backbone(state)
    if looks is None:
        raise UserError(
            f"{path} holds no depth network of this project: its `encoder` is neither a ResNet nor "
            "an HRNet that could be loaded"
        )
    recorded = state.get("backbone"), state.get("num_layers")
    recorded = looks if None in recorded else recorded
    chosen = backbone or recorded[0], num_layers or recorded[1]
    known = [(name, number) for name, numbers in BACKBONES.items() for number in numbers]
    if type(chosen[1]) is not int or chosen not in known:
        raise UserError(
            f"there is no backbone {_shown(chosen[0])} {_shown(chosen[1])}, which {path} is to be "
            "loaded as: --backbone and --num_layers choose another"
        )
    return chosen


def choose_settings(
    given: Mapping[str, float | None], state: Mapping[str, object], path: Path
) -> dict[str, float]:
    """Each of `given`, named as in DEFAULTS; one that is None is what the checkpoint records,
    else the default. Raises UserError naming the file if it records what cannot be."""
    settings = {}
    for name, value in given.items():
        if value is None:
            value = state.get(name, DEFAULTS[name])
            if name in ("height", "width"):
                fits = type(value) is int and value > 0 and value % SIZE_STEP == 0
                wanted = f"a multiple of {SIZE_STEP}"
            else:
                fits = type(value) in (int, float) and 0 < value < float("inf")
                wanted = "a number above 0"
            if not fits:
                raise UserError(
                    f"{path} records the {name} {_shown(value)}, where {wanted} is expected: "
                    f"--{name} says what holds"
                )
        settings[name] = value
    return settings


def _shown(value: object) -> str:
    """A value of a checkpoint in a message, on one line."""
    plain = isinstance(value, (str, int, float)) and "\n" not in str(value)
    return str(value) if plain else f"of type {type(value).__name__}"


def blend_mirrored(disp: Tensor, mirrored_back: Tensor) -> Tensor:
    """Monodepth's post-processing (Godard et al. 2017, section 3.4), in float64.

    disp: (..., W) of the image; mirrored_back: of the mirrored image, mirrored back. Each loses
    its left-hand border, where it sees past the other view: within a tenth of the width the
    result turns to the mirrored one at the left and to the plain one at the right; their mean
    elsewhere.
    """
    disp, mirrored_back = disp.double(), mirrored_back.double()
    x = torch.linspace(0, 1, disp.shape[-1], dtype=torch.float64, device=disp.device)
    left = 1 - (20 * (x - 0.05)).clamp(0, 1)
    right = left.flip(0)
    mean = 0.5 * (disp + mirrored_back)
    return left * mirrored_back + right * disp + (1 - left - right) * mean


def resize_disp(disp: Tensor, size: tuple[int, int]) -> Tensor:
    """Disparity (B, 1, h, w) bilinearly at a picture's size (height, width), half-pixel grid."""
    return F.interpolate(disp, size, mode="bilinear", align_corners=False)


def colourise(
    disp: np.ndarray, colormap: str = "magma", limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Disparity (H, W), any unit, as an RGB picture, uint8 (H, W, 3): near is bright.

    colormap: a name of matplotlib's, UserError if it is none. limits: the values that get its first
    and its last colour (default: `colour_limits` of this disparity).
    """
    from matplotlib.colors import Normalize

    colours = Normalize(*(limits or colour_limits(disp)))(disp)
    return find_colormap(colormap)(colours, bytes=True)[..., :3]


def colour_limits(disp: np.ndarray) -> tuple[float, float]:
    """The smallest value and the 95th percentile: between them the field shows disparity."""
    return float(disp.min()), float(np.percentile(disp, 95))


def check_finite(disp: np.ndarray, picture: str | Path, network: str | Path) -> None:
    """Raise UserError, naming both, if a network's prediction for a picture is no numbers."""
    if not np.isfinite(disp).all():
        raise UserError(
            f"the network {network} predicts numbers for {picture} that are not finite: was its "
            "training still sound?"
        )


def find_colormap(name: str) -> Colormap:
    """A colour map of matplotlib by its name. Raises UserError if there is none."""
    from matplotlib import colormaps

    if name not in colormaps:
        raise UserError(
            f"--cmap {name} is no colour map: a name of matplotlib's is expected, such as magma, "
            "viridis, turbo or gray"
        )
    return colormaps[name]
