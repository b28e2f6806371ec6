"""Command lines of the scripts that do not train or score: one function per script, from
arguments to checked options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from arguments import (
    COUNT,
    INDEX,
    POSITIVE,
    WEIGHT,
    Parser,
    add_model,
    add_no_cuda,
    check_launcher,
    number_type,
    parse_model,
    size,
)

EXPORTS = (".onnx", ".pt2")
OPSET = number_type(int, 18, 99, "a whole number of at least 18, the oldest that can be written")
FPS = number_type(float, 0.01, 1000, "frames a second from 0.01 to 1000")
# What streets can be rendered as (`rendering.LAYOUTS`).
LAYOUTS = ("kitti", "kitti_depth", "kitti_odom", "cityscapes", "nyuv2", "make3d")


def _add_pictures(parser: Parser, what: str, result: str) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("pictures")
    group.add_argument("--image_path", required=True, help=what)
    group.add_argument("--ext", default="png", help="ending of a folder's pictures, such as jpg")
    group.add_argument("--output", help=result)
    group.add_argument("--overwrite", action="store_true", help="replace results that are there")
    group.add_argument(
        "--strict",
        action="store_true",
        help="stop at a picture that cannot be used, instead of skipping it",
    )
    group.add_argument("--cmap", default="magma", help="a colour map of matplotlib, by its name")
    return group


def _add_cloud(parser: Parser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("points in space (x right, y down, z forward)")
    group.add_argument(
        "--intrinsics",
        metavar="CAMERA",
        help="of the pictures at hand: kitti or nyu (whole pictures, resized or not); fx,fy,cx,cy "
        "in pixels; or a file of these four numbers or of the 3x3 matrix",
    )
    group.add_argument(
        "--far",
        type=POSITIVE,
        help="leave out points farther than this, in their unit (default: 4 times the median)",
    )
    group.add_argument(
        "--show3d", metavar="PNG", help="also draw the points as seen from the side"
    )
    return group


def _check_cloud(parser: Parser, opt: argparse.Namespace) -> None:
    if bool(opt.save_ply or opt.show3d) != bool(opt.intrinsics):
        parser.error("--save_ply and --show3d need --intrinsics, the camera, which is for them")
    if opt.far and not opt.intrinsics:
        parser.error("--far is for the points of --save_ply and --show3d")
    if opt.show3d and Path(opt.show3d).suffix.lower() != ".png":
        parser.error(f"--show3d {opt.show3d} must end in .png")


def predict_image_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of test_simple.py."""
    parser = Parser("Predict the depth of one picture, or of a folder of them, in colours.")
    group = _add_pictures(
        parser,
        "a picture, a folder, or a quoted pattern such as 'in/*.jpg'",
        "folder of results (default: beside)",
    )
    group.add_argument(
        "--save_npy",
        action="store_true",
        help="also save NAME_disp.npy: 1 / depth, float32 (1, 1, height, width) at network size, "
        "in the network's own unit",
    )
    group.add_argument(
        "--save_depth",
        action="store_true",
        help="also save NAME_depth_m (NAME_depth_unscaled without a scale): .npy, float32 (height, "
        "width) at the picture's size; .png, 16 bits, depth times 256; .json, what they hold",
    )
    scale = group.add_mutually_exclusive_group()
    scale.add_argument("--scale", type=POSITIVE, help="metres of one unit of predicted depth")
    scale.add_argument(
        "--scale_from_gt",
        metavar="PATH",
        help="scale by medians to true depth: .npy in metres, or 16-bit .png of metres times 256; "
        "or a folder of one for each picture, by its name",
    )
    group.add_argument("--batch_size", type=COUNT, default=1, help="pictures predicted at once")
    group.add_argument(
        "--post_process", action="store_true", help="blend with the prediction for the mirror image"
    )
    _add_cloud(parser).add_argument(
        "--save_ply",
        action="store_true",
        help="also save NAME_depth_m.ply (NAME_depth_unscaled.ply without a scale): coloured "
        "points, without those between things",
    )
    add_model(parser)
    opt = parse_model(parser, argv)
    _check_cloud(parser, opt)
    if (opt.scale or opt.scale_from_gt) and not (opt.save_depth or opt.intrinsics):
        parser.error("--scale and --scale_from_gt are for --save_depth, --save_ply and --show3d: "
                     "add one of them")  # fmt: skip
    return opt


def predict_video_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of test_video.py."""
    parser = Parser("Turn frames or a video into an animation: frame above predicted disparity.")
    group = _add_pictures(
        parser,
        "a folder of frames, a quoted pattern such as 'in/*.jpg', or a video file",
        "the animation, .gif, .mp4 or .webm (default: a GIF beside the frames)",
    )
    group.add_argument("--every", type=COUNT, default=1, help="take every N-th frame")
    group.add_argument("--max_frames", type=COUNT, help="stop after so many (default: all)")
    group.add_argument(
        "--fps",
        type=FPS,
        help="frames a second to show (default: 150 ms a frame; of a video to .mp4 or .webm: its "
        "own speed)",
    )
    group.add_argument(
        "--side_by_side", action="store_true", help="disparity to the right of the frame"
    )
    group.add_argument(
        "--range",
        choices=("frame", "running", "fixed"),
        default="running",
        help="what the colours span: limits of each frame, which flicker; a running mean of them; "
        "those of the first frame",
    )
    group = _add_cloud(parser)
    group.add_argument(
        "--save_ply",
        metavar="PLY",
        help="also write the coloured points of all frames, put together by the checkpoint's pose "
        "network, in the axes of the first",
    )
    group.add_argument(
        "--voxel",
        type=POSITIVE,
        help="side of the cubes of which each keeps one point, in the points' unit (default: the "
        "first frame's median depth / 300); doubled where more than 4 million points are left",
    )
    group.add_argument("--scale", type=POSITIVE, help="metres of one unit of predicted depth")
    add_model(parser)
    opt = parse_model(parser, argv)
    _check_cloud(parser, opt)
    if (opt.voxel or opt.scale) and not opt.intrinsics:
        parser.error("--voxel and --scale are for the points of --save_ply and --show3d")
    if opt.save_ply and Path(opt.save_ply).suffix.lower() != ".ply":
        parser.error(f"--save_ply {opt.save_ply} must end in .ply")
    return opt


def export_model_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of export_model.py."""
    parser = Parser("Write a trained depth network as a file that runs without this code.")
    group = parser.add_argument_group("export")
    group.add_argument(
        "--output",
        nargs="+",
        required=True,
        metavar="FILE",
        help="NAME.onnx for ONNX runtimes, NAME.pt2 for torch.export.load; one of them or both",
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that are there")
    group.add_argument(
        "--dynamic_batch",
        action="store_true",
        help="take any number of pictures at once, instead of one",
    )
    group.add_argument("--opset", type=OPSET, default=18, help="version of ONNX's operators")
    group.add_argument(
        "--tolerance",
        type=WEIGHT,
        default=1e-3,
        help="largest difference from the network, of disparity (0 to 1), and of depth as a share "
        "of its value; where it is larger, no file is written",
    )
    add_model(parser, no_cuda=False)
    opt = parse_model(parser, argv)
    for name in opt.output:
        suffix = Path(name).suffix
        if suffix not in EXPORTS and suffix.lower() != ".onnx":  # torch loads no .PT2
            parser.error(f"--output {name} must end in .onnx or .pt2")
    places = [Path(os.path.realpath(Path(name).parent)) / Path(name).name for name in opt.output]
    for name, place in zip(opt.output, places, strict=True):
        if places.count(place) > 1:
            parser.error(f"--output {name} is named twice: give each file once")
    return opt


def evaluate_pose_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of evaluate_pose.py."""
    parser = Parser("Predict the camera's path on KITTI odometry sequences, and score it.")
    group = parser.add_argument_group("model (a flag wins over what the checkpoint records)")
    group.add_argument(
        "--pretrained_path", required=True, help="checkpoint with a pose network of frame pairs"
    )
    said = "(default: the checkpoint's, else {})"
    group.add_argument("--height", type=size, help=f"network input {said.format(192)}")
    group.add_argument("--width", type=size, help=f"network input {said.format(640)}")
    add_no_cuda(group)
    group = parser.add_argument_group("sequences")
    group.add_argument(
        "--data_path", required=True, help="root of KITTI odometry: sequences/ and poses/"
    )
    group.add_argument(
        "--eval_split",
        nargs="+",
        default=["odom_9", "odom_10"],
        help="odom_9, odom_10 (published tests), or numbers such as 06: all frames of a sequence, "
        "scored if poses/06.txt is there",
    )
    group.add_argument("--jpg", action="store_true", help="read .jpg pictures instead of .png")
    group.add_argument(
        "--output", required=True, help="folder of NN.txt, NN_aligned.txt and the plot NN.png"
    )
    group = parser.add_argument_group("speed")
    group.add_argument("--batch_size", type=COUNT, default=16, help="frames predicted at once")
    group.add_argument("--num_workers", type=INDEX, default=12, help="loader processes")
    opt = parser.parse_args(argv)
    check_launcher(parser)
    return opt


def export_gt_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of export_gt_depth.py."""
    parser = Parser("Gather the ground-truth depth maps of a KITTI test list in one archive.")
    parser.add_argument("--data_path", required=True, help="root of KITTI raw")
    parser.add_argument(
        "--split",
        required=True,
        help="eigen (laser scans), eigen_benchmark (improved ground truth), or a folder with "
        "test_files.txt (laser scans)",
    )
    parser.add_argument("--output", help="the archive (default: gt_depths.npz beside the list)")
    parser.add_argument("--num_workers", type=COUNT, default=1, help="processes")
    return parser.parse_args(argv)


def prepare_cityscapes_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of prepare_cityscapes.py."""
    parser = Parser("Make the triplets of frames that --dataset cityscapes trains on.")
    parser.add_argument(
        "--dataset_dir", required=True, help="folder of leftImg8bit_sequence/ and camera/"
    )
    parser.add_argument("--dump_root", required=True, help="folder of the triplets")
    parser.add_argument("--seq_length", type=COUNT, default=3, help="frames of each; 3 is made")
    parser.add_argument(
        "--img_height",
        type=COUNT,
        default=128,
        help="of a frame before its lower quarter is cut off; training needs 512",
    )
    parser.add_argument(
        "--img_width", type=COUNT, default=416, help="of a frame; training needs 1024"
    )
    parser.add_argument("--num_threads", type=COUNT, default=4, help="processes")
    parser.add_argument(
        "--fast_png",
        action="store_true",
        help="compress repetitions of a value alone: the same pictures in a third of the time, in "
        "files about 1%% larger, which are not the published ones byte for byte",
    )
    opt = parser.parse_args(argv)
    if opt.seq_length != 3:
        parser.error(f"--seq_length must be 3, a frame and its neighbours, got {opt.seq_length}")
    return opt


def render_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of render_demo.py."""
    parser = Parser("Render textured streets in the layout of KITTI's raw data, or of another set.")
    parser.add_argument("--out", required=True, help="folder to write; must be new or made by this")
    parser.add_argument(
        "--layout",
        choices=(*LAYOUTS, "all"),
        default="kitti",
        help="of files: a data set's; kitti_depth is kitti with the improved ground truth; all: "
        "every other one, each in a folder of its name",
    )
    parser.add_argument("--streets", type=COUNT, default=9, help="the last one is held out")
    parser.add_argument("--frames", type=COUNT, default=30, help="frames of each street")
    parser.add_argument("--height", type=COUNT, default=128, help="of KITTI's pictures")
    parser.add_argument("--width", type=COUNT, default=416, help="of KITTI's pictures")
    parser.add_argument("--seed", type=INDEX, default=0, help="of streets and drives")
    return parser.parse_args(argv)


def demo_summary_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of demo_summary.py, which run_demo.sh calls."""
    parser = Parser("Compare the demo's trained network with three baselines.")
    parser.add_argument("--data_path", required=True, help="folder of render_demo.py")
    parser.add_argument("--run", required=True, help="folder of the training run")
    parser.add_argument("--output", required=True, help="folder of summary.json and demo.png")
    parser.add_argument("--quick", action="store_true", help="do not judge what was learned")
    parser.add_argument("--no_cuda", action="store_true", help="compute on the CPU")
    for part in ("install", "render", "train", "predict"):
        parser.add_argument(f"--{part}", type=WEIGHT, default=0.0, help=f"seconds of {part}")
    return parser.parse_args(argv)


def report_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of report.py."""
    parser = Parser("Show a run of train.py as one HTML page, curves and pictures as PNG files.")
    parser.add_argument("--exp", required=True, help="folder of the run: LOG_DIR/EXP_NAME")
    parser.add_argument(
        "--output", help="folder of report.html and the PNG files (default: report in the run's)"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        help="folders of other runs, for a table of all of them: mean and standard deviation over "
        "those that differ by their seed alone",
    )
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace files of other makers (those of an earlier report are replaced anyway)",
    )  # fmt: skip
    return parser.parse_args(argv)
