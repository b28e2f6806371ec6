"""report.py on a run written by hand, whose numbers are known, on broken ones, and in a browser."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

import report
from options import train_options
from report_curves import plots_of
from run_comparison import BESIDE_THE_POINT, compare
from run_reader import read_run
from utils import run_script

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


def test_every_option_beside_the_point_is_one():
    assert set(BESIDE_THE_POINT) <= DEFAULTS.keys()


# ---- runs beside each other ----------------------------------------------------------------------


def one_row(abs_rel: float, epoch: int = 2) -> str:
    return f"epoch,step,loss,kitti_eigen/abs_rel\n{epoch},15,0.3,{abs_rel}\n"


def test_seeds_are_one_row_with_mean_and_standard_deviation(tmp_path):
    """0.10, 0.12, 0.17: mean 0.13, squares 9 + 1 + 16 = 26 e-4, / 2 = 13e-4, root 0.036056."""
    values = {"a": (1, 0.10), "b": (2, 0.12), "c": (3, 0.17)}
    runs = [
        write_run(tmp_path / name, one_row(value), drawn=False, seed=seed, num_workers=seed)
        for name, (seed, value) in values.items()
    ]
    runs.append(write_run(tmp_path / "d", one_row(0.2), drawn=False, seed=1, batch_size=4))
    page = make_report(runs[0], "--compare", *runs)
    assert tables(page, "<h2>Comparison")[0] == [
        ["runs", "seeds", "n", "epoch", "batch_size", "abs_rel"],
        ["a, b, c", "1, 2, 3", "3", "2", "12", "0.1300 ± 0.0361"],
        ["d", "1", "1", "2", "4", "0.2000"],
    ]


def test_runs_of_other_length_or_code_are_not_averaged(tmp_path):
    first = write_run(tmp_path / "first", one_row(0.1), drawn=False)
    shorter = write_run(tmp_path / "shorter", one_row(0.2, epoch=1), drawn=False, seed=2)
    changed = write_run(tmp_path / "changed", one_row(0.3), drawn=False, seed=3)
    (changed / "code" / "changes.diff").write_text("")
    unscored = write_run(tmp_path / "unscored", None, drawn=False, seed=4)
    runs = [read_run(each) for each in (first, shorter, changed, unscored)]
    groups = compare(runs, DEFAULTS)
    assert [group.names for group in groups] == [["first"], ["shorter"], ["changed"], ["unscored"]]
    assert [group.epoch for group in groups] == [2, 1, 2, None]
    assert list(groups[0].settings) == ["code"]
    assert (groups[0].scores["kitti_eigen/abs_rel"].std, groups[3].scores) == (None, {})


def test_an_option_that_an_older_run_lacks_is_at_its_default(tmp_path):
    new = write_run(tmp_path / "new", one_row(0.1), drawn=False)
    old = write_run(tmp_path / "old", one_row(0.3), drawn=False, seed=2)
    options = json.loads((old / "opt.json").read_text())
    del options["warm_up"]
    (old / "opt.json").write_text(json.dumps(options))
    (group,) = compare([read_run(new), read_run(old)], DEFAULTS)
    spread = group.scores["kitti_eigen/abs_rel"]
    assert (spread.mean, spread.std) == pytest.approx((0.2, 0.02**0.5))


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
        ("environment.json", "{"),
        ("environment.json", "[1]"),
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
    (run / "opt.json").write_text("[]")
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
    monkeypatch.setattr("report_page.page", lambda *_: "new \ud800")  # no UTF-8 can hold it
    with pytest.raises(UnicodeEncodeError):
        report.main(["--exp", str(run)])
    assert (run / "report" / "report.html").read_text(encoding="utf-8") == before
    assert not list((run / "report").glob("*.partial*"))
