"""What the fuzz tests share: how often, hostile words and values, files that are damaged."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from utils import UserError


def fuzz(examples: int) -> settings:
    """The same examples in every run: a failure belongs to the change that it came with."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns; None if it raised a UserError of one sentence. Others come through."""
    sentence = ""
    try:
        return call(*arguments)
    except UserError as error:
        sentence = str(error)
    assert re.fullmatch(r"[^\n]+", sentence)
    return None


# Words that numbers, names and paths are rarely tried with.
HOSTILE = (
    "", " ", "-", "--", "-1", "0", "1", "007", "1e400", "1e-400", "nan", "-inf", "0x10", "1_0",
    "9" * 5000, "²", "٣", "½", "\0", "\n", "\x1b[31m", "\udcff", "\ud800", "\u2028", "%s", "%(x)s",
    "{}", "~", "~no.such.user", "~\0", ".", "..", "../..", "/", "//", "/etc/passwd", "a/../..",
    "a" * 300, "a/" * 3000, "s3://bucket", "C:\\x", "$HOME", "`id`", "; rm -rf /", "*", "[", "]",
    "true", "None", "eigen", "l", "192", "640",
)  # fmt: skip
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
WORD = st.one_of(st.sampled_from(HOSTILE), ANY_TEXT)

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT, st.sampled_from(HOSTILE)
)
TREE = st.recursive(
    PLAIN,
    lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(WORD, part, max_size=3)),
)


def bytes_of(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with some bytes cut out, replaced or put in; or other bytes altogether."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=60))
    words = st.sampled_from(HOSTILE).map(lambda word: word.encode("utf-8", "surrogatepass"))
    if kind > 5:  # a word, where there are some
        tokens = re.split(rb"([\s,:{}\"]+)", content)
        tokens[draw(st.integers(0, len(tokens) - 1))] = draw(words)
        return b"".join(tokens)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        cut = draw(st.one_of(st.integers(0, 4), st.integers(0, len(content) - start)))
        new = draw(st.one_of(words, st.binary(max_size=4)))
        content = content[:start] + new + content[start + cut :]
    return content
