"""Command lines: published names and defaults, every flag read, bad values in one sentence."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import options
import tool_options
import video_options
from tests.test_floors import HOUSE, ROOT, files_of, reached_from


class Script(NamedTuple):
    """A script's parser, and the least that it asks for."""

    parse: Callable[[list[str]], Namespace]
    required: list[str]


MODEL = ["--pretrained_path", "ckpt.pth"]
SCRIPTS = {
    "train": Script(options.train_options, ["--data_path", "kitti"]),
    "evaluate_depth": Script(options.evaluate_options, [*MODEL, "--kitti_path", "kitti"]),
    "export_model": Script(
        tool_options.export_model_options, [*MODEL, "--output", "depth.onnx"]
    ),
    "evaluate_pose": Script(
        tool_options.evaluate_pose_options, [*MODEL, "--data_path", "odometry", "--output", "paths"]
    ),
    "test_simple": Script(tool_options.predict_image_options, [*MODEL, "--image_path", "a.png"]),
    "test_video": Script(tool_options.predict_video_options, [*MODEL, "--image_path", "frames"]),
    "prepare_cityscapes": Script(
        tool_options.prepare_cityscapes_options, ["--dataset_dir", "raw", "--dump_root", "out"]
    ),
    "export_gt_depth": Script(
        tool_options.export_gt_options, ["--data_path", "kitti", "--split", "eigen"]
    ),
    "render_demo": Script(tool_options.render_options, ["--out", "streets"]),
    "demo_summary": Script(
        tool_options.demo_summary_options,
        ["--data_path", "streets", "--run", "run", "--output", "out"],
    ),
    "report": Script(tool_options.report_options, ["--exp", "run"]),
    "prepare_video": Script(video_options.prepare_video_options, ["--out", "own", "drive.mp4"]),
}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


def parsed(script: str, *arguments: str) -> dict[str, object]:
    """The options of a script as a dict; the required ones come first, so arguments win."""
    return vars(SCRIPTS[script].parse([*SCRIPTS[script].required, *arguments]))


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_every_script_is_here():
    assert SCRIPTS.keys() == {name for name, room in HOUSE.items() if room.floor == 8}


# ---- every flag is read ----------------------------------------------------------------------


def reads(path: Path) -> Iterator[str]:
    """Names read from `opt` (or `self.opt`, ...) in a file.

    `getattr(opt, key)` reads the names that stand as strings in the same function.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and _is_options(node.value):
            yield node.attr
        elif isinstance(node, ast.FunctionDef) and any(map(_is_getattr, ast.walk(node))):
            yield from (
                each.value
                for each in ast.walk(node)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def _is_options(node: ast.AST) -> bool:
    name = getattr(node, "attr", None) or getattr(node, "id", None)
    return name == "opt"


def _is_getattr(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and (
        _is_options(node.args[0])
    )


# Published flags of which one value is accepted, which the parser itself sees to.
CHECKED_ONLY = {"prepare_cityscapes": {"seq_length"}}
# What stands without a flag's name in front.
POSITIONAL = {"clips"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_that_parses_is_read(script: str):
    reached = reached_from(script) - {"arguments", "options", "tool_options", "video_options"}
    read = {name for module in reached for path in files_of(module) for name in reads(path)}
    assert parsed(script).keys() - read == CHECKED_ONLY.get(script, set())


def test_a_flag_that_is_only_saved_is_not_read(tmp_path: Path):
    path = tmp_path / "module.py"
    path.write_text("def f(opt):\n    save(vars(opt))\n    return opt.height, self.opt.width\n")
    assert set(reads(path)) == {"height", "width"}


# ---- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_without_heavy_imports(script: str):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{script}.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path('{script}.py', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'numpy', 'cv2', 'matplotlib', 'PIL', 'timm', 'yaml'}\n"
        "    heavy &= set(sys.modules)\n"
        "    print('ended with', end.code or 0, sorted(heavy), file=sys.stderr)\n"
    )
    run = run_python("-c", code)
    assert run.stdout.startswith("usage: ")
    assert run.stderr == "ended with 0 []\n"


@pytest.mark.parametrize("script", ["train", "evaluate_depth", "test_simple", "test_video"])
def test_help_is_grouped(script: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        SCRIPTS[script].parse(["--help"])
    _, _, sections = capsys.readouterr().out.partition("\noptions:\n")
    ungrouped, *groups = sections.split("\n\n")
    assert re.findall(r"^ +(-\S+)", ungrouped, re.MULTILINE) == ["-h,"]
    assert len(groups) >= 2


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_tells_defaults_and_explains_every_flag(
    script: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        SCRIPTS[script].parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, value in parsed(script).items():
        if name in POSITIONAL:
            continue
        assert f"--{name}" in text
        required = f"--{name}" in SCRIPTS[script].required
        if isinstance(value, (int, float, list)) and not isinstance(value, bool) and not required:
            assert f"(default: {value})" in text, name


# ---- published names and defaults ------------------------------------------------------------

# As users' scripts have them; a published flag keeps its name, default and meaning.
TRAIN_DEFAULTS = {
    "local_rank": 0,
    "log_dir": str(Path("~/tmp").expanduser()),
    "exp_name": "mdp",
    "dataset": "kitti",
    "split": "eigen_zhou",
    "jpg": False,
    "height": 192,
    "width": 640,
    "frame_ids": [0, -1, 1],
    "use_stereo": False,
    "num_workers": 12,
    "backbone": "hrnet",
    "num_layers": 18,
    "weights_init": "pretrained",
    "pose_model_input": "pairs",
    "pretrained_path": None,
    "models_to_load": ["encoder", "depth", "pose_encoder", "pose"],
    "use_local_crop": False,
    "use_patch_reshuffle": False,
    "num_scales": 1,
    "disparity_smoothness": 1e-3,
    "min_depth": 0.1,
    "max_depth": 100.0,
    "v1_multiscale": False,
    "avg_reprojection": False,
    "disable_automasking": False,
    "predictive_mask": False,
    "no_ssim": False,
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "beta1": 0.9,
    "beta2": 0.999,
    "momentum": 0.9,
    "clip_grad": -1,
    "lr_sche_type": "step",
    "decay_step": [15],
    "decay_rate": 0.1,
    "eta_min": 5e-6,
    "warm_up": 0.0,
    "batch_size": 12,
    "num_epochs": 20,
    "seed": 1234,
    "resume": False,
    "log_frequency": 250,
    "save_frequency": 500,
    "no_cuda": False,
    "eval_split": ["eigen"],
    "no_eval": False,
    "post_process": False,
    "eval_mono": False,
    "eval_stereo": False,
    "disable_median_scaling": False,
    "pred_depth_scale_factor": 1.0,
}
DEFAULTS = {
    "train": TRAIN_DEFAULTS,
    "evaluate_depth": {
        "batch_size": 4,
        "num_workers": 12,
        "post_process": False,
        "use_stereo": False,
        "kitti_path": "kitti",
        "make3d_path": None,
        "nyuv2_path": None,
        "cityscapes_path": None,
        "eval_split": ["eigen"],
        "no_eval": False,
        "eval_mono": False,
        "eval_stereo": False,
        "disable_median_scaling": False,
        "pred_depth_scale_factor": 1.0,
        "ext_disp_to_eval": None,
        "save_pred_disps": False,
        "eval_out_dir": None,
        "eval_eigen_to_benchmark": False,
    },
    "prepare_cityscapes": {
        "seq_length": 3,
        "img_height": 128,
        "img_width": 416,
        "num_threads": 4,
    },
    "test_simple": {"ext": "png", "no_cuda": False, "save_npy": False},
    "test_video": {"ext": "png", "no_cuda": False},
}


@pytest.mark.parametrize("script", DEFAULTS)
def test_published_defaults_hold(script: str):
    found = parsed(script)
    assert {name: found.get(name, "no such flag") for name in DEFAULTS[script]} == DEFAULTS[script]


@pytest.mark.parametrize("script", ["evaluate_depth", "test_simple", "test_video"])
def test_a_checkpoint_is_asked_before_defaults(script: str):
    names = ("backbone", "num_layers", "height", "width", "min_depth", "max_depth")
    assert {parsed(script)[name] for name in names} == {None}


@pytest.mark.parametrize("spelling", ["--local_rank", "--local-rank"])
def test_both_spellings_of_local_rank(spelling: str):
    assert parsed("train", f"{spelling}=1")["local_rank"] == 1
    assert parsed("train", spelling, "1")["local_rank"] == 1


def test_published_process_flags_are_accepted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    parsed("train", "--global_rank", "1", "--world_size", "2")


def launched(folder: Path, script: str, *arguments: str, **roots: str) -> tuple[list[str], ...]:
    """What a shell script runs: the launcher's own words, then those after the Python script.

    Stand-ins for torchrun and python print what they are called with, a word a line.
    """
    bash = shutil.which("bash")
    for name in ("torchrun", "python"):
        (folder / name).write_text(f"#!{bash}\nprintf '%s\\n' \"$@\"\n")
        (folder / name).chmod(0o755)
    run = subprocess.run(
        [bash, str(ROOT / script), *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), **roots},
    )
    words = run.stdout.splitlines()
    name = "evaluate_depth.py" if script == "evaluate.sh" else "train.py"
    place = words.index(str(ROOT / name))
    return words[:place], words[place + 1 :]


# As published; batch_size is of each GPU.
RECIPES = {
    "run_kitti.sh": {
        "batch_size": 10,
        "use_patch_reshuffle": True,
        "log_frequency": 400,
        "save_frequency": 400,
    },
    "run_nyu.sh": {
        "dataset": "nyuv2",
        "split": "",
        "height": 288,
        "width": 384,
        "max_depth": 10.0,
        "batch_size": 16,
        "num_epochs": 50,
        "decay_step": [26, 36],
        "log_frequency": 400,
        "save_frequency": 400,
    },
    "run_cityscapes.sh": {
        "dataset": "cityscapes",
        "split": "",
        "data_path_pre": "/data/the triplets",
        "backbone": "resnet",
        "height": 192,
        "width": 512,
        "use_patch_reshuffle": True,
        "log_frequency": 600,
        "save_frequency": 600,
    },
}


@pytest.mark.parametrize(("script", "gpus"), [*zip(RECIPES, (2, 1, 1), strict=True)])
def test_recipes_are_the_published_ones(tmp_path: Path, script: str, gpus: int):
    """The scripts hand torchrun what the authors trained with."""
    roots = {"DATA": "/data/the raw", "DATA_PRE": "/data/the triplets"}
    launcher, words = launched(tmp_path, script, "--seed", "7", **roots)
    assert f"--nproc_per_node={gpus}" in launcher
    opt = vars(options.train_options(words))
    common = {"data_path": "/data/the raw", "resume": True, "use_local_crop": True, "seed": 7}
    recipe = TRAIN_DEFAULTS | common | RECIPES[script]
    free = {"log_dir", "exp_name", "num_workers", "eval_split"}
    assert {name: opt[name] for name in recipe.keys() - free} == {
        name: value for name, value in recipe.items() if name not in free
    }
    launcher, _ = launched(tmp_path, script, GPUS="4", **roots)
    assert "--nproc_per_node=4" in launcher


@pytest.mark.parametrize(
    ("roots", "paths"),
    [
        (
            {"KITTI": "/data/the kitti"},
            {"kitti_path": "/data/the kitti", "eval_split": ["eigen", "eigen_benchmark"]},
        ),
        (
            {"NYUV2": "n", "MAKE3D": "m", "CITYSCAPES": "c"},
            {"nyuv2_path": "n", "make3d_path": "m", "cityscapes_path": "c", "kitti_path": None},
        ),
    ],
)
def test_evaluate_sh_scores_on_every_root_that_is_set(tmp_path: Path, roots: dict, paths: dict):
    _, words = launched(tmp_path, "evaluate.sh", "--post_process", MODEL="a model.pth", **roots)
    opt = vars(options.evaluate_options(words))
    expected = {"pretrained_path": "a model.pth", "post_process": True, **paths}
    assert {name: opt[name] for name in expected} == expected


# ---- bad values ------------------------------------------------------------------------------

# script, arguments beside the required ones, what the sentence must name
BAD = [
    ("train", "--height 100", "100"),
    ("train", "--width 0", "0"),
    ("train", "--height -32", "-32"),
    ("train", "--height many", "many"),
    ("train", "--backbone vgg", "vgg"),
    ("train", "--num_layers 19", "19"),
    ("train", "--backbone resnet --num_layers 48", "48"),
    ("train", "--weights_init imagenet", "imagenet"),
    ("train", "--pose_model_input triples", "triples"),
    ("train", "--models_to_load depths", "depths"),
    ("train", "--dataset moon", "moon"),
    ("train", "--frame_ids 1 0", "[1, 0]"),
    ("train", "--frame_ids 0 1 1", "[0, 1, 1]"),
    ("train", "--frame_ids 0", "--use_stereo"),
    ("train", "--frame_ids 0 half", "half"),
    ("train", "--num_workers -1", "-1"),
    ("train", "--num_scales 5", "5"),
    ("train", "--num_scales 0", "0"),
    ("train", "--disparity_smoothness -0.5", "-0.5"),
    ("train", "--min_depth 0", "0"),
    ("train", "--min_depth 5 --max_depth 5", "5"),
    ("train", "--max_depth nan", "nan"),
    ("train", "--predictive_mask", "--disable_automasking"),
    ("train", "--v1_multiscale", "--num_scales"),
    ("train", "--avg_reprojection --frame_ids 0 -1", "one source"),
    ("train", "--avg_reprojection --frame_ids 0 --use_stereo", "one source"),
    ("train", "--pose_model_input all --frame_ids 0 --use_stereo", "--frame_ids 0"),
    ("train", "--models_to_load encoder depth", "--pretrained_path"),
    ("train", "--optimizer rmsprop", "rmsprop"),
    ("train", "--optimizer sgd --beta1 0.8", "--beta1"),
    ("train", "--optimizer sgd --beta2 0.99", "--beta2"),
    ("train", "--optimizer adam --momentum 0.8", "--momentum is of --optimizer sgd"),
    ("train", "--optimizer sgd --momentum 1", "'1'"),
    ("train", "--lr_sche_type cos --decay_step 10", "--decay_step is of --lr_sche_type step"),
    ("train", "--lr_sche_type cos --decay_rate 0.5", "--decay_rate"),
    ("train", "--eta_min 1e-6", "--eta_min is of --lr_sche_type cos, got --lr_sche_type step"),
    ("train", "--global_rank 1", "--global_rank 1 of 1"),
    ("train", "--learning_rate 0", "0"),
    ("train", "--learning_rate nan", "nan"),
    ("train", "--learning_rate inf", "inf"),
    ("train", "--weight_decay -1", "-1"),
    ("train", "--beta1 1.5", "1.5"),
    ("train", "--beta1 1", "'1'"),
    ("train", "--beta2 1.0", "1.0"),
    ("train", "--beta2 -0.1", "-0.1"),
    ("train", "--lr_sche_type cos --eta_min 0.01", "--eta_min 0.01"),
    ("train", "--batch_size 1 --height 32 --width 32", "--batch_size 1"),
    ("train", "--clip_grad -2", "-2"),
    ("train", "--clip_grad 0", "0"),
    ("train", "--clip_grad nan", "nan"),
    ("train", "--lr_sche_type linear", "linear"),
    ("train", "--decay_step 0", "0"),
    ("train", "--decay_step 15.5", "15.5"),
    ("train", "--decay_rate 0", "0"),
    ("train", "--warm_up 2", "2"),
    ("train", "--batch_size 0", "0"),
    ("train", "--num_epochs 0", "0"),
    ("train", "--num_epochs 1.5", "1.5"),
    ("train", "--seed -1", "-1"),
    ("train", "--seed 4294967296", "4294967296"),
    ("train", "--log_frequency 0", "0"),
    ("train", "--save_frequency 0", "0"),
    ("train", "--exp_name ../other", "../other"),
    ("train", "--exp_name /abs", "/abs"),
    ("train", f"--exp_name runs/{'a' * 256}", "--exp_name is longer than the 255 bytes"),
    ("train", f"--exp_name {'/'.join(['a' * 250] * 16)}", "longer than 3,800 bytes together"),
    ("train", "--exp_name a\x1bc", r"'a\x1bc'"),
    ("train", f"--log_dir {'a' * 256}", "--log_dir is longer than the 255 bytes"),
    ("train", "--log_dir ~no.such.user/logs", "~no.such.user/logs"),
    ("train", "--log_dir \udcff", r"'\udcff'"),
    ("train", "--config missing.yaml", "missing.yaml: cannot be read"),
    ("train", "--config", "--config"),
    ("train", "--log_dir=--", "--log_dir"),
    ("train", "--dataset cityscapes", "--data_path_pre"),
    ("train", "--data_path a b", "--data_path takes one folder with --dataset kitti, got 2"),
    ("train", "--dataset folder --data_path a b --split c", "--split is one list"),
    ("train", "--dataset folder --data_path a b --val_split c", "--val_split is one list"),
    ("train", "--dataset folder --kitti_intrinsics calib", "--kitti_intrinsics is for KITTI's"),
    ("train", "--dataset folder --jpg", "--jpg is for KITTI's"),
    ("train", "--kitti_intrinsics own", "--kitti_intrinsics"),
    ("train", "--data_path_pre triplets", "--data_path_pre triplets"),
    ("train", "--dataset nyuv2 --jpg", "--jpg"),
    ("train", "--dataset nyuv2 --use_stereo", "--use_stereo"),
    ("train", "--eval_every 0", "0"),
    ("train", "--eval_mono --eval_stereo", "--eval_mono"),
    ("train", "--pred_depth_scale_factor 2", "--disable_median_scaling"),
    ("train", "--ext_disp_to_eval disps.npy", "--ext_disp_to_eval"),
    ("train", "--local_rank -1", "-1"),
    ("train", "--world_size 0", "0"),
    ("train", "--resize_convention nearest", "nearest"),
    ("train", "--heigth 96", "--heigth"),
    ("train", "--heigh 96", "--heigh"),  # no guessing of abbreviations
    ("train", "--height", "--height"),
    ("evaluate_depth", "--batch_size 0", "0"),
    ("evaluate_depth", "--height 100", "100"),
    ("evaluate_depth", "--backbone hrnet --num_layers 50", "50"),
    ("evaluate_depth", "--min_depth 2 --max_depth 1", "2"),
    ("evaluate_depth", "--ext_disp_to_eval disps.npy", "--pretrained_path or --ext_disp_to_eval"),
    ("evaluate_depth", "--eval_eigen_to_benchmark", "--ext_disp_to_eval"),
    ("evaluate_depth", "--no_eval", "--save_pred_disps"),
    ("evaluate_depth", "--eval_out_dir disps", "--save_pred_disps"),
    ("evaluate_depth", "--no_eval --save_pred_disps --save_json a.json", "--save_json"),
    ("evaluate_depth", "--pred_depth_scale_factor 0", "0"),
    ("evaluate_depth", "--pred_depth_scale_factor 2", "--disable_median_scaling"),
    ("evaluate_depth", "--use_stereo --pred_depth_scale_factor 2", "5.4"),
    ("prepare_cityscapes", "--seq_length 5", "5"),
    ("prepare_cityscapes", "--img_width 0", "0"),
    ("test_simple", "--width 33", "33"),
    ("test_simple", "--image", "--image"),
    ("test_simple", "--batch_size 0", "0"),
    ("test_simple", "--save_depth --scale 0", "0"),
    ("test_simple", "--scale 2", "--save_depth"),
    ("test_simple", "--save_ply", "--intrinsics"),
    ("test_simple", "--intrinsics kitti", "--save_ply"),
    ("test_simple", "--intrinsics kitti --show3d view.jpg", "view.jpg"),
    ("test_simple", "--far 10", "--far"),
    ("test_simple", "--save_ply --intrinsics kitti --far 0", "0"),
    ("test_simple", "--save_depth --scale 2 --scale_from_gt a.npy", "--scale_from_gt"),
    ("test_video", "--every 0", "0"),
    ("test_video", "--max_frames 0", "0"),
    ("test_video", "--fps 0", "0"),
    ("test_video", "--fps nan", "nan"),
    ("test_video", "--range steady", "steady"),
    ("test_video", "--save_npy", "--save_npy"),
    ("test_video", "--save_ply a.ply", "--intrinsics"),
    ("test_video", "--save_ply points.obj --intrinsics kitti", "points.obj"),
    ("test_video", "--voxel 1", "--voxel"),
    ("test_video", "--scale 2", "--scale"),
    ("test_video", "--show3d a.png --intrinsics kitti --voxel -1", "-1"),
    ("test_video", "--num_layers none", "none"),
    ("export_model", "--output depth.pth", "depth.pth"),
    ("export_model", "--opset 17", "17"),
    ("export_model", "--tolerance -1", "-1"),
    ("export_model", "--no_cuda", "--no_cuda"),
    ("export_gt_depth", "--num_workers 0", "0"),
    ("render_demo", "--streets 0", "0"),
    ("render_demo", "--seed -3", "-3"),
    ("demo_summary", "--train soon", "soon"),
    ("report", "--compare", "--compare"),
]


@pytest.mark.parametrize(
    ("script", "arguments", "named"), BAD, ids=[" ".join(bad[:2])[:60] for bad in BAD]
)
def test_a_bad_value_is_one_sentence(
    script: str, arguments: str, named: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as end:
        parsed(script, *arguments.split())
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert named in err.removeprefix("error: ")


def test_values_at_the_edge_are_accepted():
    parsed("train", "--beta1", "0", "--beta2", "0.9999", "--seed", str(2**32 - 1))
    parsed("train", "--lr_sche_type", "cos", "--eta_min", "1e-4", "--exp_name", "a" * 255)
    parsed("train", "--batch_size", "1", "--height", "32", "--width", "64")
    parsed("train", "--batch_size", "2", "--height", "32", "--width", "32")
    parsed("train", "--avg_reprojection", "--frame_ids", "0", "1", "--use_stereo")


def test_a_default_that_is_spelled_out_is_no_mistake():
    """Recipes and saved options name every flag."""
    parsed("train", "--optimizer", "sgd", "--beta1", "0.9", "--eta_min", "5e-6")
    parsed("train", "--lr_sche_type", "cos", "--decay_step", "15", "--momentum", "0.9")
    parsed("train", "--models_to_load", "encoder", "depth", "pose_encoder", "pose")


@pytest.mark.parametrize("script", ["train", "evaluate_depth", "evaluate_pose"])
@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_a_launcher_must_tell_numbers(
    script: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(name, "abc")
    with pytest.raises(SystemExit) as end:
        parsed(script)
    assert (end.value.code, capsys.readouterr().err) == (
        2, f"error: {name} in the environment must be a whole number, got 'abc'\n"
    )  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_argument_is_one_sentence(script: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        SCRIPTS[script].parse([])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]*" + SCRIPTS[script].required[0] + r"[^\n]*\n", err)


def test_something_must_be_scored_on(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        options.evaluate_options(MODEL)
    flags = "--kitti_path, --nyuv2_path, --make3d_path, --cityscapes_path or --folder_path"
    assert (end.value.code, flags in capsys.readouterr().err) == (2, True)


def test_disparities_need_no_model(capsys: pytest.CaptureFixture[str]):
    given = ["--ext_disp_to_eval", "disps.npy", "--kitti_path", "kitti"]
    assert options.evaluate_options(given).pretrained_path is None
    with pytest.raises(SystemExit):
        options.evaluate_options([*given, "--post_process"])
    assert "--post_process needs a model's predictions" in capsys.readouterr().err


def test_a_bad_value_ends_the_script_itself():
    run = run_python("train.py", "--data_path", "kitti", "--height", "100")
    assert (run.returncode, run.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]*100[^\n]*\n", run.stderr)
