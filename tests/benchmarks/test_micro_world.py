"""The micro world: every question has one right option, and its evidence is to be seen in the file and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import av
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.benchmarks.micro import MicroBenchmark
from pipeline.benchmarks.micro.questions import KINDS, MicroQuestion
from pipeline.benchmarks.micro.render import COLOR_VALUES, background, frame_at
from pipeline.benchmarks.micro.world import (
    BACKGROUNDS,
    COLORS,
    FPS,
    MAX_DURATION,
    MIN_DURATION,
    SHAPES,
    SIZE,
    UNIT_GAP,
    Plan,
    Scene,
    make_plan,
)
from pipeline.domain import Question
from pipeline.errors import ConfigError, StorageError


def micro(root: Path, **changes: object) -> MicroBenchmark:
    settings = {
        "name": "micro",
        "root": str(root),
        "split": "test",
        "seed": 7,
        "videos": 2,
        "min_minutes": 3.0,
        "max_minutes": 3.5,
        "questions_per_video": 5,
    }
    return MicroBenchmark(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[MicroBenchmark, list[Question]]:
    benchmark = micro(tmp_path_factory.mktemp("micro"))
    return benchmark, list(benchmark.questions())


def decoded(path: str) -> list[npt.NDArray[np.uint8]]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def shows(picture: npt.NDArray[np.uint8], color: str) -> bool:
    """Whether there is a patch of this colour, told apart from the other seven."""
    values = np.array([COLOR_VALUES[name] for name in COLORS])
    distance = np.abs(picture[::2, ::2, None, :].astype(np.int16) - values.astype(np.int16)).max(-1)
    nearest = distance.argmin(-1) == COLORS.index(color)
    return int((nearest & (distance.min(-1) < 45)).sum()) > 40


def plans(count: int) -> list[Plan]:
    return [make_plan(Random(seed), 180, 600) for seed in range(count)]


def test_the_evidence_is_in_the_file_and_the_answer_nowhere_else(
    made: tuple[MicroBenchmark, list[Question]],
) -> None:
    benchmark, questions = made
    for number in range(benchmark.videos):
        plan = benchmark.plan(number)
        mine = [question for question in questions if f"-{number:04d}-" in question.id]
        frames = decoded(mine[0].video)
        assert len(frames) == plan.duration * FPS
        for event in plan.events:
            first, last = round(event.start * FPS), round(event.end * FPS) - 1
            assert shows(frames[first], event.thing.color)
            assert shows(frames[last], event.thing.color)
        by_kind = {question.groups["kind"]: question for question in mine}
        (span,) = by_kind["shape"].evidence or ()
        lone = plan.lone_color.thing.color
        inside = {place for place in range(len(frames)) if span.start <= place / FPS < span.end}
        around = {place for edge in (min(inside), max(inside)) for place in range(edge - FPS, edge + FPS)}
        for place in sorted({*around, *inside, *range(0, len(frames), FPS // 2)}):
            assert shows(frames[place], lone) == (place in inside)
        empty = [
            place for place in range(0, len(frames), 4 * FPS) if not any(e.visible(place / FPS) for e in plan.events)
        ]
        assert not any(shows(frames[place], color) for place in empty for color in COLORS)


def test_what_is_decoded_is_what_was_drawn(made: tuple[MicroBenchmark, list[Question]]) -> None:
    benchmark, questions = made
    plan = benchmark.plan(0)
    frames = decoded(questions[0].video)
    for second in range(0, int(plan.duration), 5):
        drawn = frame_at(plan, float(second)).astype(int)
        assert np.abs(drawn - frames[second * FPS]).mean() < 4


def right_answers(kind: str, question: MicroQuestion, plan: Plan) -> list[bool]:
    """For each option whether it is right, found from the events alone."""
    events = sorted(plan.events, key=lambda event: event.start)
    text = question.text
    if kind == "attribute":
        seen = [event.thing.color for event in events if f"the {event.thing.shape}?" in text]
    elif kind == "shape":
        seen = [event.thing.shape for event in events if f"the {event.thing.color} object?" in text]
    elif kind == "count":
        seen = [str(sum(f"the {event.thing} appear?" in text for event in events))]
    else:
        places = [place for place, event in enumerate(events) if f"the {event.thing}?" in text]
        assert len(places) == 1
        seen = [str(events[places[0] + (1 if kind == "after" else -1)].thing)]
    assert len(seen) == 1
    return [option == seen[0] for option in question.options]


def test_exactly_one_option_is_right(tmp_path: Path) -> None:
    benchmark = micro(tmp_path, videos=150, max_minutes=10.0)
    correct = []
    for number in range(benchmark.videos):
        plan = benchmark.plan(number)
        for question in benchmark.plan_questions(number, plan):
            right = right_answers(question.kind, question, plan)
            assert len(set(question.options)) == 4
            assert right.count(True) == 1
            assert right.index(True) == question.correct
            correct.append(question.correct)
    # no letter is a good guess
    assert all(0.19 < correct.count(letter) / len(correct) < 0.31 for letter in range(4))


def test_events_keep_their_distance_and_stay_in_the_picture() -> None:
    for plan in plans(150):
        chained = {(first, second) for chain in plan.chains for first, second in pairwise(chain)}
        for event in plan.events:
            assert MIN_DURATION <= event.end - event.start <= MAX_DURATION
            assert 0 <= event.start < event.end <= plan.duration
            for x, y in ((event.x, event.y), (event.x + event.dx, event.y + event.dy)):
                assert event.size / 2 <= x <= SIZE - event.size / 2
                assert event.size / 2 <= y <= SIZE - event.size / 2
        for before, after in pairwise(plan.events):
            gap = after.start - before.end
            assert 0 < gap <= 2.0 if (before, after) in chained else gap >= UNIT_GAP
        for first, second in pairwise(plan.counted):
            assert max(abs(first.x - second.x), abs(first.y - second.y)) >= 30


def test_no_background_can_be_taken_for_a_color() -> None:
    for kind in BACKGROUNDS:
        for seed in range(15):
            picture = background(Scene(0.0, kind, seed))
            assert not any(shows(picture, color) for color in COLORS)


def test_the_world_is_not_all_of_one_kind() -> None:
    drawn = plans(200)
    assert {event.thing.shape for plan in drawn for event in plan.events} == set(SHAPES)
    assert {len(plan.counted) for plan in drawn} == {1, 2, 3, 4}
    assert {len(chain) for plan in drawn for chain in plan.chains} == {2, 3}


def test_same_seed_same_bytes_and_other_seed_others(
    made: tuple[MicroBenchmark, list[Question]], tmp_path: Path
) -> None:
    benchmark, questions = made
    again = micro(tmp_path).questions()
    for old, new in zip(questions, again, strict=True):
        assert Path(old.video).read_bytes() == Path(new.video).read_bytes()
        assert (old.id, old.text, old.options, old.correct, old.evidence, old.groups) == (
            new.id,
            new.text,
            new.options,
            new.correct,
            new.evidence,
            new.groups,
        )
    for change in ({"seed": 8}, {"split": "train"}):
        other = micro(tmp_path, **change)
        assert other.plan(0) != benchmark.plan(0)
        assert other.questions()[0].video != questions[0].video


def test_finished_videos_are_reused_and_unfinished_ones_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.benchmarks.micro import mp4

    benchmark = micro(tmp_path, videos=1)

    def interrupted(plan: Plan, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(mp4, "_encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            benchmark.questions()
    assert list(tmp_path.iterdir()) == []
    (video,) = {question.video for question in benchmark.questions()}
    made_at = Path(video).stat().st_mtime_ns
    benchmark.questions()
    assert Path(video).stat().st_mtime_ns == made_at


def test_kinds_take_turns_where_there_are_fewer_questions_than_kinds(tmp_path: Path) -> None:
    benchmark = micro(tmp_path, videos=5, questions_per_video=2)
    kinds = [q.kind for n in range(5) for q in benchmark.plan_questions(n, benchmark.plan(n))]
    assert kinds == [*KINDS, *KINDS]


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"min_minutes": 1.0}, "benchmark.min_minutes"),
        ({"max_minutes": 2.0}, "benchmark.max_minutes"),
        ({"videos": 0}, "benchmark.videos=1"),
        ({"questions_per_video": 6}, "benchmark.questions_per_video"),
    ],
)
def test_settings_that_make_no_benchmark_say_so(tmp_path: Path, change: dict[str, object], remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        micro(tmp_path, **change)
    assert remedy in caught.value.remedy


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError) as caught:
        micro(tmp_path / "file", videos=1).questions()
    assert "benchmark.root" in caught.value.remedy
