"""Score depth on every benchmark whose root is given, one table each.

    python evaluate_depth.py --pretrained_path ckpt.pth --kitti_path KITTI --nyuv2_path NYU
    torchrun --nproc_per_node 2 evaluate_depth.py ...
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from options import evaluate_options
from utils import UserError, atomic_path, check_writable, run_script

if TYPE_CHECKING:
    from torch import Tensor

    from distributed import World
    from evaluation import EvaluationResult, Protocol
    from evaluation_sets import Benchmark
    from inference import DepthPredictor
    from saved_disps import SavedDisps


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, join the other processes if there are any, and evaluate."""
    opt = evaluate_options(argv)
    from distributed import init_world, leave_world

    world = init_world(opt.no_cuda)
    try:
        run(opt, world)
    finally:
        leave_world(world)


def run(opt: Namespace, world: World) -> None:
    """Look for everything that is needed, then predict and score benchmark by benchmark."""
    from evaluation_sets import SERVER, cautions, find_benchmarks, fixed_scale
    from freed_memory import keep_freed_memory
    from inference import DEFAULTS, DepthPredictor
    from published_results import comparison, read_rows

    keep_freed_memory()
    if opt.save_pred_disps and world.size > 1:
        raise UserError("--save_pred_disps writes from one process: run without a launcher")
    if opt.eval_out_dir is not None:
        check_writable(opt.eval_out_dir)
    predictor = None
    size = opt.height or DEFAULTS["height"], opt.width or DEFAULTS["width"]
    if opt.pretrained_path is not None:
        predictor = DepthPredictor.from_checkpoint(
            opt.pretrained_path, opt.backbone, opt.num_layers, opt.height, opt.width,
            opt.min_depth, opt.max_depth, world.device,
        )  # fmt: skip
        size = predictor.height, predictor.width
    benchmarks = find_benchmarks(opt, *size, truth=not opt.no_eval)
    saved = find_saved(opt, benchmarks) if predictor is None else {}
    names = [each.protocol.name for each in benchmarks if each.protocol.name != SERVER.name]
    rows = read_rows(opt.expect, names) if opt.expect is not None else []
    scale, results = fixed_scale(opt), []
    say(world, describe_cost(predictor) if predictor else f"disparities: {opt.ext_disp_to_eval}")
    for benchmark in benchmarks:
        result = evaluate_one(opt, world, benchmark, predictor, saved, scale)
        if result is None:
            continue
        results.append(result)
        say(world, f"\n{result.table()}\n{comparison(result, rows)}".rstrip())
        limit = predictor and predictor.max_depth
        for sentence in cautions(benchmark.protocol, limit, scale) if world.is_main else ():
            print(f"warning: {sentence}", file=sys.stderr)
    if len(results) > 1:
        say(world, f"\n{summary(results)}")
    if opt.save_json is not None and world.is_main:
        save_json(Path(opt.save_json), opt, predictor, results)
    for each in benchmarks:
        if each.protocol.name == SERVER.name:
            say(world, f"for {SERVER.title}: {len(each.names)} depth maps in {opt.eval_out_dir}")


def say(world: World, text: str) -> None:
    """Print, from one process."""
    if world.is_main:
        print(text, flush=True)


def find_saved(opt: Namespace, benchmarks: Sequence[Benchmark]) -> dict[str, SavedDisps]:
    """The disparities of --ext_disp_to_eval for each benchmark's protocol, by its name.

    A file serves one benchmark, and with --eval_eigen_to_benchmark both of KITTI; a folder holds a
    file of each. Raises UserError for files that are missing or do not fit.
    """
    from datasets.splits import split_lines
    from evaluation_sets import places_in_eigen
    from saved_disps import disps_file, read_saved

    path, found = Path(opt.ext_disp_to_eval), {}
    is_folder = os.path.isdir(path)
    made_for = {"kitti_eigen_benchmark": "kitti_eigen"} if opt.eval_eigen_to_benchmark else {}
    names = [benchmark.protocol.name for benchmark in benchmarks]
    files = {name: disps_file(made_for.get(name, name)) for name in names}
    if os.path.isfile(path) and len(set(files.values())) > 1:
        raise UserError(
            f"{path} is one file, for one benchmark: for these, --ext_disp_to_eval takes a folder "
            f"with {', '.join(files.values())}"
        )
    for (protocol, _, lines, _), file in zip(benchmarks, files.values(), strict=True):
        chosen, count = None, len(lines)
        if protocol.name in made_for:
            chosen = places_in_eigen(lines)
            count = len(split_lines("kitti", "eigen", "test"))
        found[protocol.name] = read_saved(path / file if is_folder else path, count, chosen)
    return found


def evaluate_one(
    opt: Namespace,
    world: World,
    benchmark: Benchmark,
    predictor: DepthPredictor | None,
    saved: Mapping[str, SavedDisps],
    scale: float | None,
) -> EvaluationResult | None:
    """Predict a benchmark's images, or read predictions; keep them on request; score them unless
    --no_eval says otherwise (None), or write them for the server that does (None)."""
    import torch
    from tqdm import tqdm

    from evaluation import predictions, score, share
    from evaluation_sets import SERVER
    from saved_disps import disps_file, write_while_reading

    protocol, data, names, truth = benchmark
    indices = share(len(names), world)
    if predictor is None:
        disps = (torch.from_numpy(saved[protocol.name][index]) for index in indices)
    else:
        disps = predictions(
            predictor, data, indices, opt.post_process, opt.batch_size, opt.num_workers
        )
    if opt.save_pred_disps:
        folder = Path(opt.eval_out_dir or Path(opt.pretrained_path).parent)
        disps = write_while_reading(disps, folder / disps_file(protocol.name), len(names))
    with closing(disps):  # a run that fails takes its half-written file along
        if protocol.name == SERVER.name:
            scale = scale or opt.pred_depth_scale_factor
            write_for_server(disps, indices, protocol, scale, Path(opt.eval_out_dir), world)
            return None
        if opt.no_eval:
            deque(tqdm(disps, f"predict {protocol.name}", len(names), unit="image"), maxlen=0)
            return None
        return score(
            disps, truth, protocol,
            names=names, world=world, post_process=opt.post_process, scale=scale,
        )  # fmt: skip


def write_for_server(
    disps: Iterable[Tensor],
    indices: Sequence[int],
    protocol: Protocol,
    scale: float,
    folder: Path,
    world: World,
) -> None:
    """Write depth as KITTI's server takes it: `0000000007.png` of image 7, 16 bits, metres * 256.

    disps: scaled disparity (H, W) of the images `indices`; scale: what depths are multiplied by.
    Returns on every rank once all of them have written. Raises UserError if a file cannot be.
    """
    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from distributed import gather_objects
    from evaluation_sets import SERVER_SIZE

    progress = tqdm(
        zip(indices, disps, strict=True), f"write {protocol.name}", len(indices), unit="image",
        disable=not world.is_main,
    )  # fmt: skip
    for index, disp in progress:
        depth = (protocol.resized_depth(disp, SERVER_SIZE) * scale).clamp(*protocol.cap)
        values = np.rint(depth.cpu().numpy() * 256).astype(np.uint16)
        with atomic_path(folder / f"{index:010d}.png") as partial:
            Image.fromarray(values).save(partial)
    gather_objects(world, None)  # a barrier


def summary(results: Sequence[EvaluationResult]) -> str:
    """One line a benchmark; a metric that it does not have is left out."""
    names = list(dict.fromkeys(name for result in results for name in result.protocol.metrics))
    width = max(len(result.protocol.name) for result in results)
    lines = [f"{'summary':<{width}}{'images':>8}" + "".join(f"{name:>12}" for name in names)]
    for result in results:
        means = result.mean()
        cells = [f"{means[name]:>12.3f}" if name in means else " " * 12 for name in names]
        line = f"{result.protocol.name:<{width}}{len(result.per_image):>8}{''.join(cells)}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def save_json(
    path: Path,
    opt: Namespace,
    predictor: DepthPredictor | None,
    results: Sequence[EvaluationResult],
) -> None:
    """Write what predicted, and each benchmark's report under its protocol's name."""
    found = {"disparities": opt.ext_disp_to_eval, "checkpoint": opt.pretrained_path}
    if predictor is not None:
        for name in ("height", "width", "min_depth", "max_depth"):
            found[name] = getattr(predictor, name)
    content = {
        "model": {name: value for name, value in found.items() if value is not None},
        "benchmarks": {result.protocol.name: result.report() for result in results},
    }
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"numbers: {path}")


def describe_cost(predictor: DepthPredictor) -> str:
    """Multiply-adds of one image and parameters of the depth network, as thop counts them."""
    import copy
    import warnings

    import thop
    import torch

    # On a copy: thop leaves its counters behind as buffers, which would end up in checkpoints.
    network = copy.deepcopy(predictor.network).eval()
    image = torch.zeros(1, 3, predictor.height, predictor.width, device=predictor.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thop announces deprecations of its own functions
        flops, parameters = thop.profile(network, inputs=(image,), verbose=False)
    return (
        f"depth network, input {predictor.height}x{predictor.width} (height x width): "
        f"{flops / 1e9:.3f} G multiply-adds (thop's FLOPs), {parameters / 1e6:.3f} M parameters"
    )


if __name__ == "__main__":
    run_script(main)
