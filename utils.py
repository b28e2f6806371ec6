"""Small helpers without a subject of their own: bad-input errors, whole-or-absent files, logs."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType

LOGGER_NAME = "bdedepth"
LONGEST_NAME = 255  # bytes of a file's name, on nearly every file system


class UserError(Exception):
    """Bad input: one sentence that names the file or value and what would have been accepted."""

    def __str__(self) -> str:
        # From a DataLoader's worker it arrives wrapped in a traceback; the sentence comes last.
        sentence = super().__str__().rpartition("UserError: ")[2].strip()
        return " ".join(sentence.splitlines())  # a name in it may hold line breaks


class Interrupted(Exception):
    """A signal ended the work at a place where nothing is lost."""

    def __init__(self, number: int) -> None:
        """number: of the signal."""
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __reduce__(self) -> tuple:
        return Interrupted, (self.number,)  # as other processes are told


def run_script(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run a script's `main` on the command line's arguments and exit.

    A `UserError` becomes `error: <sentence>` on stderr and exit code 2; Ctrl-C exits with 130, and
    what a signal interrupted with 128 and its number, so that no scheduler takes it for finished.
    SIGTERM and SIGHUP unwind too, so that nothing half-written stays. A reader of stdout that has
    gone, as `head` does, ends the script without a word. Anything else is a bug of ours and keeps
    its traceback.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    for each, handler in before.items():
        if each == signal.SIGTERM or handler == signal.SIG_DFL:  # nohup lets SIGHUP be ignored
            signal.signal(each, _terminate)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files that are no text
    try:
        main(None)
    except SystemExit as stop:
        for number in before:
            if stop.code == 128 + number:
                print(f"stopped by {number.name}", file=sys.stderr)
        raise
    except Interrupted as stop:
        print(f"stopped by {stop}", file=sys.stderr)
        sys.exit(128 + stop.number)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        sys.exit(128 + signal.SIGPIPE)  # as the shell tells it of any command
    finally:
        _reader_is_gone()  # or Python says at its end that it could not print the rest
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    sys.exit(128 + number)


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more; what is yet to print is then dropped."""
    try:
        stdout = sys.stdout.fileno()
    except (AttributeError, OSError):  # there is none, or it is no file
        return False
    pipe = select.poll()
    pipe.register(stdout, 0)
    gone = any(event & select.POLLERR for _, event in pipe.poll(0))
    if gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stdout)
        os.close(nowhere)
    return gone


def read_lines(path: str | Path) -> list[str]:
    """The non-blank lines of a text file, stripped, in order. Raises UserError if unreadable.

    A byte order mark, as editors on Windows write it, is no part of the first line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the text file {path}: {reason(error)}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def reason(error: Exception) -> str:
    """What went wrong, in few words: an OSError without number and path, else the first line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, beside `path` and with its suffix; then move it there in one step.

    A crash, or an exception in the block, leaves whatever was at `path` before. The folder is made
    if it is missing. Raises UserError if the file cannot be written there (full disk included).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stem = path.stem[:40]  # the name may be as long as names can be
        handle, name = tempfile.mkstemp(".partial" + path.suffix, f".{stem}.", path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp's 0600 would hide results from a group
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """A line of text as a file, whole or not at all. Raises UserError if it cannot be written."""
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def check_writable(folder: str | Path) -> None:
    """Raise UserError if a folder, which may not exist yet, could not be made and written to.

    Nothing stays behind: this is for knowing before long work.
    """
    place = Path(folder).absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"cannot write the folder {folder}: {place} is not a folder")
    try:  # permissions alone do not tell: a disk may be read-only or full
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        message = f"cannot write the folder {folder}: {place} cannot be written to"
        raise UserError(f"{message}: {reason(error)}") from error


def check_results(
    results: Iterable[Path], sources: Iterable[str | Path | None], overwrite: bool
) -> None:
    """Raise UserError, before long work, if results cannot, or may not, be written.

    sources: what is read (None: nothing), which no result replaces, however either is spelled.
    Another file that is there is replaced with `overwrite` alone. Nothing is made.
    """
    results = list(results)
    for folder in {path.parent for path in results}:
        check_writable(folder)
    read = {_identity(path): path for path in sources if path and os.path.exists(path)}
    for path in results:
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            raise UserError(f"the result {path} has a name of more than {LONGEST_NAME} bytes")
        if os.path.isdir(path):
            raise UserError(f"the result {path} cannot be written: a folder has that name")
        if os.path.exists(path) and (source := read.get(_identity(path))):
            raise UserError(
                f"the result {path} would replace {source}, which is read: it needs another place"
            )
    there = [path for path in results if os.path.lexists(path)]
    if there and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more} is there already: --overwrite replaces it")


def _identity(path: str | Path) -> tuple[int, int]:
    """What all names of one file that is there have in common, links among them."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _umask() -> int:
    """The process's umask; the system only tells it while setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def format_duration(seconds: float) -> str:
    """Seconds as `2h03m`, `4m05s` or `6s`."""
    minutes, secs = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"


def setup_logging(log_file: str | Path | None = None, is_main: bool = True) -> logging.Logger:
    """The project's logger: to the console, and appended to `log_file`; other ranks warn only."""
    logger = logging.getLogger(LOGGER_NAME)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO if is_main else logging.WARNING)
    logger.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if log_file is not None and is_main:
        handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for handler in handlers:
        logger.addHandler(handler)
    return logger
