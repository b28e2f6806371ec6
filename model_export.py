"""A depth network as a torch.export program and as an ONNX file; both compared with the network."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from checkpoint import describe_backbone
from inference import DepthPredictor
from layers import disp_to_depth
from onnx_network import PROJECT, OnnxNetwork, check_packages, is_onnx
from rendering import Street, drive_poses, nominal_intrinsics, render
from utils import UserError

OLDEST_TORCH = (2, 7)  # the first whose exporter knows what these networks are made of
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCH = 3  # pictures at once, where any number is possible, to compare on
REPEATS = 5  # timed runs, of which the median counts
Outputs = tuple[Tensor, Tensor]


def check_exporter(outputs: Sequence[Path], opset: int) -> None:
    """Raises UserError if what these files need is not installed, or is too old."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise UserError(f"exporting needs torch {oldest} or newer, this is {torch.__version__}")
    if any(map(is_onnx, outputs)):
        check_packages(PACKAGES)
        from onnx.defs import onnx_opset_version

        if opset > onnx_opset_version():
            raise UserError(
                f"--opset {opset}: the installed onnx knows those up to {onnx_opset_version()}"
            )


def code_version() -> str:
    """The commit of this code, with `-dirty` where files differ from it; `unknown` outside git."""
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    command = ["git", "-C", str(Path(__file__).resolve().parent), *describe]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class DepthModel(nn.Module):
    """Picture to disparity and depth: what the files hold."""

    def __init__(self, predictor: DepthPredictor) -> None:
        super().__init__()
        self.network = predictor.network
        self.limits = predictor.min_depth, predictor.max_depth

    def forward(self, image: Tensor) -> Outputs:
        """Image (B, 3, H, W) in [0, 1] to disp, in [0, 1], and depth, both (B, 1, H, W)."""
        disp = self.network(image)[0]
        return disp, disp_to_depth(disp, *self.limits)[1]


@dataclass(frozen=True)
class Comparison:
    """Largest differences from the network: of disp, and of depth as a share of its value."""

    name: str
    disp: float
    depth: float

    @property
    def worst(self) -> float:
        """The larger of the two; infinity where a value is no number."""
        larger = max(self.disp, self.depth)
        return math.inf if math.isnan(self.disp + self.depth) else larger

    def __str__(self) -> str:
        return f"{self.name}: disp differs by {self.disp:.1e}, depth by {self.depth:.1e} of itself"


class Exporter:
    """A predictor's network, traced for one picture or, if `dynamic`, for any number at once."""

    def __init__(self, predictor: DepthPredictor, dynamic: bool, opset: int) -> None:
        """predictor: on the CPU. opset: of ONNX files, from 18."""
        self.predictor, self.dynamic, self.opset = predictor, dynamic, opset
        self.model = DepthModel(predictor).eval().requires_grad_(False)
        self.pictures = sample_pictures(predictor.height, predictor.width)
        # A batch of one would be taken for a constant.
        example = self.pictures["street"][: 2 if dynamic else 1]
        shapes = {"image": {0: torch.export.Dim("batch")}} if dynamic else None
        self.program = torch.export.export(self.model, (example,), dynamic_shapes=shapes)

    def metadata(self) -> dict[str, str]:
        """What the files record about themselves; `opset` in ONNX files alone."""
        predictor = self.predictor
        encoder = predictor.network.encoder.state_dict()
        backbone, num_layers = describe_backbone({"encoder": encoder})
        values = {
            "project": PROJECT, "backbone": backbone, "num_layers": num_layers,
            "height": predictor.height, "width": predictor.width,
            "min_depth": predictor.min_depth, "max_depth": predictor.max_depth,
            "commit": code_version(), "torch": torch.__version__,
        }  # fmt: skip
        return {name: str(value) for name, value in values.items()}

    def describe(self, path: Path) -> str:
        """In words: what a file of this name takes."""
        kind = f"ONNX opset {self.opset}" if is_onnx(path) else "torch.export program"
        batch = "B" if self.dynamic else "1"
        return f"{kind}, image ({batch}, 3, {self.predictor.height}, {self.predictor.width})"

    def write(self, path: Path) -> None:
        """Write the file that the suffix of `path` asks for, .onnx or .pt2.

        Raises UserError if the exporter cannot write this opset.
        """
        if is_onnx(path):
            self._write_onnx(path)
        else:
            extra = {"metadata.json": json.dumps(self.metadata())}
            torch.export.save(self.program, path, extra_files=extra)

    def _write_onnx(self, path: Path) -> None:
        # The program has a name of its own, like s40, for the batch: this is for the reader.
        names = {"image": {0: "batch"}} if self.dynamic else None
        exported = torch.onnx.export(
            self.program, (), dynamo=True, verbose=False, opset_version=self.opset,
            input_names=["image"], output_names=["disp", "depth"], dynamic_shapes=names,
        )  # fmt: skip
        written = exported.model.opset_imports[""]
        if written != self.opset:  # it falls back with a warning alone
            raise UserError(f"--opset {self.opset}: torch {torch.__version__} wrote {written}")
        exported.model.metadata_props.update(self.metadata() | {"opset": str(self.opset)})
        exported.save(path, external_data=False)

    def compare(self, run: Callable[[Tensor], Outputs]) -> list[Comparison]:
        """`run`, images to disp and depth, beside the network: each kind of picture and batch."""
        results = []
        for kind, pictures in self.pictures.items():
            for batch in (1, BATCH) if self.dynamic else (1,):
                disp, depth = self.model(pictures[:batch])
                found_disp, found_depth = run(pictures[:batch])
                results.append(
                    Comparison(
                        f"{kind}, batch {batch}",
                        (found_disp - disp).abs().max().item(),
                        (found_depth / depth - 1).abs().max().item(),
                    )
                )
        return results

    def seconds(self, run: Callable[[Tensor], Outputs]) -> tuple[float, float]:
        """What one picture takes on this CPU: by the network, and by `run`."""
        picture = self.pictures["street"][:1]
        return _median_seconds(self.model, picture), _median_seconds(run, picture)


def open_export(path: Path) -> Callable[[Tensor], Outputs]:
    """A written file, .onnx or .pt2, as a function: images (B, 3, H, W) to disp and depth.

    A .pt2 file may run code while it is loaded: only for one that was written here.
    """
    if is_onnx(path):
        network = OnnxNetwork(path)
        return lambda images: tuple(network.run(images, ["disp", "depth"]))
    return torch.export.load(path).module()


def sample_pictures(height: int, width: int) -> dict[str, Tensor]:
    """What exports are compared on: (BATCH, 3, height, width) in [0, 1] of each kind."""
    street, K = Street(0, length=60.0), nominal_intrinsics(height, width)
    frames = [render(street, pose, K, height, width).image for pose in drive_poses(0, BATCH)]
    images = torch.stack([torch.from_numpy(frame) for frame in frames])
    noise = torch.rand(BATCH, 3, height, width, generator=torch.Generator().manual_seed(0))
    return {"noise": noise, "street": images.permute(0, 3, 1, 2).contiguous() / 255}


def _median_seconds(run: Callable[[Tensor], Outputs], images: Tensor) -> float:
    run(images)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
