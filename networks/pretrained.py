"""ImageNet weights: a file put beside the code, or timm's and torchvision's own downloads."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from utils import UserError, reason

HRNET_FILE = (
    Path(__file__).parents[1]
    / "hrnet_IN_pretrained"
    / "HRNet_W18_C_cosinelr_cutmix_300epoch.pth.tar"
)
# What stands behind HRNet's four branches when it classifies; depth reads the branches themselves.
HRNET_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


def load_hrnet_imagenet(network: nn.Module, name: str) -> None:
    """Fill timm's HRNet `name` (built without a head) with ImageNet weights, strictly.

    `hrnet_w18` prefers `HRNET_FILE` if it is there; timm's download, which is cached, comes second.
    Raises UserError if neither can be had or the file does not hold an HRNet-W18.
    """
    import timm

    if name == "hrnet_w18" and HRNET_FILE.exists():
        try:
            network.load_state_dict(_without_classifier(_read_state_dict(HRNET_FILE)))
        except RuntimeError as error:
            raise UserError(
                f"{HRNET_FILE} does not hold the weights of an HRNet-W18; take the file named in "
                f"{HRNET_FILE.parent / 'README.md'}"
            ) from error
        return
    try:
        state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # each download library raises its own kinds, and changes them
        by_hand = (
            f"put {HRNET_FILE.name} into {HRNET_FILE.parent}"
            if name == "hrnet_w18"
            else f"copy a Hugging Face cache (HF_HOME) that holds timm's {name} to this machine"
        )
        raise _no_weights(name, error, by_hand) from error
    network.load_state_dict(_without_classifier(state))


def resnet_imagenet(num_layers: int) -> Mapping[str, Tensor]:
    """torchvision's first ImageNet weights of a ResNet, from its cache or downloaded into it.

    Raises UserError if they are not there and cannot be downloaded.
    """
    name = f"resnet{num_layers}"
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:  # network, disk and hash errors have no common kind
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        by_hand = f"put {Path(weights.url).name} into {cache}"
        raise _no_weights(name, error, by_hand) from error


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """A plain state dict, or one under `state_dict`, perhaps with DDP's `module.` prefixes."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise UserError(
            f"cannot read the ImageNet weights {path}: it is damaged, truncated or not a file of "
            "tensors written by torch.save"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} is not a state dict of tensors, nor one under `state_dict`")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(HRNET_CLASSIFIER)}


def _no_weights(name: str, error: Exception, by_hand: str) -> UserError:
    return UserError(
        f"no ImageNet weights for {name} here, and downloading them failed "
        f"({textwrap.shorten(reason(error), 120)}): {by_hand}, or give network access "
        "once (the download is cached), or use --weights_init scratch"
    )
