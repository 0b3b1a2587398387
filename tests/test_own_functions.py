"""Functions of a user's own as sampler, answerer and policy: what they are given, and what a failure of one costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import gens, gens_apart
from hydra import compose, initialize_config_dir
from made import write_video
from rows_on_disk import rows_of

import pipeline
from pipeline.answerers import AnswerRequest
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Answer, Frame, Question, Relevance, Selection, Status, Video
from pipeline.errors import CheckpointError, ConfigError, FunctionError
from pipeline.functions import UserFunction
from pipeline.identity import identity_of
from pipeline.selection.function import FunctionChoice
from pipeline.selection.policy import Policy

QUESTIONS = {"one": "What is blue?", "two": "What is red?"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_video(tmp_path / "clip.mp4")
    asked = [
        {"id": name, "video": "clip.mp4", "question": text, "options": ["sky", "sea", "ink"], "answer": "B"}
        for name, text in QUESTIONS.items()
    ]
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def package(home: Path, code: str) -> str:
    """Write a package of a name that no other test has imported."""
    name = f"own_{abs(hash(str(home)))}"
    (home / name).mkdir(exist_ok=True)
    (home / name / "__init__.py").write_text(code)
    return name


def evaluate(home: Path, code: str, *words: str) -> tuple[int, str, Path]:
    """Exit code, standard error and run folder of an evaluation with the functions in ``code``."""
    name = package(home, code)
    given = (
        *("evaluate", "benchmark=jsonl", "benchmark.path=q.jsonl", f"plugins=[{name}]"),
        *(("sampler=function", f"sampler.function={name}.score") if "def score" in code else ("sampler=uniform",)),
        *("answerer=function", f"answerer.function={name}.answer"),
        *(("selection=function", f"selection.choice.function={name}.choose") if "def choose" in code else ()),
        *(word.replace("NAME", name) for word in words),
    )
    done = gens(*given, cwd=home)
    folders = list(home.glob("runs/*/"))
    return done.returncode, done.stderr, folders[0] if folders else home


ANSWER = "def answer(question, frames):\n    return 'B'\n"


def answers(folder: Path) -> dict[str, Answer]:
    return {row.question.id: row.answer for row in rows_of(AnswerRow, folder / "answers.jsonl")}


def relevances(folder: Path) -> dict[str, Relevance]:
    return {row.question.id: row.relevance for row in rows_of(RelevanceRow, folder / "relevance.jsonl")}


def selections(folder: Path) -> dict[str, Selection]:
    return {row.question.id: row.selection for row in rows_of(SelectionRow, folder / "selections.jsonl")}


# ---------------------------------------------------------------------------------------------- what they are given


def test_the_three_functions_are_given_what_is_promised(home: Path) -> None:
    code = (
        "import numpy as np\n"
        "BATCHES = []\n"
        "def score(question, frames):\n"
        "    BATCHES.append((question, [time for time, _ in frames]))\n"
        "    assert all(pixels.dtype == np.uint8 and pixels.shape[2] == 3 for _, pixels in frames)\n"
        "    return np.array([[time, -time]['red' in question] for time, _ in frames], np.float32)\n"
        "def choose(times, scores, count):\n"
        "    return sorted(np.argsort(-scores)[:count])[::-1]\n"
        "ASKED = []\n"
        "def answer(question, frames):\n"
        "    ASKED.append((question, [frame.time for frame in frames]))\n"
        "    return 'The answer is B.'\n"
    )
    rc, said, folder = evaluate(home, code, "sampler.fps=4", "sampler.batch_size=3", "selection.budget=2")
    assert rc == 0, said
    own = __import__(package(home, code))
    times = relevances(folder)["one"].times
    assert len(times) > 6
    for text in QUESTIONS.values():
        batches = [seconds for question, seconds in own.BATCHES if question == text]
        assert [second for batch in batches for second in batch] == [*times]
        assert {len(batch) for batch in batches[:-1]} == {3}
    assert relevances(folder)["two"].scores == pytest.approx([-time for time in times])
    chosen = {name: tuple(frame.time for frame in one.frames) for name, one in selections(folder).items()}
    assert chosen == {"one": times[-2:], "two": times[:2]}
    assert {(question.splitlines()[0], tuple(seconds)) for question, seconds in own.ASKED} == {
        (QUESTIONS[name], seconds) for name, seconds in chosen.items()
    }
    assert "B. sea" in own.ASKED[0][0]
    given = answers(folder)["one"]
    assert (given.option, given.frame_times) == (1, chosen["one"])


def test_a_model_is_loaded_once_given_to_each_call_and_closed(home: Path) -> None:
    code = (
        "EVENTS = []\n"
        "class Model:\n"
        "    def close(self): EVENTS.append('closed')\n"
        "def load(size): EVENTS.append(f'loaded {size}'); return Model()\n"
        "def answer(question, frames, model, letter='A'):\n"
        "    EVENTS.append(type(model).__name__); return letter\n"
    )
    words = ("answerer.load=NAME.load", "+answerer.settings={size: 7, letter: C}")
    rc, said, folder = evaluate(home, code, *words)
    assert rc == 0, said
    assert __import__(package(home, code)).EVENTS == ["loaded 7", "Model", "Model", "closed"]
    assert {one.option for one in answers(folder).values()} == {2}


def test_calls_at_once_overlap(home: Path) -> None:
    code = (
        "from threading import Barrier\n"
        "BOTH = Barrier(2, timeout=60)\n"
        "def answer(question, frames):\n"
        "    BOTH.wait(); return 'B'\n"
    )
    rc, said, folder = evaluate(home, code, "answerer.calls_at_once=2", "execution.answer_batch=4")
    assert rc == 0, said
    assert len(answers(folder)) == 2


# ------------------------------------------------------------------------------------------------ what failures cost


def test_an_exception_costs_its_question_and_says_where(home: Path) -> None:
    code = (
        "def score(question, frames):\n"
        "    if 'red' in question:\n"
        "        raise ValueError('no\\nsuch colour')\n"
        "    return [1.0] * len(frames)\n"
        "def answer(question, frames):\n"
        "    return ['B'][1]\n"
    )
    rc, said, folder = evaluate(home, code)
    assert rc == 1, said
    assert relevances(folder)["one"].status is Status.OK
    failed = relevances(folder)["two"]
    assert failed.status is Status.INVALID_OUTPUT
    assert ".score raised ValueError: no such colour (__init__.py, line 3)" in failed.detail
    assert "what to do: correct it" in failed.detail
    assert {one.status for one in answers(folder).values()} == {Status.INVALID_OUTPUT}
    assert ".answer raised IndexError: list index out of range (__init__.py, line 6)" in answers(folder)["one"].detail
    log = (folder / "gens.log").read_text()
    assert log.count("Traceback (most recent call last)") == 2
    assert "raise ValueError('no\\nsuch colour')" in log


def test_what_a_failed_call_held_is_let_go(home: Path) -> None:
    """Its tensors may fill a device that the next question needs."""
    code = (
        "import weakref\n"
        "class Tensor: pass\n"
        "HELD = []\n"
        "def score(question, frames):\n"
        "    assert not any(held() for held in HELD)\n"
        "    tensor = Tensor(); HELD.append(weakref.ref(tensor))\n"
        "    if 'blue' in question: raise ValueError('blue')\n"
        "    return [1.0] * len(frames)\n"
        "def answer(question, frames):\n"
        "    return 'B'\n"
    )
    _, _, folder = evaluate(home, code)
    assert {name: one.status for name, one in relevances(folder).items()} == {"one": "invalid_output", "two": "ok"}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("[1.0, float('nan')] + [0.0] * (len(frames) - 2)", "finite numbers, one for each frame"),
        ("[1.0]", "returned [1.0] (list) instead of"),
        ("None", "returned None (NoneType) instead of"),
        ("__import__('sys').exit(3)", ".score raised SystemExit: 3 (__init__.py, line 2)"),
        ("['high'] * len(frames)", "numbers, one for each frame"),
        ("[[1.0]] * len(frames)", "numbers, one for each frame"),
        ("[pixels.fill(0) for _, pixels in frames]", "assignment destination is read-only"),
    ],
)
def test_scores_that_are_none_are_invalid_output(home: Path, result: str, told: str) -> None:
    rc, _, folder = evaluate(home, f"def score(question, frames):\n    return {result}\n{ANSWER}")
    assert rc == 1
    for one in relevances(folder).values():
        assert one.status is Status.INVALID_OUTPUT
        assert told in one.detail
        assert one.scores == ()


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("[0, 0]", "returned [0, 0] (list) instead of at most 2 different positions from 0 to "),
        ("[-1]", "instead of at most 2"),
        ("[10_000]", "instead of at most 2"),
        ("[0, 1, 2]", "instead of at most 2"),
        ("[0.5]", "instead of at most 2"),
        ("None", "returned None"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_positions_that_are_none_are_invalid_output(home: Path, result: str, told: str) -> None:
    code = "def score(question, frames):\n    return [1.0] * len(frames)\n"
    code += f"def choose(times, scores, count):\n    return {result}\n{ANSWER}"
    rc, _, folder = evaluate(home, code, "sampler.fps=4", "selection.budget=2", "selection.fallback=uniform")
    assert rc == 1
    for one in selections(folder).values():
        assert (one.status, one.frames) == (Status.INVALID_OUTPUT, ())
        assert told in one.detail
    assert {one.status for one in answers(folder).values()} == {Status.INVALID_OUTPUT}


def test_an_answer_that_is_no_text_is_invalid_output(home: Path) -> None:
    rc, _, folder = evaluate(home, "def answer(question, frames):\n    return 1\n")
    assert rc == 1
    assert {one.status for one in answers(folder).values()} == {Status.INVALID_OUTPUT}
    assert "returned 1 (int) instead of a text" in answers(folder)["one"].detail


def test_more_frames_than_a_function_takes_are_refused_or_cut(home: Path) -> None:
    words = ("answerer.max_frames=2", "selection.budget=4")
    rc, said, _ = evaluate(home, ANSWER, *words)
    assert rc == 2
    assert "context of unknown length, and 2 frames at most" in said
    assert "selection.budget=2" in said
    rc, said, folder = evaluate(home, ANSWER, *words, "over_limit=keep_best")
    assert rc == 0, said
    assert {len(one.frame_times) for one in answers(folder).values()} == {2}


def test_a_question_with_more_frames_than_a_function_takes_is_not_asked() -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["answerer=function", "answerer.function=user_functions.answer", "answerer.max_frames=1"]
        answerer = build(compose("evaluate", words).answerer, "answerer", ["user_functions"])
    video = Video("clip.mp4", "f", 10.0, 1.0, 10, 4, 4)
    frames = tuple(Frame(float(second), second, np.zeros((4, 4, 3), np.uint8)) for second in range(2))
    question = Question("q", "clip.mp4", "what?", ("a", "b"))
    asked = [AnswerRequest(question, video, frames), AnswerRequest(replace(question, id="r"), video, frames[:1])]
    refused, given = answerer.answer(iter(asked), 2)
    assert refused.status is Status.CONTEXT_EXCEEDED
    assert "Try selection.budget=1" in refused.detail
    assert (given.status, given.option) == (Status.OK, 0)
    scaled = replace(asked[1], frames=(replace(frames[0], scale=0.5),))
    (unscaled,) = answerer.answer(iter([scaled]), 1)
    assert unscaled.status is Status.UNSUPPORTED
    assert "The selection scales its frames" in unscaled.detail


def test_a_model_that_cannot_be_loaded_ends_the_command(home: Path) -> None:
    code = f"def load():\n    raise OSError('no such checkpoint')\n{ANSWER.replace('frames)', 'frames, model)')}"
    rc, said, folder = evaluate(home, code, "answerer.load=NAME.load")
    assert rc == 2
    assert ".load raised OSError: no such checkpoint (__init__.py, line 2)" in said
    assert "Traceback" in (folder / "gens.log").read_text()


def test_memory_that_runs_out_is_a_status_of_its_own() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch names its own."""

    def answer(question: str) -> str:
        raise OutOfMemoryError("tried to allocate")

    with pytest.raises(FunctionError) as caught:
        UserFunction("answerer", answer, {}, None, ("question",))("what?")
    assert caught.value.status is Status.OUT_OF_MEMORY


# ------------------------------------------------------------------------------------------------------- their settings


def with_settings(frames: Any, detail: int, *, size: int = 3) -> None: ...
def loaded_with(checkpoint: str, size: int = 1) -> str:
    return f"{checkpoint} {size}"


def with_model(frames: Any, model: str, detail: int = 2) -> tuple[str, int]:
    return model, detail


@pytest.mark.parametrize(
    ("function", "settings", "load", "told"),
    [
        (with_settings, {"detial": 1}, None, "sampler.settings.detial is not an argument of"),
        (with_settings, {}, None, "sampler.settings.detail is missing"),
        (with_settings, {"detail": 1, "frames": 2}, None, "sampler.settings.frames is not an argument of"),
        (with_model, {}, loaded_with, "sampler.settings.checkpoint is missing"),
        (with_model, {"checkpoint": "a", "model": 1}, loaded_with, "sampler.settings.model is not an argument of"),
        (with_settings, {"detail": 1, "checkpoint": "a"}, loaded_with, "has no argument model"),
        (lambda: 1, {}, None, "does not take frames"),
    ],
)
def test_a_setting_that_no_function_takes_is_refused_before_a_run(
    function: Any, settings: Mapping[str, Any], load: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        UserFunction("sampler", function, settings, load, ("frames",))


def test_a_setting_goes_to_whichever_function_has_an_argument_of_its_name() -> None:
    call = UserFunction("sampler", with_model, {"checkpoint": "a", "size": 5, "detail": 7}, loaded_with, ("frames",))
    assert call([]) == ("a 5", 7)

    def any_settings(frames: Any, **settings: Any) -> Any:
        return settings

    assert UserFunction("sampler", any_settings, {"a": 1}, None, ("frames",))([]) == {"a": 1}


def test_a_function_that_raises_an_error_of_ours_ends_the_command() -> None:
    def broken(frames: Any) -> None:
        raise CheckpointError("no weights", "fetch them")

    with pytest.raises(CheckpointError, match="no weights"):
        UserFunction("sampler", broken, {}, None, ("frames",))([])


def test_adapters_are_made_from_functions_in_python() -> None:
    choice = pipeline.FunctionChoice(function=lambda times, scores, count: np.arange(count), settings={})
    policy = Policy("mine", 2, choice, "spread", "named", "none", "none", "linspace")
    video = Video("clip.mp4", "f", 10.0, 1.0, 10, 64, 64)
    given = Relevance("q", (0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 2.0, 3.0))
    assert [frame.time for frame in policy.select(given, video).frames] == [1.0, 2.0]
    assert issubclass(pipeline.FunctionChoice, FunctionChoice)
    assert pipeline.FunctionSampler.__name__ == "FunctionSampler"
    assert pipeline.FunctionAnswerer.__name__ == "FunctionAnswerer"
    with pytest.raises(AttributeError):
        _ = pipeline.FunctionReader  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- their identity


def test_settings_and_function_are_identity() -> None:
    def choice(function: Any, **settings: Any) -> dict[str, Any]:
        return identity_of(FunctionChoice(function, settings))

    def taking(times: Any, scores: Any, count: int, apart: float = 1.0) -> list[int]:
        return []

    def other(times: Any, scores: Any, count: int, apart: float = 1.0) -> list[int]:
        return []

    found = [choice(taking), choice(taking, apart=2.0), choice(taking, apart=3.0), choice(other)]
    assert len({json.dumps(one) for one in found}) == 4
    assert choice(taking) == choice(taking)


def test_a_changed_line_is_computed_again_and_nothing_else_is(home: Path) -> None:
    code = "def score(question, frames):\n    open('CALLS', 'a').write('x')\n    return [1.0] * len(frames)\n"
    name = package(home, code)

    def calls(*words: str) -> int:
        (home / "CALLS").unlink(missing_ok=True)
        done = gens_apart(
            *(
                "sample",
                "benchmark=jsonl",
                "benchmark.path=q.jsonl",
                "sampler=function",
                f"sampler.function={name}.score",
            ),
            *(f"plugins=[{name}]", *words),
            cwd=home,
            PYTHONPATH=f"{Path(__file__).parent.parent}:{home}",
        )
        assert done.returncode == 0, done.stderr
        return len((home / "CALLS").read_text()) if (home / "CALLS").exists() else 0

    assert calls() == 2
    assert calls() == 0
    assert calls("selection.budget=3") == 0
    package(home, code.replace("1.0", "2.0"))
    assert calls() == 2
    assert calls("sampler.batch_size=1000") == 2
