"""TensorBoard's event files, read back: curves, and the pictures drawn last.

TensorBoard's own reader checks every byte of every picture against checksums in Python, which takes
minutes for a long run, and stops in silence where a file is damaged. Here large records go
unchecked, of which none but the last pictures are used, and damage is told.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import masked_crc32c

CHECKED = 4096  # bytes; longer records are pictures and histograms


@dataclass(frozen=True)
class Curve:
    """Values at steps, both in the order they came."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A PNG file's bytes, and the step it was drawn at."""

    png: bytes
    step: int


@dataclass(frozen=True)
class Events:
    """What event files hold, by tag: curves, and the pictures of the step that was drawn last.

    damaged: names of files that cannot be read to their end.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take an event up. A run that goes on from a step hides what was drawn beyond it."""
        if event.session_log.status == SessionLog.START:
            for curve in self.curves.values():
                kept = sum(step < event.step for step in curve.steps)
                del curve.steps[kept:], curve.values[kept:]
        for value in event.summary.value:
            if value.HasField("simple_value") and math.isfinite(value.simple_value):
                curve = self.curves.setdefault(value.tag, Curve())
                curve.steps.append(event.step)
                curve.values.append(value.simple_value)
            elif value.HasField("image"):
                if any(each.step != event.step for each in self.pictures.values()):
                    self.pictures.clear()
                picture = Picture(value.image.encoded_image_string, event.step)
                self.pictures[value.tag] = picture


def read_events(folder: Path) -> Events:
    """Everything in the event files of a folder, in the order in which runs wrote them."""
    events = Events()
    for path in sorted(folder.glob("events*")):
        try:
            for event in _events_of(path):
                events.add(event)
        except (OSError, ValueError, DecodeError):
            events.damaged.append(path.name)
    return events


def _events_of(path: Path) -> Iterator[Event]:
    """Events of one file: length, its checksum, an event, its checksum; and so on.

    Raises ValueError or DecodeError where it is damaged.
    """
    with path.open("rb") as file:
        while head := file.read(12):
            length = _checked(head[:8], head[8:])
            record = file.read(struct.unpack("<Q", length)[0])
            check = file.read(4)
            if len(record) > CHECKED and len(check) == 4:
                yield Event.FromString(record)
            else:
                yield Event.FromString(_checked(record, check))


def _checked(data: bytes, check: bytes) -> bytes:
    if check != struct.pack("<I", masked_crc32c(data)):
        raise ValueError("the checksum differs")
    return data
