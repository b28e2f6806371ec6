"""Shapes, gradients, starting values and the ways in of ImageNet weights."""

from __future__ import annotations

import logging

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import arguments
from networks import (
    BACKBONES,
    DepthDecoder,
    build_depth_network,
    build_mask_network,
    build_pose_network,
    pose_num_layers,
)
from networks import pretrained as pretrained_module
from networks.depth_decoder import block_order
from networks.resnet_encoder import StackedResnet
from utils import LOGGER_NAME, UserError

EVERY_BACKBONE = [(name, n) for name, depths in BACKBONES.items() for n in depths]
CHANNELS = (8, 8, 8, 12, 16, 20)  # of a toy encoder


@pytest.fixture(scope="module")
def hrnet():
    torch.manual_seed(0)
    return build_depth_network("hrnet", 18)


def toy_features(channels=CHANNELS, height=64, width=96):
    return [torch.randn(2, c, height >> i, width >> i) for i, c in enumerate(channels)]


def logged(action):
    """The messages that `action` logs for the user."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger(LOGGER_NAME)
    logger.addHandler(handler)
    try:
        action()
    finally:
        logger.removeHandler(handler)
    return messages


# --- shapes and gradients, without arithmetic -------------------------------------------------


@pytest.mark.parametrize(("backbone", "num_layers"), EVERY_BACKBONE)
def test_every_backbone_predicts_each_scale_and_trains_every_parameter(backbone, num_layers):
    with torch.device("meta"):
        network = build_depth_network(backbone, num_layers, scales=(0, 1, 2, 3))
        disps = network(torch.rand(2, 3, 64, 96))
    assert {s: tuple(d.shape) for s, d in disps.items()} == {
        s: (2, 1, 64 >> s, 96 >> s) for s in range(4)
    }
    sum(disp.sum() for disp in disps.values()).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("num_layers", BACKBONES["resnet"])
def test_every_pose_network_runs_and_trains_every_parameter(num_layers):
    with torch.device("meta"):
        network = build_pose_network(num_layers, num_input_frames=4, num_motions=3)
        axisangle, translation = network([torch.rand(2, 3, 64, 96)] * 4)
    assert axisangle.shape == translation.shape == (2, 3, 1, 3)
    # the first motion alone, as `pairs` uses it
    (axisangle[:, 0] + translation[:, 0]).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_mask_network_predicts_one_mask_per_source():
    with torch.device("meta"):
        depth = build_depth_network("resnet", 18, scales=(0, 1))
        masks = build_mask_network(depth, scales=(0, 1), num_sources=3)
        features = depth.encoder(torch.rand(1, 3, 64, 96))
        shapes = {scale: tuple(mask.shape) for scale, mask in masks(features).items()}
    assert shapes == {0: (1, 3, 64, 96), 1: (1, 3, 32, 48)}


def test_disparities_lie_between_0_and_1_and_gradients_reach_the_image(hrnet):
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    disp = hrnet(image)[0]
    assert disp.min() > 0
    assert disp.max() < 1
    disp.mean().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is not None for p in hrnet.parameters())
    hrnet.zero_grad()


def test_a_picture_does_not_depend_on_its_batch(hrnet):
    image = torch.rand(2, 3, 64, 64)
    hrnet.eval()
    with torch.no_grad():
        assert_close(hrnet(image)[0][1:], hrnet(image[1:])[0])
    hrnet.train()


def test_unknown_backbones_are_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"no backbone hrnet 19: .*hrnet 18, 32, 48, 64"):
        build_depth_network("hrnet", 19)
    with pytest.raises(UserError, match=r"no backbone vit 18: choose one of resnet 18"):
        build_depth_network("vit", 18)
    with pytest.raises(UserError, match=r"no backbone resnet 32"):
        build_pose_network(32)


def test_pose_depth_follows_a_resnet_and_is_18_beside_an_hrnet():
    assert [pose_num_layers(*pair) for pair in (("resnet", 50), ("hrnet", 48))] == [50, 18]


# --- the details that the paper's results rest on ----------------------------------------------


def test_hrnet_enlarges_its_branches_bilinearly_with_aligned_corners(hrnet):
    upsamples = [m for m in hrnet.modules() if isinstance(m, nn.Upsample)]
    fuse = [m for m in hrnet.encoder.modules() if isinstance(m, nn.Upsample)]
    assert len(fuse) > 20
    x = torch.rand(1, 2, 3, 4)
    for module in fuse:
        expected = F.interpolate(
            x, scale_factor=module.scale_factor, mode="bilinear", align_corners=True
        )
        assert_close(module(x), expected)
    # the decoder's own follow the half-pixel rule
    assert {m.align_corners for m in upsamples if m not in fuse} == {False}


def test_decoder_starts_from_a_narrow_normal_without_bias():
    torch.manual_seed(1)
    decoder = DepthDecoder((64, 64, 64, 128, 256, 512), scales=(0, 1, 2, 3))
    convs = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    weights = torch.cat([conv.weight.flatten() for conv in convs])
    assert weights.mean().abs() < 1e-4
    assert abs(weights.std() - 0.02) < 1e-4
    assert weights.abs().max() > 0.08  # not cut at two deviations
    heads = torch.cat([c.weight.flatten() for c in convs if c.out_channels == 1])
    assert abs(heads.std() - 0.02) < 2e-3
    assert not any(conv.bias.any() for conv in convs)


def test_context_maps_start_as_copies_of_the_stem(hrnet):
    encoder = hrnet.encoder
    assert_close(encoder.context_conv.weight, encoder.encoder.conv1.weight, rtol=0, atol=0)
    assert encoder.context_conv.weight.data_ptr() != encoder.encoder.conv1.weight.data_ptr()


def test_pretrained_resnets_copy_and_tile_their_stem(monkeypatch):
    state = torchvision.models.resnet18().state_dict()
    state["bn1.weight"], state["bn1.bias"] = torch.rand(64), torch.rand(64)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    monkeypatch.setattr("networks.resnet_encoder.resnet_imagenet", lambda _: state)

    depth = build_depth_network("resnet", 18, pretrained=True).encoder
    assert_close(depth.encoder.state_dict()["layer3.0.conv1.weight"], kept["layer3.0.conv1.weight"])
    assert_close(depth.encoder.fc.weight, kept["fc.weight"])
    for name in ("conv1.weight", "bn1.weight", "bn1.bias"):
        assert_close(depth.state_dict()[name], kept[name])

    pose = StackedResnet(18, num_images=3, pretrained=True)
    expected = torch.cat([kept["conv1.weight"] / 3] * 3, dim=1)
    assert_close(pose.encoder.conv1.weight.detach(), expected)
    # three times one picture gives what a ResNet makes of that picture
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        one = StackedResnet(18, pretrained=True).eval()(image)[0]
        three = pose.eval()(image.repeat(1, 3, 1, 1))[0]
    assert_close(three, one)


# --- checkpoints of any number of scales -------------------------------------------------------


def test_published_numbering_is_row_by_row_with_a_head_after_each_trained_row():
    order = block_order([0, 2])
    assert order[:8] == [
        ("lateral", 0, 0),
        ("upconv", 0, 0),
        ("lateral", 0, 1),
        ("upconv", 0, 1),
        ("lateral", 0, 2),
        ("upconv", 0, 2),
        ("dispconv", 0, 3),
        ("lateral", 1, 0),
    ]
    assert order.index(("dispconv", 2, 3)) == 19
    assert order[-1] == ("lateral", 5, 2)
    assert len(order) == 35


@pytest.mark.parametrize("trained", [(0, 1, 2, 3), (0, 2), (0, 4, 5)])
def test_files_of_more_scales_load_into_one_scale(trained):
    features = toy_features()
    many, one = DepthDecoder(CHANNELS, trained), DepthDecoder(CHANNELS)
    assert not logged(lambda: one.load_state_dict(many.state_dict()))
    assert_close(one(features)[0], many(features)[0], rtol=0, atol=0)


def test_files_of_one_scale_load_into_four_and_name_the_heads_left_alone():
    features = toy_features()
    one, four = DepthDecoder(CHANNELS), DepthDecoder(CHANNELS, (0, 1, 2, 3))
    head = four.state_dict()["decoder.13.conv.weight"].clone()
    (message,) = logged(lambda: four.load_state_dict(one.state_dict()))
    assert "scales 1, 2, 3" in message
    assert "decoder.13.conv, decoder.20.conv, decoder.27.conv" in message
    assert_close(four(features)[0], one(features)[0], rtol=0, atol=0)
    assert_close(four.state_dict()["decoder.13.conv.weight"], head, rtol=0, atol=0)


def test_renumbering_works_inside_a_whole_network():
    with torch.device("meta"):
        four = build_depth_network("resnet", 18, (0, 1, 2, 3))
        one = build_depth_network("resnet", 18)
        one.load_state_dict(four.state_dict(), assign=True)


def test_a_decoder_still_loads_strictly():
    four, one = DepthDecoder(CHANNELS, (0, 1, 2, 3)), DepthDecoder(CHANNELS)
    state = four.state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected.*decoder\.other"):
        one.load_state_dict({**state, "decoder.other": torch.zeros(1)})
    del state["decoder.8.1.weight"]  # row 1, first lateral: decoder.7 of the one-scale grid
    with pytest.raises(RuntimeError, match=r"Missing.*decoder\.8\.1\.weight"):
        one.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Missing"):
        one.load_state_dict({})


def test_the_unused_classifier_is_saved_but_not_trained_and_may_be_absent():
    encoder = StackedResnet(18)
    state = encoder.state_dict()
    assert state["encoder.fc.weight"].shape == (1000, 512)
    assert not [name for name, _ in encoder.named_parameters() if ".fc." in name]
    kept = state["encoder.fc.weight"].clone()
    encoder.load_state_dict({k: v for k, v in state.items() if ".fc." not in k})
    assert_close(encoder.encoder.fc.weight, kept)
    encoder.load_state_dict({**state, "encoder.fc.weight": kept + 1})
    assert_close(encoder.encoder.fc.weight, kept + 1)


# --- ImageNet weights ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier_state():
    """What the ImageNet file of HRNet-W18 holds: the network with its classifier."""
    torch.manual_seed(2)
    with torch.device("meta"):
        shapes = timm.create_model("hrnet_w18").state_dict()
    return {
        name: torch.zeros((), dtype=torch.long)
        if tensor.dtype == torch.long
        else torch.rand(1).expand(tensor.shape)
        for name, tensor in shapes.items()
    }


@pytest.fixture
def hrnet_file(monkeypatch, tmp_path):
    path = tmp_path / pretrained_module.HRNET_FILE.name
    monkeypatch.setattr(pretrained_module, "HRNET_FILE", path)
    monkeypatch.setattr(timm, "create_model", offline(timm.create_model))
    return path


def offline(create_model):
    """timm's create_model on a machine without a network."""

    def create(name, pretrained=False, **options):
        if pretrained:
            raise FileNotFoundError("cannot find the requested files in the local cache")
        return create_model(name, pretrained=False, **options)

    return create


@pytest.mark.parametrize("form", ["plain", "state_dict", "module"])
def test_imagenet_file_loads_in_each_form(hrnet_file, classifier_state, form):
    content = {
        "plain": classifier_state,
        "state_dict": {"epoch": 300, "state_dict": classifier_state},
        "module": {"state_dict": {f"module.{k}": v for k, v in classifier_state.items()}},
    }[form]
    torch.save(content, hrnet_file)
    encoder = build_depth_network("hrnet", 18, pretrained=True).encoder
    loaded = encoder.encoder.state_dict()
    assert len(loaded) < len(classifier_state)  # the classifier stayed behind
    for name in ("conv1.weight", "bn1.running_var", "stage4.2.fuse_layers.3.2.0.1.bias"):
        assert_close(loaded[name], classifier_state[name], rtol=0, atol=0)
    assert_close(encoder.context_conv.weight.detach(), classifier_state["conv1.weight"])


def test_an_imagenet_file_of_another_network_is_refused(hrnet_file, classifier_state):
    torch.save({**classifier_state, "stage5.weight": torch.zeros(1)}, hrnet_file)
    with pytest.raises(UserError, match=r"cutmix.* does not hold the weights of an HRNet-W18"):
        build_depth_network("hrnet", 18, pretrained=True)
    torch.save([1, 2], hrnet_file)
    with pytest.raises(UserError, match=r"cutmix.* is not a state dict"):
        build_depth_network("hrnet", 18, pretrained=True)
    hrnet_file.write_bytes(b"not a torch file")
    with pytest.raises(UserError, match=r"cannot read the ImageNet weights .*cutmix"):
        build_depth_network("hrnet", 18, pretrained=True)


def test_hrnet_falls_back_to_timm(monkeypatch, hrnet_file, classifier_state):
    class Downloaded:
        def state_dict(self):
            return classifier_state

    create = timm.create_model

    def create_model(name, pretrained=False, **options):
        return Downloaded() if pretrained else create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create_model)
    assert not hrnet_file.exists()
    encoder = build_depth_network("hrnet", 18, pretrained=True).encoder.encoder
    assert_close(encoder.conv1.weight.detach(), classifier_state["conv1.weight"])


@pytest.mark.parametrize(
    ("backbone", "num_layers", "by_hand"),
    [
        ("hrnet", 18, "put HRNet_W18_C_cosinelr_cutmix_300epoch.pth.tar into "),
        ("hrnet", 32, "copy a Hugging Face cache"),
        ("resnet", 18, "put resnet18-f37072fd.pth into "),
    ],
)
@pytest.mark.usefixtures("hrnet_file")
def test_no_file_and_no_network_names_the_three_ways_out(
    monkeypatch, backbone, num_layers, by_hand
):
    def no_network(*_args, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", no_network)
    with pytest.raises(UserError) as caught:
        build_depth_network(backbone, num_layers, pretrained=True)
    message = str(caught.value)
    assert by_hand in message
    assert "give network access once" in message
    assert "--weights_init scratch" in message
    assert "\n" not in message


@pytest.mark.usefixtures("hrnet_file")
def test_nothing_is_downloaded_unless_asked(monkeypatch):
    monkeypatch.setattr("networks.resnet_encoder.resnet_imagenet", pytest.fail)
    for backbone in ("hrnet", "resnet"):
        with torch.device("meta"):
            build_depth_network(backbone, 18)


def test_the_command_line_offers_exactly_what_can_be_built():
    assert arguments.BACKBONES == BACKBONES
