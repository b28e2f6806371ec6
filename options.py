"""Command lines of train.py and evaluate_depth.py, from arguments to checked options."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from arguments import (
    BETA,
    COUNT,
    INDEX,
    POSITIVE,
    SEED,
    SHARE,
    SIZE_STEP,
    WEIGHT,
    Parser,
    add_backbone,
    add_model,
    add_no_cuda,
    check_backbone,
    check_launcher,
    check_limits,
    parse_model,
    size,
)

NETWORK_PARTS = ("encoder", "depth", "pose_encoder", "pose", "predictive_mask", "intrinsics")
# What can be trained on, and the list it has unless --split names another ("": its only one).
DATASETS = {
    "kitti": "eigen_zhou",
    "kitti_odom": "odom",
    "kitti_depth": "eigen_zhou",
    "nyuv2": "",
    "cityscapes": "",
    "folder": "",
}
# What can be scored on, each with a flag of its root.
TEST_SETS = {
    "kitti": "KITTI (raw)",
    "nyuv2": "NYUv2",
    "make3d": "Make3D",
    "cityscapes": "Cityscapes (raw)",
    "folder": "a folder of frames with true depth",
}
# What a choice's flags are read by; beside another they would silently do nothing.
CHOICES_FLAGS = {
    "optimizer": {"beta1": ("adamw", "adam"), "beta2": ("adamw", "adam"), "momentum": ("sgd",)},
    "lr_sche_type": {"decay_step": ("step",), "decay_rate": ("step",), "eta_min": ("cos",)},
}
LONGEST_NAME = 255  # bytes of a file's or folder's name, on every usual file system
LONGEST_PATH = 3800  # bytes of a run's folder: Linux takes 4096, its files need some of them
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, and what is no UTF-8


def train_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of train.py; see `python train.py --help`. `argv` None: the process's arguments."""
    parser = Parser(
        "Train depth and pose networks from video, and evaluate after every epoch.", config=True
    )
    _add_process(parser)
    _add_train_data(parser)
    _add_train_networks(parser)
    _add_method(parser)
    _add_optimiser(parser)
    _add_run(parser)
    _add_speed(parser)
    _add_train_evaluation(parser)
    opt = parser.parse_args(argv)
    _check_train(parser, opt)
    return opt


def _add_process(parser: Parser) -> None:
    group = parser.add_argument_group("process (launchers set these; their environment wins)")
    group.add_argument(
        "--local_rank",
        "--local-rank",
        type=INDEX,
        default=0,
        help="the GPU of this process, where the environment has no LOCAL_RANK",
    )
    group.add_argument(
        "--global_rank", type=INDEX, default=0, help="where the environment has no RANK"
    )
    group.add_argument(
        "--world_size", type=COUNT, default=1, help="where the environment has no WORLD_SIZE"
    )
    add_no_cuda(group)


def _add_train_data(parser: Parser) -> None:
    group = parser.add_argument_group("data and files")
    group.add_argument(
        "--data_path",
        nargs="+",
        required=True,
        help="root folder of the data set (of Cityscapes: the raw one, for testing); of --dataset "
        "folder one or several, each with its own cameras and lists",
    )
    group.add_argument(
        "--data_path_pre", help="Cityscapes: folder of the triplets that prepare_cityscapes.py made"
    )
    group.add_argument("--log_dir", default="~/tmp", help="folder of all runs")
    group.add_argument("--exp_name", default="mdp", help="the run lives in LOG_DIR/EXP_NAME")
    group.add_argument(
        "--dataset",
        choices=tuple(DATASETS),
        default="kitti",
        help="layout of the data; folder: frames of your own, as prepare_video.py writes them",
    )
    group.add_argument(
        "--split",
        help="a published training list of KITTI (eigen_zhou, the default; eigen_full, benchmark; "
        "odom, the default of kitti_odom) or a folder with train_files.txt",
    )
    group.add_argument("--jpg", action="store_true", help="read .jpg pictures instead of .png")
    group.add_argument(
        "--kitti_intrinsics",
        choices=("nominal", "calib"),
        default="nominal",
        help="of KITTI: one camera for all drives, as published, or each day's own (sequence's, of "
        "odometry) from its calibration file; the stereo baseline stays nominal",
    )
    group.add_argument("--height", type=size, default=192, help="network input, multiple of 32")
    group.add_argument("--width", type=size, default=640, help="network input, multiple of 32")
    group.add_argument(
        "--frame_ids",
        type=int,
        nargs="+",
        default=[0, -1, 1],
        help="0, the target, then the source frames relative to it",
    )
    group.add_argument(
        "--use_stereo", action="store_true", help="add the stereo partner as a source"
    )
    group.add_argument(
        "--num_workers", type=INDEX, default=12, help="loader processes of each process"
    )
    group.add_argument(
        "--cache_dir",
        help="folder for decoded pictures, which every epoch but the first reads instead of the "
        "data set's own; runs may share it, and it may be deleted between them",
    )
    group.add_argument(
        "--cache_size", type=POSITIVE, default=100.0, help="most that --cache_dir takes, in GB"
    )


def _add_train_networks(parser: Parser) -> None:
    group = parser.add_argument_group("networks")
    add_backbone(group, "hrnet")
    group.add_argument(
        "--weights_init",
        choices=("pretrained", "scratch"),
        default="pretrained",
        help="start from ImageNet weights or from random ones",
    )
    group.add_argument(
        "--pose_model_input",
        choices=("pairs", "all"),
        default="pairs",
        help="what the pose network sees: the target with each source, or all frames at once",
    )
    group.add_argument(
        "--learn_intrinsics",
        nargs="?",
        const="clip",
        choices=("clip", "frame"),
        help="learn the camera too, also where the data set knows it: one for each folder of "
        "pictures (clip, meant where no value is given) or one a sample, from the pose network "
        "(frame); its rotation must be seen, see docs/LEARNED_INTRINSICS.md",
    )
    group.add_argument("--pretrained_path", help="checkpoint whose networks the run starts from")
    group.add_argument(
        "--models_to_load",
        nargs="+",
        choices=NETWORK_PARTS,
        default=["encoder", "depth", "pose_encoder", "pose"],
        help="which networks of --pretrained_path to load",
    )


def _add_method(parser: Parser) -> None:
    group = parser.add_argument_group("method")
    for flag, text in {
        "--use_local_crop": "resizing-cropping: a second, enlarged view of the target",
        "--use_patch_reshuffle": "splitting-permuting: a third view, cut in four and swapped",
        "--v1_multiscale": "take the loss at each scale's size instead of at full size",
        "--avg_reprojection": "mean of the photometric error over sources instead of the minimum",
        "--disable_automasking": "do not let unwarped sources compete in the minimum",
        "--predictive_mask": "predict a mask per source instead; needs --disable_automasking",
        "--no_ssim": "photometric error by absolute difference alone",
    }.items():
        group.add_argument(flag, action="store_true", help=text)
    group.add_argument(
        "--num_scales", type=int, choices=(1, 2, 3, 4), default=1, help="scales of the disparity"
    )
    group.add_argument(
        "--disparity_smoothness", type=WEIGHT, default=1e-3, help="weight of the smoothness term"
    )
    group.add_argument("--min_depth", type=POSITIVE, default=0.1, help="depth of disparity 1")
    group.add_argument("--max_depth", type=POSITIVE, default=100.0, help="depth of disparity 0")


def _add_optimiser(parser: Parser) -> None:
    group = parser.add_argument_group("optimiser")
    group.add_argument(
        "--optimizer", choices=("adamw", "adam", "sgd"), default="adamw", help="update rule"
    )
    group.add_argument(
        "--learning_rate", type=POSITIVE, default=1e-4, help="whatever the number of processes"
    )
    group.add_argument("--weight_decay", type=WEIGHT, default=0.01, help="of all three rules")
    group.add_argument("--beta1", type=BETA, default=0.9, help="of adamw and adam")
    group.add_argument("--beta2", type=BETA, default=0.999, help="of adamw and adam")
    group.add_argument("--momentum", type=BETA, default=0.9, help="of sgd")
    group.add_argument(
        "--clip_grad", type=float, default=-1, help="largest gradient norm; -1 does not clip"
    )
    group.add_argument(
        "--lr_sche_type",
        choices=("step", "cos"),
        default="step",
        help="step: times DECAY_RATE at each of DECAY_STEP; cos: a half cosine to ETA_MIN",
    )
    group.add_argument(
        "--decay_step", type=COUNT, nargs="+", default=[15], help="epochs at which step decays"
    )
    group.add_argument("--decay_rate", type=POSITIVE, default=0.1, help="factor of step")
    group.add_argument("--eta_min", type=WEIGHT, default=5e-6, help="last learning rate of cos")
    group.add_argument(
        "--warm_up", type=SHARE, default=0.0, help="share of all steps with a rising rate"
    )
    group.add_argument(
        "--batch_size", type=COUNT, default=12, help="samples of each process, taken at once"
    )
    group.add_argument(
        "--accumulate", type=COUNT, default=1, help="batches of each process to an optimiser step"
    )
    group.add_argument("--num_epochs", type=COUNT, default=20, help="passes over the data")
    group.add_argument("--seed", type=SEED, default=1234, help="of weights, order and draws")


def _add_run(parser: Parser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--resume", action="store_true", help="go on from the run's ckpt.pth if there is one"
    )
    group.add_argument(
        "--log_frequency", type=COUNT, default=250, help="steps between two log lines"
    )
    group.add_argument(
        "--save_frequency", type=COUNT, default=500, help="steps between two checkpoints"
    )
    group.add_argument(
        "--keep", type=COUNT, help="newest models/model{epoch}.pth to keep (default: all)"
    )


def _add_speed(parser: Parser) -> None:
    group = parser.add_argument_group("speed (the defaults are the fast ones that change little)")
    group.add_argument(
        "--amp",
        choices=("off", "bf16", "fp16"),
        default="off",
        help="what the networks compute in; geometry, losses and depths stay in float32",
    )
    group.add_argument(
        "--compile", action="store_true", help="compile the networks: a slow first step"
    )
    group.add_argument(
        "--fast_resize",
        action="store_true",
        help="resize whole pictures by torch's Lanczos, where it has one, instead of Pillow's: "
        "less than one per cent of the values a grey level off, few in a million two",
    )
    group.add_argument(
        "--channels_last",
        action="store_true",
        help="keep channels innermost in memory, as is always done on the CPU",
    )
    group.add_argument(
        "--checkpoint_activations",
        action="store_true",
        help="compute decoders twice, the second time on the way back, for less memory",
    )
    group.add_argument(
        "--no_tf32", action="store_true", help="full float32 in convolutions on GPUs that have TF32"
    )
    group.add_argument(
        "--profile",
        type=INDEX,
        default=0,
        metavar="STEPS",
        help="trace so many steps: a file for TensorBoard, Perfetto or Chrome and a table of the "
        "most expensive operators, in profile/ of the run",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="equal bits from equal runs on CUDA as well, as far as torch can; slower",
    )


def _add_train_evaluation(parser: Parser) -> None:
    group = parser.add_argument_group(
        "evaluation after every epoch (on the data set's own test list, and on each root given)"
    )
    _add_benchmarks(group)
    group.add_argument(
        "--val_split",
        help="also the photometric loss on a validation list, a published one or a folder with "
        "val_files.txt (of --dataset folder by default each root's own): the best epoch by it is "
        "kept as models/best.pth",
    )
    group.add_argument("--no_eval", action="store_true", help="do not evaluate")
    group.add_argument(
        "--eval_every", type=COUNT, default=1, help="epochs from one to the next; always the last"
    )
    _add_protocol(group)


def _add_benchmarks(group: argparse._ArgumentGroup) -> None:
    for name, title in TEST_SETS.items():
        group.add_argument(f"--{name}_path", help=f"score on {title}: its root folder")
    group.add_argument(
        "--eval_split",
        nargs="+",
        default=["eigen"],
        help="of KITTI: eigen, eigen_benchmark; or a folder with test_files.txt and gt_depths.npz, "
        "scored under eigen's name, and so in its place; evaluate_depth.py: also benchmark, whose "
        "depth maps for KITTI's server go to --eval_out_dir",
    )


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--post_process", action="store_true", help="blend with the mirrored picture's prediction"
    )
    group.add_argument("--eval_mono", action="store_true", help="scale by medians")
    group.add_argument("--eval_stereo", action="store_true", help="scale by 5.4, KITTI's rig")
    group.add_argument(
        "--disable_median_scaling",
        action="store_true",
        help="scale by --pred_depth_scale_factor alone",
    )
    group.add_argument(
        "--pred_depth_scale_factor",
        type=POSITIVE,
        default=1.0,
        help="what depths are multiplied by; median scaling would undo it",
    )
    group.add_argument(
        "--resize_convention",
        choices=("published", "half_pixel"),
        default="published",
        help="how disparities are enlarged to the ground truth: align_corners True, as in the "
        "published tables, or False, as in Monodepth2",
    )


def _check_scaling(parser: Parser, opt: argparse.Namespace) -> None:
    """One way to scale. A stereo model's factor, 5.4, is the published flag's too."""
    if opt.eval_mono and opt.eval_stereo:
        parser.error("--eval_mono and --eval_stereo exclude each other: give one of them")
    stereo = opt.eval_stereo or (opt.use_stereo and not opt.eval_mono)
    factor = opt.pred_depth_scale_factor
    by_medians = not stereo and not opt.disable_median_scaling
    if factor != 1 and by_medians and "benchmark" not in opt.eval_split:
        parser.error(
            f"--pred_depth_scale_factor {factor:g} is undone by median scaling: add "
            "--disable_median_scaling"
        )
    if factor not in (1, 5.4) and stereo:
        parser.error(
            f"a stereo model is scaled by 5.4, got --pred_depth_scale_factor {factor:g}: for "
            "another scale add --eval_mono --disable_median_scaling"
        )


def _check_train(parser: Parser, opt: argparse.Namespace) -> None:
    check_backbone(parser, opt)
    check_limits(parser, opt)
    _check_scaling(parser, opt)
    check_launcher(parser)
    if "benchmark" in opt.eval_split:
        parser.error(
            "--eval_split benchmark has no public truth to score with: evaluate_depth.py writes "
            "its depth maps for KITTI's server"
        )
    rank = int(os.environ.get("RANK", opt.global_rank))
    if rank >= (processes := int(os.environ.get("WORLD_SIZE", opt.world_size))):
        parser.error(f"--global_rank {rank} of {processes}: processes are counted from 0")
    if processes > 1 and "MASTER_ADDR" not in os.environ:
        parser.error(
            "--world_size above 1 needs a launcher that says where the processes meet: torchrun "
            "--nproc_per_node N train.py ..."
        )
    frames = opt.frame_ids
    if frames[0] != 0 or len(set(frames)) < len(frames):
        parser.error(f"--frame_ids must start with 0 and name each frame once, got {frames}")
    if len(frames) == 1 and not opt.use_stereo:
        parser.error("--frame_ids 0 alone leaves no source frame: add some, or --use_stereo")
    if not opt.clip_grad > 0 and opt.clip_grad != -1:
        parser.error(f"--clip_grad must be above 0, or -1 for none, got {opt.clip_grad:g}")
    _check_run_folder(parser, opt)
    _check_method(parser, opt)
    _check_optimiser(parser, opt)
    _check_data(parser, opt)
    opt.decay_step = sorted(opt.decay_step)


def _check_run_folder(parser: Parser, opt: argparse.Namespace) -> None:
    """A run writes nowhere but in its own folder, whose name a log can hold. `~` is expanded."""
    for flag in ("log_dir", "exp_name"):
        if UNPRINTABLE.search(text := getattr(opt, flag)):
            parser.error(f"--{flag} must be printable text, got {text!r}")
    name = PurePath(opt.exp_name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        parser.error(f"--exp_name must be a folder name within --log_dir, got {opt.exp_name!r}")
    try:
        opt.log_dir = str(Path(opt.log_dir).expanduser())
    except RuntimeError:
        parser.error(f"--log_dir {opt.log_dir}: there is no such user's home folder")
    for flag in ("log_dir", "exp_name"):
        parts = PurePath(getattr(opt, flag)).parts
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
            parser.error(f"--{flag} is longer than the {LONGEST_NAME} bytes of a folder's name")
    if len(os.fsencode(os.path.abspath(os.path.join(opt.log_dir, name)))) > LONGEST_PATH:
        parser.error(f"--log_dir and --exp_name are longer than {LONGEST_PATH:,} bytes together")


def _check_method(parser: Parser, opt: argparse.Namespace) -> None:
    """What would do nothing is refused, so that no ablation compares a run with itself."""
    sources = len(opt.frame_ids) - 1 + opt.use_stereo
    if opt.predictive_mask and not opt.disable_automasking:
        parser.error("--predictive_mask replaces the auto-mask: add --disable_automasking")
    if opt.v1_multiscale and opt.num_scales == 1:
        parser.error("--v1_multiscale is about the smaller scales: add --num_scales 2, 3 or 4")
    if opt.avg_reprojection and sources == 1:
        parser.error("--avg_reprojection takes the mean over sources, and there is one source")
    if opt.pose_model_input == "all" and len(opt.frame_ids) == 1:
        parser.error("--pose_model_input all: --frame_ids 0 has no frames to estimate a pose of")
    if opt.learn_intrinsics and len(opt.frame_ids) == 1:
        parser.error(
            "--learn_intrinsics needs frames that the camera turns between, and --frame_ids 0 has "
            "the stereo partner alone"
        )
    if opt.pretrained_path is None and _was_given(parser, opt, "models_to_load"):
        parser.error("--models_to_load is of the checkpoint --pretrained_path, which is not given")


def _was_given(parser: Parser, opt: argparse.Namespace, name: str) -> bool:
    """Whether an option is another than it is by default."""
    return getattr(opt, name) != parser.get_default(name)


def _check_optimiser(parser: Parser, opt: argparse.Namespace) -> None:
    for choice, flags in CHOICES_FLAGS.items():
        taken = getattr(opt, choice)
        for name, readers in flags.items():
            if taken not in readers and _was_given(parser, opt, name):
                parser.error(
                    f"--{name} is of --{choice} {' and '.join(readers)}, got --{choice} {taken}"
                )
    if opt.lr_sche_type == "cos" and opt.eta_min > opt.learning_rate:
        parser.error(
            f"--lr_sche_type cos falls to --eta_min {opt.eta_min:g}, which must not be above "
            f"--learning_rate {opt.learning_rate:g}"
        )
    if opt.batch_size == 1 and (opt.height, opt.width) == (SIZE_STEP, SIZE_STEP):
        parser.error(
            f"--batch_size 1 with an input of {SIZE_STEP}x{SIZE_STEP} leaves one value of a "
            "channel at 1/32 of the size, and batch norm needs more: enlarge one of the three"
        )


def _check_data(parser: Parser, opt: argparse.Namespace) -> None:
    if opt.split is None:
        opt.split = DATASETS[opt.dataset]
    if (opt.dataset == "cityscapes") != (opt.data_path_pre is not None):
        parser.error(
            "--data_path_pre, the folder of prepare_cityscapes.py, goes with --dataset cityscapes "
            f"and with no other, got --dataset {opt.dataset} --data_path_pre {opt.data_path_pre}"
        )
    if not opt.dataset.startswith("kitti"):
        for flag in ("jpg", "use_stereo", "kitti_intrinsics"):
            if _was_given(parser, opt, flag):
                parser.error(f"--{flag} is for KITTI's layouts, got --dataset {opt.dataset}")
    _check_roots(parser, opt)
    _check_cache(parser, opt)


def _check_roots(parser: Parser, opt: argparse.Namespace) -> None:
    """Several roots are of folders alone, each with its own lists; elsewhere the root is a text."""
    several = len(opt.data_path) > 1
    if opt.dataset != "folder":
        if several:
            parser.error(
                f"--data_path takes one folder with --dataset {opt.dataset}, got "
                f"{len(opt.data_path)}: several go with --dataset folder"
            )
        (opt.data_path,) = opt.data_path
        return
    for flag in ("split", "val_split"):
        if several and getattr(opt, flag):
            parser.error(
                f"--{flag} is one list, and --data_path names {len(opt.data_path)} folders: each "
                "has its own train_files.txt and val_files.txt"
            )


def _check_cache(parser: Parser, opt: argparse.Namespace) -> None:
    """The cache is a folder of its own."""
    if opt.cache_dir is None:
        if _was_given(parser, opt, "cache_size"):
            parser.error("--cache_size is of --cache_dir, which is not given")
        return
    if not opt.cache_dir.strip():
        parser.error("--cache_dir must name a folder, got an empty name")
    roots = opt.data_path if opt.dataset == "folder" else [opt.data_path]
    for root in [*roots, *([opt.data_path_pre] if opt.data_path_pre else [])]:
        if Path(opt.cache_dir).resolve().is_relative_to(Path(root).resolve()):
            parser.error(f"--cache_dir {opt.cache_dir} lies in the data, {root}: give a folder "
                         "beside it")  # fmt: skip


def evaluate_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of evaluate_depth.py."""
    parser = Parser("Score a checkpoint on benchmarks, one table each.", config=True)
    add_model(parser, required=False)
    group = parser.add_argument_group("benchmarks (at least one root)")
    _add_benchmarks(group)
    group.add_argument(
        "--jpg", action="store_true", help="of KITTI, read .jpg pictures instead of .png"
    )
    group = parser.add_argument_group("protocol")
    _add_protocol(group)
    group.add_argument(
        "--use_stereo", action="store_true", help="the model was trained with stereo: --eval_stereo"
    )
    _add_results(parser)
    group = parser.add_argument_group("speed")
    group.add_argument("--batch_size", type=COUNT, default=4, help="pictures predicted at once")
    group.add_argument("--num_workers", type=INDEX, default=12, help="loader processes")
    opt = parse_model(parser, argv)
    _check_evaluate(parser, opt)
    return opt


def _add_results(parser: Parser) -> None:
    group = parser.add_argument_group("results, and disparities on disk")
    group.add_argument("--save_json", help="file for all numbers of all tables")
    group.add_argument(
        "--expect", help="table of published rows to compare with: configs/published_results.csv"
    )
    group.add_argument(
        "--ext_disp_to_eval",
        help="score these disparities instead of a checkpoint's: a .npy (images, height, width), "
        "or a folder with disps_NAME_split.npy of each benchmark, as --save_pred_disps names them",
    )
    group.add_argument(
        "--eval_eigen_to_benchmark",
        action="store_true",
        help="the disparities of eigen_benchmark are those of all 697 eigen images",
    )
    group.add_argument(
        "--save_pred_disps",
        action="store_true",
        help="write disps_NAME_split.npy (NAME: eigen, eigen_benchmark, nyuv2, make3d, cityscapes)",
    )
    group.add_argument(
        "--eval_out_dir",
        help="folder of those files (default: the checkpoint's own), and of --eval_split "
        "benchmark's 16-bit PNGs",
    )
    group.add_argument(
        "--no_eval", action="store_true", help="predict for --save_pred_disps, and score nothing"
    )


def _check_evaluate(parser: Parser, opt: argparse.Namespace) -> None:
    _check_scaling(parser, opt)
    check_launcher(parser)
    if (opt.pretrained_path is None) == (opt.ext_disp_to_eval is None):
        parser.error("give --pretrained_path or --ext_disp_to_eval: one of them predicts")
    roots = [f"--{name}_path" for name in TEST_SETS]
    if not any(getattr(opt, f"{name}_path") for name in TEST_SETS):
        parser.error(f"nothing to score on: give {', '.join(roots[:-1])} or {roots[-1]}")
    if opt.ext_disp_to_eval is not None:
        for flag in ("save_pred_disps", "no_eval", "post_process"):
            if getattr(opt, flag):
                parser.error(f"--{flag} needs a model's predictions, got --ext_disp_to_eval")
    elif opt.eval_eigen_to_benchmark:
        parser.error("--eval_eigen_to_benchmark is about the disparities of --ext_disp_to_eval")
    if opt.eval_eigen_to_benchmark and "eigen_benchmark" not in opt.eval_split:
        parser.error("--eval_eigen_to_benchmark needs --eval_split eigen_benchmark")
    if opt.no_eval and not opt.save_pred_disps:
        parser.error("--no_eval leaves nothing to do: add --save_pred_disps")
    if "benchmark" in opt.eval_split:
        _check_server(parser, opt)
    elif opt.eval_out_dir is not None and not opt.save_pred_disps:
        parser.error("--eval_out_dir is the folder of --save_pred_disps: add it")
    for flag in ("save_json", "expect"):
        if opt.no_eval and getattr(opt, flag):
            parser.error(f"--{flag} needs scores, got --no_eval")


def _check_server(parser: Parser, opt: argparse.Namespace) -> None:
    """Depth for KITTI's server is written by a model, somewhere, in metres."""
    if opt.kitti_path is None:
        parser.error("--eval_split benchmark is of KITTI: give --kitti_path")
    if opt.ext_disp_to_eval is not None:
        parser.error("--eval_split benchmark needs a model's predictions, got --ext_disp_to_eval")
    if opt.eval_out_dir is None:
        parser.error(
            "--eval_split benchmark writes depth maps for KITTI's server: give their folder, "
            "--eval_out_dir"
        )
    stereo = opt.eval_stereo or (opt.use_stereo and not opt.eval_mono)
    if opt.pred_depth_scale_factor == 1 and not stereo and not opt.disable_median_scaling:
        parser.error(
            "--eval_split benchmark has no public truth whose medians could scale depth: add "
            "--use_stereo for a stereo model, else --pred_depth_scale_factor F (F 1: "
            "--disable_median_scaling)"
        )
