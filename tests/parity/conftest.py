"""Golden values measured by running the published implementation (tests/golden/README.md).

They are read from the folder in PARITY_GOLDENS, by default the copy under tests/golden: any other
set of the same format (other sizes, seeds and weights) must pass too.
"""

from __future__ import annotations

import importlib.util
import json
import os
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


class Goldens:
    """Named access to one set: `goldens.json("objective")`, `goldens.npz("forward")["..."]`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def json(self, name: str) -> dict:
        return json.loads((self.folder / f"{name}.json").read_text())

    def npz(self, name: str) -> np.lib.npyio.NpzFile:
        return np.load(self.folder / f"{name}.npz")

    @cached_property
    def settings(self) -> dict:
        """offset (weights), seed (inputs), h, w (training), fwd_h, fwd_w (forward pass)."""
        return self.json("about")["settings"]

    @cached_property
    def recipes(self) -> ModuleType:
        """The set's own recipes.py, which rebuilds every input and every weight."""
        spec = importlib.util.spec_from_file_location("recipes", self.folder / "recipes.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture(scope="session")
def goldens() -> Goldens:
    default = Path(__file__).parents[1] / "golden"
    return Goldens(Path(os.environ.get("PARITY_GOLDENS", default)))
