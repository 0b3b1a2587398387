"""Judges that need no model: rules that compare two texts, and the grades of people."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from pipeline.artefacts.entries import read_entries
from pipeline.domain import Grade, Question, Status
from pipeline.errors import ConfigError, InputError, with_remedy
from pipeline.identity import Identified, Label, Place, digest
from pipeline.judging import GivenAnswer, Scale
from pipeline.paths import local_path
from pipeline.video import Reader

_RIGHT_OR_WRONG = Scale(0.0, 1.0)


@dataclass(frozen=True)
class TextRule(Identified):
    """Right or wrong, by one comparison of the answer with the reference."""

    kind: ClassVar[str] = "text_rule"

    name: Label[str]
    compare: Literal["equal", "contains", "pattern"]
    """``equal`` and ``contains`` compare normal forms, the second by whole words; ``pattern`` searches the answer."""
    pattern: str | None
    """A regular expression in which ``{reference}`` stands for the question's own; only for ``pattern``."""

    def __post_init__(self) -> None:
        """Check the pattern.

        Raises:
            ConfigError: it is missing, has no use, or is no regular expression.
        """
        if (self.pattern is None) == (self.compare == "pattern"):
            raise ConfigError(
                f"judge.pattern={self.pattern} does not go with judge.compare={self.compare}",
                "take judge=regex with a pattern, or judge=contains, which has none",
            )
        if self.pattern is not None:
            _compiled(self.pattern, "reference")

    @property
    def label(self) -> str:
        """The rule's name; with its pattern, if it has one."""
        return self.name if self.pattern is None else f"{self.name} {self.pattern}"

    @property
    def scale(self) -> Scale:
        """0 or 1."""
        return _RIGHT_OR_WRONG

    @property
    def mean_over(self) -> None:
        """None: all answers are pooled."""
        return

    @property
    def notes(self) -> Sequence[str]:
        """What a rule of texts cannot know."""
        return ("a rule of texts, to which other words for the same thing are wrong",)

    def check(self, benchmark: str) -> None:
        """Nothing: texts of every benchmark can be compared."""

    def lacks(self, question: Question) -> str | None:
        """A reference in which there is something to compare; a pattern may do without."""
        if self.pattern is not None and "{reference}" not in self.pattern:
            return None
        has_words = bool(question.reference.strip() if self.pattern is not None else normal(question.reference))
        # An empty reference is contained in every answer.
        return None if has_words else "a reference answer with words in it"

    def grade(self, answers: Iterable[GivenAnswer], reader: Reader) -> Iterator[Grade]:
        """1 or 0 for each, in order."""
        for given in answers:
            yield Grade(given.question.id, float(self._is_right(given.text, given.question.reference)))

    def close(self) -> None:
        """Nothing to let go of."""

    def _is_right(self, text: str, reference: str) -> bool:
        if self.pattern is not None:
            return _compiled(self.pattern, reference).search(text) is not None
        said, meant = normal(text), normal(reference)
        return f" {meant} " in f" {said} " if self.compare == "contains" else said == meant


def normal(text: str) -> str:
    """A text by which two wordings are compared: NFKC, case folded, without English articles and punctuation.

    As SQuAD's normal form (arXiv 1606.05250), but that punctuation separates words, and what changes a meaning stays:
    ``-3`` is not ``3``, ``C++`` not ``C``, and ``5 %`` not ``5``.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"(?<![\w.,])[-+]?\d+(?:[.,]\d+)*|\w+[+#]*|[%°$€£]", folded)
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def _compiled(pattern: str, reference: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern.replace("{reference}", re.escape(reference.strip())))
    except re.error as error:
        raise ConfigError(
            f"judge.pattern={pattern} is no regular expression: {error}", "correct it: 'judge.pattern=\"...\"'"
        ) from error


@dataclass(frozen=True)
class GivenGrades(Identified):
    """Grades that stand in a file, such as those of people: a column that others can be compared with."""

    kind: ClassVar[str] = "given_grades"

    name: Label[str]
    path: Place[str]
    """JSON or JSON Lines, a row ``{"id": ..., "score": ...}`` for each question."""
    lowest: float
    highest: float

    def __post_init__(self) -> None:
        """Check the scale.

        Raises:
            ConfigError: it has no two ends.
        """
        if not (math.isfinite(self.lowest) and math.isfinite(self.highest) and self.lowest < self.highest):
            raise ConfigError(
                f"judge.lowest={self.lowest} judge.highest={self.highest} is not a scale",
                "set judge.lowest=0 judge.highest=1",
            )

    @property
    def label(self) -> str:
        """Its name: another name is another column."""
        return self.name

    @property
    def scale(self) -> Scale:
        """As configured."""
        return Scale(self.lowest, self.highest)

    @property
    def mean_over(self) -> None:
        """None: all answers are pooled."""
        return

    @property
    def notes(self) -> Sequence[str]:
        """None."""
        return ()

    def identity(self) -> Mapping[str, Any]:
        """Scale and content of the file."""
        return {**super().identity(), "name": self.name, "grades": digest(sorted(self._scores.items()))}

    def check(self, benchmark: str) -> None:
        """Read the file.

        Raises:
            InputError: it cannot be read, or a row holds no score of the scale.
        """
        _ = self._scores

    def lacks(self, question: Question) -> str | None:
        """A row."""
        return None if question.id in self._scores else f"a row in {self.path}"

    def grade(self, answers: Iterable[GivenAnswer], reader: Reader) -> Iterator[Grade]:
        """What the file says."""
        for given in answers:
            score = self._scores.get(given.question.id)
            if score is None:
                detail = with_remedy(f"{self.path} has no row for {given.question.id!r}", "add one")
                yield Grade(given.question.id, None, status=Status.NOT_JUDGED, detail=detail)
            else:
                yield Grade(given.question.id, score)

    def close(self) -> None:
        """Nothing to let go of."""

    @cached_property
    def _scores(self) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for entry in read_entries(local_path(self.path), "judge.path"):
            row = entry.as_kind(_GivenGrade)
            if not self.lowest <= row.score <= self.highest:
                raise InputError(
                    f"{entry.where}: the score {row.score:g} is not on the scale of {self.lowest:g} to "
                    f"{self.highest:g}",
                    f"correct it, or set the scale: judge.lowest={min(self.lowest, row.score):g} "
                    f"judge.highest={max(self.highest, row.score):g}",
                )
            if found.setdefault(str(row.id), row.score) != row.score:
                raise InputError(f"{entry.where}: {row.id!r} has two scores", "leave one of them")
        return found


@dataclass(frozen=True)
class _GivenGrade:
    id: str | int
    score: float
