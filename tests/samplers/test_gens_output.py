from __future__ import annotations

import json
import random

import pytest
from growth import grows_too_fast

from pipeline.domain import Status
from pipeline.samplers.output import read_scores

RELEASED = '{"11-12": 5, "16-21": 4, "28-30": 4, "46-49": 4, "22-27": 3, "33": 2}'
RELEASED_SCORES = {
    **dict.fromkeys([11, 12], 5),
    **dict.fromkeys([16, 17, 18, 19, 20, 21, 28, 29, 30, 46, 47, 48, 49], 4),
    **dict.fromkeys(range(22, 28), 3),
    33: 2,
}


def test_the_answer_that_the_authors_published() -> None:
    reading = read_scores(RELEASED, frames=51, first_number=0)
    assert reading.scores == RELEASED_SCORES
    assert reading.status is Status.OK
    assert (reading.ignored, reading.clamped) == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{RELEASED}\n```",
        f"```\n{RELEASED}",
        f"The relevant frames are [listed] below:\n\n{RELEASED}\n\nFrames 11-12 show the maid: she leaves at 0:33.",
        RELEASED.replace(": ", ":").replace(", ", ",\n  "),
        RELEASED.replace('"', "'"),
        RELEASED.replace('"', ""),
        RELEASED.replace("{", "{{").replace("}", "}}"),
        RELEASED.replace("}", ",}"),
        RELEASED.replace("}", ""),
        RELEASED.replace("4,", "4").replace("5,", "5"),
        RELEASED.replace("-", " - "),
        RELEASED.replace("-", "–"),  # noqa: RUF001
        RELEASED.replace("-", " to "),
        json.dumps({f"frame {key}": value for key, value in json.loads(RELEASED).items()}),
        json.dumps({f"Frame Number [{key}]": value for key, value in json.loads(RELEASED).items()}),
        json.dumps({f"{key}s": value for key, value in json.loads(RELEASED).items()}),
        json.dumps({key.replace("-", "s - ") + " s": value for key, value in json.loads(RELEASED).items()}),
        json.dumps({f"{key} seconds": value for key, value in json.loads(RELEASED).items()}),
        json.dumps({key.replace("-", ".0-") + ".0": value for key, value in json.loads(RELEASED).items()}),
        json.dumps({"-".join(reversed(key.split("-"))): value for key, value in json.loads(RELEASED).items()}),
        json.dumps({key: str(value) for key, value in json.loads(RELEASED).items()}),
        json.dumps({key: f"{value}/5" for key, value in json.loads(RELEASED).items()}),
        json.dumps({key: float(value) for key, value in json.loads(RELEASED).items()}),
        json.dumps({key: {"score": value} for key, value in json.loads(RELEASED).items()}),
        json.dumps({"scores": json.loads(RELEASED)}),
        json.dumps([[key, value] for key, value in json.loads(RELEASED).items()]),
        json.dumps([[key, value] for key, value in json.loads(RELEASED).items()])[:-1],
        json.dumps([{key: value} for key, value in json.loads(RELEASED).items()]),
        json.dumps([{"timestamp": key, "score": value} for key, value in json.loads(RELEASED).items()]),
        json.dumps({"frames": [{"frame": key, "relevance": value} for key, value in json.loads(RELEASED).items()]}),
        '{"11-12": 5, "16-21, 28-30 and 46-49": 4, "22-27": 3, "33": 2}',
    ],
)
def test_the_same_scores_in_the_forms_that_models_write(text: str) -> None:
    reading = read_scores(text, frames=51, first_number=0)
    assert reading.scores == RELEASED_SCORES
    assert reading.ignored == 0


@pytest.mark.parametrize("end", range(len(RELEASED)))
def test_a_cut_keeps_the_entries_before_it(end: int) -> None:
    """Cut anywhere, no frame gets a score that the whole answer doesn't give it, and none before the cut is lost."""
    reading = read_scores(RELEASED[:end], frames=51, first_number=0)
    assert reading.scores.items() <= RELEASED_SCORES.items()
    complete = RELEASED[:end].count(",") + (end > RELEASED.rindex("2"))
    keys = list(json.loads(RELEASED))[:complete]
    assert {int(key.split("-")[0]) for key in keys} <= set(reading.scores)
    assert reading.status is (Status.OK if reading.scores else Status.NO_SCORES)


@pytest.mark.parametrize(
    ("text", "scores", "ignored", "clamped"),
    [
        ('{"3": 2, "3": 5, "3": 4}', {3: 5}, 0, 0),  # the highest of duplicates, also as equal keys
        ('{"2-4": 3, "3": 5}', {2: 3, 3: 5, 4: 3}, 0, 0),
        ('{"8-12": 4}', {8: 4, 9: 4}, 0, 1),  # the part inside
        ('{"9": 4, "10": 5}', {9: 4}, 1, 0),
        ('{"0-999999999": 1}', dict.fromkeys(range(10), 1), 0, 1),
        ('{"1": 9}', {1: 5}, 0, 1),
        ('{"1": 0.5, "2": 4.5}', {1: 1, 2: 4.5}, 0, 1),
        ('{"1": 0, "2": 3}', {2: 3}, 0, 0),  # 0 says: not relevant
        ('{"1": ' + "9" * 500 + "}", {1: 5}, 0, 1),
        ('{"1": NaN, "2": 3}', {2: 3}, 1, 0),
        ('{"1": true, "2": null, "3": [4], "4": "high", "5": 2}', {5: 2}, 3, 0),
        ('{"0:07": 5, "8": 2}', {8: 2}, 1, 0),  # a clock time is not a frame number
        ('{"-3": 5, "8": 2}', {8: 2}, 1, 0),
        ('{"kitchen": 5, "8": 2}', {8: 2}, 1, 0),
        ('{"' + "1" * 5000 + '": 5, "8": 2}', {8: 2}, 1, 0),
        ('{"1": 5} {"2": 4}', {1: 5, 2: 4}, 0, 0),
        ('<think>{"1": 5} or so</think>{"2": 4}', {2: 4}, 0, 0),
        ('{"1": 5}<think>{"3": 4}', {1: 5}, 0, 0),
        ('{"1": ' + "9" * 5000 + ', "2": 3}', {1: 5, 2: 3}, 0, 1),  # more digits than Python reads
        ('[{"1": 5}, {"2": 4}, {"3"', {1: 5, 2: 4}, 0, 0),
        ("[a] " * 150 + '{"2": 4}', {2: 4}, 0, 0),
        ('{"a":' * 500 + '{"3": 5}' + "}" * 500, {3: 5}, 0, 0),
    ],
)
def test_entries_that_do_not_fit_are_counted(text: str, scores: dict[int, float], ignored: int, clamped: int) -> None:
    reading = read_scores(text, frames=10, first_number=0)
    assert reading.scores == scores
    assert (reading.ignored, reading.clamped) == (ignored, clamped)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("{}", Status.NOTHING_RELEVANT),
        ("```json\n{}\n```", Status.NOTHING_RELEVANT),
        ("[]", Status.NOTHING_RELEVANT),
        ("None of the frames shows a cat: {}", Status.NOTHING_RELEVANT),
        ('{"0-9": 0}', Status.NOTHING_RELEVANT),
        ("", Status.NO_SCORES),
        ("{", Status.NO_SCORES),
        ("I cannot see a cat in these frames.", Status.NO_SCORES),
        ("The maid appears in frames [2, 5] and at 0:07, see [3].", Status.NO_SCORES),
        ("Frame 7: the maid. Frame 8: 2 maids.", Status.NO_SCORES),
        ('{"timestamp": score, ...}', Status.NO_SCORES),
        ('{"300": 5}', Status.NO_SCORES),
        ("[" * 4000, Status.NO_SCORES),
        ("{" * 4000, Status.NO_SCORES),
        ("{" + "1" * 4000, Status.NO_SCORES),
        ('{"a":' * 1200, Status.NO_SCORES),
        ("[1," * 3000, Status.NO_SCORES),
        ('<think>{"3": 5}', Status.NO_SCORES),
    ],
)
def test_outputs_without_scores(text: str, status: Status) -> None:
    reading = read_scores(text, frames=10, first_number=0)
    assert reading.scores == {}
    assert reading.status is status


def test_numbers_start_where_the_prompt_started() -> None:
    reading = read_scores('{"1": 5, "10": 4, "0": 3}', frames=10, first_number=1)
    assert reading.scores == {0: 5, 9: 4}
    assert reading.ignored == 1


def test_no_text_breaks_it_or_leaves_the_window() -> None:
    pieces = ['{"', '"', "}", "[", "]", ": ", ", ", "-", "11", "3", "5", "\n", "frame ", "s", "```", "é", "1e999", "\\"]
    dice = random.Random(0)
    for _ in range(3000):
        text = "".join(dice.choices(pieces, k=dice.randrange(30)))
        reading = read_scores(text, frames=12, first_number=0)
        assert all(0 <= position < 12 and 1 <= score <= 5 for position, score in reading.scores.items()), text


def test_a_text_is_read_in_time_linear_in_its_length() -> None:
    assert not grows_too_fast(lambda text: read_scores(text, 50, 0), heads=("", "{", "[["))


def test_an_error_in_reading_costs_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(key: object) -> list[tuple[int, int]]:
        raise RecursionError

    monkeypatch.setattr("pipeline.samplers.output._spans", breaks)
    assert read_scores('{"3": 5}', 10, 0).status is Status.NO_SCORES
