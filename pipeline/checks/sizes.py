"""The sizes of selected frames before the second stage: whether the answerer takes them, and the tokens they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.answerers import Answerer, TakesScales
from pipeline.artefacts.rows import SelectionRow
from pipeline.checks import Finding, Level
from pipeline.domain import Video
from pipeline.errors import InputError
from pipeline.families.pixels import fixed_size
from pipeline.selection import SelectionPolicy
from pipeline.selection.sizes import KeepsTokenLaw, Size, SizesFrames, TokenLaw

Sizes = Mapping[str, Sequence[Size]]
"""Frames at most, by question id."""

_USUAL = Video("", "", 3600.0, 30.0, 108_000, 1280, 720)
"""For a policy whose videos come later."""
_UNITS = range(8, 65)
_SHAPES = ((1080, 1920), (720, 1280), (1000, 1000))
"""Which tell the units apart."""


def of_policy(policy: SelectionPolicy, clips: Mapping[str, Video], found: list[Finding]) -> Sizes:
    """Sizes of full selections. A clip from which there can be none is a finding, and is left out."""
    if not isinstance(policy, SizesFrames):
        return {question: (Size(min(policy.budget, clip.frame_count), None),) for question, clip in clips.items()}
    known: dict[Video, Sequence[Size] | InputError] = {}
    for clip in clips.values():
        if clip not in known:
            try:
                known[clip] = policy.sizes(clip)
            except InputError as error:
                known[clip] = error
    sizes = {}
    failed: dict[str, list[str]] = {}
    remedy = ""
    for question, clip in clips.items():
        made = known[clip]
        if isinstance(made, InputError):
            failed.setdefault(made.problem, []).append(question)
            remedy = made.remedy
        else:
            sizes[question] = made
    if failed:
        places = tuple(f"{question}: {problem}" for problem, questions in failed.items() for question in questions)
        found.append(Finding(Level.SOME_FAIL, f"questions without a selection: {len(places)}", remedy, places))
    return sizes


def of_rows(rows: Iterable[SelectionRow]) -> Sizes:
    """Sizes of selections that are there."""
    return {
        row.question.id: tuple(
            Size(count, scale) for scale, count in Counter(frame.scale for frame in row.selection.frames).items()
        )
        for row in rows
    }


def check_taken(answerer: Answerer, policy: SelectionPolicy | None, sizes: Sizes) -> None:
    """Raise where the answerer does not take frames of these sizes, before anything is selected or loaded.

    Raises:
        ConfigError, CheckpointError, FramesError: it does not.
    """
    requests = set(map(tuple, sizes.values()))
    if not requests and isinstance(policy, SizesFrames):
        requests = {tuple(policy.sizes(_USUAL))}
    for request in requests:
        scales = [scale for _, scale in request]
        if isinstance(answerer, TakesScales):
            if any(scale is not None for scale in scales):
                answerer.check_scales(scales)
        else:
            for scale in scales:
                fixed_size(scale, f"answerer={answerer.name}")


def law_findings(policy: Any, answerer: Answerer, clips: Mapping[str, Video], sizes: Sizes) -> list[Finding]:
    """A policy's token law that does not count as the answerer does, or does not hold there."""
    if not isinstance(policy, KeepsTokenLaw) or not isinstance(answerer, TakesScales):
        return []
    law, over = policy.law, []
    shapes = {(clip.height, clip.width): question for question, clip in clips.items() if question in sizes}
    for (height, width), question in shapes.items():
        scales = {law.scale, *(scale for _, scale in sizes[question] if scale is not None)}
        real = {scale: answerer.visual_tokens(height, width, scale) for scale in scales}
        if None in real.values():
            return []  # a server counts by itself
        counted = {scale: tokens or 0 for scale, tokens in real.items()}
        if _differs(law, height, width, counted) and (unit := _unit_of(answerer)) is not None:
            scale = max(counted)
            return [
                Finding(
                    Level.CANNOT_RUN,
                    f"selection.law.unit={law.unit} counts {law.tokens(height, width, scale)} tokens of a frame of "
                    f"{width} x {height} pixels at {scale:g} of its size, and answerer={answerer.name} makes "
                    f"{counted[scale]} of it",
                    f"count as it does: selection.law.unit={unit}",
                )
            ]
        total = sum(count * counted[scale] for count, scale in sizes[question] if scale is not None)
        if total > law.frames * counted[law.scale]:
            over.append(f"{width} x {height}: {total} tokens, {law.frames * counted[law.scale]} by the law")
    if not over:
        return []
    bound = getattr(getattr(answerer, "frame", None), "max_side", None)
    remedy = "answerer.frame.max_side=null" if bound is not None else "compare by the tokens that are counted"
    problem = "the frames take more tokens than selection.law allows, as this answerer counts them"
    return [Finding(Level.NOTE, problem, remedy, tuple(over))]


def _differs(law: TokenLaw, height: int, width: int, counted: Mapping[float, int]) -> bool:
    return any(law.tokens(height, width, scale) != tokens for scale, tokens in counted.items())


def _unit_of(answerer: TakesScales) -> int | None:
    """The side of its tokens; None where it does not count by such a grid."""
    for unit in _UNITS:
        law = TokenLaw(1, 1.0, unit)
        if not any(_differs(law, *shape, {1.0: answerer.visual_tokens(*shape, 1.0) or 0}) for shape in _SHAPES):
            return unit
    return None
