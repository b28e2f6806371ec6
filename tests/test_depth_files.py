"""A prediction as files: depth and its units, names, what is refused, and scale from true depth."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from depth_files import (
    Prediction,
    check_outputs,
    find_truth,
    output_paths,
    scale_to_truth,
    write_prediction,
)
from inference import DepthPredictor
from tests.tiny_model import save_picture
from tool_options import predict_image_options
from utils import UserError


def options(**given: object) -> Namespace:
    opt = predict_image_options(["--image_path", "in", "--pretrained_path", "m.pth"])
    return Namespace(**{**vars(opt), "save_depth": True, **given})


def prediction(path: Path, scale: float | None = None) -> Prediction:
    """Depth 2 in the left half, 5 in the right, for a picture of twice the network's size."""
    disp = np.full((1, 1, 4, 8), 1 / 2, dtype=np.float32)
    disp[..., 4:] = 1 / 5
    return Prediction(path, Image.new("RGB", (16, 8)), disp, scale)


@pytest.mark.parametrize(("scale", "name"), [(None, "depth_unscaled"), (30.0, "depth_m")])
def test_depth_in_float_in_16_bits_and_what_it_is(tmp_path: Path, scale: float | None, name: str):
    predictor = DepthPredictor(nn.Identity(), 4, 8, 0.5, 40.0)
    opt = options(scale=scale, output=tmp_path / "out")
    write_prediction(prediction(tmp_path / "a.png", scale), predictor, opt)
    depth = np.load(tmp_path / "out" / f"a_{name}.npy")
    assert (depth.shape, depth.dtype) == ((8, 16), np.float32)
    np.testing.assert_allclose(depth[:, :7], 2 * (scale or 1), rtol=1e-6)
    np.testing.assert_allclose(depth[:, 9:], 5 * (scale or 1), rtol=1e-6)
    steps = np.asarray(Image.open(tmp_path / "out" / f"a_{name}.png"))
    assert steps.dtype == np.uint16
    assert (steps[0, 0], steps[0, -1]) == (2 * (scale or 1) * 256, 5 * (scale or 1) * 256)
    about = json.loads((tmp_path / "out" / f"a_{name}.json").read_text())
    assert (about["scale"], about["unit"][:8]) == (scale, "m" if scale else "unscaled")
    assert (about["min_depth"], about["max_depth"], about["checkpoint"]) == (0.5, 40.0, "m.pth")
    assert about["network_size"] == {"height": 4, "width": 8}
    assert set(about["files"]) == {f"a_{name}.npy", f"a_{name}.png"}


def test_what_16_bits_cannot_hold_is_counted(tmp_path: Path):
    predictor = DepthPredictor(nn.Identity(), 4, 8)
    write_prediction(prediction(tmp_path / "a.png", 100.0), predictor, options(scale=100.0))
    steps = np.asarray(Image.open(tmp_path / "a_depth_m.png"))
    assert (steps[0, 0], steps[0, -1]) == (200 * 256, 65535)
    about = json.loads((tmp_path / "a_depth_m.json").read_text())
    assert about["pixels_beyond_png"] == (steps == 65535).sum()
    write_prediction(prediction(tmp_path / "b.png", 1e-6), predictor, options(scale=1e-6))
    assert (np.asarray(Image.open(tmp_path / "b_depth_m.png")) == 1).all()  # 0 would mean unknown


def test_results_are_found_out_before_the_work(tmp_path: Path):
    paths = [save_picture(tmp_path / name, 0) for name in ("a.png", "b.png", "x/a.jpg")]
    check_outputs(paths, options())
    with pytest.raises(UserError, match=r"a\.png and .*a\.jpg would both become .*a_disp\.jpeg"):
        check_outputs(paths, options(output=tmp_path / "out"))
    (tmp_path / "b_depth_unscaled.npy").touch()
    with pytest.raises(UserError, match=r"b_depth_unscaled\.npy is there already: --overwrite"):
        check_outputs(paths, options())
    check_outputs(paths, options(overwrite=True))
    check_outputs(paths, options(scale=2.0))
    (tmp_path / "a_disp.jpeg").touch()
    with pytest.raises(UserError, match=r"a_disp\.jpeg \(and 1 more\) is there already"):
        check_outputs(paths, options())
    with pytest.raises(UserError, match=r"a_disp\.jpeg is a file: name the folder"):
        check_outputs(paths, options(output=tmp_path / "a_disp.jpeg", overwrite=True))
    with pytest.raises(UserError, match="is not a folder"):
        check_outputs(paths[:1], options(output=tmp_path / "a_disp.jpeg" / "deep"))
    assert not (tmp_path / "out").exists()


def test_results_that_cannot_be(tmp_path: Path):
    """One file by two spellings, a folder's name, a name that is too long."""
    path = save_picture(tmp_path / "in" / "a.png", 0)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for folder in (tmp_path / "in/./../in", tmp_path / "link"):
        same = str(folder / "a_depth_unscaled.png")
        with pytest.raises(UserError, match=r"two results of .*a\.png would be .*--show3d"):
            check_outputs([path], options(show3d=same, intrinsics="kitti"))
    (tmp_path / "in" / "a_disp.jpeg").mkdir()
    with pytest.raises(UserError, match=r"a_disp\.jpeg cannot be written: a folder has that name"):
        check_outputs([path], options(overwrite=True))
    with pytest.raises(UserError, match=r"_disp\.jpeg has a name of more than 255 bytes"):
        check_outputs([tmp_path / f"{'é' * 123}.png"], options(overwrite=True))
    check_outputs([tmp_path / f"{'a' * 235}.png"], options())
    write_prediction(prediction(tmp_path / f"{'a' * 235}.png"), DepthPredictor(nn.Identity(), 4, 8),
                     options(save_depth=True))  # fmt: skip
    assert len(list(tmp_path.glob("aaa*"))) == 4


def test_scale_is_the_ratio_of_medians_where_truth_is_known(tmp_path: Path):
    truth = np.zeros((8, 16), dtype=np.float32)
    truth[0, :3], truth[0, 9:12] = 40, 110  # ratios 20 and 22; medians over both: 75 / 3.5
    truth[1, 0] = np.inf
    np.save(tmp_path / "a.npy", truth)
    assert scale_to_truth(prediction(Path("a")), tmp_path / "a.npy") == pytest.approx(75 / 3.5)
    truth[1, 0] = 0
    Image.fromarray((truth * 256).astype(np.uint16)).save(tmp_path / "a.png")
    assert scale_to_truth(prediction(Path("a")), tmp_path / "a.png") == pytest.approx(75 / 3.5)
    (tmp_path / "a.png").rename(tmp_path / "A.PNG")
    assert scale_to_truth(prediction(Path("A")), tmp_path / "A.PNG") == pytest.approx(75 / 3.5)
    assert find_truth(Path("in/A.jpg"), 2, str(tmp_path)) == tmp_path / "A.PNG"
    np.save(tmp_path / "double.npy", np.full((16, 32), 8.0))  # of another size, half of it at 2
    assert scale_to_truth(prediction(Path("a")), tmp_path / "double.npy") == pytest.approx(
        8 / np.median(1 / prediction(Path("a")).disp_at(16, 32))
    )


def test_truth_that_does_not_fit_is_named(tmp_path: Path):
    arrays = {
        "known at no pixel": np.zeros((8, 16), np.float32),
        "is 8x16 .width x height., of another shape than": np.ones((16, 8), np.float32),
        "no array of floats": np.ones((8, 16), np.uint16),
        "no array of floats .height": np.ones((1, 8, 16), np.float32),
    }
    for words, array in arrays.items():
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(UserError, match=f"true depth .*a.npy is {words}|a.npy {words}"):
            scale_to_truth(prediction(Path("p.png")), tmp_path / "a.npy")
    unclosed = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (8, "
    for damaged in (b"no array", b"PK\3\4garbage", unclosed.ljust(128)):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(UserError, match=r"cannot read the true depth .*a\.npy"):
            scale_to_truth(prediction(Path("p.png")), tmp_path / "a.npy")
    Image.new("L", (16, 8)).save(tmp_path / "a_8.png")
    with pytest.raises(UserError, match=r"depth map .*a_8\.png is no 16-bit grey PNG"):
        scale_to_truth(prediction(Path("p.png")), tmp_path / "a_8.png")


def test_truth_is_found_by_name(tmp_path: Path):
    (tmp_path / "b.png").touch()
    assert find_truth(Path("in/b.jpg"), 2, str(tmp_path)) == tmp_path / "b.png"
    assert find_truth(Path("in/a.jpg"), 1, "truth.npy") == Path("truth.npy")
    with pytest.raises(UserError, match=r"holds neither a\.npy nor a\.png"):
        find_truth(Path("in/a.jpg"), 2, str(tmp_path))
    with pytest.raises(UserError, match="for 2 pictures, a folder of true depth"):
        find_truth(Path("in/a.jpg"), 2, "truth.npy")


def test_names(tmp_path: Path):
    opt = options(save_npy=True, scale=2.0, output=str(tmp_path))
    names = {path.name for path in output_paths(Path("in/street.v2.png"), opt).values()}
    assert names == {
        "street.v2_disp.jpeg", "street.v2_disp.npy", "street.v2_depth_m.npy",
        "street.v2_depth_m.png", "street.v2_depth_m.json",
    }  # fmt: skip
    plain = output_paths(Path("in/a.png"), options(save_depth=False))
    assert plain == {"colours": Path("in/a_disp.jpeg")}
