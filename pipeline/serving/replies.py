"""A reply as the page shows it: the parts of a report's card, the answer in large type first."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from pipeline.domain import option_letter
from pipeline.reports.document import environment
from pipeline.reports.outlines import words
from pipeline.reports.page import CARD_FILTERS
from pipeline.reports.single import question_card
from pipeline.reports.views import Note
from pipeline.serving.engine import Reply
from pipeline.serving.videos import NamedVideo
from pipeline.wellformed import well_formed

_TEMPLATES = Path(__file__).parent / "templates"


def rendered(reply: Reply, video: NamedVideo, parts: Mapping[str, str]) -> dict[str, Any]:
    """The reply as markup, its answer in words, and the length of the video.

    Args:
        reply: of the engine.
        video: that was asked about; its name stands in place of its path.
        parts: names of the sampler, the policy and the answerer.
    """
    selected, result = reply.selected, reply.result
    card = question_card(selected.row, selected.relevance, None if result is None else result.row)
    (route,) = card.routes
    said = _said(reply)
    notes = (*route.notes, *(answer.note for answer in route.answers if answer.note))
    template = environment(CARD_FILTERS, _TEMPLATES).get_template("answer.html.j2")
    markup = template.render(
        question=selected.question,
        options=card.options,
        chosen=None if result is None else result.letter,
        said=said,
        is_failed=result is None or result.answer is None,
        notes=notes or _unsaid(reply),
        route=route,
        video=video.name,
        made_by=" → ".join(parts[part] for part in ("sampler", "selection", "answerer")),
        frames=f"{len(route.frames)} of at most {selected.row.selection.budget} frames",
        seconds=f"{reply.seconds:.1f}",
    )
    known = selected.row.video
    html = well_formed(markup).replace(escape(str(video.path)), escape(video.name))
    if selected.question.subtitles is not None:
        html = html.replace(escape(selected.question.subtitles.path), "the subtitles")
    return {
        "html": html,
        "said": said,
        "status": reply.status.value,
        "duration": 0.0 if known is None else known.duration,
    }


def _said(reply: Reply) -> str:
    """The answer, or that there is none."""
    result = reply.result
    if result is None or result.answer is None:
        return f"No answer: {words(reply.status)}"
    return result.answer if result.option is None else f"{option_letter(result.option)}. {result.answer}"


def _unsaid(reply: Reply) -> tuple[Note, ...]:
    """A failure that no stage's note tells."""
    failed = reply.result is None or reply.result.answer is None
    return (Note("answer", words(reply.status), reply.detail),) if failed and reply.detail else ()
