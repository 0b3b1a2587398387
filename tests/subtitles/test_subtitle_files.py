"""Files of subtitles as people have them, to lines on the video's clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain import Status, SubtitleLine, Subtitles
from pipeline.errors import SubtitlesError
from pipeline.subtitles import at_times, read, within

SRT = """1
00:00:01,000 --> 00:00:03,500
<font color="white" size=".72c">so we begin</font>

2
00:00:03,000 --> 00:00:06,000
<font color="white" size=".72c">with 2 < 3
and <3 of <i>that</i></font>

3
01:00:00,250 --> 01:00:01,000
the end
"""


def written(path: Path, text: str) -> Subtitles:
    path.write_bytes(text.encode())
    return Subtitles(str(path))


def listed(path: Path, entries: list[Any], start: float = 0.0) -> Subtitles:
    path.write_text(json.dumps(entries))
    return Subtitles(str(path), start)


def test_srt(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.srt", SRT), 3700.0) == (
        SubtitleLine(1.0, 3.5, "so we begin"),
        SubtitleLine(3.0, 6.0, "with 2 < 3 and <3 of that"),
        SubtitleLine(3600.25, 3601.0, "the end"),
    )


@pytest.mark.parametrize(
    "text",
    [
        SRT.replace("\n", "\r\n"),
        "\ufeff" + SRT,
        SRT.replace("\n\n", "\n"),
        SRT.replace("with 2", "\nwith 2"),
        SRT.rstrip(),
        "\n".join(line for line in SRT.split("\n") if not line.strip().isdigit()),
        SRT + "\n4\n01:00:02,000 --> 01:00:03,000\n\n",
    ],
    ids=["CRLF", "BOM", "no empty lines", "empty line in a cue", "no last line feed", "no numbers", "no words"],
)
def test_srt_as_files_are(text: str, tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.srt", text), 3700.0) == read(written(tmp_path / "b.srt", SRT), 3700.0)


def test_a_number_that_is_said_is_no_number_of_a_cue(tmp_path: Path) -> None:
    text = "00:01,000 --> 00:02,000\n42\n00:03,000 --> 00:04,000\n43"
    assert [line.text for line in read(written(tmp_path / "a.srt", text), 9.0)] == ["42", "43"]


def test_webvtt(tmp_path: Path) -> None:
    text = (
        "WEBVTT - a title\n\nNOTE not said\n\nSTYLE\n::cue {}\n\nintro\n00:01.000 --> 00:02.500 align:start\n"
        "<v Ann>this &amp; that</v>\n\n01:00:03.000 --> 01:00:04.000\n<00:03.100><c.yellow>two</c>\nlines\n"
    )
    assert read(written(tmp_path / "a.vtt", text), 3700.0) == (
        SubtitleLine(1.0, 2.5, "this & that"),
        SubtitleLine(3603.0, 3604.0, "two lines"),
    )


def test_the_two_forms_of_longvideobench(tmp_path: Path) -> None:
    stamped = [
        {"start": "00:00:10.500", "end": "00:00:12.000", "line": " a  b "},
        {"start": "00:01:00.000", "end": "00:01:00.200", "line": "short"},
    ]
    assert read(listed(tmp_path / "a.json", stamped), 100.0) == (
        SubtitleLine(10.5, 12.0, "a b"),
        SubtitleLine(pytest.approx(59.6), pytest.approx(60.6), "short"),  # type: ignore[arg-type]
    )
    numbers = [{"timestamp": [10.5, 12], "text": "a"}, {"timestamp": [90, None], "text": "to the end"}]
    assert read(listed(tmp_path / "b.json", numbers), 100.0) == (
        SubtitleLine(10.5, 12.0, "a"),
        SubtitleLine(90.0, 100.0, "to the end"),
    )


def test_a_video_cut_out_of_a_longer_one_has_its_own_clock(tmp_path: Path) -> None:
    entries = [
        {"timestamp": [5.0, 9.0], "text": "before"},
        {"timestamp": [99.0, 102.0], "text": "into it"},
        {"timestamp": [130.0, None], "text": "open"},
        {"timestamp": [170.0, 171.5], "text": "after"},
    ]
    found = read(listed(tmp_path / "a.json", entries, start=100.0), 60.0)
    assert found == (SubtitleLine(-1.0, 2.0, "into it"), SubtitleLine(30.0, 60.0, "open"))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.srt", "1\n00:00:01,000 -> 00:00:02,000\nwords", "line 1: '1' stands under no time line"),
        ("a.srt", "1\n00:00:01,000 --> later\nwords", "line 2: 'later' is no time"),
        ("a.srt", "1\n00:00:01,000 -->\nwords", "line 2: .* is no time line"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nok\n\n2\n00:00:09,000 --> 00:00:08,000\nno", "line 6: .* before"),
        ("a.srt", "<html>not found</html>", "line 1: "),
        ("a.vtt", "00:01.000 --> 00:02.000\nwords", "line 1: a WebVTT file begins with WEBVTT"),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nok\n\nname\nwords", "line 7: 'words' is no time line"),
        ("a.json", "{", "not JSON: .* line 1, column 2"),
        ("a.json", "[" * 100_000, "not JSON that can be read"),
        ("a.json", "{}", "no JSON list"),
        ("a.json", '["words"]', "entry 1 is no object"),
        ("a.json", '[{"timestamp": [1], "text": "a"}]', "entry 1: timestamp"),
        ("a.json", '[{"timestamp": [1, 2], "line": "a"}]', "entry 1 has no text"),
        ("a.json", '[{"timestamp": [1, "2"], "text": "a"}]', "entry 1: '2' is no number"),
        (
            "a.json",
            '[{"start": "00:00:01.000", "end": "00:00:02.000", "line": "a"}, {"line": "b"}]',
            "entry 2 has neither",
        ),
        ("a.ass", "words", "no form that can be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_place(name: str, text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SubtitlesError, match=told) as raised:
        read(written(tmp_path / name, text), 10.0)
    assert raised.value.status is Status.UNREADABLE_SUBTITLES
    assert str(tmp_path / name) in raised.value.problem
    assert raised.value.remedy


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(SubtitlesError, match=r"no file of subtitles .*gone\.srt") as raised:
        read(Subtitles(str(tmp_path / "gone.srt")), 10.0)
    assert raised.value.status is Status.MISSING_SUBTITLES
    (tmp_path / "latin.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\ncaf\xe9".encode("latin1"))
    with pytest.raises(SubtitlesError, match="UTF-8") as raised:
        read(Subtitles(str(tmp_path / "latin.srt")), 10.0)
    assert "iconv" in raised.value.remedy


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.srt", "\n"), 10.0) == ()
    assert read(listed(tmp_path / "a.json", []), 10.0) == ()


def test_lines_at_frames_stand_once_in_their_order() -> None:
    lines = [SubtitleLine(0.0, 2.0, "a"), SubtitleLine(1.0, 3.0, "b"), SubtitleLine(5.0, 6.0, "c")]
    assert at_times(lines, [1.5, 1.9, 2.0]) == tuple(lines[:2])
    assert at_times(lines, [2.0]) == (lines[1],)
    assert at_times(lines, [3.0, 4.999, 6.0]) == ()
    assert within(lines, 2.5, 5.0) == (lines[1],)
