"""Any command line, any file of options and any name of a run: a result, or one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoint import save_checkpoint
from datasets.check_options import parse_options as check_options
from datasets.nyuv2_list import main as list_nyuv2
from datasets.splits import main as print_split
from options import train_options
from run_log import RunLog, options_file
from tests.fuzzing import HOSTILE, TREE, WORD, fuzz, outcome
from tests.test_options import SCRIPTS
from utils import UserError, check_writable


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


# ---- command lines ---------------------------------------------------------------------------


def ends_well(parse: Callable[[list[str]], Any], words: list[str]) -> Any:
    """The options; None if the parser ended with help (0) or a sentence (2)."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return outcome(parse, words)
    except SystemExit as end:
        code = end.code
    assert (code, bool(out.getvalue())) in ((0, True), (2, False))
    assert re.fullmatch(r"error: [^\n]+\n" if code else "", err.getvalue())
    return None


@cache
def flags(script: str) -> tuple[str, ...]:
    """The long options of a script, as its help tells them."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        SCRIPTS[script].parse(["--help"])
    return tuple(sorted(set(re.findall(r"--[A-Za-z][\w-]*", out.getvalue()))))


@pytest.mark.parametrize("script", SCRIPTS)
@fuzz(40)
@given(data=st.data())
def test_any_command_line_ends_in_options_or_a_sentence(script: str, data: st.DataObject):
    flag = st.sampled_from(flags(script))
    pair = st.tuples(flag, WORD).map(lambda pair: "=".join(pair))
    words = data.draw(st.lists(st.one_of(flag, pair, WORD), max_size=6))
    required = SCRIPTS[script].required if data.draw(st.booleans()) else []
    ends_well(SCRIPTS[script].parse, [*required, *words])


@fuzz(40)
@given(
    st.lists(st.one_of(st.sampled_from(["--dataset", "--data_path", "kitti", "--split"]), WORD)),
    st.lists(st.one_of(st.sampled_from(["kitti", "nyuv2", "odom", "train", "test_09"]), WORD)),
)
def test_modules_that_are_run_answer_as_well(words: list[str], names: list[str]):
    ends_well(check_options, words)
    ends_well(print_split, names)
    if not {"--output", "--data_path"} & set(words):
        ends_well(list_nyuv2, words)


# ---- files of options ------------------------------------------------------------------------

YAML_SIGNS = st.text("-:?[]{},&*!|>'\"%@`#<= \n\tab1.~", max_size=30)


def yaml_of(tree: dict[str, object]) -> bytes:
    """JSON is YAML, and can write down any text."""
    return json.dumps(tree).encode()


@fuzz(150)
@given(
    st.one_of(
        st.binary(max_size=40),
        YAML_SIGNS.map(str.encode),
        st.dictionaries(st.sampled_from([flag[2:] for flag in flags("train")]), TREE, max_size=3)
        .map(yaml_of),
        TREE.map(yaml_of),
    )
)  # fmt: skip
def test_any_file_of_options_ends_in_options_or_a_sentence(tmp_path: Path, content: bytes):
    path = tmp_path / "any.yaml"
    path.write_bytes(content)
    opt = ends_well(train_options, ["--data_path", "kitti", "--config", str(path)])
    if opt is not None:
        path.write_text(options_file(vars(opt)))
        assert train_options(["--config", str(path)]).exp_name == opt.exp_name


# ---- the folder of a run ---------------------------------------------------------------------


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, and what the files hold."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


PARTS_OF_NAMES = st.sampled_from([*HOSTILE[-9:], "..", "other", "~", "a"])
NAME = st.one_of(WORD, st.lists(PARTS_OF_NAMES, max_size=4).map("/".join))


@fuzz(80)
@given(log_dir=st.one_of(st.just("logs"), NAME), exp_name=NAME)
def test_a_run_writes_in_its_own_folder_alone(
    tmp_path_factory: pytest.TempPathFactory, log_dir: str, exp_name: str
):
    """All of a run's paths begin with its folder; other runs beside it stay as they were."""
    top = tmp_path_factory.mktemp("top")
    (top / "work" / "logs" / "other").mkdir(parents=True)
    for name in ("above", "work/beside", "work/logs/beside", "work/logs/other/ckpt.pth"):
        (top / name).write_text(name)
    before = everything(top)
    here = os.getcwd()
    os.chdir(top / "work")
    try:
        words = ["--data_path", "kitti", f"--log_dir={log_dir}", f"--exp_name={exp_name}"]
        opt = ends_well(train_options, words)
        folder = None if opt is None else Path(opt.log_dir, opt.exp_name)
        if folder is None or not folder.resolve().is_relative_to(top.resolve()):
            return  # refused; or a --log_dir that is somewhere else on this machine
        own = folder.resolve()
        passed = {own, *(part.resolve() for part in folder.parents)}  # of `a/..` also `a`
        outcome(write_run, folder, opt)
    finally:
        os.chdir(here)
    after = everything(top)
    assert {path: after.get(path, "deleted") for path in before} == before
    for path in after.keys() - before.keys():
        place = top.resolve() / path
        assert place.is_relative_to(own) or place in passed, path


def write_run(folder: Path, opt: Any) -> None:
    """What train.py writes before its first step, and its checkpoints."""
    if os.path.isfile(folder / "ckpt.pth"):
        raise UserError("another run's: --resume was not given")
    check_writable(folder)
    log = RunLog(folder, is_main=True)
    log.writer.close()
    (folder / "options.yaml").write_text(options_file(vars(opt)))
    log.metrics({"epoch": 0, "loss": 1.0})
    for name in ("ckpt.pth", "models/model0.pth"):
        save_checkpoint(folder / name, {"encoder": {"weight": torch.ones(1)}})
