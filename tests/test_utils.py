"""Errors, files that appear whole or not at all, and log lines."""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import utils
from utils import (
    UserError,
    atomic_path,
    format_duration,
    read_lines,
    reason,
    run_script,
    setup_logging,
)


def raising(error: BaseException):
    def main(_argv):
        raise error

    return main


def test_bad_input_is_one_line_on_stderr_and_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        run_script(raising(UserError("no such thing")))
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "error: no such thing\n")


def test_an_interrupt_is_code_130(capsys):
    with pytest.raises(SystemExit) as stop:
        run_script(raising(KeyboardInterrupt()))
    assert stop.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


ENDLESS = """
import signal, sys, time
from utils import atomic_path, run_script

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup

def main(_):
    with atomic_path(sys.argv[1]) as partial:
        partial.write_text("half")
        print("ready", flush=True)
        time.sleep(60)

run_script(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_written(tmp_path, number):
    command = [sys.executable, "-c", ENDLESS, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          cwd=Path(utils.__file__).parent) as run:  # fmt: skip
        assert run.stdout.readline() == "ready\n"
        run.send_signal(number)
        _, told = run.communicate(timeout=30)
    assert (run.returncode, told) == (128 + number, f"stopped by {number.name}\n")
    assert not list(tmp_path.iterdir())


def test_what_nohup_ignores_stays_ignored():
    script = """
import os, signal
from utils import run_script
signal.signal(signal.SIGHUP, signal.SIG_IGN)
run_script(lambda _: os.kill(os.getpid(), signal.SIGHUP) or print("goes on"))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                         cwd=Path(utils.__file__).parent)  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "goes on\n", "")


@pytest.mark.parametrize(("lines", "unbuffered", "code"), [
    (1, "", 0), (100_000, "", 141), (1, "1", 141),
])  # fmt: skip
def test_a_reader_that_has_gone_is_no_error(lines, unbuffered, code):
    """What waits in the buffer is printed once all is done."""
    script = f"from utils import run_script\nrun_script(lambda _: print('line\\n' * {lines}))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(utils.__file__).parent, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as run:  # fmt: skip
        run.stdout.close()
        told = run.stderr.read()
    assert (run.returncode, told) == (code, "")


def test_a_name_that_is_no_text_can_be_printed():
    script = "from utils import run_script\nrun_script(lambda _: print('\\udcff.png'))"
    run = subprocess.run([sys.executable, "-c", script], cwd=Path(utils.__file__).parent,
                         env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert run.stdout == "\\udcff.png\n"


def test_another_broken_pipe_keeps_its_traceback():
    with pytest.raises(BrokenPipeError):
        run_script(raising(BrokenPipeError()))


def test_a_script_leaves_the_signal_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    run_script(lambda _: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_script(raising(ZeroDivisionError()))


def test_a_script_that_ends_well_does_not_exit():
    asked = []
    run_script(asked.append)
    assert asked == [None]


def test_an_error_out_of_a_loader_worker_is_its_sentence():
    """torch re-raises it with the worker's traceback as its message."""
    wrapped = (
        "Caught UserError in DataLoader worker process 0.\n"
        'Original Traceback (most recent call last):\n  File "a.py", line 1, in read\n'
        "utils.UserError: cannot read the image a.png: truncated\n"
    )
    assert str(UserError(wrapped)) == "cannot read the image a.png: truncated"


def test_lines_are_stripped_and_blank_ones_dropped(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"  a b \r\n\n\t\nc")
    assert read_lines(path) == ["a b", "c"]


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa b\r\nc\r\n")
    assert read_lines(tmp_path / "list.txt") == ["a b", "c"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_unreadable_lists_are_named(tmp_path, content):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the text file .*list\.txt: "):
        read_lines(path)


def test_the_reason_of_an_error_is_short():
    assert reason(OSError(errno.ENOENT, "No such file", "path")) == "No such file"
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "result.txt"
    with atomic_path(path) as partial:
        assert partial.parent == path.parent
        assert partial.suffix == ".txt"
        partial.write_text("first")
        assert not path.exists()
    with atomic_path(path) as partial:
        partial.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["result.txt"]


def test_a_failed_write_leaves_what_was_there_and_no_litter(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]


def test_a_full_disk_is_one_sentence(tmp_path):
    path = tmp_path / "result.txt"
    with pytest.raises(UserError, match=r"cannot write .*result\.txt: No space left"):  # noqa: SIM117
        with atomic_path(path):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / "file" / "x.txt"):
        pass


def test_results_are_as_readable_as_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "x.txt") as partial:
            partial.write_text("")
        assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027  # asking for it did not change it
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (245, "4m05s"), (3599.5, "1h00m"), (7380, "2h03m")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_the_log_goes_to_console_and_file_and_to_one_of_each(tmp_path, capsys):
    setup_logging(tmp_path / "first.log")
    logger = setup_logging(tmp_path / "second.log")  # a second run in one process
    logger.info("hello %d", 1)
    assert capsys.readouterr().out == "hello 1\n"
    assert (tmp_path / "first.log").read_text() == ""
    assert (tmp_path / "second.log").read_text().endswith(" hello 1\n")
    assert logger is logging.getLogger(utils.LOGGER_NAME)
    setup_logging()


def test_other_ranks_only_warn(tmp_path, capsys):
    logger = setup_logging(tmp_path / "other.log", is_main=False)
    logger.info("quiet")
    logger.warning("loud")
    assert capsys.readouterr().out == "loud\n"
    assert not (tmp_path / "other.log").exists()
    setup_logging()
