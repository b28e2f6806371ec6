"""Turn a folder of video frames into a GIF: each frame above its predicted disparity.

    python test_video.py --image_path FRAMES --pretrained_path ckpt.pth --ext jpg
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import predict_video_options
from utils import UserError, atomic_path, run_script

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL import Image

    from inference import DepthPredictor

FRAME_MILLISECONDS = 150


def main(argv: Sequence[str] | None = None) -> None:
    """Find the frames, load the network, write the GIF."""
    opt = predict_video_options(argv)
    folder = Path(opt.image_path)
    if not os.path.isdir(folder):  # nor is a name that is too long, for which Path.is_dir raises
        raise UserError(f"--image_path {folder} is not a folder of frames")
    beside = folder.resolve().with_name(f"{folder.resolve().name}.gif")
    output = Path(opt.output) if opt.output else beside
    if output.suffix.lower() != ".gif":
        raise UserError(f"--output {output} does not end in .gif, the one format written")

    from tqdm import tqdm

    from distributed import pick_device
    from inference import DepthPredictor, find_images

    frames, others = find_images(folder, opt.ext)
    if others:
        print(f"{len(others)} files in {folder} are not .{opt.ext.lstrip('.')} frames: passed over")
    predictor = DepthPredictor.from_checkpoint(
        opt.pretrained_path, opt.backbone, opt.num_layers, opt.height, opt.width,
        opt.min_depth, opt.max_depth, pick_device(opt.no_cuda),
    )  # fmt: skip
    write_gif(stacked_frames(predictor, tqdm(frames, desc="predict", unit="frame")), output)
    print(f"{len(frames)} frames: {output}")


def stacked_frames(predictor: DepthPredictor, frames: Iterable[Path]) -> Iterator[Image.Image]:
    """Each frame above its coloured disparity, RGB (2 h, w), one at a time.

    Raises UserError at a frame that cannot be read or is not of the first one's size.
    """
    import numpy as np
    from PIL import Image

    from datasets.mono_dataset import load_rgb
    from inference import colourise, resize_disp

    size = None
    for path in frames:
        frame = load_rgb(path)
        size = size or frame.size
        if frame.size != size:
            found, first = (f"{width}x{height}" for width, height in (frame.size, size))
            raise UserError(f"{path} is {found} (width x height), the first frame is {first}")
        disp = predictor.scaled_disp(predictor.prepare(frame))
        disp = resize_disp(disp, (frame.height, frame.width))[0, 0].cpu().numpy()
        yield Image.fromarray(np.concatenate([np.array(frame), colourise(disp)]))


def write_gif(frames: Iterator[Image.Image], path: Path) -> None:
    """Write a looping GIF; Pillow takes the frames one by one and keeps them as palette images."""
    first = next(frames)
    with atomic_path(path) as partial:
        first.save(
            partial, save_all=True, append_images=frames, duration=FRAME_MILLISECONDS, loop=0
        )


if __name__ == "__main__":
    run_script(main)
