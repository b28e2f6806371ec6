"""The lists of folders of frames (`--dataset folder`), of one root or of several; no torch.

    ROOT/train_files.txt, ROOT/val_files.txt, ROOT/test_files.txt      lines `CLIP FRAME`

Of several roots a line begins with its root, `ROOT/CLIP FRAME`, so that a message says where.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets.files import require_folder
from datasets.splits import split_lines
from utils import UserError

PICTURES = (".jpg", ".jpeg", ".png")  # endings of frames, in small letters or capitals


def own_list(root: str | Path, parts: Sequence[str]) -> Path | None:
    """The first of the lists `PART_files.txt` that a root has."""
    paths = (Path(root) / f"{part}_files.txt" for part in parts)
    return next(filter(os.path.isfile, paths), None)


def folder_lines(roots: Sequence[str], parts: Sequence[str], split: str = "") -> list[str]:
    """The lines of each root's first list of `parts`, in the order of roots.

    split: a folder whose list stands for that of the only root. Every root has a training list; one
    without another list is left out, but not all of them. Raises UserError for a root that is
    missing or lies in another, for lists that are missing, and for a line that is none, with its
    number.
    """
    check_roots(roots)
    if split:
        return split_lines("folder", split, parts[0])
    lines = []
    for root in roots:
        found = own_list(root, parts)
        if found is None and "train" in parts:
            raise UserError(_no_list(root))
        if found is not None:
            own = split_lines("folder", root, found.name.removesuffix("_files.txt"))
            lines += own if len(roots) == 1 else [f"{root}/{line}" for line in own]
    if not lines:
        names = " nor ".join(f"{part}_files.txt" for part in parts)
        raise UserError(f"{', '.join(roots)} holds no {names}: lists have lines `CLIP FRAME`")
    return lines


def check_roots(roots: Sequence[str]) -> None:
    """Raise UserError unless all roots are there and apart: a frame has one camera."""
    for root in roots:
        require_folder(root)
    real = {root: Path(os.path.realpath(root)) for root in roots}
    for number, root in enumerate(roots):
        for other in [*roots[:number], *roots[number + 1 :]]:
            if real[root].is_relative_to(real[other]):
                raise UserError(f"--data_path names {root} and {other}, of which one is, or lies "
                                "in, the other: give folders apart from each other")


def split_root(text: str, roots: Sequence[str]) -> tuple[str, str]:
    """The root that a line or path of `folder_lines` begins with, and the rest. Raises UserError.

    A single root stands before no line.
    """
    if len(roots) == 1:
        return roots[0], text
    inside = [root for root in roots if text.startswith(f"{root}/")]
    if not inside:
        raise UserError(f"the line {text!r} begins with none of the folders {', '.join(roots)}")
    root = max(inside, key=len)
    return root, text[len(root) + 1 :]


def numbered_frames(folder: str | Path) -> dict[int, str]:
    """The names of a clip's frames by their numbers, in order; none where there is no folder.

    A frame is a picture whose name is a whole number, of any zero padding. Raises UserError where
    two have one number.
    """
    found: dict[int, str] = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        stem, ending = os.path.splitext(name)
        if ending.lower() in PICTURES and stem.isascii() and stem.isdecimal():
            first = found.setdefault(int(stem), name)
            if first != name:
                raise UserError(f"{folder} holds {first} and {name}, both frame {int(stem)}: keep "
                                "one of them")
    return dict(sorted(found.items()))


def clips(root: str | Path) -> Iterator[str]:
    """Every folder below the root that holds pictures, relative to it, true depth left out."""
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        if Path(folder) == Path(root) and "depth" in subfolders:
            subfolders.remove("depth")
        if any(os.path.splitext(name)[1].lower() in PICTURES for name in names):
            yield Path(folder).relative_to(root).as_posix()


def _no_list(root: str) -> str:
    """What to do about a root without a training list."""
    if next(clips(root), None) is None:
        return (f"{root} holds no train_files.txt and no pictures: --dataset folder expects a "
                "folder that `python prepare_video.py CLIP --out DIR` wrote")
    return (f"{root} holds pictures and no train_files.txt: `python prepare_video.py {root} --out "
            "DIR` makes a folder with lists and a camera of them")
