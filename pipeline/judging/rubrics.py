"""Rubrics: what a model is told so that it grades an answer, and the form of its verdict.

In wordings of our own the answer stands between two lines with a mark that is made of its own text, so that no answer
can end it: what is between them is data, whatever it says. The benchmarks' authors put the bare answer into their
prompts, and those are sent as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.domain import Question, SubtitleLine
from pipeline.errors import ConfigError
from pipeline.identity import Identified, Label, digest
from pipeline.judging import GivenAnswer, Scale
from pipeline.judging.evidence import Evidence
from pipeline.judging.verdicts import ChoiceVerdict, LetterVerdict, ScoresVerdict

_NOTHING = Evidence((), ())
_ANSWERS = ("{answer}", "{bare_answer}")
_POINTS = ("{points}", "{point_list}")


@dataclass(frozen=True)
class Wording(Identified):
    """One request to a judge."""

    system: str | None
    """None: there is no system message."""
    user: str
    """With the places ``{question}``, ``{reference}``, ``{points}`` (a numbered line each), ``{point_list}`` (as Python
    writes a list), ``{answer}`` (between marks) and ``{bare_answer}``."""
    again: str
    """What follows where a first reply holds no verdict."""
    verdict: LetterVerdict | ChoiceVerdict | ScoresVerdict
    """The form of the verdict."""

    def __post_init__(self) -> None:
        """Check that the judge sees the answer.

        Raises:
            ConfigError: it does not.
        """
        if not any(place in self.user for place in _ANSWERS):
            raise ConfigError(
                "a wording of the rubric has no place for the answer",
                "write {answer} where it stands: 'judge.rubric.words.user=\"... {answer}\"'",
            )

    def messages(
        self, given: GivenAnswer, images: Sequence[Any] = (), seen: Evidence = _NOTHING, *, is_again: bool
    ) -> list[dict[str, Any]]:
        """The request's messages.

        Args:
            given: what is graded.
            images: entries of the user's message that come first: the frames of ``seen``.
            seen: what the judge sees of the video.
            is_again: whether a first reply held no verdict.
        """
        told = [] if self.system is None else [{"role": "system", "content": self.system}]
        text = _filled(self.user, self._places(given, seen)) + (f"\n\n{self.again}" if is_again else "")
        content: Any = [*images, {"type": "text", "text": text}] if images else text
        return [*told, {"role": "user", "content": content}]

    def _places(self, given: GivenAnswer, seen: Evidence) -> dict[str, str]:
        question = given.question
        mark = digest(given.content)[:12]
        return {
            "question": question.text,
            "reference": question.reference,
            "points": "\n".join(f"{number}. {point}" for number, point in enumerate(question.scoring_points, start=1)),
            "point_list": str(list(question.scoring_points)),
            "answer": f"<answer-{mark}>\n{given.text}\n</answer-{mark}>",
            "bare_answer": given.text,
        }


@dataclass(frozen=True)
class Look(Wording):
    """A request with frames of the question's evidence. Also has the places ``{frame_count}`` and ``{frame_times}``."""

    subtitles: str | None
    """What stands in the place ``{subtitles}`` where subtitles are on screen at the frames, with the place ``{lines}``.
    None: the judge is given none."""
    line: str
    """A line of subtitles, with the places ``{start}``, ``{end}`` and ``{text}``."""

    def _places(self, given: GivenAnswer, seen: Evidence) -> dict[str, str]:
        # Numbers as CG-Bench's script has them: Python's floats, rounded.
        lines = "\n".join(_filled(self.line, _of_line(line)) for line in seen.lines)
        return {
            **super()._places(given, seen),
            "frame_count": str(len(seen.frames)),
            "frame_times": ", ".join(str(round(frame.time, 4)) for frame in seen.frames),
            "subtitles": _filled(self.subtitles, {"lines": lines}) if self.subtitles is not None and lines else "",
        }


def _of_line(line: SubtitleLine) -> dict[str, str]:
    return {"start": str(round(line.start, 3)), "end": str(round(line.end, 3)), "text": line.text}


def _filled(text: str, places: Mapping[str, str]) -> str:
    """The text with all of its places filled at once: what stands in one place may look like another place."""
    return re.sub(rf"\{{({'|'.join(places)})\}}", lambda place: places[place[1]], text)


@dataclass(frozen=True)
class Published:
    """What is known of the judge that the benchmark's authors take."""

    source: str
    """Repository, files and commits from which the words of the rubric are copied."""
    judge: str
    """The model; by its snapshot, where they name one."""
    temperature: float
    version: str
    """The :attr:`Rubric.version` of these words: changed ones are of another, and not the authors'."""


@dataclass(frozen=True)
class Rubric(Identified):
    """How the free answers of a benchmark are graded."""

    name: Label[str]
    benchmarks: Label[tuple[str, ...]]
    """Those whose answers it grades; none: those of all."""
    published: Label[Published | None]
    """Where the words come from; None: they are not those of a benchmark's authors."""
    mean_over: Label[str | None]
    """The label of the questions over whose values the figure is a mean; None: all answers are pooled."""
    words: Wording
    with_points: Wording | None
    """For questions with scoring points; None: these are graded as all others."""
    look: Look | None
    """For an answer of which the first verdict says that the video must be seen: with frames of the question's
    evidence. None: no verdict says so."""

    def __post_init__(self) -> None:
        """Check that all verdicts are on one scale.

        Raises:
            ConfigError: they are not, or one asks for frames that no wording shows.
        """
        wordings = [each for each in (self.words, self.with_points, self.look) if each is not None]
        if len({each.verdict.scale for each in wordings}) > 1:
            raise ConfigError(
                f"judge.rubric={self.name} gives scores on several scales",
                "give all of its verdicts the same lowest and highest score",
            )
        asks = [each for each in (self.words, self.with_points) if each is not None and _asks_to_look(each)]
        if bool(asks) != (self.look is not None) or (self.look is not None and _asks_to_look(self.look)):
            raise ConfigError(
                f"judge.rubric={self.name}: a verdict of null asks for frames, and judge.rubric.look shows them",
                "set both or neither: judge.rubric.look=null, and no score of null",
            )

    @cached_property
    def version(self) -> str:
        """Digest of all words and forms of verdicts."""
        return digest(dict(self.identity()))[:12]

    @property
    def note(self) -> str:
        """Whose words these are."""
        version, theirs = f"the rubric's words (version {self.version})", self.published
        if theirs is None:
            return f"{version} are no benchmark's own, and no published figure is by them"
        if theirs.version != self.version:
            return f"{version} are changed from its authors' ({theirs.version}), and no published figure is by them"
        return f"{version} are its authors'"

    @property
    def scale(self) -> Scale:
        """The scores."""
        return self.words.verdict.scale

    def wording(self, question: Question) -> Wording:
        """The first wording for a question."""
        return self.with_points if self.with_points is not None and question.scoring_points else self.words

    def lacks(self, question: Question) -> str | None:
        """What the question does not have and its wording needs; None: nothing."""
        user = self.wording(question).user
        if any(place in user for place in _POINTS) and not question.scoring_points:
            return "scoring points"
        if "{reference}" in user and not question.reference:
            return "a reference answer"
        if self.look is not None and not question.evidence:
            return "evidence, of which the judge may want to see frames"
        return None


def _asks_to_look(wording: Wording) -> bool:
    return isinstance(wording.verdict, ChoiceVerdict) and None in wording.verdict.scores.values()
