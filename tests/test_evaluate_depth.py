"""evaluate_depth.py from its command line, on a made-up drive with known depths."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import evaluate_depth
import evaluation
from datasets.mono_dataset import load_rgb
from evaluation import PROTOCOLS, score_image
from inference import DepthPredictor
from tests.test_floors import ROOT
from tests.tiny_benchmarks import COUNTS, DRIVE, path_flags, write_benchmarks
from tests.tiny_benchmarks import KITTI_FRAMES as FRAMES
from tests.tiny_model import save_picture, save_tiny_checkpoint
from utils import UserError

FILES = {name: f"disps_{name.removeprefix('kitti_')}_split.npy" for name in COUNTS}
CPU = ("--no_cuda", "--num_workers", 0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "model.pth")


@pytest.fixture
def kitti(tmp_path):
    """A data root, and a split folder with its list and its ground truth (of two sizes)."""
    rng, depths = np.random.default_rng(0), {}
    for i, number in enumerate(FRAMES):
        save_picture(tmp_path / f"raw/{DRIVE}/image_02/data/{number:010d}.png", i)
        depths[f"depth_{i:05d}"] = rng.uniform(2, 60, (60 + i % 2, 200)).astype(np.float32)
    split = tmp_path / "split"
    split.mkdir()
    (split / "test_files.txt").write_text("".join(f"{DRIVE} {n} l\n" for n in FRAMES))
    np.savez(split / "gt_depths.npz", **depths)
    return tmp_path / "raw", split, list(depths.values())


def run(checkpoint, root, split, *flags):
    arguments = ["--pretrained_path", checkpoint, "--kitti_path", root, "--eval_split", split]
    arguments += ["--no_cuda", "--num_workers", 0, "--batch_size", 2, *flags]
    evaluate_depth.main([str(argument) for argument in arguments])


def test_the_table_holds_the_scores(checkpoint, kitti, capsys):
    root, split, depths = kitti
    run(checkpoint, root, split)
    lines = capsys.readouterr().out.splitlines()
    assert "32x64" in lines[0]
    assert "M parameters" in lines[0]
    assert "align_corners=True" in lines[2]
    predictor, rows = DepthPredictor.from_checkpoint(checkpoint), []
    for number, depth in zip(FRAMES, depths, strict=True):
        image = load_rgb(root / DRIVE / f"image_02/data/{number:010d}.png")
        disp = predictor.scaled_disp(predictor.prepare(image))[0, 0]
        rows.append(score_image(PROTOCOLS["kitti_eigen"], disp, depth))
    means = np.mean([row.metrics for row in rows], axis=0)
    table = {line.split()[0]: line.split()[1:] for line in lines[5:]}
    np.testing.assert_allclose([float(cell) for cell in table["mean"]], means, atol=6e-4)
    median = np.median([row.ratio for row in rows])
    assert lines[3].startswith(f"images: 3; median scaling, ratios: median {median:.3f}")


def test_flags_reach_the_evaluation(checkpoint, kitti, capsys):
    root, split, _ = kitti
    flags = ("--use_stereo", "--post_process", "--resize_convention", "half_pixel")
    run(checkpoint, root, split, *flags, "--height", 64, "--width", 96)
    printed = capsys.readouterr().out
    assert "64x96" in printed
    assert "align_corners=False" in printed
    assert "images: 3, post-processed; fixed scale 5.4, no median scaling" in printed


def test_cost_is_counted_on_a_copy(checkpoint):
    predictor = DepthPredictor.from_checkpoint(checkpoint)
    before = copy.deepcopy(predictor.network.state_dict())
    text = evaluate_depth.describe_cost(predictor)
    after = predictor.network.state_dict()
    assert list(before) == list(after)
    assert not any(module._forward_hooks for module in predictor.network.modules())
    count = sum(parameter.numel() for parameter in predictor.network.parameters())
    assert f"{count / 1e6:.3f} M parameters" in text
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_is_missing_is_named_before_any_prediction(checkpoint, kitti, monkeypatch):
    root, split, _ = kitti

    def predict(*_):
        raise AssertionError("predicted before everything was found")

    monkeypatch.setattr(DepthPredictor, "predict", predict)
    with pytest.raises(UserError, match="no_root"):
        run(checkpoint, root / "no_root", split)
    with pytest.raises(UserError, match=r"no_model\.pth"):
        run(root / "no_model.pth", root, split)
    (split / "test_files.txt").write_text(f"{DRIVE} 0 l\n")
    with pytest.raises(UserError, match="3 depth maps for 1 test images"):
        run(checkpoint, root, split)
    (split / "gt_depths.npz").unlink()
    with pytest.raises(UserError, match=r"export_gt_depth\.py"):
        run(checkpoint, root, split)


def test_an_image_without_ground_truth_is_named(checkpoint, kitti):
    root, split, depths = kitti
    depths[1][:] = 0
    np.savez(split / "gt_depths.npz", **{f"depth_{i:05d}": d for i, d in enumerate(depths)})
    with pytest.raises(UserError, match=f"{DRIVE} 3 l has no pixel"):
        run(checkpoint, root, split)


# ---- all benchmarks in one run -----------------------------------------------------------------


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The folder of all layouts, and their true depths."""
    root = tmp_path_factory.mktemp("sets")
    return root, write_benchmarks(root)


@pytest.fixture(scope="module")
def true_disps(sets, tmp_path_factory):
    """A folder of 1 / true depth, as predictions of each benchmark."""
    folder = tmp_path_factory.mktemp("true")
    for name, depths in sets[1].items():
        np.save(folder / FILES[name], 1 / depths)
    return folder


def main(*arguments):
    evaluate_depth.main([str(argument) for argument in (*arguments, *CPU)])


def saved_numbers(path):
    return json.loads(path.read_text())["benchmarks"]


def test_every_benchmark_has_its_table(checkpoint, sets, tmp_path, capsys):
    root, _ = sets
    path = tmp_path / "numbers.json"
    main("--pretrained_path", checkpoint, *path_flags(root), "--max_depth", 10,
         "--save_json", path)  # fmt: skip
    printed, told = capsys.readouterr()
    assert "warning" not in told
    *tables, summary = printed.split("\n\n")[1:]
    numbers = saved_numbers(path)
    assert list(numbers) == list(COUNTS)
    rows = {line.split()[0]: line.split()[1:] for line in summary.splitlines()}
    assert rows["summary"][:3] == ["images", "abs_rel", "sq_rel"]
    for table, (name, count) in zip(tables, COUNTS.items(), strict=True):
        assert table.startswith(PROTOCOLS[name].title)
        assert f"images: {count}; median scaling, ratios: median" in table
        mean = numbers[name]["metrics"]["abs_rel"]
        assert rows[name][:2] == [str(count), f"{mean:.3f}"]
        assert numbers[name]["images"] == count
        assert numbers[name]["standard_errors"]["abs_rel"] > 0
    assert json.loads(path.read_text())["model"]["max_depth"] == 10


def test_the_true_depth_is_perfect_on_every_benchmark(sets, true_disps, tmp_path, capsys):
    root, _ = sets
    path = tmp_path / "numbers.json"
    main("--ext_disp_to_eval", true_disps, *path_flags(root), "--save_json", path)
    assert str(true_disps) in capsys.readouterr().out
    for name, result in saved_numbers(path).items():
        assert result["images"] == COUNTS[name]
        assert result["ratio_median"] == pytest.approx(1, abs=1e-6)
        for metric, value in result["metrics"].items():
            expected = 1 if metric in ("a1", "a2", "a3") else 0
            assert value == pytest.approx(expected, abs=2e-5), (name, metric)


def test_one_file_is_for_one_benchmark(sets, true_disps, capsys):
    root, _ = sets
    file = true_disps / FILES["make3d"]
    main("--ext_disp_to_eval", file, *path_flags(root, "make3d"))
    assert "images: 3" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"one benchmark.* disps_nyuv2_split.npy, disps_make3"):
        main("--ext_disp_to_eval", file, *path_flags(root, "make3d", "nyuv2"))
    with pytest.raises(UserError, match=r"make3d_split.npy holds 3 disparity maps for 2 test"):
        main("--ext_disp_to_eval", file, *path_flags(root, "nyuv2"))
    with pytest.raises(UserError, match=r"cannot read the disparities .*: No such file"):
        main("--ext_disp_to_eval", true_disps / "none.npy", *path_flags(root, "nyuv2"))
    with pytest.raises(UserError, match=r"cannot read the disparities .*: File name too long"):
        main("--ext_disp_to_eval", true_disps / ("a" * 300), *path_flags(root, "nyuv2"))


def test_eigen_disparities_are_scored_on_the_benchmark(sets, true_disps, tmp_path, monkeypatch):
    """Two of three images, in another order, have improved ground truth."""
    import evaluation_sets

    (root, _), lists = sets, {}
    lines = [f"{DRIVE} {n} l" for n in FRAMES]
    lists["eigen"], lists["eigen_benchmark"] = lines, [lines[2], lines[0]]
    monkeypatch.setattr("datasets.splits.split_lines", lambda _, name, __: lists[name])
    monkeypatch.setattr(evaluation_sets, "split_lines", lambda _, name, __: lists[name])
    depths = sets[1]["kitti_eigen"][[2, 0]]
    monkeypatch.setattr(evaluation_sets, "kitti_ground_truth", lambda *_: depths)
    path = tmp_path / "numbers.json"
    main("--ext_disp_to_eval", true_disps, "--kitti_path", root / "kitti/raw",
         "--eval_split", "eigen_benchmark", "--eval_eigen_to_benchmark",
         "--save_json", path)  # fmt: skip
    result = saved_numbers(path)["kitti_eigen_benchmark"]
    assert result["images"] == 2
    assert result["metrics"]["abs_rel"] < 1e-5


@pytest.mark.parametrize("flip", [(), ("--post_process",)])
def test_saved_disparities_have_the_scores_of_their_model(checkpoint, sets, tmp_path, flip):
    root, _ = sets
    flags = path_flags(root, "kitti", "nyuv2")
    first, again, out = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "disps"
    main("--pretrained_path", checkpoint, *flags, *flip, "--save_pred_disps",
         "--eval_out_dir", out, "--save_json", first)  # fmt: skip
    assert {path.name for path in out.iterdir()} == {FILES["kitti_eigen"], FILES["nyuv2"]}
    disps = np.load(out / FILES["nyuv2"])
    assert (disps.shape, disps.dtype) == ((2, 32, 64), np.float64 if flip else np.float32)
    main("--ext_disp_to_eval", out, *flags, "--save_json", again)
    for name, result in saved_numbers(first).items():
        assert saved_numbers(again)[name] == result | {"post_process": False}


def test_predictions_are_saved_without_any_truth(checkpoint, sets, tmp_path, capsys):
    root, _ = sets
    model = tmp_path / "model.pth"
    model.write_bytes(checkpoint.read_bytes())
    split = tmp_path / "list"
    split.mkdir()
    (split / "test_files.txt").write_text(f"{DRIVE} 0 l\n")
    main("--pretrained_path", model, "--kitti_path", root / "kitti/raw", "--eval_split", split,
         "--save_pred_disps", "--no_eval")  # fmt: skip
    assert np.load(tmp_path / FILES["kitti_eigen"]).shape == (1, 32, 64)
    assert "abs_rel" not in capsys.readouterr().out


def test_a_run_that_fails_leaves_no_file(checkpoint, sets, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "AHEAD", 0)  # it fails before the last prediction
    root, _ = sets
    split, out = tmp_path / "split", tmp_path / "out"
    split.mkdir()
    (split / "test_files.txt").write_text(f"{DRIVE} 0 l\n{DRIVE} 3 l\n")
    empty = np.zeros((9, 9), np.float32)
    np.savez(split / "gt_depths.npz", depth_00000=empty, depth_00001=empty)
    with pytest.raises(UserError, match="has no pixel to score"):
        main("--pretrained_path", checkpoint, "--kitti_path", root / "kitti/raw", "--eval_split",
             split, "--save_pred_disps", "--eval_out_dir", out, "--save_json", out / "n.json")
    assert not any(out.iterdir())


def test_published_rows_stand_beside_ours(sets, true_disps, capsys):
    root, _ = sets
    main("--ext_disp_to_eval", true_disps, *path_flags(root, "kitti", "nyuv2"),
         "--expect", ROOT / "configs/published_results.csv")  # fmt: skip
    kitti, nyuv2, _ = capsys.readouterr().out.split("\n\n")[1:]
    assert "RA-Depth HRNet18 640x192" in kitti
    assert "-0.096" in kitti
    assert "Depth" not in nyuv2
    with pytest.raises(UserError, match="has no row for make3d"):
        main("--ext_disp_to_eval", true_disps, *path_flags(root, "make3d"),
             "--expect", ROOT / "configs/published_results.csv")  # fmt: skip


def test_what_does_not_compare_is_said(checkpoint, sets, capsys):
    root, _ = sets
    main("--pretrained_path", checkpoint, *path_flags(root, "nyuv2"), "--use_stereo")
    nyu, stereo = capsys.readouterr().err.splitlines()[-2:]
    assert nyu.startswith("warning: NYUv2 is scored with a model whose depths end at 100 m")
    assert stereo.startswith("warning: nyuv2 is scored with depths times 5.4")


def test_a_fixed_scale_is_applied(sets, tmp_path):
    root, depths = sets
    np.save(tmp_path / "half.npy", 2 / depths["nyuv2"])
    main("--ext_disp_to_eval", tmp_path / "half.npy", *path_flags(root, "nyuv2"),
         "--disable_median_scaling", "--pred_depth_scale_factor", 2,
         "--save_json", tmp_path / "n.json")  # fmt: skip
    result = saved_numbers(tmp_path / "n.json")["nyuv2"]
    assert (result["scale"], result["ratio_median"]) == (2.0, None)
    assert result["metrics"]["abs_rel"] < 1e-6


@pytest.mark.parametrize("damage", ["cut", "negative", "missing"])
def test_damaged_files_end_the_script_in_one_sentence(sets, true_disps, tmp_path, damage):
    """From a shell: exit code 2, one line, no traceback."""
    root, depths = sets
    file = tmp_path / FILES["make3d"]
    if damage == "negative":
        np.save(file, -depths["make3d"])
    elif damage == "cut":
        file.write_bytes((true_disps / FILES["make3d"]).read_bytes()[:1000])
    flags = [*path_flags(root, "make3d"), "--ext_disp_to_eval", tmp_path, *CPU]
    command = [sys.executable, ROOT / "evaluate_depth.py", *flags]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 2
    error = [line for line in run.stderr.splitlines() if "error" in line]
    assert error == [run.stderr.splitlines()[-1]]
    assert "Traceback" not in run.stderr
    assert str(file) in error[0]


@pytest.mark.slow
def test_two_processes_print_what_one_does(checkpoint, sets, tmp_path):
    """Of three pictures one process has two."""
    root, _ = sets
    flags = ["--pretrained_path", checkpoint, *path_flags(root, "kitti", "make3d"), *CPU]
    main(*flags, "--save_json", tmp_path / "one.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node", 2, ROOT / "evaluate_depth.py", *flags]
    command += ["--save_json", tmp_path / "two.json"]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("summary") == 1
    one, two = (saved_numbers(tmp_path / f"{name}.json") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, result in one.items():
        for metric, value in result["metrics"].items():
            assert two[name]["metrics"][metric] == pytest.approx(value, rel=1e-5)
