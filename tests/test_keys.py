"""What is in the key of an answer, of a relevance behind two samplers, and of nothing else."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import write_video
from PIL import Image

from pipeline import identity
from pipeline.answer_requests import OverLimit, QuestionInput, key_content, question_input
from pipeline.answerers import NO_LIMIT, AnswererLimits, AnswerRequest
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.folder import RELEVANCE_FILE
from pipeline.artefacts.rows import RelevanceRow, SelectionRow
from pipeline.domain import (
    Answer,
    Frame,
    FrameOrigin,
    FrameSource,
    Question,
    Relevance,
    SelectedFrame,
    Selection,
    Span,
    Status,
    Subtitles,
    Video,
)
from pipeline.identity import Label, answer_key, digest, identity_of
from pipeline.orchestrator import answer, sample, select
from pipeline.samplers.hybrid import HybridSampler
from pipeline.samplers.route import Keywords, RouteSampler
from pipeline.selection.policy import Policy
from pipeline.selection.topk import TopK
from pipeline.subtitles import SubtitleChoice, SubtitleFinder
from pipeline.video import Reader

VIDEO = Video("clip.mp4", "content", 10.0, 2.0, 20, 64, 64)
FRAMES = (
    SelectedFrame(1.0, 2, 5.0, FrameOrigin.SAMPLER),
    SelectedFrame(2.0, 4, None, FrameOrigin.FILL),
)
ASKED = Question("q", "clip.mp4", "what?", ("a", "b"), 0)
ROW = SelectionRow("k", "gens", ASKED, VIDEO, Selection("q", FRAMES, "topk", 2))


def key(row: SelectionRow, over_limit: OverLimit = OverLimit.REFUSE, **answerer: Any) -> str:
    given = question_input(row, SubtitleFinder(SubtitleChoice.NONE))
    assert isinstance(given, QuestionInput)
    return answer_key(answerer, key_content(row, given, SubtitleChoice.NONE, over_limit))


def shown(*frames: SelectedFrame) -> SelectionRow:
    return replace(ROW, selection=replace(ROW.selection, frames=frames))


def asking(**changes: Any) -> SelectionRow:
    return replace(ROW, question=replace(ASKED, **changes))


def test_an_answer_is_another_where_the_answerer_is_given_something_else(tmp_path: Path) -> None:
    first, second = FRAMES
    others = [
        shown(first),
        shown(first, replace(second, time=2.5)),
        shown(first, replace(second, index=5)),
        shown(first, replace(second, scale=0.5)),
        asking(text="who?"),
        asking(options=("a", "c")),
        asking(options=("b", "a")),
        asking(options=None, correct=None),
        asking(span=Span(0.0, 5.0)),
        replace(ROW, video=replace(VIDEO, fingerprint="other")),
    ]
    keys = {key(row) for row in (ROW, *others)}
    assert len(keys) == len(others) + 1
    assert key(ROW, prompt="x") != key(ROW)


def test_an_answer_is_the_same_whatever_the_labels_names_and_unused_scores() -> None:
    same = [
        asking(id="q", correct=1),
        asking(groups={"kind": "x"}),
        asking(evidence=(Span(0, 1),)),
        replace(ROW, sampler="uniform", key="other"),
        replace(ROW, video=replace(VIDEO, path="elsewhere.mp4")),
        shown(*(replace(frame, score=1.0, source=FrameOrigin.UNIFORM) for frame in FRAMES)),
        replace(ROW, selection=replace(ROW.selection, policy="aks", budget=9)),
    ]
    assert {key(row) for row in same} == {key(ROW)}


def test_scores_count_where_they_decide_which_frames_are_left_out() -> None:
    lower = shown(replace(FRAMES[0], score=1.0), FRAMES[1])
    scoreless = shown(*(replace(frame, score=None) for frame in FRAMES))
    keys = {key(row, OverLimit.KEEP_BEST) for row in (ROW, lower, scoreless)}
    assert len(keys) == 3


def test_a_picture_of_an_option_counts_by_its_content(tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("copy", "red"), ("b", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")

    def with_pictures(*names: str) -> str:
        return key(asking(option_images=tuple(str(tmp_path / f"{name}.png") for name in names)))

    assert with_pictures("a", "b") == with_pictures("copy", "b")
    assert len({key(ROW), with_pictures("a", "b"), with_pictures("b", "a"), with_pictures("a", "copy")}) == 4
    before = with_pictures("a", "b")
    Image.new("RGB", (8, 8), "green").save(tmp_path / "a.png")
    assert with_pictures("a", "b") != before


def test_an_answer_is_another_once_texts_are_read_by_another_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = key_content(
        ROW, question_input(ROW, SubtitleFinder(SubtitleChoice.NONE)), SubtitleChoice.NONE, OverLimit.REFUSE
    )
    monkeypatch.setattr(identity, "READING_VERSION", 1)
    first = key(ROW)
    # Keys from before there was a version stay valid.
    assert first == digest({"frames": identity.FRAMES_VERSION, "answerer": {}, "asked": asked})
    monkeypatch.setattr(identity, "READING_VERSION", 2)
    assert key(ROW) != first


def test_a_failure_is_kept_as_the_failure_that_it_is() -> None:
    def failed(status: Status) -> str:
        row = replace(ROW, selection=Selection("q", (), "topk", 2, status, "detail"))
        given = question_input(row, SubtitleFinder(SubtitleChoice.NONE))
        assert isinstance(given, Answer)
        return answer_key({}, key_content(row, given, SubtitleChoice.NONE, OverLimit.REFUSE))

    assert len({failed(status) for status in (Status.NO_SCORES, Status.NOTHING_RELEVANT, Status.OK)}) == 3


# Samplers of several parts


@dataclass(frozen=True)
class Scripted:
    """Likes given seconds; remembers what it is asked, and about what."""

    name: str
    liked: tuple[float, ...]
    words: str = ""
    seen: Label[tuple[list[Video], ...]] = ()
    status: Label[tuple[Status, ...]] = ()
    """Of every relevance for now; such failures may pass."""
    embeds: bool = False

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scripted", "liked": list(self.liked)}

    def query(self, question: Question) -> str:
        return f"{self.words}{question.text}"

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        for log in self.seen:
            log.append(video)
        if self.status:
            return [Relevance(each.id, (), (), status=self.status[0], detail="for now") for each in questions]
        times = tuple(float(second) for second in range(int(video.start), int(video.duration)))
        scores = tuple(5.0 if time in self.liked else 0.0 for time in times)
        features = "vectors" if self.embeds else None
        return [Relevance(each.id, times, scores, features=features) for each in questions]

    def keeps_embeddings(self, questions: Sequence[Question]) -> bool:
        return self.embeds

    def close(self) -> None:
        pass


class NoPictures:
    def __init__(self, video: Video) -> None:
        self.video = video

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        for second in seconds:
            yield Frame(second, int(2 * second), np.zeros((2, 2, 3), np.uint8))

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        return [int(2 * second) for second in seconds]


def test_both_samplers_of_a_hybrid_are_in_its_identity_and_its_query() -> None:
    def hybrid(first: Scripted, second: Scripted, keep: int = 2) -> HybridSampler:
        return HybridSampler("hybrid", first, second, keep)

    one, other = Scripted("a", (1.0,)), Scripted("b", (2.0,))
    identities = [
        identity_of(hybrid(one, one)),
        identity_of(hybrid(one, other)),
        identity_of(hybrid(other, one)),
        identity_of(hybrid(one, one, keep=3)),
    ]
    assert len({str(each) for each in identities}) == 4
    worded = replace(one, words="second: ")
    assert hybrid(one, worded).query(ASKED) == "what?\n\nsecond: what?"
    assert hybrid(worded, one).query(ASKED) != hybrid(one, one).query(ASKED)


def test_the_second_sampler_sees_another_video_for_other_kept_frames() -> None:
    seen: list[Video] = []
    second = Scripted("second", (), seen=(seen,))
    elsewhere = replace(VIDEO, fingerprint="other content")
    for video, liked in ((VIDEO, (1.0, 3.0)), (VIDEO, (1.0, 4.0)), (elsewhere, (1.0, 3.0)), (VIDEO, (1.0, 3.0))):
        HybridSampler("hybrid", Scripted("first", liked), second, 2).score(video, NoPictures(video), [ASKED])
    first, other, foreign, again = (video.fingerprint for video in seen)
    assert first == again
    assert len({first, other, foreign, VIDEO.fingerprint}) == 4


def test_a_hybrid_passes_no_vectors_of_its_kept_frames_on() -> None:
    embedding = Scripted("embedding", (1.0, 3.0), embeds=True)
    (one,) = HybridSampler("hybrid", embedding, embedding, 2).score(VIDEO, NoPictures(VIDEO), [ASKED])
    assert one.status is Status.OK
    assert one.features is None


def test_both_sides_of_a_route_are_in_its_identity_and_the_classifier_in_its_query() -> None:
    one, other = Scripted("a", (1.0,)), Scripted("b", (2.0,))
    everything, nothing = Keywords(("what",)), Keywords(("who",))
    base = RouteSampler("route", everything, one, one)
    assert identity_of(replace(base, whole=other)) != identity_of(base)
    assert identity_of(replace(base, localised=other)) != identity_of(base)
    assert identity_of(replace(base, classifier=nothing)) == identity_of(base)
    worded = replace(base, localised=replace(one, words="localised's own "))
    assert worded.query(ASKED) == "global: what?"
    assert replace(worded, classifier=nothing).query(ASKED) == "localised: localised's own what?"


def test_a_route_keeps_embeddings_only_where_each_side_that_is_asked_does() -> None:
    embedding, other = Scripted("embedding", (), embeds=True), Scripted("other", ())
    mixed = RouteSampler("route", Keywords(("what",)), embedding, other)
    asked = [ASKED, replace(ASKED, id="p", text="who?")]
    assert [mixed.keeps_embeddings(each) for each in (asked, asked[:1], asked[1:])] == [False, True, False]


# Rows of relevance


@pytest.fixture
def clip(tmp_path: Path) -> Question:
    return Question("q", str(write_video(tmp_path / "clip.mp4")), "what?")


def test_a_relevance_that_recovers_is_written_to_the_file(clip: Question, tmp_path: Path) -> None:
    from rows_on_disk import rows_of

    from pipeline.artefacts.folder import write_questions

    reader = Reader(name="x", backend="pyav", threads=1, image_fps=1.0)
    folder, cache = tmp_path / "run", RelevanceCache(tmp_path / "cache")
    folder.mkdir()
    write_questions([clip], folder)
    failing = Scripted("s", (1.0,), status=(Status.OUT_OF_MEMORY,))
    keys = set()
    for sampler, status in ((failing, Status.OUT_OF_MEMORY), (replace(failing, status=()), Status.OK)):
        (row,) = sample([clip], sampler, reader, cache, folder)
        assert row.relevance.status is status
        assert rows_of(RelevanceRow, folder / RELEVANCE_FILE) == [row]
        keys.add(row.key)
    assert len(keys) == 1
    assert len((folder / RELEVANCE_FILE).read_bytes().splitlines()) == 2
    list(sample([clip], replace(failing, status=()), reader, cache, folder))
    assert len((folder / RELEVANCE_FILE).read_bytes().splitlines()) == 2


def test_two_clips_of_one_video_have_relevances_of_their_own(clip: Question, tmp_path: Path) -> None:
    reader = Reader(name="x", backend="pyav", threads=1, image_fps=1.0)
    asked = [replace(clip, id=f"{start}", span=Span(start, start + 4.0)) for start in (0.0, 4.0)]
    liking = Scripted("s", (1.0, 5.0))
    rows = list(sample(asked, liking, reader, RelevanceCache(tmp_path / "cache"), tmp_path / "run"))
    assert [row.relevance.times for row in rows] == [(0.0, 1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 7.0)]
    assert [row.relevance.indices for row in rows] == [(0, 4, 8, 12), (16, 20, 24, 28)]
    assert rows[0].key != rows[1].key
    selected = [row.selection.frames for row in select(rows, top(1), reader, tmp_path / "run")]
    assert [[(frame.time, frame.index) for frame in frames] for frames in selected] == [[(1.0, 4)], [(5.0, 20)]]


def top(budget: int) -> Policy:
    return Policy("topk", budget, TopK(), "spread", "named", "none", "none", "linspace")


def test_a_selection_is_another_for_another_relevance_or_policy(tmp_path: Path) -> None:
    reader = Reader(name="x", backend="pyav", threads=1, image_fps=1.0)
    row = RelevanceRow("k", "s", ASKED, VIDEO, Relevance("q", (1.0, 2.0), (5.0, 4.0)))
    given = [(replace(row, key=key), top(budget)) for key in ("k", "other") for budget in (1, 2)]
    keys = {select([relevance], policy, reader, tmp_path)[0].key for relevance, policy in given}
    assert len(keys) == len(given)


# Rows of answers


class Recording:
    """Takes two frames and gives each request the next status, the last one again and again; keeps the requests."""

    name = "recording"

    def __init__(self, is_repeatable: bool, *statuses: Status) -> None:
        self.is_repeatable = is_repeatable
        self._statuses = list(statuses) or [Status.OK]
        self._asked: list[AnswerRequest] = []

    def limits(self) -> AnswererLimits:
        return AnswererLimits(NO_LIMIT, 1, 2, "not at all")

    def identity(self) -> Mapping[str, Any]:
        return {}

    def capacity(self, request: AnswerRequest) -> int:
        return min(2, len(request.frames))

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        for request in requests:
            self._asked.append(request)
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            yield Answer(request.question.id, "A", 0, status, frame_times=request.times)

    def close(self) -> None:
        pass

    def asked(self) -> list[AnswerRequest]:
        """The requests since this was last called."""
        found, self._asked = self._asked, []
        return found


class SecondStage:
    """Answers a question about three uniform frames, each with a line of subtitles, as often as it is called."""

    def __init__(self, clip: Question, folder: Path) -> None:
        self.folder, self.spoken = folder, folder / "clip.srt"
        self.spoken.write_text("".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\nline {n}\n\n" for n in range(3)))
        self.reader = Reader(name="x", backend="pyav", threads=1, image_fps=1.0)
        asked = replace(clip, options=("a", "b"), subtitles=Subtitles(str(self.spoken)))
        frames = tuple(SelectedFrame(float(n), 4 * n, None, FrameOrigin.UNIFORM) for n in range(3))
        self.row = SelectionRow("k", "uniform", asked, self.reader.probe(clip.video), Selection("q", frames, "u", 3))

    def __call__(
        self, answerer: Recording, rule: OverLimit, choice: SubtitleChoice, run: str = "run"
    ) -> tuple[Answer, list[AnswerRequest]]:
        """The answer, and what was asked for it just now."""
        cache, folder = AnswerCache(self.folder / "cache"), self.folder / run
        (row,) = answer([self.row], answerer, self.reader, cache, rule, choice, 1, folder)
        return row.answer, answerer.asked()


@pytest.fixture
def second_stage(clip: Question, tmp_path: Path) -> SecondStage:
    return SecondStage(clip, tmp_path)


def test_another_rule_or_other_subtitles_ask_again(second_stage: SecondStage) -> None:
    answerer = Recording(True)
    given = [
        (OverLimit.REFUSE, SubtitleChoice.NONE, (0.0, 1.0, 2.0), []),
        (OverLimit.KEEP_BEST, SubtitleChoice.NONE, (0.0, 2.0), []),
        (OverLimit.REFUSE, SubtitleChoice.AT_FRAMES, (0.0, 1.0, 2.0), ["line 0", "line 1", "line 2"]),
        (OverLimit.REFUSE, SubtitleChoice.FULL, (0.0, 1.0, 2.0), ["line 0", "line 1", "line 2"]),
        (OverLimit.KEEP_BEST, SubtitleChoice.AT_FRAMES, (0.0, 2.0), ["line 0", "line 2"]),
    ]
    for rule, choice, times, lines in given:
        said, (request,) = second_stage(answerer, rule, choice)
        assert request.times == times
        assert [line.text for line in request.subtitles] == lines
        assert said.left_out == tuple(time for time in (0.0, 1.0, 2.0) if time not in times)
        assert second_stage(answerer, rule, choice) == (said, [])
    second_stage.spoken.write_text(second_stage.spoken.read_text().replace("line 1", "another line"))
    _, (request,) = second_stage(answerer, OverLimit.REFUSE, SubtitleChoice.FULL)
    assert [line.text for line in request.subtitles] == ["line 0", "another line", "line 2"]


def test_a_failure_that_may_pass_is_asked_again_and_one_that_stays_is_not(second_stage: SecondStage) -> None:
    answerer = Recording(False, Status.UNREACHABLE, Status.OUT_OF_MEMORY, Status.REFUSED, Status.OK)
    told = [second_stage(answerer, OverLimit.REFUSE, SubtitleChoice.NONE) for _ in range(4)]
    statuses = [said.status for said, _ in told]
    assert statuses == [Status.UNREACHABLE, Status.OUT_OF_MEMORY, Status.REFUSED, Status.REFUSED]
    assert [len(requests) for _, requests in told] == [1, 1, 1, 0]


@pytest.mark.parametrize(("is_repeatable", "asked_again"), [(True, 0), (False, 1)])
def test_another_run_uses_an_answer_only_where_it_would_come_again(
    second_stage: SecondStage, is_repeatable: bool, asked_again: int
) -> None:
    answerer = Recording(is_repeatable)
    second_stage(answerer, OverLimit.REFUSE, SubtitleChoice.NONE, "one")
    _, requests = second_stage(answerer, OverLimit.REFUSE, SubtitleChoice.NONE, "other")
    assert len(requests) == asked_again
