"""test_simple.py from its command line: what it writes, what it leaves alone, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import test_simple
from inference import DepthPredictor
from tests.tiny_model import HEIGHT, WIDTH, save_picture, save_tiny_checkpoint
from utils import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "model.pth")


def run(checkpoint, image_path, *flags):
    flags = ("--pretrained_path", checkpoint, "--image_path", image_path, "--no_cuda", *flags)
    test_simple.main([str(flag) for flag in flags])


def test_one_image(checkpoint, tmp_path, capsys):
    path = save_picture(tmp_path / "street.png", 0)
    run(checkpoint, path, "--save_npy")
    result = tmp_path / "street_disp.jpeg"
    assert {file.name for file in tmp_path.iterdir()} == {
        "street.png", "street_disp.jpeg", "street_disp.npy",
    }  # fmt: skip
    assert Image.open(result).size == (90, 48)
    scaled_disp = np.load(tmp_path / "street_disp.npy")
    assert scaled_disp.shape == (1, 1, HEIGHT, WIDTH)
    assert scaled_disp.dtype == np.float32
    assert 1 / 100 < scaled_disp.min() < scaled_disp.max() < 1 / 0.1
    predictor = DepthPredictor.from_checkpoint(checkpoint)
    expected = predictor.scaled_disp(predictor.prepare(Image.open(path).convert("RGB")))
    torch.testing.assert_close(torch.from_numpy(scaled_disp), expected)
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(result))


def test_near_is_bright(checkpoint, tmp_path):
    run(checkpoint, save_picture(tmp_path / "a.png", 1), "--save_npy")
    disp = np.load(tmp_path / "a_disp.npy")[0, 0]
    picture = Image.open(tmp_path / "a_disp.jpeg").resize((WIDTH, HEIGHT))
    brightness = np.asarray(picture, dtype=float).sum(-1)
    assert np.corrcoef(disp.ravel(), brightness.ravel())[0, 1] > 0.8


def test_a_flag_changes_the_size_and_the_limits(checkpoint, tmp_path):
    path = save_picture(tmp_path / "a.png", 1)
    run(checkpoint, path, "--save_npy", "--height", 64, "--width", 96, "--max_depth", 5)
    scaled_disp = np.load(tmp_path / "a_disp.npy")
    assert scaled_disp.shape == (1, 1, 64, 96)
    assert scaled_disp.min() > 1 / 5


def test_a_folder_into_another_folder(checkpoint, tmp_path, capsys):
    source, output = tmp_path / "in", tmp_path / "out" / "deep"
    sizes = {"a": (48, 90), "b": (40, 70)}
    for seed, (name, size) in enumerate(sizes.items()):
        save_picture(source / f"{name}.png", seed, *size)
    (source / "notes.txt").touch()
    run(checkpoint, source, "--output", output)
    assert {file.name for file in output.iterdir()} == {"a_disp.jpeg", "b_disp.jpeg"}
    for name, (height, width) in sizes.items():
        assert Image.open(output / f"{name}_disp.jpeg").size == (width, height)
    printed = capsys.readouterr().out
    assert "2 of the 3 files" in printed
    assert printed.splitlines()[-1].endswith(str(output))


def test_a_second_run_does_not_predict_the_first_ones_results(checkpoint, tmp_path, capsys):
    save_picture(tmp_path / "a.jpeg", 0)
    for _ in range(2):
        run(checkpoint, tmp_path, "--ext", "jpeg")
    assert {file.name for file in tmp_path.iterdir()} == {"a.jpeg", "a_disp.jpeg"}
    assert "1 are predictions" in capsys.readouterr().out
    with pytest.raises(UserError, match="is a prediction"):
        run(checkpoint, tmp_path / "a_disp.jpeg")


def test_bad_input_is_named(checkpoint, tmp_path):
    with pytest.raises(UserError, match="neither an image nor a folder"):
        run(checkpoint, tmp_path / "missing.png")
    with pytest.raises(UserError, match="neither an image nor a folder"):
        run(checkpoint, tmp_path / ("a" * 300))
    with pytest.raises(UserError, match=r"no \.png image in"):
        run(checkpoint, tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(save_picture(tmp_path / "whole.png", 0).read_bytes()[:200])
    with pytest.raises(UserError, match=r"broken\.png"):
        run(checkpoint, broken)
    with pytest.raises(UserError, match="is a file: name the folder"):
        run(checkpoint, tmp_path / "whole.png", "--output", broken)
    with pytest.raises(UserError, match=r"no_model\.pth"):
        run(tmp_path / "no_model.pth", tmp_path / "whole.png")
    assert {file.name for file in tmp_path.iterdir()} == {"broken.png", "whole.png"}
