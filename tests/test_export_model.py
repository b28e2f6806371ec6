"""export_model.py: its files against the network, by onnxruntime and by torch's own loader."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import export_model
import model_export
import test_simple
from checkpoint import save_checkpoint
from inference import DepthPredictor
from layers import disp_to_depth
from networks import build_depth_network
from onnx_network import OnnxNetwork
from tests.test_floors import ROOT
from tests.tiny_model import save_picture
from utils import UserError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

HEIGHT, WIDTH = 64, 96


def save_lively_checkpoint(path, backbone):
    """A network whose disparities depend on the picture, as freshly initialised ones hardly do."""
    torch.manual_seed(0)
    network = build_depth_network(backbone, 18)
    for module in network.depth.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.PReLU):
            module.weight.data.fill_(0.1)
    with torch.no_grad():
        for _ in range(5):  # towards statistics of its own
            network.train()(torch.rand(4, 3, HEIGHT, WIDTH))
        head = network.depth.decoder[network.depth.number["dispconv", 0, 3]].conv
        logits = []
        handle = head.register_forward_hook(lambda *args: logits.append(args[-1]))
        network.eval()(torch.rand(1, 3, HEIGHT, WIDTH))
        handle.remove()
        head.weight /= logits[0].std()
        head.bias -= logits[0].mean() / logits[0].std()
    parts = {name: part.state_dict() for name, part in network.parts().items()}
    save_checkpoint(path, {**parts, "height": HEIGHT, "width": WIDTH, "max_depth": 80.0})
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_lively_checkpoint(tmp_path_factory.mktemp("model") / "model.pth", "resnet")


def run(checkpoint, *flags):
    export_model.main([str(flag) for flag in ("--pretrained_path", checkpoint, *flags)])


@pytest.fixture(scope="module")
def exported(checkpoint):
    """One file of each kind, beside the checkpoint, for any number of pictures."""
    files = [checkpoint.with_name(name) for name in ("model.onnx", "model.pt2")]
    run(checkpoint, "--output", *files, "--dynamic_batch")
    return files


def expected_of(checkpoint, images):
    """disp and depth of the network as it is loaded for prediction."""
    disp = DepthPredictor.from_checkpoint(checkpoint).predict(images)
    return disp, disp_to_depth(disp, 0.1, 80.0)[1]


def check_close(found, expected):
    torch.testing.assert_close(torch.as_tensor(found[0]), expected[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.as_tensor(found[1]), expected[1], rtol=1e-3, atol=0)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_computes_what_the_network_does(checkpoint, exported, batch):
    images = torch.rand(batch, 3, HEIGHT, WIDTH)
    session = onnxruntime.InferenceSession(exported[0], providers=["CPUExecutionProvider"])
    expected = expected_of(checkpoint, images)
    assert expected[0].std() > 0.05
    check_close(session.run(["disp", "depth"], {"image": images.numpy()}), expected)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_program_computes_what_the_network_does(checkpoint, exported, batch):
    images = torch.rand(batch, 3, HEIGHT, WIDTH)
    check_close(torch.export.load(exported[1]).module()(images), expected_of(checkpoint, images))


def test_the_files_say_what_they_are(exported):
    model = onnx.load(exported[0])
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    found = {each.key: each.value for each in model.metadata_props}
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert found["commit"].removesuffix("-dirty") == (commit or "unknown")
    assert found["opset"] == "18"
    assert found["torch"] == torch.__version__
    settings = {"backbone": "resnet", "num_layers": "18", "height": "64", "width": "96",
                "min_depth": "0.1", "max_depth": "80.0"}  # fmt: skip
    assert settings.items() <= found.items()
    extra = {"metadata.json": ""}
    torch.export.load(exported[1], extra_files=extra)
    assert all(f'"{name}": "{value}"' in extra["metadata.json"] for name, value in settings.items())


def test_any_number_of_pictures_is_called_batch(exported):
    graph = onnx.load(exported[0]).graph
    shapes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.output)
    }
    one = ["batch", 1, HEIGHT, WIDTH]
    assert shapes == {"image": ["batch", 3, HEIGHT, WIDTH], "disp": one, "depth": one}


def test_a_written_file_is_not_replaced_unasked(checkpoint, exported):
    with pytest.raises(UserError, match=r"model\.onnx is there already: --overwrite"):
        run(checkpoint, "--output", exported[0])


def test_a_file_named_twice_is_refused_however_it_is_spelled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("n.onnx", "./n.onnx", "link/n.onnx", tmp_path / "n.onnx"):
        with pytest.raises(SystemExit) as end:
            run("none.pth", "--output", "n.onnx", "n.pt2", name)
        assert end.value.code == 2
        assert "error: --output n.onnx is named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("folder.onnx", "a folder has that name"),
        ("file/a.onnx", "file is not a folder"),
        ("/proc/a.onnx", "cannot be written to"),  # though root has the permissions
    ],
)
def test_a_place_for_no_file_is_found_before_the_work(tmp_path, name, sentence):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=sentence):  # and not that there is no checkpoint
        run("none.pth", "--output", tmp_path / "a.pt2", tmp_path / name, "--overwrite")


def test_a_fixed_batch_and_another_opset(checkpoint, tmp_path, capsys):
    path = tmp_path / "fixed.ONNX"
    run(checkpoint, "--output", path, "--opset", "20", "--max_depth", "10")
    model = onnx.load(path)
    assert model.opset_import[0].version == 20
    assert [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim] == [
        1, 3, HEIGHT, WIDTH,
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "fixed.ONNX: ONNX opset 20, image (1, 3, 64, 96)" in printed
    assert "noise, batch 1" in printed
    assert "street, batch 1" in printed
    assert "batch 3" not in printed
    # One at a time inside, several at once outside.
    images = torch.rand(3, 3, HEIGHT, WIDTH)
    found = OnnxNetwork(path)(images)[0]
    torch.testing.assert_close(found, expected_of(checkpoint, images)[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_an_export_that_differs_leaves_no_file(checkpoint, tmp_path, monkeypatch, suffix):
    write = model_export.Exporter.write

    def write_another(exporter, path):
        """With a weight that is not the network's: restored before the comparison."""
        weight = exporter.predictor.network.depth.decoder[0][1].weight
        kept = weight.clone()
        weight.add_(0.5)
        write(exporter, path)
        weight.copy_(kept)

    monkeypatch.setattr(model_export.Exporter, "write", write_another)
    path = tmp_path / f"model{suffix}"
    with pytest.raises(SystemExit) as end:
        run(checkpoint, "--output", path)
    sentence = str(end.value.code)  # a text: printed on stderr, and the exit code is 1
    assert sentence.startswith(f"error: {path} is not written: the export differs")
    assert "\n" not in sentence
    assert not list(tmp_path.iterdir())


def test_a_nan_is_no_agreement():
    assert model_export.Comparison("noise", float("nan"), 0.0).worst == float("inf")
    assert model_export.Comparison("noise", 0.0, float("nan")).worst == float("inf")
    assert model_export.Comparison("noise", 0.1, 0.2).worst == 0.2


def test_pictures_are_predicted_with_the_file(checkpoint, exported, tmp_path):
    picture = save_picture(tmp_path / "street.png", 0)
    disps = []
    loud = shutil.copy(exported[0], tmp_path / "MODEL.ONNX")
    for name, model in (("torch", checkpoint), ("onnx", loud)):
        flags = ("--pretrained_path", model, "--image_path", picture, "--output", tmp_path / name,
                 "--save_npy", "--post_process", "--no_cuda")  # fmt: skip
        test_simple.main([str(flag) for flag in flags])
        disps.append(np.load(tmp_path / name / "street_disp.npy"))
        assert Image.open(tmp_path / name / "street_disp.jpeg").size == (90, 48)
    assert disps[0].shape == (1, 1, HEIGHT, WIDTH)
    np.testing.assert_allclose(disps[1], disps[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("flag", "value", "recorded"),
    [("height", 32, 64), ("max_depth", 100.0, 80.0), ("backbone", "hrnet", "resnet")],
)
def test_a_flag_that_the_file_contradicts_is_refused(exported, flag, value, recorded):
    words = rf"--{flag} {value} does not fit .*model\.onnx, which was exported with {recorded}"
    with pytest.raises(UserError, match=words):
        DepthPredictor.from_onnx(exported[0], **{flag: value})
    assert DepthPredictor.from_onnx(exported[0], height=64, max_depth=80.0).width == WIDTH


def test_other_files_are_refused(exported, tmp_path):
    with pytest.raises(UserError, match=r"cannot read the model .*none\.onnx: No such file"):
        OnnxNetwork(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(exported[0].read_bytes()[:1000])
    with pytest.raises(UserError, match=r"broken\.onnx is no ONNX file"):
        OnnxNetwork(broken)
    shape = [1, 3, HEIGHT, WIDTH]
    ends = [onnx.helper.make_tensor_value_info(n, 1, shape) for n in ("image", "disp")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["image"], ["disp"])], "g", ends[:1], ends[1:]
    )
    model = onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]
    )
    foreign = tmp_path / "foreign.onnx"
    recorded = {each.key: each.value for each in onnx.load(exported[0]).metadata_props}
    for metadata in ({}, recorded, recorded | {"height": "tall"}):
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, foreign)
        with pytest.raises(UserError, match=r"foreign\.onnx is not an ONNX file of this project"):
            OnnxNetwork(foreign)


def test_a_missing_package_is_named_with_what_installs_it(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime .*pip install -r requirements-export\.txt"):
        OnnxNetwork(exported[0])


def test_what_cannot_be_exported_is_said_at_once(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--opset 99: the installed onnx knows those up to"):
        run(tmp_path / "none.pth", "--output", tmp_path / "a.onnx", "--opset", "99")
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    with pytest.raises(UserError, match=r"needs torch 2\.7 or newer, this is 2\.6\.0"):
        run(tmp_path / "none.pth", "--output", tmp_path / "a.onnx")


@pytest.mark.slow
def test_hrnet(tmp_path, capsys):
    checkpoint = save_lively_checkpoint(tmp_path / "hrnet.pth", "hrnet")
    path = tmp_path / "hrnet.onnx"
    run(checkpoint, "--output", path, "--dynamic_batch")
    assert "street, batch 3" in capsys.readouterr().out
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["disp", "depth"], {"image": images.numpy()})
    expected = expected_of(checkpoint, images)
    assert expected[0].std() > 0.05
    check_close(found, expected)
    assert OnnxNetwork(path).settings["backbone"] == "hrnet"
