"""Two runs over the same questions: what changed, and the flipped questions with their frames side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.rows import KeyedRow
from pipeline.artefacts.stored import StoredRows
from pipeline.artefacts.writing import write_whole
from pipeline.benchmarks.comparison import Comparison, Difference, by_group
from pipeline.benchmarks.intervals import Interval
from pipeline.benchmarks.metrics import Accuracy
from pipeline.domain import Question
from pipeline.reports.cards import cards, routes_with_pictures, run_labels
from pipeline.reports.choosing import Filter, choices, family, in_order, searched
from pipeline.reports.cost_curves import cost_curve
from pipeline.reports.document import environment, inlined
from pipeline.reports.headline import comparison_words, facts_of
from pipeline.reports.page import (
    CARD_FILTERS,
    PLAIN_CARDS,
    THUMBNAIL_LIMIT,
    THUMBNAIL_QUALITY,
    THUMBNAIL_WIDTH,
)
from pipeline.reports.pictures import INLINE_BYTES, place_pictures, video_addresses, write_pictures
from pipeline.reports.runs import RunArtefacts
from pipeline.reports.scoreboard import score
from pipeline.reports.thumbnails import ThumbnailSource, VideoThumbnails, collect_thumbnails
from pipeline.reports.views import Card

if TYPE_CHECKING:
    from pipeline.video import Reader

PAIRED_FILE = "paired.html"

_ELSEWHERE = "gens compare first=... second=... target=..."
_SIDES = {(0,): "First", (1,): "Second", (0, 1): "First and second"}
"""By the places of the runs that took a first stage."""
_NO_MATTER = ("paths", "hydra", "plugins")
"""Settings of places, which decide no answer."""


@dataclass(frozen=True)
class PairedRun:
    """One of the two runs."""

    word: str
    """``First`` or ``Second``."""
    label: str
    run: RunArtefacts
    accuracy: Accuracy
    interval: Interval | None

    @property
    def unanswered(self) -> int:
        """Compared questions without a row."""
        return self.accuracy.unanswered


@dataclass(frozen=True)
class Change:
    """A setting that is not the same in both runs."""

    key: str
    first: str
    second: str


def report_on_pair(
    first: RunArtefacts, second: RunArtefacts, comparison: Comparison, reader: Reader, target: Path
) -> Path:
    """Write the page of the pair; ``target`` is a file named ``*.html``, or the folder of ``paired.html``.

    ``comparison`` is that of these two runs.

    Raises:
        StorageError: the page cannot be written.
    """
    file = target if target.suffix == ".html" else target / PAIRED_FILE
    thumbnails = VideoThumbnails(reader, THUMBNAIL_WIDTH, THUMBNAIL_QUALITY)
    return write_pair(first, second, comparison, thumbnails, file)


def write_pair(
    first: RunArtefacts,
    second: RunArtefacts,
    comparison: Comparison,
    thumbnails: ThumbnailSource,
    target: Path,
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Write the page of the pair to the file ``target``, its pictures as :func:`pipeline.reports.page.write_report`.

    Raises:
        StorageError: the page cannot be written.
    """
    # Runs are distinguished by their names, and two folders may have the same one.
    pair = (replace(first, name=f"first: {first.name}"), replace(second, name=f"second: {second.name}"))
    compared = {credit.question.id for credit in comparison.first.credits}
    found = _flipped(pair, comparison)
    shown = routes_with_pictures(found, THUMBNAIL_LIMIT)
    uses = [(card.question.video, frame.second) for card, place in shown for frame in card.routes[place].frames]
    folder = target.with_name(f"{target.stem}_files")
    pictures = place_pictures(collect_thumbnails(uses, thumbnails), uses, folder.name, inline_bytes)
    text = (
        environment(CARD_FILTERS)
        .get_template("paired.html.j2")
        .render(
            title=_title(comparison, *run_labels(pair).values()),
            facts=facts_of((first, second), list(filter(None, (first.benchmark, second.benchmark)))),
            **inlined("page"),
            comparison=comparison,
            runs=[
                PairedRun(word, label, run, counted, counted.interval())
                for word, label, run, counted in zip(
                    ("First", "Second"),
                    run_labels(pair).values(),
                    (first, second),
                    (comparison.first, comparison.second),
                    strict=True,
                )
            ],
            curve=cost_curve([score(run.within(compared)) for run in pair], run_labels(pair)),
            groups=_groups(comparison),
            changes=_changes(first.parsed_settings, second.parsed_settings),
            cards=found,
            gained={question.id for question in comparison.gained},
            sides=_SIDES,
            choosable_runs=(),
            filters=_filters(comparison),
            choices=choices(card.question for card in found),
            words=searched(found),
            plain_cards=PLAIN_CARDS,
            any_failed_window=False,
            pictures=pictures,
            addresses=video_addresses((card.question.video for card in found), target.parent),
            shown={(card.number, place) for card, place in shown},
            shown_frames=len(uses),
            other_frames=sum(len(route.frames) for card in found for route in card.routes) - len(uses),
            show_all="",
        )
    )
    write_pictures(pictures, folder, _ELSEWHERE)
    write_whole(text.encode("utf-8"), target, _ELSEWHERE)
    return target


def _title(comparison: Comparison, first: str, second: str) -> str:
    """What the pair shows; missing answers count as wrong, so of an unfinished run nothing is said."""
    if comparison.first.unanswered or comparison.second.unanswered:
        return f"{second} against {first}, unfinished"
    count = comparison.questions
    return f"{comparison_words(comparison, first, second)}, {count} question{'' if count == 1 else 's'}"


def _flipped(pair: Sequence[RunArtefacts], comparison: Comparison) -> list[Card]:
    """Cards of the flipped questions: what was lost, then what was gained."""
    flipped = {question.id: question for question in (*comparison.lost, *comparison.gained)}
    words = {run.name: word for run, word in zip(pair, ("first", "second"), strict=True)}
    found = {card.question.id: card for card in cards([_only(run, flipped) for run in pair], words)}
    return [replace(found[identifier], number=at) for at, identifier in enumerate(flipped, start=1)]


def _only(run: RunArtefacts, wanted: Mapping[str, Question]) -> RunArtefacts:
    """The run as far as it is about the ``wanted`` questions, by id: where their videos lie may differ between runs."""
    return RunArtefacts(
        name=run.name,
        relevance=_about(run.relevance, wanted),
        selections=_about(run.selections, wanted),
        answers=_about(run.answers, wanted),
        settings=run.settings,
        asked=tuple(wanted.values()),
    )


def _about(rows: Sequence[KeyedRow], wanted: Mapping[str, Question]) -> Sequence[KeyedRow]:
    if isinstance(rows, StoredRows):
        return rows.about(wanted)
    return tuple(replace(row, question=wanted[row.question.id]) for row in rows if row.question.id in wanted)


def _groups(comparison: Comparison) -> dict[str, dict[str, Difference]]:
    labels = dict.fromkeys(label for credit in comparison.first.credits for label in credit.question.groups)
    found: dict[str, dict[str, Difference]] = {}
    for label in labels:
        found.setdefault(family(label), {}).update(by_group(comparison, label))
    return {name: {value: rows[value] for value in sorted(rows, key=in_order)} for name, rows in found.items() if rows}


def _filters(comparison: Comparison) -> list[Filter]:
    gained, lost = len(comparison.gained), len(comparison.lost)
    return [
        Filter("all", "All", "every question that flipped", gained + lost),
        Filter("lost", "Lost", "right in the first run alone", lost),
        Filter("gained", "Gained", "right in the second run alone", gained),
    ]


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    if not first or not second:
        return []  # of a samples file no settings are known, and nothing can be said to differ
    before, after = dict(_flat(first)), dict(_flat(second))
    return [
        Change(key, before.get(key, "-"), after.get(key, "-"))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key) and key.partition(".")[0] not in _NO_MATTER
    ]


def _flat(settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every setting as its override would name it."""
    if isinstance(settings, Mapping) and settings:
        for name, value in settings.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(settings)
