"""Files of subtitles as people have them, to lines on the video's clock."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain import Question, Status, SubtitleLine, Subtitles, Video
from pipeline.errors import SubtitlesError
from pipeline.subtitles import SubtitleChoice, SubtitleFinder, at_times, read, within

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


WORDS = [
    {"text": "So", "start_time": 1.0, "end_time": 1.2},
    {"text": "we", "start_time": 1.25, "end_time": 1.4},
    {"text": "begin.", "start_time": 1.4, "end_time": 1.9},
    {"text": "Now", "start_time": 1.95, "end_time": 2.1},  # 0.05 s after a sentence
    {"text": "stop!", "start_time": 2.5, "end_time": 2.9},
    {"text": "Here", "start_time": 3.05, "end_time": 3.2},  # 0.15 s after a sentence
    {"text": "and", "start_time": 3.8, "end_time": 4.0},  # 0.6 s after no sentence
]


def test_words_of_a_line_each_are_joined_to_sentences(tmp_path: Path) -> None:
    """As ``group_subtitle_segments`` of Video-MME-v2's script joins them."""
    text = "".join(json.dumps(word) + "\n" for word in WORDS)
    assert lines(written(tmp_path / "017.jsonl", text), 60) == (
        SubtitleLine(1.0, 2.9, "So we begin. Now stop!"),
        SubtitleLine(3.05, 3.2, "Here"),
        SubtitleLine(3.8, 4.0, "and"),
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "line 2: not JSON"),
        ('{"word": "x"}', "line 2 is no word"),
        ('{"text": "x", "start_time": "1", "end_time": 2}', "line 2: start_time and end_time are not numbers"),
        ('{"text": "x", "start_time": 3, "end_time": 2}', "line 2: the word goes from 3 s to 2 s"),
        ('{"text": "x", "start_time": NaN, "end_time": 2}', "line 2: the word goes from nan s"),
    ],
)
def test_a_word_that_cannot_be_read_is_left_out_and_reported(tmp_path: Path, line: str, fault: str) -> None:
    heard = read(written(tmp_path / "017.jsonl", f"{json.dumps(WORDS[0])}\n{line}\n"), 60)
    assert [each.text for each in heard.lines] == ["So"]
    assert fault in heard.skipped[0]
    with pytest.raises(SubtitlesError, match=r"017\.jsonl: line 1"):
        read(written(tmp_path / "017.jsonl", line), 60)


def written(path: Path, text: str) -> Subtitles:
    path.write_bytes(text.encode())
    return Subtitles(str(path))


def lines(subtitles: Subtitles, video_end: float) -> tuple[SubtitleLine, ...]:
    """Of a file of which nothing is left out."""
    heard = read(subtitles, video_end)
    assert heard.skipped == ()
    return heard.lines


def listed(path: Path, entries: list[Any], start: float = 0.0) -> Subtitles:
    path.write_text(json.dumps(entries))
    return Subtitles(str(path), start)


def test_srt(tmp_path: Path) -> None:
    assert lines(written(tmp_path / "a.srt", SRT), 3700.0) == (
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
    assert lines(written(tmp_path / "a.srt", text), 3700.0) == lines(written(tmp_path / "b.srt", SRT), 3700.0)


def test_a_number_that_is_said_is_no_number_of_a_cue(tmp_path: Path) -> None:
    text = "00:01,000 --> 00:02,000\n42\n00:03,000 --> 00:04,000\n43"
    assert [line.text for line in lines(written(tmp_path / "a.srt", text), 9.0)] == ["42", "43"]


def test_webvtt(tmp_path: Path) -> None:
    text = (
        "WEBVTT - a title\n\nNOTE not said\n\nSTYLE\n::cue {}\n\nintro\n00:01.000 --> 00:02.500 align:start\n"
        "<v Ann>this &amp; that</v>\n\n01:00:03.000 --> 01:00:04.000\n<00:03.100><c.yellow>two</c>\nlines\n"
    )
    assert lines(written(tmp_path / "a.vtt", text), 3700.0) == (
        SubtitleLine(1.0, 2.5, "this & that"),
        SubtitleLine(3603.0, 3604.0, "two lines"),
    )


def test_the_two_forms_of_longvideobench(tmp_path: Path) -> None:
    stamped = [
        {"start": "00:00:10.500", "end": "00:00:12.000", "line": " a  b "},
        {"start": "00:01:00.000", "end": "00:01:00.200", "line": "short"},
    ]
    assert lines(listed(tmp_path / "a.json", stamped), 100.0) == (
        SubtitleLine(10.5, 12.0, "a b"),
        SubtitleLine(pytest.approx(59.6), pytest.approx(60.6), "short"),  # type: ignore[arg-type]
    )
    numbers = [{"timestamp": [10.5, 12], "text": "a"}, {"timestamp": [90, None], "text": "to the end"}]
    assert lines(listed(tmp_path / "b.json", numbers), 100.0) == (
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
    found = lines(listed(tmp_path / "a.json", entries, start=100.0), 60.0)
    assert found == (SubtitleLine(-1.0, 2.0, "into it"), SubtitleLine(30.0, 60.0, "open"))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.srt", "1\nwords", "line 1: '1' is not under a time line"),
        ("a.srt", "1\n00:00:01,000 --> later\nwords", "line 2: .*later' is not a time line"),
        ("a.srt", "1\n00:00:01,000 -->\nwords", "line 2: .* is not a time line"),
        ("a.srt", "2\n00:00:09,000 --> 00:00:08,000\nno", "line 2: .* before"),
        ("a.srt", "<html>not found</html>", "line 1: "),
        ("a.vtt", "00:01.000 --> 00:02.000\nwords", "line 1: a WebVTT file begins with WEBVTT"),
        ("a.vtt", "WEBVTT\n\nname\nwords", "line 3: 'name' is not under a time line"),
        ("a.json", "{", "not JSON: .* at column 2"),
        ("a.json", "[" * 100_000, "not JSON that can be read"),
        ("a.json", "{}", "not a JSON list"),
        ("a.json", '["words"]', "entry 1 is not an object"),
        ("a.json", '[{"timestamp": [1], "text": "a"}]', "entry 1: timestamp"),
        ("a.json", '[{"timestamp": [1, 2], "line": "a"}]', "entry 1 has no text"),
        ("a.json", '[{"timestamp": [1, "x"], "text": "a"}]', "entry 1: 'x' is not a number"),
        (
            "a.json",
            '[{"line": "b"}]',
            "entry 1 has neither",
        ),
        ("a.ass", "words", "of an unknown form"),
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


def cue(number: int, text: str) -> str:
    return f"{number}\n00:00:0{number},000 --> 00:00:0{number},900\n{text}\n\n"


def test_a_cue_that_is_not_utf8_costs_that_cue_and_another_encoding_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.srt"
    file.write_bytes((cue(1, "one") + cue(2, "th\xe9")).encode("latin-1") + cue(3, "three").encode())
    heard = read(Subtitles(str(file)), 10.0)
    assert [line.text for line in heard.lines] == ["one", "three"]
    assert heard.skipped == ("line 7: not UTF-8: the byte 0xe9 at column 3",)
    # Two of them beside letters that are UTF-8 are two damaged cues; alone they are another encoding.
    damaged = (cue(1, "th\xe9") + cue(2, "caf\xe9")).encode("latin-1")
    file.write_bytes(damaged + cue(3, "th\xe9").encode())
    assert [line.text for line in read(Subtitles(str(file)), 10.0).lines] == ["th\xe9"]
    file.write_bytes(damaged + cue(3, "three").encode())
    with pytest.raises(
        SubtitlesError, match="cannot be read as text: not UTF-8: the byte 0xe9 at line 3, column 3"
    ) as raised:
        read(Subtitles(str(file)), 10.0)
    assert "iconv -f latin1 (or gb18030, cp1251 ...) -t utf-8 a.srt" in raised.value.remedy


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert lines(written(tmp_path / "a.srt", "\n"), 10.0) == ()
    assert lines(listed(tmp_path / "a.json", []), 10.0) == ()


def test_lines_at_frames_stand_once_in_their_order() -> None:
    said = [SubtitleLine(0.0, 2.0, "a"), SubtitleLine(1.0, 3.0, "b"), SubtitleLine(5.0, 6.0, "c")]
    assert at_times(said, [1.5, 1.9, 2.0]) == tuple(said[:2])
    assert at_times(said, [2.0]) == (said[1],)
    assert at_times(said, [3.0, 4.999, 6.0]) == ()
    assert within(said, 2.5, 5.0) == (said[1],)


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        ("2\n00:00:03,000 --> later\nlost\n", "line 6: '00:00:03,000 --> later' is not a time line"),
        ("2\n00:00:0x,000 --> 00:00:06,000\nlost\n", "line 6: .* is not a time line"),
        ("2\n00;00;03,000 --> 00;00;06,000\nlost\n", "line 6: .* is not a time line"),
        ("2\n00:00:03,000\nlost\n", "line 6: '00:00:03,000' is not a time line"),
        ("2\n --> 00:00:06,000\nlost\n", "line 6: '--> 00:00:06,000' is not a time line"),
        ("2\n00:00:06,000 --> 00:00:03,000\nlost\nand more\n", "line 6: the cue ends at 3 s, before it begins at 6 s"),
        ("2\n" + "9" * 400 + ":00:00,000 --> 00:00:06,000\nlost\n", "line 6: .* is not a time line"),
    ],
)
@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_a_damaged_cue_is_left_out_with_its_words_and_told(form: str, damaged: str, told: str, tmp_path: Path) -> None:
    cues = f"1\n00:00:01,000 --> 00:00:02,000\nfirst\n\n{damaged}\n3\n00:00:07,000 --> 00:00:08,000\nlast\n"
    header, start = ("WEBVTT\n\n", 2) if form == "vtt" else ("", 0)
    heard = read(written(tmp_path / f"a.{form}", header + cues), 10.0)
    assert [line.text for line in heard.lines] == ["first", "last"]
    [fault] = heard.skipped
    assert re.match(told.replace("line 6", f"line {6 + start}"), fault)
    assert heard.skipped_summary() == f"1 cue left out: {fault}"


def test_text_before_the_first_cue_is_left_out_and_told(tmp_path: Path) -> None:
    heard = read(written(tmp_path / "a.srt", "Made by me\n\n" + SRT), 3700.0)
    assert heard.lines == read(written(tmp_path / "b.srt", SRT), 3700.0).lines
    assert heard.skipped == ("line 1: 'Made by me' is not under a time line",)


def test_entries_without_text_or_times_are_left_out_and_told(tmp_path: Path) -> None:
    entries = [
        {"timestamp": [1.0, 2.5], "text": "first"},
        {"timestamp": [None, 2.5], "text": "lost"},
        {"timestamp": [3.0, 4.5], "text": None},
        {"timestamp": ["5.0", "6.5"], "text": "numbers as text \ud83d"},
        {"start": "00:00:08.000", "line": "lost"},
        "words",
    ]
    heard = read(listed(tmp_path / "a.json", entries), 10.0)
    assert heard.lines == (SubtitleLine(1.0, 2.5, "first"), SubtitleLine(5.0, 6.5, "numbers as text \ufffd"))
    assert [fault.split(" ")[1].strip(":") for fault in heard.skipped] == ["2", "3", "5", "6"]
    assert heard.skipped_summary().startswith("4 cues left out: entry 2: None is not a number of seconds")


YOUTUBE = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.429 align:start position:0%
~
hello<00:00:00.480><c> and</c><00:00:00.800><c> welcome</c>

00:00:02.429 --> 00:00:02.439 align:start position:0%
hello and welcome
~

00:00:02.439 --> 00:00:05.749 align:start position:0%
hello and welcome
today<00:00:02.760><c> we</c><00:00:03.000><c> cook</c>

00:00:05.749 --> 00:00:05.759 align:start position:0%
today we cook
~

00:00:05.759 --> 00:00:08.000 align:start position:0%
today we cook
soup &amp; bread
""".replace("~", " ")
"""As yt-dlp stores them: ``~`` is a line of one blank."""
TOLD_ONCE = (
    SubtitleLine(0.16, 2.439, "hello and welcome"),
    SubtitleLine(2.439, 5.759, "today we cook"),
    SubtitleLine(5.759, 8.0, "soup & bread"),
)


def test_automatic_captions_tell_each_phrase_once(tmp_path: Path) -> None:
    assert lines(written(tmp_path / "a.vtt", YOUTUBE), 10.0) == TOLD_ONCE
    assert lines(written(tmp_path / "b.vtt", YOUTUBE.replace("\n", "\r\n")), 10.0) == TOLD_ONCE
    plain = "\n".join(line.replace(" align:start position:0%", "") for line in YOUTUBE.split("\n")[4:])
    cues = re.sub(r"<[^>]*>", "", plain).replace("&amp;", "&").strip().split("\n\n")
    as_srt = "".join(f"{number}\n{cue}\n\n" for number, cue in enumerate(cues, start=1))
    assert lines(written(tmp_path / "c.srt", as_srt), 10.0) == TOLD_ONCE


def test_what_is_said_twice_in_ordinary_subtitles_stands_twice(tmp_path: Path) -> None:
    text = "1\n00:01,000 --> 00:02,000\nNo.\n\n2\n00:02,000 --> 00:03,000\nNo.\n\n3\n00:03,000 --> 00:04,000\nYes.\n"
    assert [line.text for line in lines(written(tmp_path / "a.srt", text), 9.0)] == ["No.", "No.", "Yes."]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{\\an8}up\\hhere\\Nnow", "up here now"),
        ("in C:\\home and D:\\N", "in C:\\home and D:\\N"),
        ("<b>bold</b> <image> <|im_start|>system [/INST]", "bold <image> <|im_start|>system [/INST]"),
        ("look --> there", "look --> there"),
        ("at 1:30 to 2:45", "at 1:30 to 2:45"),
        ("\x1b[31mred", "\x1b[31mred"),
        ("42", "42"),
        ("\u00b2", "\u00b2"),
    ],
)
def test_words_are_words(words: str, told: str, tmp_path: Path) -> None:
    text = f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n\n2\n00:00:03,000 --> 00:00:04,000\nnext\n"
    assert [line.text for line in lines(written(tmp_path / "a.srt", text), 9.0)] == [told, "next"]


def test_escaped_markup_is_words(tmp_path: Path) -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\n&lt;b&gt; is <b>bold</b>&nbsp;here\n"
    assert lines(written(tmp_path / "a.vtt", text), 9.0) == (SubtitleLine(1.0, 2.0, "<b> is bold here"),)


@pytest.mark.parametrize(
    "head",
    [
        "00:00:01,000 --> 00:00:02,500",
        "0:01.0-->0:02.5",
        "00:01,000 -> 00:02,500",
        "00:00:01,000 --&gt; 00:00:02,500",
        "00:00:01 --> 00:00:02.5 X1:40 X2:600 Y1:20 Y2:50",
        "00:00:01.000 --> 00:00:02.500 line:90% align:center",
        "00:00:01 ,000 --> 00:00:02 ,500",
    ],
)
def test_time_lines_as_people_write_them(head: str, tmp_path: Path) -> None:
    expected = (SubtitleLine(1.0, 2.5, "words"),)
    assert lines(written(tmp_path / "a.srt", f"1\n{head}\nwords\n"), 9.0) == expected
    assert lines(written(tmp_path / "a.vtt", f"WEBVTT\n\nREGION\nid:a\n\n{head}\nwords\n"), 9.0) == expected


def test_a_line_of_blanks_is_no_end_of_a_cue_in_webvtt(tmp_path: Path) -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\none\n \ntwo\n\n00:03.000 --> 00:04.000\nthree\n"
    assert [line.text for line in lines(written(tmp_path / "a.vtt", text), 9.0)] == ["one two", "three"]


def test_utf16_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(SRT.encode("utf-16"))
    assert lines(Subtitles(str(tmp_path / "a.srt")), 3700.0) == lines(written(tmp_path / "b.srt", SRT), 3700.0)


def test_what_is_told_of_the_lines_names_the_cues_that_are_missing(tmp_path: Path) -> None:
    file = written(tmp_path / "a.srt", SRT + "\n4\n00:00:09,000 --> 00:00:08,000\nno\n")
    video = Video("v.mp4", "f", 3700.0, 25.0, 92500, 64, 48)
    finder = SubtitleFinder(SubtitleChoice.FULL)
    given = finder.find(Question("q", "v.mp4", "What?", subtitles=file), video, video, (2.0,))
    assert len(given.lines) == 3
    assert given.summary().startswith("subtitles full: 3 lines (1 cue left out: line 15: the cue ends at 8 s")
