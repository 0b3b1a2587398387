"""The report: a page that opens from the disk without a network, and the same figures as files for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artefacts.folder import REPORT_FILE
from pipeline.artefacts.writing import write_whole
from pipeline.paths import shown
from pipeline.reports.briefs import RECALL_TOLERANCE
from pipeline.reports.cards import cards, routes_with_pictures, run_labels
from pipeline.reports.choosing import choices, family, filters, searched
from pipeline.reports.cost_curves import cost_curve
from pipeline.reports.costs import stage_costs
from pipeline.reports.curves import accuracy_chart, groups, recall_chart
from pipeline.reports.document import environment, inlined
from pipeline.reports.exports import write_exports
from pipeline.reports.failures import Failure, failures
from pipeline.reports.headline import finding, headline
from pipeline.reports.judged import agreement_words, note_lines
from pipeline.reports.outlines import Outline, outlines
from pipeline.reports.pictures import (
    INLINE_BYTES,
    PagePictures,
    place_pictures,
    video_addresses,
    write_pictures,
)
from pipeline.reports.question_sets import question_sets
from pipeline.reports.results import notes_on, results_table
from pipeline.reports.runs import RunArtefacts, collect, without_asked
from pipeline.reports.scoreboard import RunScore, make_scoreboard, score
from pipeline.reports.thumbnails import ThumbnailSource, VideoThumbnails, collect_thumbnails
from pipeline.reports.views import Card, Verdict
from pipeline.terminal import draw, remark, tell
from pipeline.wellformed import well_formed

if TYPE_CHECKING:
    from pipeline.video import Reader

THUMBNAIL_WIDTH = 160
THUMBNAIL_QUALITY = 70
THUMBNAIL_LIMIT = 40_000
"""Selected frames with a picture: a thousand questions of 32 frames and some. Decoding them is what takes time."""
CARD_LIMIT = 2000
"""Questions with a card. Opening a page of more takes long."""
CARD_BYTES = 30_000_000
"""About the most bytes of all cards, which those of a hundred runs have many of. A browser opens them in seconds."""
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


@dataclass(frozen=True)
class PageLimits:
    """How much a page shows. Figures are always of all questions."""

    pictures: int = THUMBNAIL_LIMIT
    """Selected frames with a picture."""
    cards: int = CARD_LIMIT
    """Questions with a card; of more, those that went wrong come first."""
    card_bytes: int = CARD_BYTES
    """About the bytes of all cards; one is always shown."""
    inline_bytes: int = INLINE_BYTES
    """Of pictures inside the page; if all of them are more, they are files in a folder next to it."""
    plain_cards: int = PLAIN_CARDS
    """A page of more has its cards packed."""


@dataclass(frozen=True)
class _Shown:
    """What a page shows one by one."""

    cards: Sequence[Card]
    failures: Sequence[Failure]
    """Of all questions."""
    questions: Mapping[str, int]
    """The number of all questions by video."""
    chosen: int
    """Cards that were to be shown; more than there are where they would make the page too large."""


@dataclass(frozen=True)
class _Pictured:
    """The routes with pictures."""

    routes: Sequence[tuple[Card, int]]
    """Card and place in it."""
    pictures: PagePictures
    addresses: Mapping[str, str]
    """Of the videos that can be played from the page."""

    @property
    def frames(self) -> int:
        """How many frames they have."""
        return sum(len(card.routes[place].frames) for card, place in self.routes)


def report_on(folders: Sequence[Path], reader: Reader, target: Path) -> Path:
    """As :func:`report_of`, about every run in ``folders``.

    Raises:
        InputError: there is no run, or a row cannot be used.
        StorageError: the page cannot be written.
    """
    return report_of(collect(folders), reader, target)


def report_of(
    runs: Sequence[RunArtefacts], reader: Reader, target: Path, limits: PageLimits = PageLimits(), part: str = ""
) -> Path:
    """Write the page about ``runs`` and its files; print the table and the page's path.

    Runs of ``gens ask`` are left out if there are others.

    ``target`` is a file named ``*.html``, or the folder in which the page is called ``report.html``; ``part`` names the
    questions, where these are not all of the runs'.

    Raises:
        InputError: a run's answers cannot be counted.
        StorageError: the page cannot be written.
    """
    shown_runs = without_asked(runs)
    if len(shown_runs) < len(runs):
        remark(f"left out: {len(runs) - len(shown_runs)} of gens ask, which have pages of their own")
    scores = [score(run) for run in shown_runs]
    page = _written(scores, reader, target, limits, part)
    draw(results_table(scores))
    for note in notes_on(scores):
        tell(note)
    tell(f"report: {shown(page)}")
    return page


def page_on(folders: Sequence[Path], reader: Reader, target: Path) -> Path:
    """Like :func:`report_on` without the table, which is useless for a single question.

    Raises:
        InputError: there is no run, or a row cannot be used.
        StorageError: the page cannot be written.
    """
    page = _written([score(run) for run in collect(folders)], reader, target, PageLimits(), "")
    tell(f"report: {shown(page)}")
    return page


def write_report(
    runs: Sequence[RunArtefacts],
    thumbnails: ThumbnailSource,
    target: Path,
    limits: PageLimits = PageLimits(),
    part: str = "",
) -> Path:
    """Write the page about ``runs`` to the file ``target``; the same runs give the same bytes.

    Next to it are ``summary.json``, ``results.csv`` and ``results.md``, and the folder ``report_files`` (named after
    the page) with the pictures that are not inside it.

    Raises:
        InputError: a run's answers cannot be counted.
        StorageError: the page cannot be written.
    """
    return _write([score(run) for run in runs], thumbnails, target, limits, part)


def _written(scores: Sequence[RunScore], reader: Reader, target: Path, limits: PageLimits, part: str) -> Path:
    file = target if target.suffix == ".html" else target / REPORT_FILE
    return _write(scores, VideoThumbnails(reader, THUMBNAIL_WIDTH, THUMBNAIL_QUALITY), file, limits, part)


def _write(
    scores: Sequence[RunScore], thumbnails: ThumbnailSource, target: Path, limits: PageLimits, part: str
) -> Path:
    found = _shown([each.run for each in scores], limits)
    routes = routes_with_pictures(found.cards, limits.pictures)
    uses = [(card.question.video, frame.second) for card, place in routes for frame in card.routes[place].frames]
    folder = target.with_name(f"{target.stem}_files")
    pictures = place_pictures(collect_thumbnails(uses, thumbnails), uses, folder.name, limits.inline_bytes)
    addresses = video_addresses((card.question.video for card in found.cards), target.parent)
    text = _render(scores, found, _Pictured(routes, pictures, addresses), limits.plain_cards, part)
    write_pictures(pictures, folder, ELSEWHERE)
    write_whole(well_formed(text).encode(), target, ELSEWHERE)
    write_exports(scores, target.parent, ELSEWHERE)
    return target


def _shown(runs: Sequence[RunArtefacts], limits: PageLimits) -> _Shown:
    """Choose the cards, those that went wrong first, as many as the page may have.

    Cards hold what the sampler said of every window, so that not even the texts of others are in memory.
    """
    videos: Counter[str] = Counter()
    marked: list[int] = []
    others: list[int] = []

    def sorted_out() -> Iterator[Outline]:
        for outline in outlines(runs):
            videos[outline.question.video] += 1
            (marked if outline.is_marked else others).append(outline.number)
            yield outline

    lost = failures(sorted_out())
    chosen = [*marked, *others][: limits.cards]
    # In the order of the page, unless some of them are left out for their size: those must be the last ones chosen.
    found: list[Card] = []
    room = limits.card_bytes
    for card in cards(runs, numbers=chosen):
        room -= card.weight
        if found and room < 0:
            break
        found.append(card)
    return _Shown(sorted(found, key=lambda card: card.number), lost, videos, len(chosen))


def _render(scores: Sequence[RunScore], found: _Shown, pictured: _Pictured, plain_cards: int, part: str) -> str:
    runs = [each.run for each in scores]
    labels = run_labels(runs)
    names = {run.name: labels[run.name] or " → ".join(filter(None, (run.sampler, run.answerer))) for run in runs}
    costs = [cost for run in runs for cost in stage_costs(run)]
    sets = question_sets(scores)
    named = [(each, each.name if len(sets) > 1 else "") for each in sets]
    head = headline(runs, sets)
    return (
        environment(CARD_FILTERS)
        .get_template("page.html.j2")
        .render(
            title=", ".join(filter(None, (head.title, part))),
            head=head,
            **inlined("page"),
            runs=runs,
            boards=[(of, finding(each) if of else "", make_scoreboard(each.scores)) for each, of in named],
            scores=scores,
            names=names,
            rules=_rules(scores),
            asks_intervals=any(each.grounding for each in scores),
            graded=any(question.correct is not None for run in runs for question in run.questions),
            not_counted=max((each.accuracy.not_counted for each in scores if each.accuracy), default=0),
            charts=[
                drawn
                for each, of in named
                for drawn in (accuracy_chart(each.scores, of), recall_chart(each.scores, of))
                if drawn
            ],
            cost_curves=[
                curve for each, of in named if (curve := cost_curve(each.scores, names, of)) and curve.drawings
            ],
            groups=[group for each, of in named for group in groups(each.scores, names, of)],
            judged=[each for each in scores if each.judged],
            judges=list(dict.fromkeys(judged.label for each in scores for judged in each.judged)),
            judge_notes=note_lines([(names[each.run.name], judged) for each in scores for judged in each.judged]),
            agreements=[
                f"{names[each.run.name]}: {line}" if len(scores) > 1 else line
                for each in scores
                for line in agreement_words(each.judged)
            ],
            failures=found.failures,
            linked={card.number for card in found.cards},
            costs=costs,
            priced=any(cost.took.cost.get("dollars") for cost in costs),
            dollars=sum(cost.took.spent.get("dollars", 0.0) for cost in costs),
            recall_tolerance=f"{RECALL_TOLERANCE:g}",
            cards=found.cards,
            plain_cards=plain_cards,
            videos=len(found.questions),
            questions=sum(found.questions.values()),
            sides={},
            choosable_runs=[names[run.name] or run.name for run in runs] if len(runs) > 1 else [],
            filters=filters(found.cards),
            choices=choices(card.question for card in found.cards),
            words=searched(found.cards),
            any_failed_window=any(
                route.timeline and route.timeline.failed_windows for card in found.cards for route in card.routes
            ),
            addresses=pictured.addresses,
            pictures=pictured.pictures,
            shown={(card.number, place) for card, place in pictured.routes},
            shown_frames=pictured.frames,
            other_frames=sum(len(route.frames) for card in found.cards for route in card.routes) - pictured.frames,
            show_all="gens report runs=... pictures=N",
            too_large=len(found.cards) < found.chosen,
        )
    )


def _rules(scores: Sequence[RunScore]) -> list[str]:
    """How others count, in one line each; of what benchmark, where there are several."""
    found = {
        (each.run.benchmark, official.rule.about): official.rule.about for each in scores for official in each.official
    }
    several = len({benchmark for benchmark, _ in found}) > 1
    return [f"{benchmark}, {about}" if several else about for benchmark, about in found]
