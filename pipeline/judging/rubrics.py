"""Rubrics: what a model is told so that it grades an answer, and the form of its verdict.

The answer stands between two lines with a mark that is made of its own text, so that no answer can end it: what is
between them is data, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.domain import Question
from pipeline.errors import ConfigError
from pipeline.identity import Identified, Label, digest
from pipeline.judging import GivenAnswer, Scale
from pipeline.judging.verdicts import ChoiceVerdict, LetterVerdict, ScoresVerdict

_PLACE = re.compile(r"\{(question|reference|points|answer)\}")


@dataclass(frozen=True)
class Wording(Identified):
    """One request to a judge."""

    system: str | None
    """None: there is no system message."""
    user: str
    """With the places ``{question}``, ``{reference}``, ``{points}`` and ``{answer}``."""
    again: str
    """What follows where a first reply holds no verdict."""
    verdict: LetterVerdict | ChoiceVerdict | ScoresVerdict
    """The form of the verdict."""

    def __post_init__(self) -> None:
        """Check that the judge sees the answer.

        Raises:
            ConfigError: it does not.
        """
        if "{answer}" not in self.user:
            raise ConfigError(
                "a wording of the rubric has no place for the answer",
                "write {answer} where it stands: 'judge.rubric.words.user=\"... {answer}\"'",
            )

    def messages(self, given: GivenAnswer, images: Sequence[Any], *, is_again: bool) -> list[dict[str, Any]]:
        """The request's messages.

        Args:
            given: what is graded.
            images: entries of the user's message that come first.
            is_again: whether a first reply held no verdict.
        """
        told = [] if self.system is None else [{"role": "system", "content": self.system}]
        text = self._text(given) + (f"\n\n{self.again}" if is_again else "")
        content: Any = [*images, {"type": "text", "text": text}] if images else text
        return [*told, {"role": "user", "content": content}]

    def _text(self, given: GivenAnswer) -> str:
        question = given.question
        mark = digest(given.content)[:12]
        places = {
            "question": question.text,
            "reference": question.reference,
            "points": "\n".join(f"{number}. {point}" for number, point in enumerate(question.scoring_points, start=1)),
            "answer": f"<answer-{mark}>\n{given.text}\n</answer-{mark}>",
        }
        # All at once: a text in one place may look like another place.
        return _PLACE.sub(lambda place: places[place[1]], self.user)


@dataclass(frozen=True)
class Rubric(Identified):
    """How the free answers of a benchmark are graded."""

    name: Label[str]
    benchmarks: Label[tuple[str, ...]]
    """Those whose answers it grades; none: those of all."""
    published_judge: Label[str | None]
    """The model, by its snapshot, that the benchmark's authors take; None: there is none."""
    mean_over: Label[str | None]
    """The label of the questions over whose values the figure is a mean; None: all answers are pooled."""
    words: Wording
    with_points: Wording | None
    """For questions with scoring points; None: these are graded as all others."""
    look: Wording | None
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
        if "{points}" in user and not question.scoring_points:
            return "scoring points"
        if "{reference}" in user and not question.reference:
            return "a reference answer"
        if self.look is not None and not question.evidence:
            return "evidence, of which the judge may want to see frames"
        return None


def _asks_to_look(wording: Wording) -> bool:
    return isinstance(wording.verdict, ChoiceVerdict) and None in wording.verdict.scores.values()
