"""Several texts for each question, pooled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain import Cost, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, InputError
from pipeline.samplers import Sampler
from pipeline.samplers.expanded import ExpandedSampler
from pipeline.samplers.inner import cost_together
from pipeline.video.unseen import UnseenFrames

VIDEO = Video("v.mp4", "f", 3.0, 10.0, 30, 64, 48)
ROWS = {"what?": (0.1, 0.5, 0.3), "red": (0.7, 0.2, 0.3), "blue": (0.1, 0.2, 0.9)}


@dataclass(frozen=True)
class Scripted:
    """Gives each text its scores."""

    name: str = "scripted"
    rows: Mapping[str, Any] = field(default_factory=lambda: ROWS)
    asked: list[str] = field(default_factory=list)

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scripted"}

    def query(self, question: Question) -> str:
        return question.text

    def score(self, video: Video, frames: Any, questions: Sequence[Question]) -> list[Relevance]:
        assert all(question.options is None for question in questions)
        self.asked.extend(question.text for question in questions)
        found = []
        for each in questions:
            row = self.rows[each.text]
            if isinstance(row, Relevance):
                found.append(row)
            else:
                times = tuple(float(second) for second in range(len(row)))
                found.append(Relevance(each.id, times, row, named_above=None, cost=Cost(1.0, 10), features="kept"))
        return found

    def close(self) -> None:
        pass


def expanded(inner: Scripted | None = None, **settings: Any) -> ExpandedSampler:
    given = {"texts": ("{question}", "{option}"), "file": None, "pool": "max", **settings}
    return ExpandedSampler(name="expanded", inner=inner or Scripted(), **given)


def scored(sampler: ExpandedSampler, *questions: Question) -> list[Relevance]:
    return sampler.score(VIDEO, UnseenFrames(VIDEO), questions)


ASKED = Question("q", "v.mp4", " what? ", ("red", "blue"), correct=0)


def test_the_maximum_or_the_mean_of_all_texts() -> None:
    (most,) = scored(expanded(), ASKED)
    assert most.scores == (0.7, 0.5, 0.9)
    (mean,) = scored(expanded(pool="mean"), ASKED)
    assert mean.scores == pytest.approx((0.3, 0.3, 0.5))
    assert (mean.question_id, mean.named_above, mean.features) == ("q", None, "kept")
    assert mean.cost == Cost(3.0, 30)
    assert mean.alone == Cost(3.0, 30)  # no other question's texts were scored


def test_a_question_alone_takes_shared_work_once_however_many_texts_it_has() -> None:
    """Frames take 12 s and 60 patches for all texts, and each text a second."""
    shared, texts = 12.0, 4
    parts = [
        Relevance(
            "q",
            (),
            (),
            cost=Cost(shared / texts + 1, 30, more={"patches": 15.0, "pool": 9.0}),
            alone=Cost(shared + 1, 90, more={"patches": 60.0, "pool": 9.0}),
        )
    ] * 3
    # 20 tokens of 80 are of the frames, and 10 of the text.
    assert cost_together(parts, texts) == Cost(shared + 3, 80 + 3 * 10, more={"patches": 60.0, "pool": 9.0})
    assert cost_together(parts[:1], 1) == parts[0].alone
    assert isinstance(expanded(), Sampler)


def test_all_questions_are_scored_in_one_call_each_text_once() -> None:
    inner = Scripted()
    found = scored(
        expanded(inner, texts=("{question}", "{question}", "{option}")), ASKED, Question("free", "v.mp4", "red")
    )
    assert inner.asked == ["what?", "red", "blue", "red"]
    assert [relevance.scores for relevance in found] == [(0.7, 0.5, 0.9), ROWS["red"]]


def test_braces_in_an_option_are_words() -> None:
    question = Question("q", "v.mp4", "what?", ("{question}",))
    assert expanded(texts=("{option} of {question}",)).query(question) == "{question} of what?"


def test_texts_of_a_file_are_added(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(json.dumps({"id": "q", "texts": ["blue"]}) + "\n" + json.dumps({"id": 7, "texts": ["red"]}) + "\n")
    sampler = expanded(texts=("{question}",), file=str(file))
    assert scored(sampler, ASKED)[0].scores == (0.1, 0.5, 0.9)
    assert sampler.query(Question("7", "v.mp4", "what?")) == "what?\n\nred"
    with pytest.raises(InputError, match="'other'"):
        sampler.check([ASKED, Question("other", "v.mp4", "what?")])
    assert set(sampler.identity()) == {"kind", "inner", "pool"}  # the texts are in the query


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"id": "q", "texts": ["a"]}, {"id": "q", "texts": ["b"]}], "has a row already"),
        ([{"id": "q", "texts": []}], "a text is empty"),
        ([{"id": "q", "texts": ["a", " "]}], "a text is empty"),
        ([{"id": "q", "text": "a"}], "texts"),
    ],
)
def test_a_file_that_cannot_be_used_ends_the_command(rows: list[Any], problem: str, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=problem):
        expanded(file=str(tmp_path / "texts.jsonl")).check([ASKED])


def test_one_text_that_fails_fails_the_question() -> None:
    failed = Relevance("?", (), (), status=Status.OUT_OF_MEMORY, detail="Set sampler.frames_at_once=1.")
    (found,) = scored(expanded(Scripted(rows={**ROWS, "blue": failed})), ASKED)
    assert (found.question_id, found.status, found.scores) == ("q", Status.OUT_OF_MEMORY, ())
    assert found.detail == "Set sampler.inner.frames_at_once=1."


def test_a_text_for_which_nothing_is_relevant_counts_as_its_scores() -> None:
    nothing = Relevance("?", (0.0, 1.0, 2.0), (0.0, 0.0, 0.0), status=Status.NOTHING_RELEVANT)
    (found,) = scored(expanded(Scripted(rows={**ROWS, "blue": nothing}), pool="mean"), ASKED)
    assert found.status is Status.OK
    assert found.scores == pytest.approx((0.8 / 3, 0.7 / 3, 0.6 / 3))
    (none,) = scored(expanded(Scripted(rows=dict.fromkeys(ROWS, nothing))), ASKED)
    assert (none.status, none.scores) == (Status.NOTHING_RELEVANT, (0.0, 0.0, 0.0))


def test_scores_of_different_frames_are_not_pooled() -> None:
    (found,) = scored(expanded(Scripted(rows={**ROWS, "blue": (0.1, 0.2)})), ASKED)
    assert (found.status, found.scores) == (Status.NO_SCORES, ())
    assert "sampler@sampler.inner=clip" in found.detail


def test_a_faulty_row_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text(json.dumps({"id": "q", "texts": ["blue"]}))
    faulty = Question("faulty", "v.mp4", "", fault="its options are no list")
    expanded(texts=("{option}",), file=str(tmp_path / "texts.jsonl")).check([ASKED, faulty])


def test_settings_and_questions_without_a_text_are_refused() -> None:
    with pytest.raises(ConfigError, match="texts="):
        expanded(texts=())
    with pytest.raises(InputError, match="no options"):
        expanded(texts=("{option}",)).check([Question("q", "v.mp4", "what?")])
    assert expanded().query(Question("q", "v.mp4", " ", ("red",))) == ""  # for the inner sampler to refuse
