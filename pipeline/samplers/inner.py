"""Samplers inside another sampler: what they cost, and how their settings are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from pipeline.domain import Cost, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, PipelineError, with_remedy
from pipeline.ledger import added, alone, total
from pipeline.samplers import ChecksQuestions, PlansWindows, Sampler
from pipeline.video.timeline import TOLERANCE


def check_inner(part: str, sampler: Sampler, questions: Sequence[Question]) -> None:
    """The sampler at ``part`` checks its questions, if it is one that does.

    Raises:
        InputError: it cannot score them.
    """
    if isinstance(sampler, ChecksQuestions):
        with overrides_under(part):
            sampler.check(questions)


def planned(sampler: Sampler, video: Video, questions: Sequence[Question]) -> int:
    """Calls of a sampler's models, as far as it can tell."""
    return sampler.windows(video, questions) if isinstance(sampler, PlansWindows) else 0


def cost_of_both(one: Cost, other: Cost) -> Cost:
    """The sum of two costs; the policy chooses from the candidates of the second."""
    both = total((one, other))
    pool = {name: value for name, value in other.more.items() if name == "pool"}
    return replace(both, more={**both.more, **pool})


def cost_together(parts: Sequence[Relevance], of: int) -> Cost:
    """What the relevances of one question take without those of others.

    Of work ``S`` that ``of`` relevances share, each has ``cost = S / of + own`` and ``alone = S + own``.

    Args:
        parts: of the question, one at least.
        of: relevances that shared their work, those of other questions among them.
    """
    whole, share = alone(parts[0]), parts[0].cost
    if of == 1:
        return whole
    others = (of - len(parts)) / (of - 1)  # of what a relevance alone has more
    own = reduce(cost_of_both, (part.cost for part in parts))
    missing = {name: (value - share.more.get(name, 0.0)) * others for name, value in whole.more.items()}
    return replace(
        added(own, missing),
        seconds=own.seconds + (whole.seconds - share.seconds) * others,
        prompt_tokens=round(own.prompt_tokens + (whole.prompt_tokens - share.prompt_tokens) * others),
        output_tokens=round(own.output_tokens + (whole.output_tokens - share.output_tokens) * others),
    )


def of_length(video: Video, frames: int) -> Video:
    """A video as long as one of so many kept frames, for plans."""
    return replace(video, start=0.0, duration=float(frames), fps=1.0, frame_count=frames)


def check_is_shown_all(part: str, sampler: Sampler) -> None:
    """Refuse a sampler that would leave out some of the kept frames that it is shown, which are one a second.

    Raises:
        ConfigError: by its settings it looks at fewer.
    """
    if getattr(sampler, "fps", 1.0) < 1:
        raise ConfigError(
            f"sampler.{part} takes less than one frame a second, and would leave out some that it is shown.",
            f"Set sampler.{part}.fps=1, or more.",
        )
    if getattr(sampler, "max_frames", None) is not None:
        raise ConfigError(
            f"sampler.{part} takes so many frames and no more, and would leave out some that it is shown.",
            f"Set sampler.{part}.max_frames=null.",
        )


def of_every_frame(
    relevance: Relevance, times: Sequence[float] | npt.NDArray[np.float64], part: str, name: str
) -> Relevance:
    """The relevance of kept frames, if each has a score; otherwise a failure, without times.

    Args:
        relevance: from the sampler at ``part``.
        times: of the frames that it was shown.
        part: its key in the sampler that holds it.
        name: its name.
    """
    failed = replace(relevance, times=(), scores=(), indices=None, detail=under(part, relevance.detail), features=None)
    if not relevance.status.has_scores and relevance.status is not Status.NOTHING_RELEVANT:
        return failed
    if len(relevance.times) == len(times) and np.allclose(relevance.times, times, rtol=0, atol=TOLERANCE):
        return relevance
    detail = with_remedy(
        f"{name} does not score every frame that it is shown", f"take a sampler that does: sampler@sampler.{part}=clip"
    )
    return replace(failed, status=Status.NO_SCORES, spread=None, detail=detail)


def status_of_all(parts: Sequence[Relevance]) -> Status:
    """The status of scores that are put together from several relevances, none of which failed."""
    return max((part.status for part in parts), key=_PREFERRED.index)


_PREFERRED = (Status.NOTHING_RELEVANT, Status.OK, Status.PARTIAL_SCORES)
"""Of several parts, the last of these stands for all."""


@contextmanager
def overrides_under(part: str) -> Iterator[None]:
    """Errors of a part name its settings by their keys in this sampler."""
    try:
        yield
    except PipelineError as error:
        raise type(error)(error.problem, under(part, error.remedy)) from error


def under(part: str, advice: str) -> str:
    """An advice in which the settings of a part have their keys in the sampler that holds it.

    ``sampler.window.frames`` of a sampler at ``localised`` is ``sampler.localised.window.frames``.
    """
    return re.sub(r"\bsampler\.(?=\w)", f"sampler.{part}.", advice)
