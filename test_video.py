"""Turn frames or a video into an animation: each frame above its predicted disparity.

    python test_video.py --image_path FRAMES --pretrained_path ckpt.pth --ext jpg
    python test_video.py --image_path drive.mp4 --pretrained_path ckpt.pth --output depth.mp4
    python test_video.py --image_path drive.mp4 --pretrained_path ckpt.pth \
        --intrinsics 700,700,640,360 --save_ply drive.ply --show3d drive.png
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import predict_video_options
from utils import UserError, check_results, run_script

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    import numpy as np
    from PIL import Image

    from inference import DepthPredictor

FRAME_SECONDS = Fraction(15, 100)  # as published


def main(argv: Sequence[str] | None = None) -> None:
    """Find the frames, load the network, write the animation, and a cloud of all frames."""
    opt = predict_video_options(argv)

    import numpy as np
    from tqdm import tqdm

    from fused_cloud import FusedCloud
    from inference import colour_limits, colourise, find_colormap, open_predictor
    from pictures import Skips
    from video import ColourRange, animation, open_frames

    output = output_path(opt)
    find_colormap(opt.cmap)
    skips = Skips(opt.strict)
    frames = open_frames(opt.image_path, opt.ext, skips, opt.every, opt.max_frames)
    results = map(Path, filter(None, (output, opt.save_ply, opt.show3d)))
    check_results(results, [*frames.files, opt.intrinsics, opt.pretrained_path], opt.overwrite)
    predictor = open_predictor(opt)
    fused = FusedCloud(opt, predictor) if opt.intrinsics else None
    colour_range, written = ColourRange(opt.range), 0
    with animation(output, shown_rate(opt, output, frames.rate)) as append:
        progress = tqdm(frames.pictures, "predict", frames.count, unit="frame")
        for frame, disp in disparities(predictor, progress, opt.pretrained_path):
            limits = colour_range.update(colour_limits(disp))
            coloured = colourise(disp, opt.cmap, limits)
            append(np.concatenate([np.asarray(frame), coloured], 1 if opt.side_by_side else 0))
            written += 1
            if fused:
                fused.add(frame, disp)
        if not written:
            raise UserError(f"no frame of {opt.image_path} could be read")
        if fused:
            fused.check()
    print(f"{written} frames{f' ({skips.count} could not be read)' * bool(skips.count)}: {output}")
    if fused:
        fused.write()


def output_path(opt: Namespace) -> Path:
    """Where the animation goes. Raises UserError if none of its kind can be written."""
    from video import check_format

    source = Path(os.path.abspath(opt.image_path))
    if not os.path.exists(source):  # a pattern: named after the folder that it starts in
        source = next(folder for folder in source.parents if not set(str(folder)) & set("*?["))
    name = f"{source.stem if os.path.isfile(source) else source.name}.gif"
    output = Path(opt.output) if opt.output else source.parent / name
    check_format(output, opt.fps)
    return output


def shown_rate(opt: Namespace, output: Path, recorded: Fraction | None) -> Fraction:
    """Frames a second of the animation: what the flag says, else what is published for a GIF and
    for loose frames, else what the video had."""
    if opt.fps is not None:
        return Fraction(opt.fps).limit_denominator(1001)
    if recorded is None or output.suffix.lower() == ".gif":
        return 1 / FRAME_SECONDS
    return recorded


def disparities(
    predictor: DepthPredictor, frames: Iterable[tuple[str, Image.Image]], network: str
) -> Iterator[tuple[Image.Image, np.ndarray]]:
    """Each frame with its 1 / depth, unscaled, float32 (H, W) at the frame's size.

    frames: with their names; network: what to call it. Raises UserError at a frame that is not of
    the first one's size, or for which no numbers are predicted.
    """
    from inference import check_finite, resize_disp

    size = None
    for name, frame in frames:
        size = size or frame.size
        if frame.size != size:
            found, first = (f"{width}x{height}" for width, height in (frame.size, size))
            raise UserError(f"{name} is {found} (width x height), the first frame is {first}")
        disp = predictor.scaled_disp(predictor.prepare(frame))
        disp = resize_disp(disp, (frame.height, frame.width))[0, 0].cpu().numpy()
        check_finite(disp, name, network)
        yield frame, disp


if __name__ == "__main__":
    run_script(main)
