"""Render textured streets with a moving stereo pair, in a data set's layout, with true depth.

The last street is held out for testing: every third of its frames. The lists that training and
evaluation take are in `split/` of KITTI's layouts and in the root of the others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tool_options import LAYOUTS, render_options
from utils import UserError, atomic_path, format_duration, reason, run_script

if TYPE_CHECKING:
    from rendering import Plan

RENDERER = 1  # raised when equal settings no longer give equal files
SETTINGS = "rendering.json"
METRES_AHEAD = (20.0, 110.0)  # of street beyond the last frame, at least and at most


def main(argv: Sequence[str] | None = None) -> None:
    """Render, of each layout, the streets that its folder lacks, then write its lists."""
    opt = render_options(argv)
    if opt.streets < 2:
        raise UserError(f"--streets {opt.streets}: expected 2 or more, since the last is held out")
    out, names = Path(opt.out), [opt.layout]
    if opt.layout == "all":
        names = [name for name in LAYOUTS if name != "kitti"]  # which kitti_depth includes
    from rendering import LAYOUTS as writers
    from rendering import Plan

    for name in names:
        least = 2 * (writers[name].NEIGHBOURS or 0) + 1
        if opt.frames < least:
            raise UserError(f"--frames {opt.frames}: expected {least} or more, since a training "
                            f"frame of {name} needs {least // 2} neighbours on either side")
    plan = Plan(opt.streets, opt.frames, opt.height, opt.width)
    for name in names:
        render_layout(out / name if opt.layout == "all" else out, name, plan, opt.seed)


def render_layout(out: Path, name: str, plan: Plan, seed: int) -> None:
    """Render what `out` lacks of a layout. Raises UserError if it holds anything else."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from rendering import LAYOUTS

    layout, started = LAYOUTS[name], time.monotonic()
    _claim(out, name, plan, seed)
    training = [] if layout.NEIGHBOURS is None else plan.training
    numbers = [*training, plan.held_out]
    missing = [n for n in numbers if not (out / layout.folder(n, plan)).is_dir()]
    workers = max(1, min(len(missing), os.cpu_count() or 1))
    drives = Parallel(workers, return_as="generator_unordered")(
        delayed(_render_street)(out, name, number, plan, seed) for number in missing
    )
    for _ in tqdm(drives, f"{name} streets", len(missing), disable=not missing):
        pass
    files = layout.files(plan)
    for path, text in files.items():
        _write_text(out / path, text)
    lists = (out / next(path for path in files if path.endswith("_files.txt"))).parent
    streets = f"{len(numbers)} street{'s' * (len(numbers) > 1)}"
    print(f"{out}: {streets} of {plan.frames} frames ({len(missing)} rendered now, "
          f"{format_duration(time.monotonic() - started)}), lists in {lists}")


def _claim(out: Path, name: str, plan: Plan, seed: int) -> None:
    """Record the settings in the folder. Raises UserError if it holds anything else."""
    settings = plan._asdict() | {"seed": seed, "renderer": RENDERER}
    if name != "kitti":
        settings["layout"] = name
    try:
        used = out.exists() and any(out.iterdir())
        recorded = json.loads((out / SETTINGS).read_text()) if used else settings
    except (OSError, ValueError) as error:
        raise UserError(f"--out {out} was not made by render_demo.py; name a folder that is new "
                        "or empty") from error
    if recorded != settings:
        raise UserError(f"--out {out} holds streets of other settings than these (its own are in "
                        f"{out / SETTINGS}); name another folder")
    if not used:
        _write_text(out / SETTINGS, json.dumps(settings, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text)


def _render_street(out: Path, name: str, number: int, plan: Plan, seed: int) -> None:
    """Render one street, in a process of its own. Raises UserError if it cannot be written."""
    import numpy as np

    from rendering import LAYOUTS, Street, drive_poses

    seed = seed * 10_000 + number
    poses = drive_poses(seed, plan.frames)
    ahead = np.random.default_rng(seed).uniform(*METRES_AHEAD)
    street = Street(seed, length=poses[-1, 2, 3] + ahead)
    try:
        LAYOUTS[name].write_street(out, number, street, poses, plan)
    except OSError as error:
        raise UserError(f"cannot write street {number} to {out}: {reason(error)}") from error


if __name__ == "__main__":
    run_script(main)
