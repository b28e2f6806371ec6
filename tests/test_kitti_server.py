"""evaluate_depth.py --eval_split benchmark: depth maps for the server that alone has the truth."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_depth
import evaluation_sets
from inference import DepthPredictor
from options import train_options
from tests.tiny_benchmarks import write_kitti
from tests.tiny_model import save_picture, save_tiny_checkpoint
from utils import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "model.pth")


def main(*arguments):
    given = (*arguments, "--no_cuda", "--num_workers", 0)
    evaluate_depth.main([str(argument) for argument in given])


@pytest.fixture
def server(checkpoint, tmp_path, monkeypatch):
    """Flags for three of the server's 500 pictures, with disparities 1/2, 1/40 and a ramp."""
    published, lines = evaluation_sets.split_lines, [f"image {i}" for i in range(3)]
    monkeypatch.setattr(
        evaluation_sets, "split_lines",
        lambda _, name, part: lines if name == "benchmark" else published("kitti", name, part),
    )  # fmt: skip
    for i in range(3):
        save_picture(tmp_path / f"raw/image/image_02/data/{i:010d}.png", i)
    ramp = torch.arange(1, 65).expand(32, 64) / 64
    disps = torch.stack([torch.full((32, 64), 0.5), torch.full((32, 64), 0.025), ramp])
    monkeypatch.setattr(
        DepthPredictor, "scaled_disp", lambda _, images, __: disps[: len(images), None]
    )
    return ["--pretrained_path", checkpoint, "--kitti_path", tmp_path / "raw",
            "--eval_split", "benchmark", "--eval_out_dir", tmp_path / "out"]  # fmt: skip


def read_pngs(folder):
    assert sorted(path.name for path in folder.iterdir()) == [f"{i:010d}.png" for i in range(3)]
    maps = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    assert {each.shape for each in maps} == {(352, 1216)}
    # Bit depth and colour type, grey, in the header: Pillow's name for them has changed.
    assert {path.read_bytes()[24:26] for path in folder.iterdir()} == {bytes([16, 0])}
    return maps


def test_depth_for_the_server_is_in_metres_times_256(server, tmp_path, capsys):
    main(*server, "--use_stereo")
    near, far, ramp = read_pngs(tmp_path / "out")
    assert (near == round(5.4 * 2 * 256)).all()
    assert (far == 80 * 256).all()  # 5.4 * 40 m is beyond the limit
    # The corners keep their disparities, 1/64 (345.6 m) and 1.
    assert (ramp[:, 0] == 80 * 256).all()
    assert (ramp[:, -1] == round(5.4 * 256)).all()
    # Column 405 is 405 / 1215 = 1/3 of the way: 1/64 + 63/64 / 3 = 22/64.
    assert (ramp[:, 405] == round(5.4 * 64 / 22 * 256)).all()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"3 depth maps in {tmp_path / 'out'}")


def test_a_monocular_models_depth_for_the_server_is_scaled_by_the_flag(server, tmp_path):
    main(*server, "--pred_depth_scale_factor", 1.5, "--resize_convention", "half_pixel")
    near, far, ramp = read_pngs(tmp_path / "out")
    assert (near == 3 * 256).all()
    assert (far == 60 * 256).all()
    # 64 pixels become 1216, 19 each: the middle one of the 19 is the old pixel itself.
    assert (ramp[:, 9 + 19 * 31] == 3 * 256).all()


@pytest.mark.parametrize("flags", [("--use_stereo",), ("--pred_depth_scale_factor", 1.5)])
def test_the_server_stands_beside_scores(server, checkpoint, tmp_path, capsys, flags):
    """A monocular model's are scaled by medians there."""
    write_kitti(tmp_path / "set")
    shutil.move(tmp_path / "raw/image", tmp_path / "set/raw/image")
    root, split = tmp_path / "set/raw", tmp_path / "set/split"
    main("--pretrained_path", checkpoint, "--kitti_path", root, "--eval_split", split,
         *(flags if "--use_stereo" in flags else ()))  # fmt: skip
    alone = capsys.readouterr().out.splitlines()
    main(*server, "--kitti_path", root, "--eval_split", split, "benchmark", *flags)
    assert capsys.readouterr().out.splitlines()[:-1] == alone
    read_pngs(tmp_path / "out")


def test_a_broken_picture_leaves_whole_files_only(server, tmp_path):
    (tmp_path / "raw/image/image_02/data/0000000002.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"0000000002\.png"):
        main(*server, "--use_stereo", "--batch_size", 1)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["0000000000.png", "0000000001.png"]
    (tmp_path / "file").write_text("")
    server[server.index(tmp_path / "out")] = tmp_path / "file"
    with pytest.raises(UserError, match="is not a folder"):
        main(*server, "--use_stereo")


@pytest.mark.parametrize(("flags", "sentence"), [
    (("--eval_out_dir", "out"), "no public truth whose medians could scale"),
    (("--eval_out_dir", "out", "--use_stereo", "--eval_mono"), "no public truth whose medians"),
    (("--use_stereo",), "give their folder, --eval_out_dir"),
])  # fmt: skip
def test_what_the_server_needs_is_asked_for(flags, sentence, capsys):
    given = ("--pretrained_path", "none.pth", "--kitti_path", "none", "--eval_split", "benchmark")
    with pytest.raises(SystemExit):
        main(*given, *flags)
    assert sentence in capsys.readouterr().err


def test_what_has_no_true_depth_is_no_test_of_depth(checkpoint, tmp_path, capsys):
    with pytest.raises(UserError, match=r"evaluate_pose\.py --eval_split odom_9"):
        main("--pretrained_path", checkpoint, "--kitti_path", tmp_path, "--eval_split", "odom_9")
    with pytest.raises(SystemExit):
        train_options(["--data_path", str(tmp_path), "--eval_split", "eigen", "benchmark"])
    assert "benchmark has no public truth to score with" in capsys.readouterr().err
