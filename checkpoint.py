"""Checkpoint files: written whole or not at all, read safely, loaded strictly.

A file holds a state dict for each network (`encoder`, `depth`, `pose_encoder`, `pose`,
`predictive_mask`, `intrinsics`) beside plain values such as `height` and `width`; names as in the
published code, so that it and ours can read each other's files.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from utils import UserError, atomic_path, reason

NETWORKS = ("encoder", "depth", "pose_encoder", "pose", "predictive_mask", "intrinsics")
PROFILER_COUNTERS = ("total_ops", "total_params")  # thop leaves them in a model that it counted
MONODEPTH2_FILES = ("encoder.pth", "depth.pth")

# (blocks in layer3, is bottleneck) -> depth of a ResNet
RESNET_DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}


class UnusableCheckpoint(UserError):
    """A file that is missing or damaged, and will be: not one that cannot be read just now."""


def snapshot(state: object) -> object:
    """A copy on the CPU of nested dicts and lists of tensors and plain values."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {name: snapshot(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(snapshot(value) for value in state)
    return state


def save_checkpoint(
    path: str | Path, state: Mapping[str, object], keep_previous: bool = False
) -> None:
    """Write tensors and plain values to `path` in one move: a crash leaves the previous file.

    keep_previous: the file that was there stays as NAME_previous.pth. Raises UserError if it cannot
    be written (full disk included).
    """
    path = Path(path)
    with atomic_path(path) as partial:
        try:
            torch.save(dict(state), partial)
        except RuntimeError as error:
            if "inline_container" not in str(error):
                raise
            # torch's zip writer: it hides the OSError behind positions in its file.
            raise UserError(f"cannot write {path}: the disk is full, or takes no file of that size "
                            "from this user") from error
        with partial.open("rb") as file:
            os.fsync(file)  # a power cut must not leave the name without the content
        if keep_previous:
            _keep(path)


def previous_path(path: Path) -> Path:
    """Where the file that `path` replaced is kept."""
    return path.with_name(f"{path.stem}_previous{path.suffix}")


def _keep(path: Path) -> None:
    """Give the file at `path`, if there is one, its second name; at no time is there no file."""
    if not path.exists():
        return
    spare = path.with_name(f".{path.stem}.previous.partial{path.suffix}")
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:  # a file system without hard links: for a moment there is the old name alone
        os.replace(path, previous_path(path))
        return
    os.replace(spare, previous_path(path))
    spare.unlink(missing_ok=True)  # still there if both names were the same file's already


def load_newest(path: str | Path) -> tuple[dict, str | None]:
    """The checkpoint at `path`, or the one before it if that is damaged or missing; and then a
    sentence that says so. Raises UserError if neither can be read."""
    path = Path(path)
    try:
        return load_checkpoint(path), None
    except UnusableCheckpoint as error:
        previous = previous_path(path)
        if not os.path.isfile(previous):
            raise
        return load_checkpoint(previous), f"{error}; going on from {previous}"


def remove_partial_files(folder: Path) -> None:
    """Delete what killed processes left of files that `atomic_path` was writing in `folder`."""
    for path in folder.glob(".*.partial.*"):
        path.unlink(missing_ok=True)


def delete_models(folder: Path, epochs: Iterable[int]) -> None:
    """Delete the networks of these epochs from a run's `models/`, where they are there."""
    for epoch in epochs:
        (folder / f"model{epoch}.pth").unlink(missing_ok=True)


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict:
    """Read a file of `save_checkpoint` or of the published code, running none of its contents.

    Raises UserError if it is missing, damaged or something else.
    """
    path = Path(path)
    _check_readable(path)
    damaged = UnusableCheckpoint(
        f"the checkpoint {path} is damaged or truncated, or no file of torch.save: copy or "
        "download it again"
    )
    if not _is_whole(path):
        raise damaged
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, OSError) as error:  # OSError: a seek to before the start
        raise damaged from error
    except Exception as error:  # a foreign file can make the unpickler raise anything
        raise UserError(
            f"{path} is not a checkpoint: a file written by torch.save that holds tensors and "
            "plain values alone is expected"
        ) from error
    if not _has_networks(state):
        raise UserError(
            f"{path} is not a checkpoint of this project: it should hold the networks' state dicts "
            "under `encoder`, `depth` and so on"
        )
    return state


def load_parts(
    modules: Mapping[str, nn.Module], state: Mapping[str, object], path: str | Path
) -> None:
    """Fill each network with the state dict of its name in `state`, strictly.

    Counters that a profiler left there are ignored. `path` is for the messages: raises UserError if
    a network is not in the file or is another one.
    """
    for name, module in modules.items():
        stored = state.get(name)
        if not isinstance(stored, Mapping):
            held = ", ".join(key for key in NETWORKS if key in state)
            raise UserError(f"{path} holds no network `{name}`, only {held or 'other things'}")
        stored = {k: v for k, v in stored.items() if k.split(".")[-1] not in PROFILER_COUNTERS}
        try:
            module.load_state_dict(stored)
        except RuntimeError as error:
            raise _misfit(path, name, module.state_dict(), stored) from error


def describe_backbone(state: Mapping[str, object]) -> tuple[str, int] | None:
    """The (backbone, num_layers) that a checkpoint's depth encoder looks like, None if unknown."""
    encoder = state.get("encoder")
    return _describe_encoder(encoder) if isinstance(encoder, Mapping) else None


def _describe_encoder(encoder: Mapping[str, Tensor]) -> tuple[str, int] | None:
    branch = encoder.get("encoder.stage4.0.branches.0.0.conv1.weight")
    if branch is not None and branch.ndim:
        width = len(branch)
        return ("hrnet_small", 18) if width == 16 else ("hrnet", width)
    blocks = {name.split(".")[2] for name in encoder if name.startswith("encoder.layer3.")}
    depth = RESNET_DEPTHS.get((len(blocks), "encoder.layer3.0.conv3.weight" in encoder))
    return None if depth is None else ("resnet", depth)


def _check_readable(path: Path) -> None:
    is_folder = os.path.isdir(path)  # False too for a name that is too long: Path.is_dir raises
    if is_folder and all((path / name).is_file() for name in MONODEPTH2_FILES):
        raise UserError(
            f"{path} is a Monodepth2 model folder: its decoder is another network, which cannot be "
            "loaded here; a checkpoint file of this project or of BDEdepth is expected"
        )
    if is_folder:
        raise UserError(f"{path} is a folder: give the checkpoint file itself, such as ckpt.pth")
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise UnusableCheckpoint(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {reason(error)}") from error


def _is_whole(path: Path) -> bool:
    """Whether every byte of a zip file, which torch.save writes, is as it was written: torch.load
    does not look at the checksums. Other files are left to it."""
    if not zipfile.is_zipfile(path):
        return True
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError,
            NotImplementedError):  # all that a damaged directory makes zipfile raise
        return False


def _has_networks(state: object) -> bool:
    if not isinstance(state, dict):
        return False
    networks = [state[name] for name in NETWORKS if name in state]
    return bool(networks) and all(
        isinstance(network, Mapping)
        and network
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in network.items())
        for network in networks
    )


def _misfit(
    path: str | Path, name: str, expected: Mapping[str, Tensor], stored: Mapping[str, Tensor]
) -> UserError:
    """The error that names the backbone in the file, if that is it, and the first odd tensor."""
    difference = _first_difference(expected, stored)
    found, wanted = _describe_encoder(stored), _describe_encoder(expected)
    if found is None or found == wanted:
        return UserError(f"{path} does not fit: its network `{name}` {difference}")
    found_text, wanted_text = (
        f"{pair[0]} {pair[1]}" if pair else "another network" for pair in (found, wanted)
    )
    return UserError(
        f"{path} holds another backbone: its `{name}` looks like {found_text}, not {wanted_text} "
        f"(it {difference}); --backbone and --num_layers must be those it was trained with"
    )


def _first_difference(expected: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> str:
    for name, tensor in expected.items():
        if name not in stored:
            return f"has no tensor {name}"
        if stored[name].shape != tensor.shape:
            return f"has {name} of shape {tuple(stored[name].shape)}, not {tuple(tensor.shape)}"
    return f"has the unknown tensor {next((k for k in stored if k not in expected), '?')}"
