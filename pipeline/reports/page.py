"""The report: one HTML file that needs no other, and opens from the disk without a network."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.artefacts.folder import REPORT_FILE
from pipeline.benchmarks.metrics import Tally
from pipeline.errors import StorageError
from pipeline.reports.cards import Card, Verdict, cards, pictured, run_labels
from pipeline.reports.results import results_table, share
from pipeline.reports.runs import RunArtefacts, collect
from pipeline.reports.scoreboard import RunScore, board, score
from pipeline.reports.thumbnails import ThumbnailSource, VideoThumbnails, gather

if TYPE_CHECKING:
    from pipeline.video import Reader

RECALL_TOLERANCE = 1.0
"""Seconds around an evidence span within which a selected frame shows it: candidates are a second apart."""
THUMBNAIL_WIDTH = 160
THUMBNAIL_QUALITY = 70
THUMBNAIL_LIMIT = 5000
"""Pictures on one page. At 4 to 8 KB each a browser still opens it at once."""

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
_FILTERS = (
    ("all", "All", "every question"),
    ("wrong", "Wrong", "an answer was read, and it is not the right one"),
    ("failed", "Failed", "a stage ended in a failure"),
    ("disagree", "Disagreeing", "the runs gave different answers"),
    ("missed", "Evidence missed", "a selection leaves out some of the evidence"),
    ("unfinished", "Unfinished", "a run has not come to this question yet"),
)


@dataclass(frozen=True)
class Filter:
    """A choice of cards."""

    mark: str
    name: str
    meaning: str
    count: int


@dataclass(frozen=True)
class Group:
    """Accuracy by the values of one label."""

    label: str
    runs: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tally | None, ...]], ...]


def report_on(folders: Sequence[Path], reader: Reader, target: Path) -> Path:
    """Write the page about every run in ``folders`` and print the table and the page's path.

    ``target`` is a file named ``*.html``, or the folder in which the page is called ``report.html``.

    Raises:
        InputError: there is no run, or a row cannot be used.
        StorageError: the page cannot be written.
    """
    runs = collect(folders)
    file = target if target.suffix == ".html" else target / REPORT_FILE
    page = write_report(runs, VideoThumbnails(reader, THUMBNAIL_WIDTH, THUMBNAIL_QUALITY), file)
    Console().print(results_table(runs, RECALL_TOLERANCE))
    # Not through rich, which would break a long path in two.
    print(f"report: {page}", flush=True)
    return page


def write_report(
    runs: Sequence[RunArtefacts],
    thumbnails: ThumbnailSource,
    target: Path,
    recall_tolerance: float = RECALL_TOLERANCE,
    thumbnail_limit: int = THUMBNAIL_LIMIT,
) -> Path:
    """Write the page about ``runs`` to the file ``target``; the same runs give the same bytes.

    Raises:
        InputError: a run's answers cannot be counted.
        StorageError: the page cannot be written.
    """
    text = render(runs, thumbnails, recall_tolerance, thumbnail_limit)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
        # Readable like any other file of the run; temporary files are private.
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{target} cannot be written: {error.strerror}", "choose another place: gens report runs=... target=..."
        ) from error
    return target


def render(
    runs: Sequence[RunArtefacts], thumbnails: ThumbnailSource, recall_tolerance: float, thumbnail_limit: int
) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=share,
        counted=_counted,
        words=lambda text: str(text).replace("_", " "),
        glyph=_GLYPHS.__getitem__,
        verdict_words=_WORDS.__getitem__,
    )
    scores = [score(run, recall_tolerance) for run in runs]
    found = cards(runs, recall_tolerance)
    labels = run_labels(runs)
    names = {run.name: labels[run.name] or " → ".join(filter(None, (run.sampler, run.answerer))) for run in runs}
    shown = pictured(found, thumbnail_limit)
    seconds = [(card.question.video, frame.second) for card, place in shown for frame in card.routes[place].frames]
    style, script = _inline(templates / "page.css"), _inline(templates / "page.js")
    return environment.get_template("page.html.j2").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        board=board(scores),
        scores=scores,
        names=names,
        graded=any(card.question.correct is not None for card in found),
        not_counted=max((each.accuracy.not_counted for each in scores if each.accuracy), default=0),
        groups=_groups(scores, names),
        recall_tolerance=f"{recall_tolerance:g}",
        cards=found,
        videos=len({card.question.video for card in found}),
        filters=_filters(found),
        any_failed_window=any(
            route.timeline and route.timeline.failed_windows for card in found for route in card.routes
        ),
        album=gather(seconds, thumbnails),
        shown={(card.number, place) for card, place in shown},
        shown_frames=len(seconds),
        other_frames=sum(len(route.frames) for card in found for route in card.routes) - len(seconds),
    )


def _filters(found: Sequence[Card]) -> list[Filter]:
    counts = {mark: sum(mark == "all" or mark in card.marks for card in found) for mark, _, _ in _FILTERS}
    return [
        Filter(mark, name, meaning, counts[mark])
        for mark, name, meaning in _FILTERS
        if mark != "unfinished" or counts[mark]
    ]


def _groups(scores: Sequence[RunScore], names: dict[str, str]) -> list[Group]:
    counted = [each for each in scores if each.accuracy]
    labels: dict[str, dict[str, None]] = {}
    for each in counted:
        for label, values in each.accuracy.groups.items() if each.accuracy else ():
            labels.setdefault(label, {}).update(dict.fromkeys(values))
    return [
        Group(
            label,
            tuple(names[each.run.name] for each in counted),
            tuple(
                (
                    value,
                    tuple(
                        each.accuracy.groups.get(label, {}).get(value) if each.accuracy else None for each in counted
                    ),
                )
                for value in values
            ),
        )
        for label, values in labels.items()
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _inline(path: Path) -> str:
    """Our own style or script, which the template must take as it is."""
    from markupsafe import Markup

    return Markup(path.read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    """For the page's Content-Security-Policy, under which no other script or style runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
