"""The card of one question, and its timeline, each as a page of its own without a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.reports.cards import cards
from pipeline.reports.document import environment, inlined
from pipeline.reports.page import CARD_FILTERS, THUMBNAIL_QUALITY, THUMBNAIL_WIDTH
from pipeline.reports.pictures import place_pictures
from pipeline.reports.runs import RunArtefacts
from pipeline.reports.thumbnails import VideoThumbnails, collect_thumbnails
from pipeline.reports.views import Card
from pipeline.video import Reader
from pipeline.wellformed import well_formed

_ALL = 1 << 62


def card_page(
    selected: SelectionRow, relevance: RelevanceRow | None, answered: AnswerRow | None, reader: Reader
) -> str:
    """The card with its pictures inside it. A video that cannot be read any more costs the pictures.

    Args:
        selected: the frames.
        relevance: the sampler's scores, if they are known.
        answered: the answer; None where only frames were selected.
        reader: of the video.
    """
    card = question_card(selected, relevance, answered)
    (route,) = card.routes
    uses = [(card.question.video, frame.second) for frame in route.frames]
    source = VideoThumbnails(reader, THUMBNAIL_WIDTH, THUMBNAIL_QUALITY)
    pictures = place_pictures(collect_thumbnails(uses, source), uses, "", inline_bytes=_ALL)
    return _rendered(card=card, marks=card.marks, pictures=pictures, shown={(card.number, 0)}, line=None)


def timeline_page(
    selected: SelectionRow, relevance: RelevanceRow | None, answered: AnswerRow | None
) -> tuple[str, str]:
    """The timeline in words, and as a page; a video that could not be read has neither scores nor frames to show."""
    (route,) = question_card(selected, relevance, answered).routes
    summary = route.timeline.summary if route.timeline else "Nothing is known of this video."
    return summary, _rendered(line=route.timeline, card=None, summary=summary)


def question_card(selected: SelectionRow, relevance: RelevanceRow | None, answered: AnswerRow | None) -> Card:
    """What the card shows; its one route leads to the answer."""
    run = RunArtefacts(
        name="ask",
        relevance=() if relevance is None else (relevance,),
        selections=(selected,),
        answers=() if answered is None else (answered,),
        asked=(selected.question,),
    )
    (card,) = cards([run])
    return card


def _rendered(**shown: Any) -> str:
    style: Mapping[str, Any] = {name: text for name, text in inlined("page").items() if name.startswith("style")}
    template = environment(CARD_FILTERS).get_template("single.html.j2")
    return well_formed(template.render(**style, cards=[1], plain_cards=1, sides={}, addresses={}, **shown))
