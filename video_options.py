"""The command line of prepare_video.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from arguments import COUNT, SHARE, WEIGHT, Parser, number_type

HFOV = number_type(float, 10, 140, "degrees from 10 to 140")
QUALITY = number_type(int, 50, 100, "a quality of JPEG from 50 to 100")
CROP = number_type(float, 0, 100_000, "a share of the height below 1, or pixels from 1 on")


def distortion(text: str) -> tuple[float, ...]:
    """OpenCV's five numbers; of four, k3 is 0."""
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (4, 5) or not all(abs(value) < 100 for value in values):
        raise argparse.ArgumentTypeError(f"expected numbers k1,k2,p1,p2,k3, got {text!r}")
    return (*values, 0.0)[:5]


def prepare_video_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of prepare_video.py."""
    parser = Parser("Turn videos, or folders of frames, into what --dataset folder trains on.")
    parser.add_argument(
        "clips", nargs="+", metavar="CLIP", help="a video file, or a folder of pictures"
    )
    parser.add_argument("--out", required=True, help="folder to write; later runs add clips to it")
    parser.add_argument("--ext", help="ending of a folder's pictures (default: the only one there)")
    parser.add_argument(
        "--overwrite", action="store_true", help="make clips anew that are there already"
    )
    parser.add_argument("--num_workers", type=COUNT, default=2, help="clips made at once")
    _add_camera(parser)
    _add_pictures(parser)
    group = parser.add_argument_group("which frames")
    group.add_argument(
        "--min_motion",
        type=WEIGHT,
        default=2.0,
        help="leave out frames that have moved by less since the last one kept: median over "
        "corners, in pixels of a picture 640 wide; 0 keeps all",
    )
    group.add_argument(
        "--val_share", type=SHARE, default=0.1, help="of each clip, its end, for val_files.txt"
    )
    opt = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if opt.val_share > 0.5:
        parser.error(f"--val_share {opt.val_share:g}: at most 0.5 of a clip can be left out")
    if opt.crop_bottom >= 1 and opt.crop_bottom % 1:
        parser.error(f"--crop_bottom {opt.crop_bottom:g}: from 1 on it counts whole pixels")
    if opt.hfov and opt.intrinsics:
        parser.error("--hfov and --intrinsics both tell the camera: give one of them")
    return opt


def _add_camera(parser: Parser) -> None:
    group = parser.add_argument_group("camera (default: from EXIF, where pictures tell it)")
    group.add_argument(
        "--intrinsics",
        nargs="+",
        default=[],
        metavar="CAMERA",
        help="fx,fy,cx,cy in pixels of the clip as it is shown, before it is cut or resized; or a "
        "file of them or of the 3x3 matrix; CLIP=CAMERA: of one clip, by its name in --out",
    )
    group.add_argument(
        "--hfov", type=HFOV, help="horizontal field of view, in degrees, of a centred camera"
    )
    group.add_argument(
        "--distortion",
        type=distortion,
        metavar="k1,k2,p1,p2,k3",
        help="of the lens, as OpenCV has it: frames are undistorted, the camera stays; for all "
        "clips, needs --intrinsics of each",
    )


def _add_pictures(parser: Parser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--crop_bottom",
        type=CROP,
        default=0.0,
        help="cut a bonnet off: below 1 a share of the height, from 1 on pixels of the clip",
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument(
        "--width",
        type=COUNT,
        help="of stored pictures, the shape stays; nothing is enlarged (default: 1280, twice what "
        "networks are usually trained at)",
    )
    size.add_argument("--height", type=COUNT, help="of stored pictures, instead of the width")
    group.add_argument(
        "--quality", type=QUALITY, default=92, help="of JPEG, with colours of half size (4:2:0)"
    )


def _joined(argv: Sequence[str]) -> list[str]:
    """`--distortion -0.3,0.1,0,0,0` as one word: argparse would take the second for a flag."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--distortion":
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words
