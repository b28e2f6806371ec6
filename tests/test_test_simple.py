"""test_simple.py from its command line: what it writes, what it leaves alone, what it refuses."""

from __future__ import annotations

import json

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
    for again in ([], ["--overwrite"]):
        run(checkpoint, tmp_path, "--ext", "jpeg", *again)
    with pytest.raises(UserError, match=r"a_disp\.jpeg is there already: --overwrite"):
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
    with pytest.raises(UserError, match="--cmap magna is no colour map"):
        run(checkpoint, tmp_path / "whole.png", "--cmap", "magna")
    with pytest.raises(UserError, match=r"no_model\.pth"):
        run(tmp_path / "no_model.pth", tmp_path / "whole.png")
    assert {file.name for file in tmp_path.iterdir()} == {"broken.png", "whole.png"}


def standardised(path):
    """A saved disparity less its mean, over its deviation: an untrained network's is small."""
    disp = np.load(path)
    assert (disp.shape, disp.dtype) == ((1, 1, HEIGHT, WIDTH), np.float32)
    return (disp - disp.mean(dtype=float)) / disp.std(dtype=float)


def test_pictures_of_many_kinds_in_batches(checkpoint, tmp_path):
    """Stored turned or with 16 bits, a picture's disparity is that of the upright, plain one."""
    plain = Image.open(save_picture(tmp_path / "in" / "1.png", 5))
    exif = Image.Exif()
    exif[0x0112] = 8  # stored a quarter turn clockwise from upright: shown counterclockwise
    plain.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "in" / "2.png", exif=exif)
    grey = plain.convert("L")
    grey.save(tmp_path / "in" / "3.png")
    deep = np.asarray(grey).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "in" / "10.png")
    run(checkpoint, str(tmp_path / "in/*"), "--output", tmp_path / "out", "--save_npy",
        "--batch_size", 3)  # fmt: skip
    disps = {n: standardised(tmp_path / f"out/{n}_disp.npy") for n in (1, 2, 3, 10)}
    assert np.abs(disps[2] - disps[1]).mean() < 0.05
    assert np.abs(disps[10] - disps[3]).mean() < 0.05
    assert np.abs(disps[3] - disps[1]).mean() > 0.2
    assert Image.open(tmp_path / "out/2_disp.jpeg").size == (90, 48)


def test_post_processing_blends_with_the_mirror_image(checkpoint, tmp_path):
    save_picture(tmp_path / "a.png", 0)
    Image.open(tmp_path / "a.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        tmp_path / "b.png"
    )
    run(checkpoint, tmp_path, "--save_npy", "--post_process")
    a, b = (standardised(tmp_path / f"{name}_disp.npy") for name in "ab")
    assert np.abs(a - b[..., ::-1]).mean() < 0.05
    run(checkpoint, tmp_path, "--save_npy", "--overwrite")
    a, b = (standardised(tmp_path / f"{name}_disp.npy") for name in "ab")
    assert np.abs(a - b[..., ::-1]).mean() > 0.2


def test_colours_of_another_map(checkpoint, tmp_path):
    run(checkpoint, save_picture(tmp_path / "a.png", 1), "--cmap", "gray")
    pixels = np.asarray(Image.open(tmp_path / "a_disp.jpeg")).astype(int)
    assert np.ptp(pixels, axis=-1).max() <= 2


def test_depth_in_metres_by_a_factor_and_by_true_depth(checkpoint, tmp_path):
    for seed, name in enumerate("ab"):
        save_picture(tmp_path / f"{name}.png", seed)
    run(checkpoint, tmp_path, "--save_depth")
    unscaled = {name: np.load(tmp_path / f"{name}_depth_unscaled.npy") for name in "ab"}
    assert unscaled["a"].shape == (48, 90)
    run(checkpoint, tmp_path, "--save_depth", "--scale", 2.5, "--output", tmp_path / "by_factor")
    (tmp_path / "truth").mkdir()
    for name, factor in zip("ab", (3, 4), strict=True):
        np.save(tmp_path / "truth" / f"{name}.npy", unscaled[name] * factor)
    run(checkpoint, tmp_path, "--save_depth", "--scale_from_gt", tmp_path / "truth",
        "--output", tmp_path / "by_truth", "--batch_size", 2)  # fmt: skip
    for name, factor in zip("ab", (3, 4), strict=True):
        by_factor = np.load(tmp_path / "by_factor" / f"{name}_depth_m.npy")
        np.testing.assert_allclose(by_factor, unscaled[name] * 2.5, rtol=1e-5)
        by_truth = np.load(tmp_path / "by_truth" / f"{name}_depth_m.npy")
        np.testing.assert_allclose(by_truth, unscaled[name] * factor, rtol=1e-4)
        about = json.loads((tmp_path / "by_truth" / f"{name}_depth_m.json").read_text())
        assert about["scale"] == pytest.approx(factor, rel=1e-4)
        assert about["network_size"] == {"height": HEIGHT, "width": WIDTH}
        assert about["checkpoint"] == str(checkpoint)
    # The scaled disparity is in the network's unit, whatever the scale.
    run(checkpoint, tmp_path / "a.png", "--save_depth", "--scale", 2.5, "--save_npy", "--overwrite",
        "--output", tmp_path / "by_factor")  # fmt: skip
    disp = np.load(tmp_path / "by_factor/a_disp.npy")
    assert np.median(1 / disp) == pytest.approx(np.median(unscaled["a"]), rel=0.1)


def test_a_broken_picture_is_skipped_or_stops(checkpoint, tmp_path, capsys):
    paths = [save_picture(tmp_path / f"{i}.png", i) for i in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    with pytest.raises(UserError, match=r"1\.png"):
        run(checkpoint, tmp_path, "--strict", "--output", tmp_path / "strict")
    run(checkpoint, tmp_path, "--batch_size", 2)
    captured = capsys.readouterr()
    assert f"skipped: cannot read the image {paths[1]}" in captured.err
    assert "2 coloured disparities (1 skipped)" in captured.out
    assert not (tmp_path / "1_disp.jpeg").exists()
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 images of"):
        run(checkpoint, tmp_path, "--overwrite")


def test_nothing_is_done_for_results_that_cannot_be_written(checkpoint, tmp_path, monkeypatch):
    path = save_picture(tmp_path / "a.png", 0)
    monkeypatch.setattr(
        DepthPredictor, "from_checkpoint", lambda *_: pytest.fail("the network was loaded")
    )
    with pytest.raises(UserError, match=r"cannot write the folder .*a\.png/deep"):
        run(checkpoint, path, "--output", path / "deep")


def test_no_result_replaces_what_is_read(checkpoint, tmp_path):
    """Not even with --overwrite, and however it is spelled."""
    path = save_picture(tmp_path / "a.png", 0)
    run(checkpoint, path, "--save_depth", "--output", tmp_path / "truth")
    truth = tmp_path / "truth" / "a.npy"
    (tmp_path / "truth" / "a_depth_unscaled.npy").rename(truth)
    (tmp_path / "link").symlink_to(tmp_path / "truth")
    camera = tmp_path / "camera.png"
    camera.write_text("80 80 45 24")
    for flags in (
        (path, "--show3d", tmp_path / "truth/../a.png", "--intrinsics", "kitti"),
        (path, "--show3d", camera, "--intrinsics", camera),
        (path, "--show3d", tmp_path / "model.png", "--intrinsics", "kitti", "--pretrained_path",
         tmp_path / "model.png"),
        (tmp_path, "--show3d", tmp_path / "b.png", "--intrinsics", "kitti", "--ext", "jpg"),
        (path, "--save_depth", "--scale_from_gt", tmp_path / "link/a_depth_m.npy", "--output",
         tmp_path / "truth"),
    ):
        if flags[0] == tmp_path:
            (tmp_path / "b.png").symlink_to(save_picture(tmp_path / "only.jpg", 1))
        for name in ("model.png", "truth/a_depth_m.npy"):
            (tmp_path / name).write_bytes(truth.read_bytes())
        before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        with pytest.raises(UserError, match=r"would replace .*, which is read"):
            run(checkpoint, *flags, "--overwrite")
        after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        assert after == before


def test_a_picture_that_does_not_fit_is_skipped_before_anything_is_written(
    checkpoint, tmp_path, capsys
):
    folder = tmp_path / "in"
    for seed, (name, size) in enumerate({"a": (48, 90), "b": (90, 48), "c": (48, 90)}.items()):
        save_picture(folder / f"{name}.png", seed, *size)
        np.save(folder / f"{name}.npy", np.full(size, 5.0 * (name != "c")))
    flags = (folder, "--save_depth", "--save_ply", "--intrinsics", "80,80,45,24",
             "--scale_from_gt", folder, "--output", tmp_path / "out")  # fmt: skip
    run(checkpoint, *flags, "--batch_size", 3)
    assert {file.name.split("_")[0] for file in (tmp_path / "out").iterdir()} == {"a"}
    captured = capsys.readouterr()
    assert "1 coloured disparities (2 skipped)" in captured.out
    assert "b.png is 48x90" in captured.err
    assert "c.npy is known at no pixel" in captured.err
    with pytest.raises(UserError, match=r"b\.png is 48x90 .* cx 45, expected 12 to 36"):
        run(checkpoint, *flags, "--strict", "--overwrite")
    with pytest.raises(UserError, match=r"no point of .*a\.png: .* --far"):
        run(checkpoint, folder / "a.png", "--save_ply", "--intrinsics", "80,80,45,24", "--far",
            0.01)  # fmt: skip
    assert not (folder / "a_disp.jpeg").exists()


def test_a_network_that_predicts_no_numbers_is_named(checkpoint, tmp_path, monkeypatch):
    paths = [save_picture(tmp_path / f"{i}.png", i) for i in range(2)]
    monkeypatch.setattr(DepthPredictor, "scaled_disp",
                        lambda self, _, __: torch.full((1, 1, self.height, self.width), torch.nan))
    with pytest.raises(UserError, match=r"model\.pth predicts numbers for .*0\.png .* not finite"):
        run(checkpoint, tmp_path)
    assert sorted(tmp_path.iterdir()) == paths
