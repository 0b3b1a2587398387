"""Frames scored by the lines of subtitles, by their words and by their meanings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from tiny_encoders import write_clip

from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question, Relevance, Status, Subtitles, Video
from pipeline.errors import ConfigError
from pipeline.samplers import Sampler, WithoutPictures
from pipeline.samplers.bm25 import Bm25, Index, words
from pipeline.samplers.kept_frames import KeptFrames
from pipeline.samplers.subtitles import SubtitleWords, reads_subtitles
from pipeline.video.unseen import UnseenFrames

VIDEO = Video("v.mp4", "f", 20.0, 10.0, 200, 64, 48)
PLAIN = Bm25(1.2, 0.75, ())
SRT = """1
00:00:02,000 --> 00:00:04,000
A green circle moves in.

2
00:00:09,300 --> 00:00:09,600
The circle is gone.

3
00:00:15,000 --> 00:00:17,000
Good night.
"""


def made(**settings: Any) -> SubtitleWords:
    return SubtitleWords(
        **{"name": "s", "fps": 1.0, "margin": 0.0, "query_form": "question", "bm25": PLAIN, **settings}
    )


@pytest.fixture
def file(tmp_path: Path) -> Subtitles:
    (tmp_path / "lines.srt").write_text(SRT)
    return Subtitles(str(tmp_path / "lines.srt"))


def scored(sampler: Any, text: str, file: Subtitles | None, **settings: Any) -> Relevance:
    question = Question("q", "v.mp4", text, subtitles=file, **settings)
    (relevance,) = sampler.score(VIDEO, UnseenFrames(VIDEO), [question])
    assert isinstance(relevance, Relevance)
    return relevance


def named(relevance: Relevance) -> list[float]:
    assert relevance.named_above is not None
    pairs = zip(relevance.times, relevance.scores, strict=True)
    return [time for time, score in pairs if score > relevance.named_above]


def test_bm25_by_hand() -> None:
    # N = 3, mean length 2; idf(green) = ln(1 + 2.5 / 1.5), idf(circle) = ln(1 + 1.5 / 2.5). A text of mean length has
    # (k1 + 1) / (1 + k1) = 1; one of three words 2.2 / (1 + 1.2 (0.25 + 0.75 * 1.5)) = 2.2 / 2.65.
    green, circle = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    index = Index(["Green circle", "red circle moves", "blue"], PLAIN)
    assert index.scores("green CIRCLE, circle?") == pytest.approx([green + circle, circle * 2.2 / 2.65, 0])
    assert Index(["Green circle", "red"], Bm25(1.2, 0.75, ("circle",))).scores("circle") == [0, 0]
    # A word that comes twice: f = 2, n = 2, mean 1.5: 2 * 2.2 / (2 + 1.2 (0.25 + 0.75 * 2 / 1.5)) = 4.4 / 3.5.
    assert Index(["no no", "yes"], PLAIN).scores("no") == pytest.approx([math.log(1 + 1.5 / 1.5) * 4.4 / 3.5, 0])


def test_words_of_scripts_without_spaces_are_their_characters() -> None:
    assert words("What's Naïve? \N{FULLWIDTH DIGIT TWO}nd हिन्दी") == ["what", "s", "naïve", "2nd", "हिन्दी"]
    assert words("红色的circle カメラ") == ["红", "色", "的", "circle", "カ", "メ", "ラ"]


def test_frames_score_by_the_lines_on_screen(file: Subtitles) -> None:
    relevance = scored(made(), "Where? A green circle!", file)
    assert relevance.times == tuple(range(20))
    assert named(relevance) == [2, 3, 9]  # 9.3 to 9.6 is between two candidates: the picture of second 9 is on screen
    assert relevance.scores[2] == relevance.scores[3] > relevance.scores[9] > 0
    assert named(scored(made(margin=1.5), "green", file)) == [1, 2, 3, 4, 5]
    assert isinstance(made(), Sampler)
    assert isinstance(made(), WithoutPictures)


def test_options_are_part_of_the_query_only_where_they_are_asked_for(file: Subtitles) -> None:
    options = ("night", "green")
    assert named(scored(made(query_form="question_and_options"), "gone?", file, options=options)) == [2, 3, 9, 15, 16]
    assert named(scored(made(), "gone?", file, options=options)) == [9]


def test_a_clip_sees_its_own_lines_alone(file: Subtitles) -> None:
    clip = Video("v.mp4", "f", 12.0, 10.0, 70, 64, 48, start=5.0)
    question = Question("q", "v.mp4", "the circle at night", subtitles=file)
    (relevance,) = made().score(clip, UnseenFrames(clip), [question])
    assert named(relevance) == [9]


def test_kept_frames_of_another_sampler_have_the_lines_of_their_own_seconds(file: Subtitles) -> None:
    kept = KeptFrames(VIDEO, UnseenFrames(VIDEO), (1.0, 3.0, 15.0, 19.0))
    (relevance,) = made().score(kept.video, kept, [Question("q", "v.mp4", "green night", subtitles=file)])
    assert relevance.times == (1.0, 3.0, 15.0, 19.0)
    assert named(relevance) == [3, 15]


def test_what_has_no_lines_is_a_failure_by_name(file: Subtitles, tmp_path: Path) -> None:
    assert scored(made(), "the red square", file).status is Status.OK  # "the"
    nothing = scored(made(bm25=Bm25(1.2, 0.75, ("the",))), "the red square", file)
    assert (nothing.status, len(nothing.times)) == (Status.NOTHING_RELEVANT, 20)
    without = scored(made(), "green", None)
    assert without.status is Status.NO_SCORES
    assert "subtitles_file=" in without.detail
    assert scored(made(), "green", Subtitles(str(tmp_path / "gone.srt"))).status is Status.MISSING_SUBTITLES
    (tmp_path / "bad.srt").write_bytes(b"\xff\xfe\xff")
    assert scored(made(), "green", Subtitles(str(tmp_path / "bad.srt"))).status is Status.UNREADABLE_SUBTITLES
    assert scored(made(), " ", file).status is Status.INVALID_QUESTION


def test_the_key_changes_with_the_lines_and_their_clock(file: Subtitles) -> None:
    def query(subtitles: Subtitles | None) -> str:
        return made().query(Question("q", "v.mp4", "green", subtitles=subtitles))

    before = query(file)
    assert len({before, query(None), query(Subtitles(file.path, 3.0)), query(Subtitles("gone.srt"))}) == 4
    Path(file.path).write_text(SRT.replace("green", "large"))
    assert query(file) != before


def test_meanings_are_cosines_of_lines_and_question(file: Subtitles, tmp_path: Path) -> None:
    register_resolvers()
    checkpoint = write_clip(tmp_path / "clip", seed=3)
    given = {"source": checkpoint, "device": "cpu", "attention": "sdpa"}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = ["sampler=subtitles_embedded", "sampler@sampler.encoder=clip", "sampler.margin=0"]
        overrides += [f"sampler.encoder.checkpoint.{key}={value}" for key, value in given.items()]
        sampler = build(compose("sample", [*overrides, f"paths.cache={tmp_path}"]).sampler, "sampler")
    relevance = scored(sampler, "a red square", file)
    assert named(relevance) == [2, 3, 9, 15, 16]
    texts = sampler.encoder.embed_texts(["a red square", "The circle is gone."])
    assert relevance.scores[9] == pytest.approx(float(texts[0] @ texts[1]), abs=1e-6)
    assert relevance.scores[0] == -1
    assert not isinstance(sampler, WithoutPictures)  # gens check would load the model
    sampler.close()


def test_who_reads_subtitles_is_known_through_the_samplers_that_hold_it() -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        both = [
            compose("sample", ["sampler=hybrid", *more]).sampler for more in ([], ["sampler@sampler.first=subtitles"])
        ]
    assert [reads_subtitles(build(each, "sampler")) for each in both] == [False, True]


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        (lambda: made(margin=-1.0), "margin=-1"),
        (lambda: Bm25(-1.0, 0.75, ()), "k1=-1"),
        (lambda: Bm25(1.2, 1.5, ()), "b=1.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        wrong()
