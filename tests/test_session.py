"""Questions asked from Python."""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from command_line import gens
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from made import write_video
from omegaconf import OmegaConf
from readme_blocks import ROOT

from pipeline import Session, load_runs
from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.artefacts.selections import read_selections
from pipeline.checks import admission
from pipeline.domain import Answer, FrameSource, Question, Relevance, Status, Video
from pipeline.errors import ConfigError, InputError, PipelineError
from pipeline.selection.evenly import Evenly
from pipeline.session.composing import in_python, overrides

OPTIONS = ["red", "blue", "green"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", seconds=6)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENS_CACHE", str(tmp_path / "cache"))


class Later:
    """Scores each candidate by its time, and notes what it was asked."""

    name = "later"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.closed = 0

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "later", "instance": id(self)}

    def query(self, question: Question) -> str:
        return question.text

    def score(self, video: Video, frames: FrameSource, questions: Sequence[Question]) -> list[Relevance]:
        self.asked.append([question.text for question in questions])
        times = tuple(frame.time for frame in frames.frames_at([0.0, 1.0, 2.0, 3.0, 4.0]))
        return [Relevance(question.id, times, tuple(1 + time for time in times)) for question in questions]

    def close(self) -> None:
        self.closed += 1


class Says:
    """Answers with the last word of each question, and notes how many calls are in it at once."""

    name = "says"

    def __init__(self) -> None:
        self.inside = self.most = self.closed = 0

    def limits(self) -> AnswererLimits:
        return AnswererLimits(10**6, 1, None, "not told")

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "says"}

    def capacity(self, request: AnswerRequest) -> int:
        return 100

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        for request in requests:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.005)
            word = request.question.text.split()[-1]
            option = (request.question.options or ()).index(word) if request.question.options else None
            yield Answer(request.question.id, word, option, frame_times=request.times)
            self.inside -= 1

    def close(self) -> None:
        self.closed += 1


def own(**more: Any) -> Session:
    return Session(sampler=Later(), answerer=Says(), **{"selection": {"budget": 2}, **more})


def test_a_question_is_answered_as_gens_ask_does_from_the_same_caches(clip: Path, tmp_path: Path) -> None:
    settings = {"sampler": ("gens_micro", {"max_new_tokens": 8}), "answerer": "qwen2_vl_micro"}
    # Random pictures name nothing, and the whole video is shown instead.
    with Session(**settings, selection=("topk_filled", {"budget": 4}), execution={"decode_workers": 0}) as session:
        result = session.ask(clip, "What color is the square?", OPTIONS)
        assert result.status is Status.OK
        assert result.answer == OPTIONS[result.option or 0]
        assert [frame.image.size for frame in result.frames] == [(64, 64)] * 4
        again = session.answer(session.select(clip, "What color is the square?", OPTIONS))
        assert again.row == result.row
    assert not (tmp_path / "runs").exists()
    done = gens(
        *("ask", f"video={clip}", "question=What color is the square?", "options=[red, blue, green]"),
        *("sampler=gens_micro", "sampler.max_new_tokens=8", "answerer=qwen2_vl_micro"),
        *("selection=topk_filled", "selection.budget=4", "execution.decode_workers=0"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/ask-*")
    answer = json.loads((folder / "answers.jsonl").read_text())
    assert (answer["key"], answer["answer"]["text"]) == (result.row.key, result.text)
    (selection,) = read_selections(folder / "selections.jsonl")
    assert selection.key == result.selected.row.key
    progress = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {each["stage"]: each["cached"] for each in progress if each["event"] == "progress"} == {
        "sampling": 1,
        "answering": 1,
    }


def test_all_questions_of_a_video_are_one_pass_and_come_back_in_their_order(clip: Path) -> None:
    sampler = Later()
    with own() as session:
        session._sampler = sampler
        asked = [{"video": clip, "question": f"Is it {color}", "options": OPTIONS} for color in OPTIONS]
        found = session.ask_many([asked[2], asked[0], asked[2], Question("mine", str(clip), "Say yes")])
        assert session.ask_many([]) == []
    assert sampler.asked == [["Is it green", "Is it red", "Say yes"]]
    assert [result.answer for result in found] == ["green", "red", "green", "yes"]
    assert [(result.option, result.letter) for result in found] == [(2, "C"), (0, "A"), (2, "C"), (None, None)]
    assert [(frame.time, frame.score) for frame in found[0].frames] == [(3.0, 4.0), (4.0, 5.0)]
    assert found[0].selected.scores == tuple((float(time), 1.0 + time) for time in range(5))
    assert str(found[0].timeline()).endswith("2 frames selected: 0:03, 0:04.")
    assert repr(found[0]) == "<Result: ok C. green>"
    with own() as another:
        row = found[0].selected.row
        assert another.answer(row).answer == another.answer(found[0].selected).answer == "green"
        assert another.answer(row).selected.scores == ()


def test_what_a_question_meets_is_its_status(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with own() as session:
        found = session.ask_many(
            [
                {"video": "nowhere.mp4", "question": "Is it red"},
                {"video": "broken.mp4", "question": "Is it red"},
                {"video": clip, "question": "Is it red", "options": ["red"]},
                {"video": clip, "question": "Is it red", "optoins": OPTIONS},
                {"video": clip, "question": "Is it red", "options": OPTIONS, "answer": "red"},
            ]
        )
        assert session.ask(clip, "Is it red", OPTIONS, span=(90, 99)).status is Status.INVALID_QUESTION
    with own(subtitles="full") as session:
        assert session.ask(clip, "Is it red", OPTIONS, subtitles="gone.srt").status is Status.MISSING_SUBTITLES
    assert [each.status.value for each in found] == [
        "missing_video",
        "unreadable_video",
        "invalid_question",
        "invalid_question",
        "ok",
    ]
    assert [each.answer for each in found] == [None, None, None, None, "red"]
    assert all(each.detail for each in found[:4])
    assert "perhaps meant as" in found[3].detail
    assert [each.right for each in found] == [None, None, None, None, True]
    assert all("</iframe>" in each._repr_html_() + each.timeline()._repr_html_() for each in found)


@pytest.mark.parametrize(
    ("given", "key", "python"),
    [
        ({"selection": {"budgt": 3}}, "selection.budget", 'Session(selection={"budget": ...})'),
        ({"selection": {"budget": -3}}, "selection.budget=8", 'Session(selection={"budget": 8})'),
        ({"selection": {"budget": "x"}}, "selection.budget=8", 'Session(selection={"budget": 8})'),
        ({"budget": 3}, "selection.budget", 'Session(selection={"budget": ...})'),
        ({"sampler": "unifrm"}, "uniform", 'Session(sampler="uniform")'),
        ({"answerer": {"prompt": "lettr"}}, "answerer/prompt=lettr", 'Session(answerer={"prompt": "letter"})'),
        ({"subtitles": "all"}, "subtitles=at_frames", 'Session(subtitles="at_frames")'),
        ({"execution": "local"}, "execution=inline", 'Session(execution="inline")'),
        (
            {"execution": {"overlap_stages": True}},
            "execution.overlap_stages=false",
            'Session(execution={"overlap_stages": False})',
        ),
        (
            {"answerer": ("qwen2_vl_micro", {"checkpoint": {"source": "/nowhere"}})},
            "answerer.checkpoint.source=...",
            'Session(answerer={"checkpoint": {"source": ...}})',
        ),
        ({"answerer": object()}, "answerer=...", "Session(answerer=...)"),
        (
            {"selection": "lohi", "answerer": "llava_onevision_micro"},
            "takes all frames in one size",
            'Session(answerer="qwen2_5_vl_7b")',
        ),
        ({"video": "clip.mp4"}, "video", "session.ask(..., video=...)"),
    ],
)
def test_a_wrong_setting_is_told_by_its_key_and_in_python(given: dict[str, Any], key: str, python: str) -> None:
    before = GlobalHydra.instance().hydra
    with pytest.raises(PipelineError) as caught:
        Session(**{"sampler": "uniform", "answerer": Says(), **given})
    assert key in str(caught.value)
    assert python in str(caught.value)
    assert GlobalHydra.instance().hydra is before


def test_models_that_fit_one_after_the_other_and_not_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(admission.this_machine(), memory=30 << 20, gpus=())
    monkeypatch.setattr(admission, "this_machine", lambda: small)
    models = {"sampler": "gens_micro", "answerer": "qwen2_vl_micro"}
    with pytest.raises(ConfigError, match=r"the weights of .*gens_micro.*qwen2_vl_micro take 0.0 GiB"):
        Session(**models)
    for name, model in models.items():
        Session(**{"sampler": "uniform", "answerer": Says(), name: model}).close()


def test_the_words_of_a_command_line_are_made_of_nested_settings() -> None:
    places = {"sampler": "sampler", "sampler.second": "sampler@sampler.second", "answerer.prompt": "answerer/prompt"}
    second = {"second": ("gens_micro", {"window": {"frames": 8}}), "keep": 64}
    assert overrides("sampler", ("hybrid", second), places) == [
        "sampler=hybrid",
        "sampler@sampler.second=gens_micro",
        "sampler.second.window.frames=8",
        "sampler.keep=64",
    ]
    nested = {"prompt": "letter", "frame_size": (56, 56), "+extra_body": {"seed": 1}, "label": "it's, {a}"}
    assert overrides("answerer", nested, places) == [
        "answerer/prompt=letter",
        "answerer.frame_size=[56,56]",
        "+answerer.extra_body={seed: 1}",
        r"answerer.label='it\'s, {a}'",
    ]
    assert overrides("over_limit", "keep_best", places) == ["over_limit='keep_best'"]
    assert in_python("", "set sampler.frame.height=56 sampler.frame.width=60, or selection=topk.") == (
        '\n  in Python: Session(sampler={"frame": {"height": 56, "width": 60}}) or Session(selection="topk")'
    )


def test_a_policy_that_looks_at_no_scores_lets_no_sampler_run(clip: Path) -> None:
    class Never(Later):
        def score(self, *given: Any) -> Any:
            raise AssertionError("it ran")

    even = Evenly(name="even", budget=2, uniform="midpoint")
    as_settings = ("uniform", {"budget": 2, "uniform": "midpoint"})
    for sampler, selection in ((Never(), as_settings), ("siglip", even), ("siglip", as_settings)):
        with Session(sampler, Says(), selection) as session:
            assert session.parts["sampler"] == "uniform"
            result = session.ask(str(clip), "is it red or blue", ["red", "blue"])
            assert (result.status, len(result.frames), result.frames[0].time > 0) == ("ok", 2, True)


def test_models_are_freed_at_the_end_also_after_an_exception(clip: Path) -> None:
    sampler, answerer = Later(), Says()

    def failing() -> None:
        with Session(sampler=sampler, answerer=answerer, selection={"budget": 2}) as session:
            kept.append(session.ask(clip, "Is it red", OPTIONS))
            kept.append(session)
            raise KeyError

    kept: list[Any] = []
    with pytest.raises(KeyError):
        failing()
    result, session = kept
    assert (sampler.closed, answerer.closed) == (1, 1)
    session.close()
    assert (sampler.closed, answerer.closed) == (1, 1)
    with pytest.raises(InputError, match="is closed"):
        session.ask(clip, "Is it red", OPTIONS)
    assert result.frames[1].image.size == (64, 64)


def test_an_interrupt_leaves_the_session_usable(clip: Path) -> None:
    class Interrupted(Says):
        def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
            for answer in super().answer(requests, batch):
                if answer.text == "stop":
                    raise KeyboardInterrupt
                yield answer

    with Session(sampler=Later(), answerer=Interrupted(), selection={"budget": 2}) as session:
        with pytest.raises(KeyboardInterrupt):
            session.ask(clip, "Please stop")
        assert session.ask(clip, "Please go").answer == "go"


def test_questions_that_cannot_go_together_are_refused(clip: Path) -> None:
    with own() as session:
        with pytest.raises(InputError, match="two questions have the id 'a'"):
            session.ask_many([{"video": clip, "question": f"{text}", "id": "a"} for text in ("one", "two")])
        with pytest.raises(ConfigError, match=re.escape('Session(subtitles="at_frames")')):
            session.ask(clip, "Is it red", subtitles="clip.srt")
        assert session.ask(clip, "Is it red", OPTIONS).answer == "red"


def test_threads_take_turns_and_each_gets_its_own_answers(clip: Path) -> None:
    answerer = Says()
    found: dict[str, Any] = {}

    def ask(word: str) -> None:
        result = session.ask(clip, f"Is it {word}")
        found[word] = (result.answer, result.frames[0].image.size)

    with Session(sampler=Later(), answerer=answerer, selection={"budget": 2}) as session:
        threads = [threading.Thread(target=ask, args=(f"color{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {f"color{number}": (f"color{number}", (64, 64)) for number in range(8)}
    assert answerer.most == 1


@pytest.fixture
def app_of_the_caller(tmp_path: Path) -> Iterator[None]:
    """A running app with a configuration, a resolver and a job of its own."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "app.yaml").write_text("value: ${theirs:1}\n")
    kept = HydraConfig.instance().cfg
    with ExitStack() as stack:
        stack.callback(setattr, HydraConfig.instance(), "cfg", kept)
        stack.enter_context(initialize_config_dir(str(tmp_path / "theirs"), version_base="1.3"))
        OmegaConf.register_new_resolver("theirs", lambda number: f"theirs {number}", replace=True)
        OmegaConf.register_new_resolver("oc.env", lambda name: f"their {name}", replace=True)
        HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"job": {"num": 3}}})
        yield


@pytest.mark.usefixtures("app_of_the_caller")
def test_a_running_app_of_the_caller_is_left_as_found(clip: Path) -> None:
    theirs, job = GlobalHydra.instance(), HydraConfig.instance().cfg
    hydra, plugins = theirs.hydra, list(Plugins.instance().class_name_to_class)
    instances = dict(Singleton._instances)
    with own() as session:
        assert session._context.has_store is False  # their sweep is not ours
        assert session.ask(clip, "Is it red", OPTIONS).answer == "red"
    assert GlobalHydra.instance() is theirs
    assert theirs.hydra is hydra
    assert HydraConfig.instance().cfg is job
    assert Singleton._instances == instances
    assert list(Plugins.instance().class_name_to_class) == plugins
    assert compose("app").value == "theirs 1"
    assert OmegaConf.create({"home": "${oc.env:HOME}"}).home == "their HOME"


def test_a_run_is_kept_only_where_it_is_asked_for_and_goes_on(clip: Path, tmp_path: Path) -> None:
    for words in (["red", "green"], ["green", "blue"]):
        with own(run="mine") as session:
            with pytest.raises(PipelineError, match="another process is using"):
                own(run="mine")
            session.ask_many([{"video": clip, "question": f"Is it {word}", "options": OPTIONS} for word in words])
            if "blue" not in words:
                assert session.ask(clip, "Is it green", OPTIONS, answer="green").right
    with own(run=tmp_path / "runs" / "other") as session:
        session.ask("nowhere.mp4", "Is it red", OPTIONS, answer="red")
    command = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())["command"]
    assert command == "Session(sampler=Later(...), selection={'budget': 2}, answerer=Says(...), run='mine')"
    done = gens("report", "runs=runs", "target=page", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = load_runs("runs")
    table = loaded.sort_values("run", kind="stable")
    assert list(table["question"]) == ["Is it red", "Is it green", "Is it blue", "Is it red"]
    assert list(table["option"])[:3] == ["A", "C", "B"]
    assert list(table["status"]) == ["ok", "ok", "ok", "missing_video"]
    # What is asked again without its right option keeps it, and a failure counts as wrong.
    assert list(table["right"]) == [None, True, None, False]
    assert table["times"].iloc[0] == [3.0, 4.0]
    assert list(loaded["scales"]) == [None] * 4
    with (tmp_path / "page" / "questions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == tuple(loaded.columns)
    for name in ("run", "id", "question", "option", "status", "text"):
        assert [row[name] for row in rows] == list(loaded[name].fillna(""))
    assert [json.loads(row["times"]) for row in rows] == list(loaded["times"])


def test_a_card_needs_nothing_else_and_shows_what_others_wrote_as_text(clip: Path) -> None:
    with own() as session:
        result = session.ask(clip, "</iframe><script>alert(1)</script> is it red", OPTIONS)
        shown = result._repr_html_()
    assert re.findall(r"</?(\w+)", shown) == ["iframe", "iframe"]
    assert " sandbox " in shown
    page = unescape(re.findall(r'srcdoc="([^"]*)"', shown)[0])
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r"<script|https?://|src=\"(?!data:)|url\(", page)
    assert "red" in page
    assert "0:03" in page


def test_importing_the_package_is_light_and_a_script_needs_no_main_guard(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "import pipeline\n"
        "from pipeline import Session\n"
        "assert not {'torch', 'hydra', 'pandas'} & set(sys.modules)\n"
        "session = Session(sampler='uniform', answerer='qwen2_vl_micro', selection={'budget': 2},\n"
        "                  execution={'decode_workers': 1})\n"
        "assert 'torch' not in sys.modules\n"
        f"selected = session.select({str(clip)!r}, 'Is it red?')\n"
        "print(len(selected.frames), selected.frames[1].image.size)\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "2 (64, 64)\n"), done.stderr


NOTEBOOK = ROOT / "scripts" / "ask_your_video.ipynb"


def displayed(source: str, names: dict[str, Any]) -> Any:
    """Execute a cell as a kernel does; the value of a last expression."""
    cell = ast.parse(source)
    last = cell.body.pop() if isinstance(cell.body[-1], ast.Expr) else None
    exec(compile(cell, NOTEBOOK.name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)


def test_the_notebook_runs_from_top_to_bottom_and_holds_no_outputs(clip: Path, tmp_path: Path) -> None:
    written = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (written["nbformat"], written["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in written["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    sources = ["".join(cell["source"]) for cell in cells]
    # Seconds of a clip in place of the minutes of the demo's video.
    sources[0], replaced = re.subn(r'^VIDEO = ".*"$', f"VIDEO = {str(clip)!r}", sources[0], flags=re.MULTILINE)
    assert replaced == 1
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [displayed(source, names) for source in sources]
    kinds = [type(value).__name__ for value in shown if value is not None]
    assert kinds == ["Result", "tuple", "Drawing", "list", "list", "list", "Result", "str", "DataFrame"]
    assert all(value._repr_html_() for value in shown if hasattr(value, "_repr_html_"))
    assert [str(status) for _, _, status in shown[-4]] == [str(shown[3][2])] * 3
    assert list(shown[-1]["status"])[-2:] == ["missing_video", str(shown[3][2])]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"notebook"}
