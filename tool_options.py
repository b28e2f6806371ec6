"""Command lines of the scripts that do not train or score: one function per script, from
arguments to checked options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from arguments import (
    COUNT,
    INDEX,
    WEIGHT,
    Parser,
    add_model,
    add_no_cuda,
    check_launcher,
    parse_model,
    size,
)

# What streets can be rendered as (`rendering.LAYOUTS`).
LAYOUTS = ("kitti", "kitti_depth", "kitti_odom", "cityscapes", "nyuv2", "make3d")


def _add_pictures(parser: Parser, what: str, result: str) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("pictures")
    group.add_argument("--image_path", required=True, help=what)
    group.add_argument("--ext", default="png", help="ending of a folder's pictures, such as jpg")
    group.add_argument("--output", help=result)
    return group


def predict_image_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of test_simple.py."""
    parser = Parser("Predict the depth of one picture, or of a folder of them, in colours.")
    group = _add_pictures(parser, "a picture or a folder", "folder of results (default: beside)")
    group.add_argument(
        "--save_npy",
        action="store_true",
        help="also save NAME_disp.npy: 1 / depth, float32 (1, 1, height, width) at network size",
    )
    add_model(parser)
    return parse_model(parser, argv)


def predict_video_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of test_video.py."""
    parser = Parser("Turn a folder of frames into an animation: frame above predicted disparity.")
    _add_pictures(parser, "a folder of frames", "the GIF (default: beside the folder)")
    add_model(parser)
    return parse_model(parser, argv)


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
