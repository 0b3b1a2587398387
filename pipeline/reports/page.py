"""The report: a page that opens from the disk without a network, and the same figures as files for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artefacts.folder import REPORT_FILE
from pipeline.artefacts.writing import write_whole
from pipeline.paths import shown
from pipeline.reports.cards import brief_cards, cards, routes_with_pictures, run_labels
from pipeline.reports.choosing import choices, family, filters, searched
from pipeline.reports.costs import StageCost, stage_costs
from pipeline.reports.curves import accuracy_chart, groups, recall_chart
from pipeline.reports.document import environment, inlined
from pipeline.reports.exports import write_exports
from pipeline.reports.failures import Failure, failures
from pipeline.reports.pictures import INLINE_BYTES, PagePictures, place_pictures, write_pictures
from pipeline.reports.results import results_table
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.scoreboard import RunScore, make_scoreboard, score
from pipeline.reports.thumbnails import ThumbnailSource, VideoThumbnails, collect_thumbnails
from pipeline.reports.views import Card, Verdict
from pipeline.terminal import draw, tell
from pipeline.wellformed import well_formed

if TYPE_CHECKING:
    from pipeline.video import Reader

RECALL_TOLERANCE = 1.0
"""Seconds around an evidence span within which a selected frame shows it: candidates are a second apart."""
THUMBNAIL_WIDTH = 160
THUMBNAIL_QUALITY = 70
THUMBNAIL_LIMIT = 40_000
"""Selected frames with a picture: a thousand questions of 32 frames and some. Decoding them is what takes time."""
CARD_LIMIT = 2000
"""Questions with a card. Opening a page of more takes long, and so does making one of many runs."""
PLAIN_CARDS = 50
"""A page with at most this many cards contains them as HTML; a longer one unpacks each when it is shown."""
ELSEWHERE = "gens report runs=... target=..."
"""What chooses another place for the page."""

_GLYPHS = {
    Verdict.RIGHT: "✓",
    Verdict.WRONG: "✗",
    Verdict.FAILED: "!",
    Verdict.MISSING: "…",
    Verdict.UNGRADED: "·",
}
_WORDS = {
    Verdict.RIGHT: "right",
    Verdict.WRONG: "wrong",
    Verdict.FAILED: "failed",
    Verdict.MISSING: "no answer yet",
    Verdict.UNGRADED: "not graded",
}
CARD_FILTERS = {
    "family": family,
    "glyph": lambda verdict: _GLYPHS[verdict],
    "verdict_words": lambda verdict: _WORDS[verdict],
}
"""How templates show a label, and a verdict by a sign and in words."""


def report_on(folders: Sequence[Path], reader: Reader, target: Path) -> Path:
    """As :func:`report_of`, about every run in ``folders``.

    Raises:
        InputError: there is no run, or a row cannot be used.
        StorageError: the page cannot be written.
    """
    return report_of(collect(folders), reader, target)


def report_of(
    runs: Sequence[RunArtefacts],
    reader: Reader,
    target: Path,
    pictures: int = THUMBNAIL_LIMIT,
    card_limit: int = CARD_LIMIT,
    part: str = "",
) -> Path:
    """Write the page about ``runs`` and its files; print the table and the page's path.

    ``target`` is a file named ``*.html``, or the folder in which the page is called ``report.html``; ``pictures`` is
    the most selected frames that get one, ``card_limit`` the most questions that get a card; ``part`` names the
    questions, where these are not all of the runs'.

    Raises:
        InputError: a run's answers cannot be counted.
        StorageError: the page cannot be written.
    """
    scores = [score(run, RECALL_TOLERANCE) for run in runs]
    page = _written(scores, reader, target, pictures, card_limit, part)
    draw(results_table(scores))
    tell(f"report: {shown(page)}")
    return page


def page_on(folders: Sequence[Path], reader: Reader, target: Path) -> Path:
    """Like :func:`report_on` without the table, which is useless for a single question.

    Raises:
        InputError: there is no run, or a row cannot be used.
        StorageError: the page cannot be written.
    """
    scores = [score(run, RECALL_TOLERANCE) for run in collect(folders)]
    page = _written(scores, reader, target, THUMBNAIL_LIMIT, CARD_LIMIT, "")
    tell(f"report: {shown(page)}")
    return page


def _written(
    scores: Sequence[RunScore], reader: Reader, target: Path, pictures: int, card_limit: int, part: str
) -> Path:
    file = target if target.suffix == ".html" else target / REPORT_FILE
    source = VideoThumbnails(reader, THUMBNAIL_WIDTH, THUMBNAIL_QUALITY)
    return _write(scores, source, file, RECALL_TOLERANCE, pictures, INLINE_BYTES, PLAIN_CARDS, card_limit, part)


def write_report(
    runs: Sequence[RunArtefacts],
    thumbnails: ThumbnailSource,
    target: Path,
    recall_tolerance: float = RECALL_TOLERANCE,
    thumbnail_limit: int = THUMBNAIL_LIMIT,
    inline_bytes: int = INLINE_BYTES,
    plain_cards: int = PLAIN_CARDS,
    card_limit: int = CARD_LIMIT,
    part: str = "",
) -> Path:
    """Write the page about ``runs`` to the file ``target``; the same runs give the same bytes.

    Next to it are ``summary.json``, ``results.csv`` and ``results.md``, and the folder ``report_files`` (named after
    the page) with the pictures, if all of them are more than ``inline_bytes``. A page of more than ``plain_cards``
    questions has them packed. Of more than ``card_limit`` those that went wrong come first.

    Raises:
        InputError: a run's answers cannot be counted.
        StorageError: the page cannot be written.
    """
    scores = [score(run, recall_tolerance) for run in runs]
    return _write(
        scores, thumbnails, target, recall_tolerance, thumbnail_limit, inline_bytes, plain_cards, card_limit, part
    )


def _write(
    scores: Sequence[RunScore],
    thumbnails: ThumbnailSource,
    target: Path,
    recall_tolerance: float,
    thumbnail_limit: int,
    inline_bytes: int,
    plain_cards: int,
    card_limit: int,
    part: str,
) -> Path:
    found, lost, questions = _shown_cards([each.run for each in scores], recall_tolerance, card_limit)
    shown = routes_with_pictures(found, thumbnail_limit)
    uses = [(card.question.video, frame.second) for card, place in shown for frame in card.routes[place].frames]
    folder = target.with_name(f"{target.stem}_files")
    pictures = place_pictures(collect_thumbnails(uses, thumbnails), uses, folder.name, inline_bytes)
    text = _render(scores, found, lost, questions, shown, pictures, len(uses), recall_tolerance, plain_cards, part)
    write_pictures(pictures, folder, ELSEWHERE)
    write_whole(well_formed(text).encode(), target, ELSEWHERE)
    write_exports(scores, target.parent, ELSEWHERE)
    return target


def _shown_cards(
    runs: Sequence[RunArtefacts], tolerance: float, limit: int
) -> tuple[list[Card], list[Failure], Mapping[str, int]]:
    """The cards that are shown, the failures of all questions, and the number of all questions by video.

    Cards hold what the sampler said of every window, so that not even the texts of more than ``limit`` are in memory.
    """
    videos = Counter(
        video for _, video, _ in {(each.id, each.video, each.text) for run in runs for each in run.questions}
    )
    if videos.total() <= limit:
        found = cards(runs, tolerance)
        return found, failures(found), videos
    marked: list[int] = []
    others: list[int] = []

    def sorted_out() -> Iterator[Card]:
        for card in brief_cards(runs, tolerance):
            (marked if card.marks else others).append(card.number)
            yield card

    lost = failures(sorted_out())
    return cards(runs, tolerance, numbers={*[*marked, *others][:limit]}), lost, videos


def _render(
    scores: Sequence[RunScore],
    found: Sequence[Card],
    lost: Sequence[Failure],
    questions: Mapping[str, int],
    shown: Sequence[tuple[Card, int]],
    pictures: PagePictures,
    shown_frames: int,
    recall_tolerance: float,
    plain_cards: int,
    part: str,
) -> str:
    runs = [each.run for each in scores]
    labels = run_labels(runs)
    names = {run.name: labels[run.name] or " → ".join(filter(None, (run.sampler, run.answerer))) for run in runs}
    costs = [cost for run in runs for cost in stage_costs(run)]
    return (
        environment(CARD_FILTERS)
        .get_template("page.html.j2")
        .render(
            title=", ".join(filter(None, (runs[0].name if len(runs) == 1 else f"{len(runs)} runs", part))),
            **inlined("page"),
            runs=runs,
            board=make_scoreboard(scores),
            scores=scores,
            names=names,
            rules=_rules(scores),
            graded=any(question.correct is not None for run in runs for question in run.questions),
            not_counted=max((each.accuracy.not_counted for each in scores if each.accuracy), default=0),
            charts=[drawn for drawn in (accuracy_chart(scores), recall_chart(scores)) if drawn],
            groups=groups(scores, names),
            failures=lost,
            linked={card.number for card in found},
            costs=costs,
            priced=any(cost.total.dollars for cost in costs),
            dollars=_dollars(costs),
            recall_tolerance=f"{recall_tolerance:g}",
            cards=found,
            plain_cards=plain_cards,
            videos=len(questions),
            questions=sum(questions.values()),
            sides={},
            choosable_runs=[names[run.name] or run.name for run in runs] if len(runs) > 1 else [],
            filters=filters(found),
            choices=choices(card.question for card in found),
            words=searched(found),
            any_failed_window=any(
                route.timeline and route.timeline.failed_windows for card in found for route in card.routes
            ),
            pictures=pictures,
            shown={(card.number, place) for card, place in shown},
            shown_frames=shown_frames,
            other_frames=sum(len(route.frames) for card in found for route in card.routes) - shown_frames,
            show_all="gens report runs=... pictures=N",
            show_all_cards="gens report runs=... cards=N",
        )
    )


def _rules(scores: Sequence[RunScore]) -> list[str]:
    """How others count, in one line each; of what benchmark, where there are several."""
    found = {
        (each.run.benchmark, official.rule.about): official.rule.about for each in scores for official in each.official
    }
    several = len({benchmark for benchmark, _ in found}) > 1
    return [f"{benchmark}, {about}" if several else about for benchmark, about in found]


def _dollars(costs: Sequence[StageCost]) -> float:
    return sum(cost.total.dollars for cost in costs)
