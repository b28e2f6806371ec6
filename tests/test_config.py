"""--config: what a file may hold, who wins, the files we ship, and the one that a run leaves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from options import evaluate_options, train_options
from run_log import options_file
from tests.test_floors import ROOT
from tests.test_options import RECIPES, TRAIN_DEFAULTS

DATA = ["--data_path", "kitti"]


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, text: str | bytes, name: str = "my.yaml") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


# ---- values, and who wins --------------------------------------------------------------------


def test_a_file_speaks_for_the_command_line(tmp_path: Path):
    text = """\
data_path: ~/my kitti   # required, and as the flag takes it
height: 96
learning_rate: 1e-3     # YAML reads a text here
clip_grad: 2
decay_step: 5
frame_ids: [0, 1]
exp_name: "007"
jpg: true
resume: false
"""
    given = "--jpg --height 96 --learning_rate 1e-3 --clip_grad 2 --decay_step 5 --frame_ids 0 1"
    given = [*given.split(), "--data_path", "~/my kitti", "--exp_name", "007"]
    assert train_options(["--config", write(tmp_path, text)]) == train_options(given)


def test_the_command_line_wins_over_files_and_later_files_over_earlier(tmp_path: Path):
    first = write(tmp_path, "height: 96\nwidth: 96\nseed: 1\nresume: true\n", "first.yaml")
    second = write(tmp_path, "width: 128\nseed: 2\n", "second.yaml")
    for files in (["--config", first, second], ["--config", first, "--config", second]):
        for given in ([*files, "--seed", "3"], ["--seed", "3", *files]):
            opt = train_options([*DATA, *given])
            assert (opt.height, opt.width, opt.seed, opt.resume) == (96, 128, 3, True)


def test_a_flag_of_a_file_can_be_switched_off(tmp_path: Path):
    path = write(tmp_path, "use_local_crop: true\nno_eval: true\neval_stereo: true\n")
    given = ["--no-use_local_crop", "--no-no_eval", "--no-eval_stereo", "--eval_mono"]
    opt = train_options([*DATA, "--config", path, *given])
    assert (opt.use_local_crop, opt.no_eval, opt.eval_stereo) == (False, False, False)
    assert train_options([*DATA, "--config", path]).no_eval


def test_an_empty_file_sets_nothing(tmp_path: Path):
    path = write(tmp_path, "# nothing\n")
    assert train_options([*DATA, "--config", path]) == train_options(DATA)


def test_evaluation_takes_files_too(tmp_path: Path):
    path = write(tmp_path, b"\xef\xbb\xbfkitti_path: kitti\neval_split: [eigen, eigen_benchmark]\n")
    opt = evaluate_options(["--pretrained_path", "a.pth", "--config", path])
    assert (opt.kitti_path, opt.eval_split) == ("kitti", ["eigen", "eigen_benchmark"])


# ---- bad files -------------------------------------------------------------------------------

# what the file holds, what the sentence must name beside the file
BAD_FILES = [
    ("height: 190", "height: expected a multiple of 32, such as 192, got 190"),
    ("heigth: 192", "heigth is no option of a file: did you mean height?"),
    ("foo: 192", "foo"),
    ("help: true", "help"),
    ("height: 192\nheight: 96", "height is there twice, in lines 1 and 2"),
    ("local_rank: 0\nlocal-rank: 1", "local-rank"),
    ("config: other.yaml", "config"),
    ("- height", "lines such as"),
    ("height", "lines such as"),
    ("model: {height: 192}", "model: "),
    ("height: {a: 192}", "height: "),
    ("frame_ids: [0, [1]]", "frame_ids: "),
    ("frame_ids: []", "frame_ids: expected at least one value"),
    ("frame_ids: 0 -1 1", "frame_ids: "),
    ("height: [192, 96]", "height: expected one value"),
    ("height:", "height: "),
    ("height: true", "height: "),
    ("resume: 1", "resume: expected true or false, got 1"),
    ("resume: 'true'", "resume: expected true or false"),
    ("exp_name: 007", "exp_name: expected a text, got 7: put it in quotes"),
    ("exp_name: on", "exp_name: expected a text, got True: put it in quotes"),
    ("exp_name: 2026-11-22", "exp_name: "),
    ('exp_name: "a\\0"', "exp_name: "),
    ('exp_name: "\\ud800"', "exp_name: "),
    ("exp_name: ../other", "--exp_name"),
    ("dataset: moon", "dataset: expected one of kitti, "),
    ("num_scales: 7", "num_scales: expected one of 1, 2, 3, 4, got 7"),
    ("learning_rate: .nan", "learning_rate: expected a number above 0"),
    ("min_depth: 5\nmax_depth: 5", "--min_depth 5"),
    ("eval_mono: true\neval_stereo: true", "--eval_mono"),
    ("1: 2", "line 1"),
    ("? [a]\n: 2", "line 1"),
    ("height: [1", "line 1"),
    ("height: 1\n---\nheight: 2", "line 2"),
    ("height: !!python/object/apply:os.getcwd []", "line 1"),
    ("height: !!int x", "no YAML file"),
    ("exp_name: *name", "line 1"),
    ("[" * 3000, "no YAML file"),
    (b"\xff\xfe", "UTF-8"),
    (b"height: \x01", "no YAML file"),
]


@pytest.mark.parametrize(
    ("text", "named"), BAD_FILES, ids=[repr(text)[:40] for text, _ in BAD_FILES]
)
def test_a_bad_file_is_one_sentence(
    text: str | bytes, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = write(tmp_path, text)
    with pytest.raises(SystemExit) as end:
        train_options([*DATA, "--config", path])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert named in err
    assert named.startswith("--") or err.startswith(f"error: {path}: ")


def test_a_folder_is_no_file_of_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        train_options([*DATA, "--config", str(tmp_path)])
    assert capsys.readouterr().err == f"error: {tmp_path}: cannot be read: Is a directory\n"


# ---- the files we ship -----------------------------------------------------------------------

# The rows of the published tables, each by the recipe of its data set.
CONFIGS = {
    "kitti_hrnet18_640x192": ("run_kitti.sh", "hrnet"),
    "kitti_resnet18_640x192": ("run_kitti.sh", "resnet"),
    "nyu_hrnet18_384x288": ("run_nyu.sh", "hrnet"),
    "cs_resnet18_512x192": ("run_cityscapes.sh", "resnet"),
    "cs_hrnet18_512x192": ("run_cityscapes.sh", "hrnet"),
}


def test_a_file_for_each_row():
    assert {path.stem for path in (ROOT / "configs").glob("*.yaml")} == CONFIGS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_each_file_is_the_published_recipe(name: str):
    script, backbone = CONFIGS[name]
    given = ["--config", str(ROOT / "configs" / f"{name}.yaml"), "--data_path", "/data"]
    if script == "run_cityscapes.sh":
        given += ["--data_path_pre", "/data/the triplets"]
    own = {"exp_name": name, "backbone": backbone, "use_local_crop": True, "resume": True}
    recipe = TRAIN_DEFAULTS | RECIPES[script] | own
    opt = vars(train_options(given))
    assert {option: opt[option] for option in recipe} == recipe
    others = vars(train_options(DATA))
    paths = {"data_path", "data_path_pre"}
    assert {o: opt[o] for o in opt.keys() - recipe.keys() - paths} == {
        o: others[o] for o in others.keys() - recipe.keys() - paths
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_each_file_says_which_row_it_is(name: str):
    first, second, *_ = (ROOT / "configs" / f"{name}.yaml").read_text().splitlines()
    size, network = name.rpartition("_")[2], "ResNet18" if "resnet" in name else "HRNet18"
    assert re.fullmatch(rf"# .*BDEdepth {network} {size}.*", first)
    assert second.startswith("# Published ")
    if name.startswith("cs_"):
        table = (ROOT / "configs" / "published_results.csv").read_text().splitlines()
        row = next(row for row in table if row.startswith(f"cityscapes,BDEdepth {network}"))
        assert second.partition(": ")[2].rstrip(".").split() == row.split(",")[2:9]


# ---- the file that a run leaves --------------------------------------------------------------

MANY = (
    "--data_path /my/data --exp_name 007 --log_dir logs/on --dataset kitti_odom --frame_ids 0 -1 "
    "--learning_rate 1e-5 --decay_step 9 3 --resume --use_stereo --eval_split odom_9 06 --seed 3 "
    "--pretrained_path 1e3 --models_to_load encoder --clip_grad 1.5 --local_rank 2"
)


@pytest.mark.parametrize("given", ["--data_path kitti", "--data_path nyu --dataset nyuv2", MANY])
def test_a_run_is_repeated_from_its_own_file(given: str, tmp_path: Path):
    opt = train_options(given.split())
    path = write(tmp_path, options_file(vars(opt)))
    again = train_options(["--config", path])
    opt.local_rank = 0  # a launcher's, not the run's
    assert again == opt
