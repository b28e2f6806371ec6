"""The networks against the published ones: tensor names and shapes, and forward passes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from layers import transformation_from_parameters
from networks import build_depth_network, build_pose_network, pose_num_layers

BACKBONES = ["hrnet-18", "resnet-18", "resnet-50"]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
# number of frames -> (motion used, inverted, name) of the recorded 4x4 matrices
MATRICES = {
    2: [(0, False, "matrix_invert0"), (0, True, "matrix_invert1")],
    3: [(0, False, "matrix_0"), (1, False, "matrix_1")],
}


def build_parts(name, num_scales, num_frames=2):
    backbone, num_layers = name.split("-")
    depth = build_depth_network(backbone, int(num_layers), range(num_scales))
    pose = build_pose_network(pose_num_layers(backbone, int(num_layers)), num_frames)
    return {**depth.parts(), **pose.parts()}


def fill(goldens, parts):
    """Weights by the rule of the golden set; evaluation mode."""
    offset = goldens.settings["offset"]
    for part, module in parts.items():
        for key, tensor in module.state_dict().items():
            if not key.startswith("encoder.fc."):
                weight = goldens.recipes.weight_array(part, key, tensor.shape, offset)
                tensor.copy_(torch.from_numpy(weight))
        module.eval()


def frames_of(goldens):
    """The three pictures: frame 0, -1, 1, each (1, 3, H, W)."""
    image_u8 = goldens.npz("forward")["image_u8"]
    images = torch.from_numpy(goldens.recipes.to_float(image_u8))
    return {frame: images[i : i + 1] for i, frame in enumerate((0, -1, 1))}


@pytest.mark.parametrize("num_scales", [1, 4])
@pytest.mark.parametrize("name", BACKBONES)
def test_state_dicts_have_the_published_names_shapes_types_and_order(goldens, name, num_scales):
    with torch.device("meta"):
        parts = build_parts(name, num_scales)
    manifest = goldens.json("state_dict_manifest")["manifest"][name]
    for part, module in parts.items():
        published = manifest[f"depth (num_scales {num_scales})" if part == "depth" else part]
        ours = {
            key: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
            for key, tensor in module.state_dict().items()
        }
        assert list(ours.items()) == list(published.items()), part


def test_the_pose_stem_widens_with_the_number_of_frames(goldens):
    published = goldens.json("state_dict_manifest")["pose_encoder with three pictures (resnet-18)"]
    with torch.device("meta"):
        stem = build_pose_network(18, num_input_frames=3).encoder.encoder.conv1
    assert list(stem.weight.shape) == published["encoder.conv1.weight"]


@pytest.mark.parametrize("name", BACKBONES)
def test_numbers_of_trainable_values_are_the_published_ones(goldens, name):
    published = goldens.json("state_dict_manifest")["parameters"][name]
    with torch.device("meta"):
        parts = build_parts(name, num_scales=1)
    for part, module in parts.items():
        trainable = sum(parameter.numel() for parameter in module.parameters())
        # The published count includes the unused classifier, which we hold as buffers.
        unused = sum(b.numel() for key, b in module.named_buffers() if key.startswith("encoder.fc"))
        assert trainable + unused == published[part], part


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_disparities(goldens, name):
    expected = goldens.npz("forward")
    image = frames_of(goldens)[0]
    backbone, num_layers = name.split("-")
    network = build_depth_network(backbone, int(num_layers), range(4))
    fill(goldens, network.parts())
    features = network.encoder(image)
    for feature, stats in zip(
        features, goldens.json("forward")["encoder_feature_stats"][name], strict=True
    ):
        assert list(feature.shape) == stats["shape"]
        assert_close(feature.mean().item(), stats["mean"], rtol=1e-4, atol=1e-5)
        assert_close(feature.max().item(), stats["max"], rtol=1e-4, atol=1e-5)
        assert_close(feature.min().item(), stats["min"], rtol=1e-4, atol=1e-5)
        assert_close(feature.std(correction=0).item(), stats["std"], rtol=1e-3, atol=1e-5)
        assert_close(feature.double().abs().sum().item(), stats["sum_abs"], rtol=1e-4, atol=1e-2)
    disps = network.depth(features)
    assert sorted(disps) == [0, 1, 2, 3]
    for scale, disp in disps.items():
        limits = goldens.json("forward")["disp_range"][f"{name}/disp/{scale}"]
        assert_close([disp.min().item(), disp.max().item()], limits, **TOLERANCE)
        assert_close(disp, torch.from_numpy(expected[f"{name}/disp/{scale}"]), **TOLERANCE)

    one_scale = type(network.depth)(network.encoder.channels)
    del network
    fill(goldens, {"depth": one_scale})
    disp = one_scale(features)[0]
    assert_close(disp, torch.from_numpy(expected[f"{name}/one_scale/disp/0"]), **TOLERANCE)


@pytest.mark.parametrize("num_layers", [18, 50])
@torch.no_grad()
def test_poses(goldens, num_layers):
    expected = goldens.npz("forward")
    frames = frames_of(goldens)
    inputs = {"pairs/-1": (-1, 0), "pairs/1": (0, 1), "all": (0, -1, 1)}
    for num_frames in (2, 3):
        network = build_pose_network(num_layers, num_frames)
        fill(goldens, network.parts())
        for case, ids in inputs.items():
            if len(ids) != num_frames:
                continue
            axisangle, translation = network([frames[frame] for frame in ids])
            found = {"axisangle": axisangle, "translation": translation}
            for motion, invert, name in MATRICES[num_frames]:
                found[name] = transformation_from_parameters(
                    axisangle[:, motion, 0], translation[:, motion, 0], invert
                )
            for name, value in found.items():
                golden = torch.from_numpy(expected[f"resnet-{num_layers}/{case}/{name}"])
                assert_close(value, golden, **TOLERANCE)
