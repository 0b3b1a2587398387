"""What a benchmark names and what is there: videos, subtitles, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from made import write_cut_video, write_video

from pipeline.answerers import Answerer
from pipeline.checks import Level, inputs, stage_two, videos
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question, Span, Subtitles
from pipeline.subtitles import SubtitleChoice
from pipeline.video.remembering import RememberingReader


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_video(folder / "whole.mp4", seconds=10)
    write_video(folder / "other.mkv", seconds=4)
    (folder / "damaged.mp4").write_bytes(b"no film" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    return folder


def ask(film: Path, number: int = 0, **more: object) -> Question:
    return Question(f"{film.stem}-{number}", str(film), "what?", **more)  # type: ignore[arg-type]


def look(questions: list[Question], durations: dict[str, float] | None = None) -> videos.Videos:
    reader = RememberingReader(name="test", backend="pyav", threads=1, image_fps=1.0, probe_store=None)
    return videos.probe_all(questions, reader, durations or {})


def test_each_video_is_told_with_its_fault_and_its_questions(films: Path) -> None:
    names = ("whole.mp4", "whole.mp4", "damaged.mp4", "empty.mp4", "gone.mp4", "gone.mp4", "other.mp4")
    questions = [ask(films / name, number) for number, name in enumerate(names)]
    found = look(questions)
    assert set(found.probes) == {str(films / "whole.mp4")}
    assert set(found.missing) == {str(films / "gone.mp4"), str(films / "other.mp4")}
    assert set(found.unreadable) == {str(films / "damaged.mp4"), str(films / "empty.mp4")}
    missing, unreadable = videos.findings(found, questions)
    assert (missing.level, missing.problem) == (Level.SOME_FAIL, "missing videos: 2, of 3 questions")
    assert set(missing.places) == set(found.missing)
    assert "such as other.mkv for other.mp4" in missing.remedy
    assert unreadable.level == Level.SOME_FAIL
    assert any("no bytes" in place for place in unreadable.places)


def test_a_benchmark_without_any_video_fails_question_by_question(films: Path) -> None:
    questions = [ask(films / "elsewhere" / "a.mp4"), ask(films / "elsewhere" / "b.mp4")]
    (missing,) = videos.findings(look(questions), questions)
    assert missing.level == Level.SOME_FAIL
    assert "benchmark.video_root=" in missing.remedy


@pytest.mark.parametrize(
    ("more", "durations", "why"),
    [
        ({}, {}, ""),
        ({}, {"whole.mp4": 11.5}, ""),
        ({}, {"whole.mp4": 60.0}, "annotations say 60.0 s"),
        ({"evidence": (Span(9, 11),)}, {}, ""),
        ({"evidence": (Span(2, 3), Span(40, 41))}, {}, "about second 40.0"),
        ({"span": Span(100, 200)}, {}, "question whole-0"),
    ],
)
def test_a_video_is_too_short_for_what_is_asked(
    films: Path, more: dict[str, object], durations: dict[str, float], why: str
) -> None:
    questions = [ask(films / "whole.mp4", **more)]
    found = look(questions, {str(films / name): length for name, length in durations.items()})
    assert bool(found.short) == bool(why)
    if why:
        (finding,) = videos.findings(found, questions)
        assert finding.level == Level.SOME_FAIL
        assert why in finding.places[0]


def test_a_cut_download_is_too_short(tmp_path: Path) -> None:
    cut = write_cut_video(tmp_path / "cut.mp4")
    questions = [ask(cut)]
    (finding,) = videos.findings(look(questions), questions)
    assert "too short" in finding.problem
    assert "that it announces" in finding.places[0]


def test_subtitles_are_read_and_what_is_wrong_is_told(films: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.srt", tmp_path / "bad.json"
    good.write_text("1\n00:00:01,000 --> 00:00:03,000\nhello there\n\n2\n00:00:08,000 --> 00:00:09,000\nbye\n")
    bad.write_text("{")
    film = films / "whole.mp4"
    files = [good, good, bad, tmp_path / "gone.srt", None]
    questions = [
        ask(film, number, subtitles=Subtitles(str(file)) if file else None) for number, file in enumerate(files)
    ]
    looked = look(questions)
    seen, clips = {path: probe.video for path, probe in looked.probes.items()}, looked.clips
    subtitles = inputs.read_subtitles(questions, seen)
    found = inputs.subtitle_findings(subtitles, questions)
    assert [(finding.level, finding.problem) for finding in found] == [
        (Level.SOME_FAIL, "missing subtitles: 1, of 1 questions"),
        (Level.SOME_FAIL, "unreadable subtitles: 1, of 1 questions"),
        (Level.NOTE, "questions that name no subtitle file: 1"),
    ]
    given = {
        choice.value: [line.text for line in stage_two.given_lines(clips, subtitles.lines, choice, 4)["whole-0"]]
        for choice in (SubtitleChoice.FULL, SubtitleChoice.AT_FRAMES)
    }
    # Four frames of ten seconds: 1.25, 3.75, 6.25 and 8.75.
    assert given == {"full": ["hello there", "bye"], "at_frames": ["hello there", "bye"]}
    assert stage_two.given_lines(clips, subtitles.lines, SubtitleChoice.AT_FRAMES, 1)["whole-0"] == ()


def test_a_benchmark_without_subtitles_is_told_so(films: Path) -> None:
    questions = [ask(films / "whole.mp4")]
    (finding,) = inputs.subtitle_findings(inputs.read_subtitles(questions, {}), questions)
    assert finding.level == Level.NOTE
    assert "subtitles=none" in finding.remedy


def test_pictures_of_options_are_looked_for(tmp_path: Path) -> None:
    here = tmp_path / "a.png"
    here.write_bytes(b"picture")
    gone = str(tmp_path / "b.png")
    question = Question("q", "v.mp4", "which?", ("A", "B"), option_images=(str(here), gone))
    (finding,) = inputs.image_findings([question])
    assert (finding.level, finding.places) == (Level.SOME_FAIL, (gone,))
    assert inputs.image_findings([Question("q", "v.mp4", "which?")]) == []


def test_questions_that_this_answerer_cannot_be_asked_are_told() -> None:
    questions = [
        Question("one", "v.mp4", "which?", ("only",)),
        Question("two", "v.mp4", "which?", ("A", "B"), option_images=("a.png", "b.png")),
        Question("three", "v.mp4", "which?", ("A", "B")),
    ]
    server = ("answerer=openai", "answerer.base_url=http://localhost/v1", "answerer.model=m")
    invalid, pictured = inputs.question_findings(questions, answerer("answerer=qwen2_vl_7b"))
    assert "one has 1 options" in invalid.places[0]
    assert pictured.places == ("two",)
    assert inputs.question_findings(questions, answerer(*server)) == [invalid]


def answerer(*overrides: str) -> Answerer:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        made: Answerer = build(compose("evaluate", list(overrides)).answerer, "answerer")
    return made


def test_probes_are_shared_between_check_and_run(films: Path, tmp_path: Path) -> None:
    reader = RememberingReader(name="test", backend="pyav", threads=1, image_fps=1.0, probe_store=tmp_path)
    questions = [ask(films / "whole.mp4")]
    videos.probe_all(questions, reader, {})
    kept = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    assert [probe["video"]["path"] for probe in kept] == [str(films / "whole.mp4")]


def test_a_question_that_may_see_a_part_is_planned_over_that_part(films: Path) -> None:
    whole, part = ask(films / "whole.mp4"), ask(films / "whole.mp4", 1, span=Span(0, 4))
    beyond = ask(films / "whole.mp4", 2, span=Span(30, 40))
    clips = look([whole, part, beyond]).clips
    assert set(clips) == {whole.id, part.id}
    assert (clips[whole.id].duration, clips[part.id].duration) == (10.0, 4.0)
    assert clips[part.id].fingerprint != clips[whole.id].fingerprint


def test_what_cannot_be_read_is_told_with_its_own_remedy(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:4,\nother.ts\n")
    questions = [ask(path)]
    (finding,) = videos.findings(look(questions), questions)
    assert "list.m3u8 is an HLS playlist" in finding.places[0]
    assert f"ffmpeg -i {path} -c copy {path.with_suffix('.converted.mp4')}" in finding.places[0].splitlines()[-1]


def test_parts_that_a_transport_stream_lost_are_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "lost.ts", seconds=12)
    whole = path.read_bytes()
    hole = len(whole) // 188 // 2 * 188
    path.write_bytes(whole[:hole] + whole[hole + 2 * 188 :])
    questions = [ask(path)]
    found = look(questions)
    (finding,) = videos.findings(found, questions)
    assert (finding.level, finding.problem) == (Level.SOME_FAIL, "videos with damaged parts: 1, of 1 questions")
    assert all(0 < second < 12 for second in found.damaged[str(path)])
