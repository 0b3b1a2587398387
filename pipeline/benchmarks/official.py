"""Counts answers as each benchmark's own code does, quirks included, for comparison with the strict count.

Published numbers were made by these rules. They work on the stored text of an answer, so that no run has to be
repeated. The number depends on what a rule does with text that it cannot read, and with a question without any text
(the video was missing, memory ran out, the run is not finished); both are explicit here.

LongVideoBench's script draws a random option where it can read none. We draw nothing: such an answer counts as the
draw's expected value, 1 / options, which is what the script gives on average, and
:attr:`pipeline.benchmarks.metrics.Accuracy.drawn` says how many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.benchmarks.official_rules import (
    cgbench_option,
    lmms_eval_cgbench_option,
    lmms_eval_egoschema_option,
    lmms_eval_longvideobench_option,
    lmms_eval_option,
    lmms_eval_video_mme_v2_option,
    longvideobench_option,
    mlvu_option,
    video_mme_option,
    video_mme_v2_option,
)
from pipeline.domain import OPTION_LETTERS, Answer, Question, Status

_SPOKE = (Status.EMPTY_ANSWER, Status.TRUNCATED_OUTPUT)
"""Statuses of answers without text for which the model ran: it wrote nothing, or only thoughts."""


class Counts(StrEnum):
    """What a question without a readable answer is worth."""

    WRONG = "counts as wrong"
    DRAWN = "counts as a random draw, 1 / options"
    LEFT_OUT = "is left out of the denominator"


@dataclass(frozen=True)
class OfficialRule:
    """One rule to count by."""

    name: str
    """The project whose code counts by this rule."""
    read: Callable[[Answer, Question], int | None]
    """The option that the rule reads from an answer to the question."""
    unreadable: Counts
    """What an answer counts from which no option can be read."""
    silent: Counts
    """What a question counts without an answer: no row, or a failure before the model wrote anything."""
    mean_over: str | None = None
    """The label over whose values the published average is taken; None for a pooled average."""
    unread_in_group: float | None = None
    """What an answer that is left out is worth within its group, for scores of groups
    (:mod:`pipeline.benchmarks.grouped`); None where questions are counted one by one."""

    @property
    def about(self) -> str:
        """The rule in one line, for the page and the table."""
        average = f"; the average is the mean over {self.mean_over}" if self.mean_over else ""
        if self.unread_in_group is not None:
            average = "; the figure is the mean score of the groups"
            if self.unread_in_group:
                average += f", in which such an answer is {self.unread_in_group:g}"
        return f"{self.name}: an unreadable answer {self.unreadable}, a missing one {self.silent}{average}"


def _words(read: Callable[[str], int | None]) -> Callable[[Answer, Question], int | None]:
    return lambda answer, question: read(answer.text)


def _words_and_options(
    read: Callable[[str, Sequence[str]], int | None],
) -> Callable[[Answer, Question], int | None]:
    return lambda answer, question: read(answer.text, question.options or ())


def _lettered(answer: Answer, question: Question) -> int | None:
    """As lmms-eval reads an answer to a question with any number of options."""
    return lmms_eval_option(answer.text, OPTION_LETTERS[: len(question.options or ())])


def _cgbench(answer: Answer, question: Question) -> int | None:
    return cgbench_option(answer.text, question.correct)


def _as_read_here(answer: Answer, question: Question) -> int | None:
    """The option as read here, for benchmarks whose code is given letters and reads no text."""
    return answer.option


OFFICIAL: Mapping[str, OfficialRule] = {
    "longvideobench": OfficialRule(
        "LongVideoBench", _words(longvideobench_option), unreadable=Counts.DRAWN, silent=Counts.WRONG
    ),
    "mlvu": OfficialRule("MLVU", _words(mlvu_option), unreadable=Counts.WRONG, silent=Counts.WRONG, mean_over="task"),
    "videomme": OfficialRule("Video-MME", _words(video_mme_option), unreadable=Counts.LEFT_OUT, silent=Counts.LEFT_OUT),
    "lvbench": OfficialRule("LVBench", _as_read_here, unreadable=Counts.WRONG, silent=Counts.LEFT_OUT),
    "hourvideo": OfficialRule(
        "HourVideo", _as_read_here, unreadable=Counts.WRONG, silent=Counts.WRONG, mean_over="task"
    ),
    "videomme_v2": OfficialRule(
        "Video-MME-v2",
        _words(video_mme_v2_option),
        unreadable=Counts.LEFT_OUT,
        silent=Counts.LEFT_OUT,
        unread_in_group=-1.0,
    ),
    "cgbench": OfficialRule("CG-Bench", _cgbench, unreadable=Counts.LEFT_OUT, silent=Counts.LEFT_OUT),
}
"""By the benchmark's name: how its own code counts."""

LMMS_EVAL: Mapping[str, OfficialRule] = {
    "longvideobench": OfficialRule(
        "lmms-eval", _words(lmms_eval_longvideobench_option), unreadable=Counts.DRAWN, silent=Counts.WRONG
    ),
    "mlvu": OfficialRule(
        "lmms-eval", _words(lmms_eval_option), unreadable=Counts.WRONG, silent=Counts.WRONG, mean_over="task"
    ),
    "videomme": OfficialRule("lmms-eval", _words(lmms_eval_option), unreadable=Counts.WRONG, silent=Counts.WRONG),
    "lvbench": OfficialRule("lmms-eval", _words(lmms_eval_option), unreadable=Counts.WRONG, silent=Counts.WRONG),
    "videomme_v2": OfficialRule(
        "lmms-eval",
        _words_and_options(lmms_eval_video_mme_v2_option),
        unreadable=Counts.WRONG,
        silent=Counts.WRONG,
        unread_in_group=0.0,
    ),
    "cgbench": OfficialRule(
        "lmms-eval", _words(lmms_eval_cgbench_option), unreadable=Counts.WRONG, silent=Counts.WRONG
    ),
    "videoeval_pro": OfficialRule("lmms-eval", _lettered, unreadable=Counts.WRONG, silent=Counts.WRONG),
    "egoschema": OfficialRule(
        "lmms-eval",
        _words_and_options(lmms_eval_egoschema_option),
        unreadable=Counts.DRAWN,
        silent=Counts.DRAWN,
    ),
}
"""By the benchmark's name: how lmms-eval 0.7 counts it."""

STRICT_GROUPS: Mapping[str, OfficialRule] = {
    "videomme_v2": OfficialRule(
        "group score", _as_read_here, unreadable=Counts.WRONG, silent=Counts.WRONG, unread_in_group=0.0
    )
}
"""By the benchmark's name: the score of its groups, of answers as they are read here."""


def rules_for(benchmark: str) -> tuple[OfficialRule, ...]:
    """The rules by which others count the benchmark of this name; empty where there are none.

    ``mlvu_test`` is counted as ``mlvu``.
    """
    known = (STRICT_GROUPS, OFFICIAL, LMMS_EVAL)
    named = [name for rules in known for name in rules if benchmark == name or benchmark.startswith(f"{name}_")]
    # The longest: videomme_v2 is no part of videomme.
    name = max(named, key=len, default="")
    return tuple(rules[name] for rules in known if name in rules)


def official_value(question: Question, answer: Answer | None, rule: OfficialRule) -> float | None:
    """What an answer, or none, is worth by the rule; None where the rule does not count the question."""
    if question.correct is None:
        return None
    if answer is None or not (answer.text or answer.status in _SPOKE):
        return _worth(rule.silent, question)
    option = rule.read(answer, question)
    return _worth(rule.unreadable, question) if option is None else float(option == question.correct)


def _worth(counts: Counts, question: Question) -> float | None:
    if counts is Counts.LEFT_OUT:
        return None
    return 1 / len(question.options or ()) if counts is Counts.DRAWN else 0.0
