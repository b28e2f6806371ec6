"""Write a trained depth network as a file that runs without this code.

    python export_model.py --pretrained_path ckpt.pth --output depth.onnx depth.pt2 --dynamic_batch

`.onnx` is for ONNX runtimes, `.pt2` for torch.export.load. Input: `image`, (B, 3, height, width),
RGB in [0, 1]; the normalisation is inside. Outputs, (B, 1, height, width): `disp` in [0, 1], large
where near, and `depth` from min_depth to max_depth, up to scale; 1 / depth is linear in `disp`.
Each file is run and compared with the network before it gets its name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import export_model_options
from utils import atomic_path, check_results, run_script

if TYPE_CHECKING:
    from model_export import Exporter


def main(argv: Sequence[str] | None = None) -> None:
    """Load the checkpoint, export it, and write each file once it agrees with the network.

    Exits with 1 where one differs by more than --tolerance.
    """
    opt = export_model_options(argv)
    outputs = [Path(name) for name in opt.output]
    check_results(outputs, [opt.pretrained_path], opt.overwrite)

    from inference import DepthPredictor
    from model_export import Exporter, check_exporter

    check_exporter(outputs, opt.opset)
    predictor = DepthPredictor.from_checkpoint(
        opt.pretrained_path, opt.backbone, opt.num_layers, opt.height, opt.width,
        opt.min_depth, opt.max_depth,
    )  # fmt: skip
    exporter = Exporter(predictor, opt.dynamic_batch, opt.opset)
    for path in outputs:
        write_checked(exporter, path, opt.tolerance)


def write_checked(exporter: Exporter, path: Path, tolerance: float) -> None:
    """Write one file and print how it compares; exits with 1, without the file, if it differs."""
    from model_export import open_export

    with atomic_path(path) as partial:
        exporter.write(partial)
        run = open_export(partial)
        told = [f"{path}: {exporter.describe(path)}, {partial.stat().st_size / 1e6:.1f} MB"]
        results = exporter.compare(run)
        told += [f"  {each}" for each in results]
        worst = max(results, key=lambda each: each.worst)
        if worst.worst > tolerance:
            print("\n".join(told))
            sys.exit(
                f"error: {path} is not written: the export differs from the network by "
                f"{worst.worst:.2g} ({worst.name}), more than --tolerance {tolerance:g}"
            )
        ours, theirs = exporter.seconds(run)
    print("\n".join(told))
    print(f"  one picture on the CPU: torch {1e3 * ours:.1f} ms, export {1e3 * theirs:.1f} ms")


if __name__ == "__main__":
    run_script(main)
