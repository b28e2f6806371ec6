"""Predicting with a depth network: modes, mirroring, settings, colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from checkpoint import save_checkpoint
from inference import DepthPredictor, blend_mirrored, colourise, resize_disp
from networks import build_depth_network
from utils import UserError


class Column(nn.Module):
    """A stand-in: disparity is half the red channel plus the column's place, so it sees sides."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.modes = []

    def forward(self, images):
        self.modes.append(self.training)
        position = torch.linspace(0, 0.5, images.shape[-1])
        return {0: 0.5 * images[:, :1] + position}


def test_uint8_and_float_images_agree():
    predictor = DepthPredictor(Column(), 4, 6)
    images = torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8)
    torch.testing.assert_close(predictor.predict(images), predictor.predict(images.float() / 255))


def test_a_network_in_training_is_put_back():
    network = Column().train()
    predictor = DepthPredictor(network, 4, 6)
    disp = predictor.predict(torch.rand(1, 3, 4, 6))
    assert network.modes == [False]
    assert network.training
    assert network.norm.training
    assert not disp.requires_grad


def test_post_processing_turns_to_the_mirrored_pass_at_the_left():
    images = torch.rand(1, 3, 4, 101)
    predictor = DepthPredictor(Column(), 4, 101)
    plain = predictor.predict(images)
    mirrored = predictor.predict(images.flip(-1)).flip(-1)
    blended = predictor.predict(images, post_process=True)
    assert blended.dtype == torch.float64
    torch.testing.assert_close(blended[..., :6], mirrored[..., :6].double())
    torch.testing.assert_close(blended[..., -6:], plain[..., -6:].double())
    middle = (plain + mirrored)[..., 11:-11].double() / 2
    torch.testing.assert_close(blended[..., 11:-11], middle)


def test_blending_a_prediction_with_itself_changes_nothing():
    disp = torch.rand(2, 1, 3, 40)
    torch.testing.assert_close(blend_mirrored(disp, disp), disp.double())


def test_scaled_disp_keeps_to_the_depth_limits():
    predictor = DepthPredictor(nn.Identity(), 1, 2, min_depth=0.5, max_depth=20.0)
    predictor.predict = lambda images, post_process: torch.tensor([0.0, 1.0])  # noqa: ARG005
    torch.testing.assert_close(predictor.scaled_disp(None), torch.tensor([1 / 20, 1 / 0.5]))


def test_prepare_gives_the_networks_size():
    image = Image.fromarray(np.full((30, 50, 3), (10, 20, 30), dtype=np.uint8))
    prepared = DepthPredictor(nn.Identity(), 32, 64).prepare(image)
    assert prepared.shape == (1, 3, 32, 64)
    assert prepared.dtype == torch.uint8
    assert prepared[0, :, 5, 5].tolist() == [10, 20, 30]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_depth_network("resnet", 18)


def state_of(network):
    return {name: part.state_dict() for name, part in network.parts().items()}


def test_a_checkpoint_predicts_as_the_network_it_came_from(network, tmp_path):
    path = tmp_path / "model.pth"
    save_checkpoint(path, {**state_of(network), "height": 32, "width": 64, "max_depth": 10.0})
    predictor = DepthPredictor.from_checkpoint(path)
    assert (predictor.height, predictor.width) == (32, 64)
    assert (predictor.min_depth, predictor.max_depth) == (0.1, 10.0)
    images = torch.rand(1, 3, 32, 64)
    expected = DepthPredictor(network, 32, 64).predict(images)
    assert torch.equal(predictor.predict(images), expected)
    assert 0 < expected.min() < expected.max() < 1


def test_a_flag_wins_over_the_checkpoint_and_the_checkpoint_over_the_default(network, tmp_path):
    path = tmp_path / "model.pth"
    save_checkpoint(path, state_of(network))
    predictor = DepthPredictor.from_checkpoint(path)
    settings = ("height", "width", "min_depth", "max_depth")
    assert [getattr(predictor, name) for name in settings] == [192, 640, 0.1, 100.0]
    recorded = {"backbone": "resnet", "num_layers": 18, "height": 64, "min_depth": 0.2}
    save_checkpoint(path, {**state_of(network), **recorded})
    predictor = DepthPredictor.from_checkpoint(path, height=32, max_depth=80.0)
    assert [getattr(predictor, name) for name in settings] == [32, 640, 0.2, 80.0]


def test_limits_that_exclude_each_other_are_refused(network, tmp_path):
    path = tmp_path / "model.pth"
    save_checkpoint(path, {**state_of(network), "max_depth": 10.0})
    with pytest.raises(UserError, match="min_depth 20 must be below max_depth 10"):
        DepthPredictor.from_checkpoint(path, min_depth=20.0)


def test_another_backbone_than_the_files_is_refused(network, tmp_path):
    path = tmp_path / "model.pth"
    save_checkpoint(path, {**state_of(network), "height": 32, "width": 64})
    with pytest.raises(UserError, match=r"model\.pth.*resnet"):
        DepthPredictor.from_checkpoint(path, "resnet", 50)


@pytest.mark.parametrize("flags", [(), ("resnet", 18)])
def test_networks_of_something_else_are_refused(tmp_path, flags):
    path = tmp_path / "model.pth"
    save_checkpoint(path, {"encoder": {"x": torch.zeros(1)}, "depth": {"y": torch.zeros(1)}})
    with pytest.raises(UserError, match=r"model\.pth holds no depth network of this project"):
        DepthPredictor.from_checkpoint(path, *flags)


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ({"height": 100}, "the height 100, where a multiple of 32"),
        ({"height": "64"}, "the height 64, where a multiple of 32"),
        ({"width": -32}, "the width -32, where a multiple of 32"),
        ({"width": torch.zeros(9, 9)}, "the width of type Tensor, where a multiple of 32"),
        ({"min_depth": 0}, "the min_depth 0, where a number above 0"),
        ({"max_depth": float("inf")}, "the max_depth inf, where a number above 0"),
        ({"max_depth": float("nan")}, "the max_depth nan, where a number above 0"),
        ({"max_depth": None}, "the max_depth of type NoneType, where a number above 0"),
        ({"backbone": "vgg", "num_layers": 18}, "there is no backbone vgg 18, which"),
        ({"backbone": "hrnet", "num_layers": 50}, "there is no backbone hrnet 50, which"),
        ({"backbone": [1], "num_layers": 18.0}, "there is no backbone of type list 18.0, which"),
    ],
)
def test_what_a_checkpoint_records_is_checked(network, tmp_path, recorded, words):
    path = tmp_path / "model.pth"
    save_checkpoint(path, state_of(network) | recorded)
    with pytest.raises(UserError, match=words) as caught:
        DepthPredictor.from_checkpoint(path)
    assert str(path) in str(caught.value)
    flags = {"backbone": "resnet", "num_layers": 18, "height": 32, "width": 32,
             "min_depth": 1.0, "max_depth": 2.0}  # fmt: skip
    assert DepthPredictor.from_checkpoint(path, **flags).height == 32


def test_colours_run_from_the_smallest_to_the_95th_percentile():
    disp = np.arange(101, dtype=np.float32).reshape(1, 101)
    picture = colourise(disp)
    assert picture.shape == (1, 101, 3)
    assert picture.dtype == np.uint8
    # magma runs from nearly black to a light yellow: far is dark, near is bright.
    assert picture[0, 0].tolist() == [0, 0, 3]
    assert (picture[0, 95:] == picture[0, -1]).all()
    assert (np.diff(picture.astype(int).sum(-1)[0, :95:8]) > 0).all()
    assert colourise(np.ones((2, 2))).shape == (2, 2, 3)


def test_resize_keeps_a_plane():
    disp = torch.full((1, 1, 3, 5), 0.25)
    torch.testing.assert_close(resize_disp(disp, (7, 9)), torch.full((1, 1, 7, 9), 0.25))


def test_colours_between_given_limits_in_a_given_map():
    picture = colourise(np.array([[0.0, 1.0, 2.0, 9.0]]), "gray", (1.0, 3.0))
    assert picture[0, :, 1].tolist() == [0, 0, 128, 255]
    with pytest.raises(UserError, match="--cmap magna is no colour map"):
        colourise(np.ones((2, 2)), "magna")
