"""report.py on a run written by hand, whose numbers are known, on broken ones, and in a browser."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

import report
from options import train_options
from report_curves import plots_of
from run_reader import read_run
from utils import UserError, run_script

DEFAULTS = vars(train_options(["--data_path", "kitti"]))
METRICS = (
    "epoch,step,loss,full/photometric,local/consistency,lr,gradient_norm,"
    "kitti_eigen/abs_rel,kitti_eigen/a1,kitti_odom_09/ate\n"
    "0,5,0.5,0.25,0.1,0.0001,2.5,0.1234,0.8,7.5\n"
    "1,10,0.4,0.2,0.05,0.00005,1.5,0.1111,0.9,nan\n"
    "2,15,0.3,0.15,0.025,0.00005,1.25,0.1222,0.85,6.5\n"
)
LOG = (
    "2026-05-01 10:00:00,000 12 samples\n"
    "2026-05-01 11:30:00,000 epoch 2: KITTI Eigen (raw laser depth, Garg crop, 80 m); disparity "
    "resized with align_corners=True (published)\n"
    "images: 697; median scaling, ratios: median 30.101, std 0.080\n"
    "             abs_rel          a1\n"
    "2026-05-01 12:30:00,000 done: the run is in logs/<mine>\n"
)


def write_run(folder: Path, metrics: str | None = METRICS, drawn: bool = True, **options) -> Path:
    """A run's folder; options: those unlike the defaults."""
    (folder / "code").mkdir(parents=True)
    given = DEFAULTS | {"exp_name": folder.name, "num_epochs": 3} | options
    (folder / "opt.json").write_text(json.dumps(given))
    if metrics is not None:
        (folder / "metrics.csv").write_text(metrics)
    (folder / "logger.log").write_text(LOG)
    (folder / "code" / "commit.txt").write_text("commit 0123456789abcdef\n M losses.py\n")
    (folder / "code" / "changes.diff").write_text("-a < b\n+a <= b\n")
    environment = {"device": "NVIDIA H100", "processes": 2, "packages": {"timm": "1.0.9"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    if drawn:
        write_events(folder)
    return folder


def write_events(folder: Path) -> None:
    """Curves at steps 2, 4, ... 14 and at 15, and pictures at 10 and 15."""
    with SummaryWriter(str(folder / "tensorboard" / "train")) as writer:
        for step in (*range(2, 15, 2), 15):
            writer.add_scalar("loss/full/photometric", 1 / step, step)
            writer.add_scalar("lr", 1e-4, step)
            writer.add_scalar("samples_per_second", 2.0 * step, step)
        writer.add_image("color_9_0/0", torch.rand(3, 8, 16), 10)  # later there is none
        for step, level in ((10, 0.0), (15, 1.0)):
            for sample in range(2):
                writer.add_image(f"color_0_0/{sample}", torch.full((3, 8, 16), level), step)
                writer.add_image(f"color_pred_-1_0/{sample}", torch.rand(3, 8, 16), step)
                writer.add_image(f"disp_0/{sample}", torch.rand(3, 8, 16), step)


def make_report(run: Path, *flags: object) -> str:
    report.main(["--exp", str(run), *map(str, flags)])
    return (run / "report" / "report.html").read_text(encoding="utf-8")


def tables(page: str, after: str = "") -> list[list[list[str]]]:
    """Cells of every table, as text."""

    def cells(row: str) -> list[str]:
        found = re.findall(r"<t[hd].*?</t[hd]>", row)
        return [html.unescape(re.sub(r"<.*?>", "", cell)) for cell in found]

    return [
        [cells(row) for row in re.findall(r"<tr>.*?</tr>", table)]
        for table in re.findall(r"<table>.*?</table>", page[page.index(after):], re.DOTALL)
    ]


def refused(monkeypatch, capsys, *arguments: object) -> str:
    """The one sentence of a refused report."""
    monkeypatch.setattr("sys.argv", ["report.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        run_script(report.main)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", err)
    return err


# ---- what is in the page -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("logs") / "mine", height=96, frame_ids=[0, -1])


@pytest.fixture(scope="module")
def page(run) -> str:
    return make_report(run)


def test_the_evaluation_has_its_protocol_and_the_best_epoch_is_bold(page):
    assert "<h3>KITTI Eigen (raw laser depth, Garg crop, 80 m)</h3>" in page
    how = "disparity resized with align_corners=True (published); images: 697; median scaling"
    assert f"<p>{how}, ratios: median 30.101, std 0.080</p>" in page
    eigen, path = tables(page, "<h2>Evaluation")[:2]
    assert eigen == [
        ["epoch", "abs_rel", "a1"],
        ["0", "0.1234", "0.8000"],
        ["1", "0.1111", "0.9000"],
        ["2", "0.1222", "0.8500"],
    ]
    assert path == [["epoch", "ate"], ["0", "7.5000"], ["1", "nan"], ["2", "6.5000"]]
    assert re.findall(r"<b>(.*?)</b>", page) == ["0.1111", "0.9000", "6.5000"]


def test_what_the_run_is_and_was_made_with(page):
    summary = dict(tables(page)[0])
    assert summary["state"] == "finished: 3 of 3 epochs, 15 steps"
    assert summary["device"] == "NVIDIA H100"
    assert summary["code"].startswith("0123456789 + changes ")
    assert summary["time"] == "2026-05-01 10:00:00 to 2026-05-01 12:30:00"
    changed, rest = tables(page, "<h2>Options")[:2]
    assert ["--height", "96", "192"] in changed
    assert ["--frame_ids", "0 -1", "0 -1 1"] in changed
    assert ["--data_path", "kitti", "–"] in changed
    assert ["--width", "640"] in rest
    assert {row[0] for row in changed} & {row[0] for row in rest} == {"option"}
    assert ["timm", "1.0.9"] in tables(page, "<h2>Environment")[1]
    for text in ("-a &lt; b\n+a &lt;= b", " M losses.py", "logs/&lt;mine&gt;"):
        assert text in page
    assert "Missing:" not in page


def test_the_page_needs_nothing_beside_it(page, run):
    sources = re.findall(r'src="(.*?)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|<script|@import", page)
    found = [base64.b64decode(source.partition(",")[2]) for source in sources]
    beside = {path.read_bytes() for path in (run / "report").glob("*.png")}
    assert set(found) == beside
    assert len(found) == 9 + 6  # below: 3 losses, 3 settings, 3 scores; 2 samples of 3 pictures


def test_the_last_pictures_are_shown_by_sample(page, run):
    assert "Pictures of step 15" in page
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions == ["image", "disparity", "warped from frame -1"] * 2
    first = page[page.index("Sample 0"):]
    png = base64.b64decode(re.search(r'alt="image" src="data:image/png;base64,(.*?)"', first)[1])
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape == (8, 16, 3)
    assert (picture == 255).all()
    with Image.open(run / "report" / "color_0_0_1.png") as beside:
        assert beside.size == (16, 8)


def test_curves_are_the_run_s(run):
    plots = {(plot.section, plot.title): plot for plot in plots_of(read_run(run))}
    assert list(plots) == [
        ("loss", "loss"),
        ("loss", "full/photometric"),
        ("loss", "local/consistency"),
        ("training", "learning rate"),
        ("training", "throughput (samples a second)"),
        ("training", "gradient norm"),
        ("kitti_eigen", "abs_rel (lower is better)"),
        ("kitti_eigen", "a1 (higher is better)"),
        ("kitti_odom_09", "ate (lower is better)"),
    ]
    steps, epochs = plots["loss", "full/photometric"].lines
    assert steps.x == [2, 4, 6, 8, 10, 12, 14, 15]
    assert steps.y == pytest.approx([1 / step for step in steps.x])
    assert (epochs.x, epochs.y) == ([5, 10, 15], [0.25, 0.2, 0.15])
    score = plots["kitti_eigen", "abs_rel (lower is better)"]
    assert (score.x_label, score.lines[0].x) == ("epoch", [0, 1, 2])
    assert score.lines[0].y == [0.1234, 0.1111, 0.1222]
    assert plots["training", "gradient norm"].lines[0].y == [2.5, 1.5, 1.25]
    names = {path.name for path in (run / "report").glob("*.png")}
    assert {plot.file_name for plot in plots.values()} <= names


# ---- what is not there, or broken ----------------------------------------------------------------


def missing(page: str) -> list[str]:
    found = re.search(r'<div class="missing">(.*?)</div>', page, re.DOTALL)
    return re.findall("<li>(.*?)</li>", found[1]) if found else []


def test_a_run_without_evaluation(tmp_path):
    run = write_run(tmp_path / "run", "epoch,step,loss,lr\n0,5,0.5,0.0001\n")
    page = make_report(run)
    assert missing(page) == ["no evaluation: metrics.csv has no scores"]
    assert "<h2>Evaluation" not in page
    assert "not finished: 1 of 3 epochs, 5 steps" in page


def test_a_run_that_was_interrupted_before_its_first_epoch_was_done(tmp_path):
    page = make_report(write_run(tmp_path / "run", None))
    assert missing(page) == ["metrics.csv is not there: no epoch was finished"]
    assert "not finished: 0 of 3 epochs" in page
    assert "loss_full_photometric.png" in {p.name for p in (tmp_path / "run/report").iterdir()}


def test_columns_that_come_later(tmp_path):
    table = "epoch,step,loss,val/photometric,nyuv2/abs_rel\n0,5,0.5,,\n1,10,0.4,0.125,0.25\n"
    page = make_report(write_run(tmp_path / "run", table, drawn=False))
    assert tables(page, "Validation list")[0] == [["epoch", "photometric"], ["1", "0.1250"]]
    assert tables(page, "NYUv2 (10 m)")[0] == [["epoch", "abs_rel"], ["1", "0.2500"]]


def test_an_options_file_alone_is_a_run_that_began(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "opt.json").write_text(json.dumps(DEFAULTS))
    page = make_report(run)
    lacking = ["metrics.csv", "no TensorBoard events", "environment.json (", "code/commit.txt ("]
    lacking += ["code/changes.diff (", "logger.log ("]
    assert [any(s.startswith(each) for s in missing(page)) for each in lacking] == [True] * 6
    printed = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("missing: ") for line in printed[:-1]] == missing(page)
    assert printed[-1].startswith(f"report: {run / 'report' / 'report.html'}")


def test_damaged_events_are_shown_as_far_as_they_go(tmp_path):
    run = write_run(tmp_path / "run")
    (events,) = (run / "tensorboard" / "train").iterdir()
    data = events.read_bytes()
    events.write_bytes(data[: data.index(b"samples_per_second", 500)])
    found = read_run(run)
    no_pictures, damage = found.missing
    assert no_pictures == "no pictures: TensorBoard's events hold none that can be read"
    assert damage.endswith(f"damaged, or still being written, is {events.name}")
    assert 1 <= len(found.curves["samples_per_second"].steps) < 8


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.csv", "epoch,step\n0,five\n"),
        ("metrics.csv", "step,loss\n5,0.5\n"),
        ("metrics.csv", "epoch,step\n0,5,6\n"),
        ("metrics.csv", "\0"),
        ("metrics.csv", "epoch,step,loss\nnan,5,0.5\n"),
        ("metrics.csv", "epoch,step,loss\n1e400,5,0.5\n"),
        ("metrics.csv", "epoch,step,loss\n1e300,5,0.5\n"),
        ("metrics.csv", "epoch,step,loss\n0,inf,0.5\n"),
        ("metrics.csv", "epoch,step,loss\n0,1e300,0.5\n"),
        ("metrics.csv", "epoch,step,loss\n0,5,1e308\n1,6,-1e308\n"),
        ("metrics.csv", "epoch,step,loss\n-1,5,0.5\n"),
        ("metrics.csv", "epoch,step,loss\n0.5,5,0.5\n"),
        ("environment.json", "{"),
        ("environment.json", "[1]"),
        ("environment.json", '{"packages": ["a"]}'),
        ("environment.json", '{"packages": {"a": {}}}'),
        ("environment.json", '{"device": [[]]}'),
        ("environment.json", "[" * 100_000),
    ],
)
def test_a_damaged_file_is_told_and_the_rest_is_read(tmp_path, name, text):
    run = write_run(tmp_path / "run", drawn=False)
    (run / name).write_text(text)
    found = read_run(run)
    assert any(sentence.startswith(f"{name} cannot be read: ") for sentence in found.missing)
    assert (bool(found.rows), bool(found.environment)) == (
        name != "metrics.csv",
        name != "environment.json",
    )
    assert found.log == LOG.splitlines()
    assert missing(make_report(run)) == [html.escape(sentence) for sentence in found.missing]


def test_an_empty_table_has_no_epochs(tmp_path):
    found = read_run(write_run(tmp_path / "run", "", drawn=False))
    assert "metrics.csv cannot be read: epochs are missing" in found.missing


def test_the_longest_run_that_is_shown(tmp_path):
    table = "epoch,step,loss,lr\n0,5,0.5,1e-4\n1000000000,1000000000,0.5,inf\n"
    page = make_report(write_run(tmp_path / "run", table, drawn=False))
    assert "not finished: 1000000001 of 3 epochs, 1000000000 steps" in page


def test_text_that_is_no_utf_8_is_shown_escaped(tmp_path):
    run = write_run(tmp_path / "run", drawn=False, exp_name="mine \ud800")
    (run / "environment.json").write_text('{"device": "GPU \\udfff"}')
    page = make_report(run)
    assert "<h1>Run mine \\ud800</h1>" in page
    assert "GPU \\udfff" in page


def test_png_files_of_an_earlier_report_do_not_stay(tmp_path):
    run = write_run(tmp_path / "run")
    make_report(run)
    folder = run / "report"
    earlier = {path.name for path in folder.glob("*.png")}
    assert {"loss_local_consistency.png", "color_0_0_1.png", "training_gradient_norm.png"} < earlier
    (folder / "mine.png").write_bytes((folder / "loss_local_consistency.png").read_bytes())
    (folder / "training_gradient_norm.png").write_bytes(b"drawn over")
    shutil.rmtree(run / "tensorboard")
    (run / "metrics.csv").write_text("epoch,step,loss\n0,5,0.5\n")
    make_report(run)
    left = {path.name for path in folder.iterdir()}
    assert left == {"report.html", "loss_loss.png", "mine.png", "training_gradient_norm.png"}


def test_a_page_that_is_not_ours_removes_nothing(tmp_path):
    run = write_run(tmp_path / "run", drawn=False)
    outside = run / "outside.png"
    outside.write_bytes(b"png")
    (run / "report").mkdir()
    image = '<img data-file="{}" alt="" src="data:image/png;base64,cG5n">'
    images = image.format("../outside.png") + image.format("\0.png")
    page = run / "report" / "report.html"
    page.write_bytes(b"\xff" + images.encode())
    with pytest.raises(UserError, match=r"report\.html is there already: --overwrite"):
        make_report(run)
    make_report(run, "--overwrite")
    page.write_text(page.read_text() + images)
    make_report(run)
    assert outside.read_bytes() == b"png"


def test_a_picture_of_another_maker_is_kept(tmp_path):
    run = write_run(tmp_path / "run", drawn=False)
    other = run / "report" / "loss_loss.png"
    other.parent.mkdir()
    other.write_text("mine")
    with pytest.raises(UserError, match=r"loss_loss\.png is there already: --overwrite"):
        make_report(run)
    assert [path.name for path in other.parent.iterdir()] == ["loss_loss.png"]
    assert other.read_text() == "mine"
    make_report(run, "--overwrite")
    make_report(run)
    assert other.read_bytes()[1:4] == b"PNG"


def test_what_a_compared_run_lacks_is_told(tmp_path, capsys):
    run = write_run(tmp_path / "run", drawn=False)
    other = write_run(tmp_path / "other", "epoch,step,loss\nx,y\n", drawn=False, seed=3)
    make_report(run, "--compare", other)
    assert f"missing: {other}: metrics.csv cannot be read: " in capsys.readouterr().out


def test_a_folder_that_is_no_run(tmp_path, monkeypatch, capsys):
    assert f"{tmp_path} is no run: expected" in refused(monkeypatch, capsys, "--exp", tmp_path)
    assert "there is no run" in refused(monkeypatch, capsys, "--exp", tmp_path).replace(
        f"{tmp_path} is", "there is"
    )
    run = write_run(tmp_path / "run", drawn=False)
    said = refused(monkeypatch, capsys, "--exp", run, "--compare", tmp_path / "none")
    assert f"{tmp_path / 'none'} is no run" in said
    (run / "opt.json").write_text("{")
    said = refused(monkeypatch, capsys, "--exp", run)
    assert f"cannot read the options of the run {run / 'opt.json'}" in said
    (run / "opt.json").write_text("[" * 100_000)
    said = refused(monkeypatch, capsys, "--exp", run)
    assert f"cannot read the options of the run {run / 'opt.json'}" in said
    for damaged in ("[]", '{"height": {}}', '{"frame_ids": [[0]]}'):
        (run / "opt.json").write_text(damaged)
        assert "holds no options by name" in refused(monkeypatch, capsys, "--exp", run)
    assert not (run / "report").exists()


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", drawn=False)
    (tmp_path / "file").write_text("")
    said = refused(monkeypatch, capsys, "--exp", run, "--output", tmp_path / "file")
    assert f"cannot write the folder {tmp_path / 'file'}" in said


def test_a_page_is_whole_or_absent(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", None, drawn=False)
    before = make_report(run)
    monkeypatch.setattr("report_page.page", lambda *_: None)  # which no file takes
    with pytest.raises(TypeError):
        report.main(["--exp", str(run)])
    assert (run / "report" / "report.html").read_text(encoding="utf-8") == before
    assert not list((run / "report").glob("*.partial*"))
