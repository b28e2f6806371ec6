"""Depth networks in ONNX files: those that export_model.py wrote, run by onnxruntime."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from utils import UserError, reason

PROJECT = "BDEdepth"  # `project` in the metadata of our files
# What our files record beside what is for the reader alone (commit, opset, torch).
SETTINGS = {
    "backbone": str, "num_layers": int, "height": int, "width": int,
    "min_depth": float, "max_depth": float,
}  # fmt: skip


def is_onnx(path: str | Path) -> bool:
    """Whether a file is an ONNX file by its name."""
    return Path(path).suffix.lower() == ".onnx"


def check_packages(names: Sequence[str]) -> None:
    """Raises UserError, with the command that helps, if a package is not installed."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"ONNX files need the package {name} ({reason(error)}): "
                "pip install -r requirements-export.txt"
            ) from error


class OnnxNetwork(nn.Module):
    """The network of an ONNX file, in the place of a `DepthNetwork`; it cannot be trained.

    settings: what the file records, by the names in SETTINGS.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu") -> None:
        """device: CUDA is used if onnxruntime was built for it, else the CPU.

        Raises UserError if the file cannot be read, is not one of export_model.py's, or if
        onnxruntime is not installed.
        """
        super().__init__()
        path = Path(path)
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(f"cannot read the model {path}: {reason(error)}") from error
        check_packages(["onnxruntime"])
        import onnxruntime

        wanted = ["CPUExecutionProvider"]
        if torch.device(device).type == "cuda":
            wanted.insert(0, "CUDAExecutionProvider")
        available = onnxruntime.get_available_providers()
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), providers=[name for name in wanted if name in available]
            )
        except Exception as error:  # onnxruntime's kinds share no base class
            raise UserError(f"{path} is no ONNX file that onnxruntime can run") from error
        self.settings = self._read_settings(path)

    def _read_settings(self, path: Path) -> dict[str, str | int | float]:
        recorded = self._session.get_modelmeta().custom_metadata_map
        try:
            settings = {name: kind(recorded[name]) for name, kind in SETTINGS.items()}
        except (KeyError, ValueError):
            settings = {}
        if recorded.get("project") != PROJECT or not settings or not self._fits(settings):
            raise UserError(
                f"{path} is not an ONNX file of this project: export_model.py makes one from a "
                "checkpoint"
            )
        return settings

    def _fits(self, settings: Mapping[str, str | int | float]) -> bool:
        """Whether the graph is what the settings say: one picture in, disparity and depth out."""
        inputs = [(each.name, each.shape[1:]) for each in self._session.get_inputs()]
        outputs = {each.name for each in self._session.get_outputs()}
        return (
            inputs == [("image", [3, settings["height"], settings["width"]])]
            and outputs == {"disp", "depth"}
            and 0 < settings["min_depth"] < settings["max_depth"] < math.inf
        )

    def check_flags(self, given: Mapping[str, object], path: str | Path) -> None:
        """Raises UserError if a value in `given`, by the names in SETTINGS, is not the file's;
        None agrees with any."""
        for name, value in given.items():
            if value is not None and value != self.settings[name]:
                raise UserError(
                    f"--{name} {value} does not fit {path}, which was exported with "
                    f"{self.settings[name]}: leave the flag out, or export the checkpoint again"
                )

    def run(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """The outputs of these names, `disp` and `depth`, each (B, 1, H, W), on the images' device.

        images: (B, 3, H, W), float in [0, 1]; a file of a fixed batch takes them one at a time.
        """
        fixed = self._session.get_inputs()[0].shape[0] == 1
        parts = [
            self._session.run(list(names), {"image": part.cpu().numpy()})
            for part in (images.split(1) if fixed else [images])
        ]
        return [
            torch.cat([torch.from_numpy(part) for part in output]).to(images.device)
            for output in zip(*parts, strict=True)
        ]

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Images (B, 3, H, W), float in [0, 1], to {0: disp (B, 1, H, W) in [0, 1]}."""
        return {0: self.run(images, ["disp"])[0]}
