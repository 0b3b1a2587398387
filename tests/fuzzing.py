"""Damaged files for the readers of files: every one gives a value, or an error of ours that names the file.

A short run is the same each time. With ``--long`` each group of readers is tried for two minutes
(``GENS_FUZZ_SECONDS``) with new examples; ``GENS_FUZZ_SEED``, which a failure prints, repeats them.
"""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
from growth import LONGER, UNITS, slow_among
from hypothesis import strategies as st

from pipeline.errors import PipelineError

LONG_SECONDS = float(os.environ.get("GENS_FUZZ_SECONDS", "120"))
HANGS_AFTER = 20.0
"""Seconds. A reader of a few kilobytes that takes longer hangs."""


@dataclass(frozen=True)
class Parser:
    """A reader of files and what it reads when they are whole."""

    name: str
    file: str
    """The file's name."""
    seeds: Sequence[bytes]
    """Whole contents."""
    read: Callable[[Path], object]
    """Reads the file. What it gives is also used here, where it is used later in a run."""
    errors: type[Exception] | tuple[type[Exception], ...] = PipelineError
    words: Sequence[bytes] = ()
    """What damage consists of, besides what any file may hold."""
    examples: int = 40
    """In a short run."""
    longest: int = 32_000
    """Bytes of the texts by which the growth of time is seen."""

    def __str__(self) -> str:
        return self.name

    def check(self, content: bytes, folder: Path) -> None:
        """Read ``content``, which may be anything."""
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        with _ends_soon():
            try:
                self.read(path)
            except self.errors as raised:
                refusal = raised
            else:
                return
        if isinstance(refusal, PipelineError):
            names = (path.name, str(path.parent), path.stem.replace("_", " "))
            assert any(name in str(refusal) for name in names), f"names no file: {refusal}"
            assert refusal.remedy.strip(), refusal


def survives(parsers: Sequence[Parser], folder: Path, *, is_long: bool) -> None:
    """Check all readers with damaged files."""
    if not is_long:
        for parser in parsers:
            _run(parser, folder, seed=0, examples=parser.examples)
        return
    seed = int(os.environ.get("GENS_FUZZ_SEED", random.randrange(1 << 30)))
    end = time.monotonic() + LONG_SECONDS
    while time.monotonic() < end:
        for parser in parsers:
            _run(parser, folder, seed, max(20, parser.examples))
        seed += 1


REPEATED = ("{", "[", "[1,", "1:", "1", "a", " ", "\n", "so\n", "<", '"', "\\", ", ", "- ")


def slow_growth(parsers: Sequence[Parser], folder: Path, *, is_long: bool) -> list[str]:
    """The shapes of text for which a reader takes more than about linear time."""
    found = []
    for parser in parsers:

        def read(text: str, parser: Parser = parser) -> None:
            parser.check(text.encode("utf-8", "replace"), folder)

        texts = _long_texts(parser, UNITS if is_long else REPEATED, within=is_long)
        length = parser.longest if is_long else min(parser.longest, 6000)
        found += [f"{parser}: {shape}" for shape in slow_among(read, texts, length // LONGER)]
    return found


def _long_texts(parser: Parser, units: Sequence[str], *, within: bool) -> Iterator[tuple[str, Callable[[int], str]]]:
    """Texts in which something is said again and again: after a beginning, or in a text of a whole file's JSON."""
    seed = _text(parser.seeds[0])
    frames = [("", "!"), (seed[: len(seed) * 2 // 3], "!")]
    if within and (lines := _json_lines(parser.seeds[0])) is not None:
        for holder, key in [place for place in _places(lines) if isinstance(place[0][place[1]], str)]:
            before, holder[key] = holder[key], "\0"
            head, _, tail = "\n".join(map(json.dumps, lines)).partition("\\u0000")
            frames.append((head, tail))
            holder[key] = before
    for head, tail in frames:
        for unit in units:
            said = json.dumps(unit)[1:-1] if tail.startswith('"') else unit
            yield (
                f"{head[-40:]!r}, then {unit!r} again and again",
                lambda length, head=head, tail=tail, said=said: head + (said * (length // len(said) + 1)) + tail,
            )


def _run(parser: Parser, folder: Path, seed: int, examples: int) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )
    @hypothesis.given(damaged(parser.seeds, parser.words))
    def once(content: bytes) -> None:
        parser.check(content, folder)

    try:
        once()
    except BaseException as error:
        error.add_note(f"reader: {parser}; GENS_FUZZ_SEED={seed}")
        raise


# --- damage --------------------------------------------------------------------------------------------------------

DEEP = 3000
"""Brackets within brackets: more than Python's stack has room for."""
ODD = (
    *(None, True, False, 0, -1, 1, 2, 25.0, 0.5, -0.0, 1e308, 1e-320, float("inf"), float("-inf"), float("nan")),
    *(2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, [], {}, [[]], [None], {"": None}, [{}], {"a": [1]}),
    *("", " ", "\0", "\ud800", "\udcff", "a" * 5000, "../../x", "/", "/dev/zero", "~", "${oc.env:HOME}", "1", "-1"),
    *("1e400", "nan", "\u0663", "\u00b2", "1_000", "\u2028", "\U0001f600", "\n", "A", "a.mp4", "2026-13-45", "$", "%s"),
    *("x" * 300, "\\", "[", "{", "null", "(((", "a:b", "<|image_pad|>", "{{", "{% for i in range(10) %}", ["A", "A"]),
)
"""JSON values that are seldom expected."""
WORDS = (
    *rb"' \ { } [ ] : , - null true NaN Infinity -1 1e999 {} [] & * < > % # \ud800 \u0000 !!python/object:os".split(),
    *(b"", b"\0", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80", b"\xc2\xb2"),
    *(b"\r", b"\n", b"\n\n", b"\r\n", b"\t", b" ", b'"', b"9" * 5000, b"A" * 300, b"[" * DEEP, b'{"a":' * DEEP),
)


def damaged(seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Contents like ``seeds`` with some damage."""
    ways = [_edited(seeds, (*WORDS, *words)), st.binary(max_size=64)]
    values = [value for seed in seeds if (value := _json_lines(seed)) is not None]
    if values:
        ways += [_changed(values)] * 3
    return st.one_of(ways)


@st.composite
def _edited(draw: st.DrawFn, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """With some pieces taken out, put in, or repeated."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.one_of(st.integers(0, 4), st.integers(0, len(content)))))
        piece = bytes(content[start:end])
        put = st.one_of(st.sampled_from(words), st.binary(max_size=4), st.just(piece * 2))
        content[start:end] = draw(put)
    return bytes(content)


@st.composite
def _changed(draw: st.DrawFn, values: Sequence[Any]) -> bytes:
    """With some values in their JSON replaced, removed or renamed."""
    lines = copy.deepcopy(draw(st.sampled_from(values)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(lines))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        way = draw(st.sampled_from(("put", "put", "put", "another", "remove", "rename")))
        if way == "remove":
            del holder[key]
        elif way == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(("", "\0", "x", "\ud800", "schema", "id")))] = holder.pop(key)
        elif way == "another":
            other, name = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    ascii_only = draw(st.booleans())
    text = "\n".join(json.dumps(line, ensure_ascii=ascii_only) for line in lines)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Holder and key of every value within a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _json_lines(content: bytes) -> list[Any] | None:
    """The JSON values of a file, one a line or a single one; None where it has none."""
    text = _text(content)
    try:
        return [json.loads(text)]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()] or None
    except ValueError:
        return None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


class HangError(AssertionError):
    """A reader does not come to an end."""


@contextmanager
def _ends_soon() -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise HangError(f"does not end within {HANGS_AFTER:.0f} s")

    before = signal.signal(signal.SIGALRM, hangs)
    timer, _ = signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, timer)
        signal.signal(signal.SIGALRM, before)
