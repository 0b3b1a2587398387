"""Errors that end a command. Each says what is wrong and what to do about it.

A failure of one question is not an error: it is a :class:`pipeline.domain.Status` in that question's record.
"""

from __future__ import annotations

import re
from typing import Any, Self

from pipeline.domain import Status


def with_remedy(problem: str, remedy: str) -> str:
    """What is wrong and what to do about it, as error messages and the details of failures say it."""
    return f"{problem}\n  what to do: {remedy}"


_EITHER = re.compile(r"(answerer\.\S+) \((sampler\..*?) for the sampler\)")


def either(answerer: str, sampler: str) -> str:
    """The overrides of both stages, where what raises an error does not know which of them it serves.

    The stage that it comes out of keeps its own: :func:`of_stage`.
    """
    return f"{answerer} ({sampler} for the sampler)"


def of_stage(remedy: str, key: str) -> str:
    """A remedy with the overrides of one stage, of all that :func:`either` names.

    Args:
        remedy: of an error.
        key: of the stage's part in the configuration: ``sampler``, ``answerers.qwen2_vl``.
    """
    return _EITHER.sub(r"\2" if key.startswith("sampler") else r"\1", remedy)


class PipelineError(Exception):
    """Something the user can fix. ``remedy`` names the action, with the exact override where there is one."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return with_remedy(self.problem, self.remedy)

    def kept(self) -> Self:
        """The error for a list of many, without the stack of calls, which holds all that these calls were reading."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process; by default an exception is made again from its message alone."""
        return type(self), (self.problem, self.remedy)


class ConfigError(PipelineError):
    """A key, a value or a combination of settings that cannot be used."""


class InputError(PipelineError):
    """A question, a benchmark file or an artefact that cannot be used."""


class CheckpointError(PipelineError):
    """A model that cannot be found, fetched, or loaded exactly."""


class MissingExtraError(PipelineError):
    """An optional package that the chosen configuration needs is not installed."""


class IncompatibleLibraryError(PipelineError):
    """An installed library is of a version that does not do what this project needs of it."""


class LauncherError(PipelineError):
    """A launcher of Hydra did not bring the jobs of a sweep to their end."""


class StorageError(PipelineError):
    """A cache or run folder that cannot be written, or is in use by another process."""


class BusyError(StorageError):
    """Another process is writing to the run folder."""


class VideoError(PipelineError):
    """A video that cannot be read. The orchestrator turns it into ``status`` on each of the video's questions."""

    status = Status.UNREADABLE_VIDEO


class MissingVideoError(VideoError):
    """There is no file at the path."""

    status = Status.MISSING_VIDEO


class ChangedVideoError(VideoError):
    """The file at the path is not the one that the frames were selected from."""

    status = Status.CHANGED_VIDEO


class EmptyVideoError(VideoError):
    """The file has no bytes, or no frame can be decoded from it."""


class NoVideoStreamError(VideoError):
    """The file holds no video, for instance only sound."""


class CrashedVideoError(VideoError):
    """The process that read the video crashed or did not come to an end."""


class TruncatedVideoError(VideoError):
    """The file ends, or is damaged, before a frame that was asked for."""


class UnsupportedVideoError(VideoError):
    """No installed backend decodes this codec or container."""


class FramesError(VideoError):
    """Frames that were read, and that a model cannot be shown in the form that is set: asking again changes nothing."""

    status = Status.UNSUPPORTED


class ClipError(VideoError):
    """The span that a question may see does not lie in its video."""

    status = Status.INVALID_QUESTION


class SubtitlesError(PipelineError):
    """Subtitles that cannot be read. The orchestrator turns it into ``status`` on the question."""

    status = Status.UNREADABLE_SUBTITLES


class MissingSubtitlesError(SubtitlesError):
    """There is no file at the path."""

    status = Status.MISSING_SUBTITLES


class RequestError(PipelineError):
    """A request that a server refuses.

    ``http`` is the status of its response.
    """

    def __init__(self, problem: str, remedy: str, http: int) -> None:
        super().__init__(problem, remedy)
        self.http = http

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process."""
        return type(self), (self.problem, self.remedy, self.http)


class OutOfMemoryError(PipelineError):
    """A model call did not fit. The rooms that call models turn it into ``Status.OUT_OF_MEMORY`` with its remedy."""


class FunctionError(PipelineError):
    """A user's function that raised an exception or returned what it must not, which costs one question.

    The adapters and policies turn it into ``status``.
    """

    def __init__(self, problem: str, remedy: str, status: Status = Status.INVALID_OUTPUT) -> None:
        super().__init__(problem, remedy)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process."""
        return type(self), (self.problem, self.remedy, self.status)
