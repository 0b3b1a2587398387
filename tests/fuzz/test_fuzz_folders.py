"""The files of run folders and caches, and those of the user's settings, damaged in any way."""

from __future__ import annotations

import io
import json
import os
import time
import zlib
from collections.abc import Callable
from contextlib import chdir, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from fuzzing import Parser, slow_growth, survives
from made import write_video

from pipeline.answerers.openai_replies import Reply, ReplyStore
from pipeline.artefacts.cache import AnswerCache, RelevanceCache
from pipeline.artefacts.features import Features, FeatureStore
from pipeline.artefacts.folder import read_questions, sibling_questions
from pipeline.artefacts.journal import Journal, read_rows
from pipeline.artefacts.rows import AnswerRow, QuestionRow, RelevanceRow, SelectionRow, to_line
from pipeline.artefacts.selections import read_selections
from pipeline.artefacts.store import ContentStore
from pipeline.artefacts.stored import StoredRows
from pipeline.checks.past import _config
from pipeline.commands.config_folders import project
from pipeline.commands.outcome import JobStatus, Outcome, write_outcome
from pipeline.commands.record import record_end
from pipeline.commands.run_state import read_state
from pipeline.commands.status import _lines
from pipeline.domain import Answer, FrameOrigin, Question, Relevance, SelectedFrame, Selection, Video
from pipeline.errors import CrashedVideoError
from pipeline.execution.candidates import _END, _MARK, CandidateStore
from pipeline.execution.crashes import Crashes
from pipeline.families.loading.contents import Notes
from pipeline.reports.runs import read_run
from pipeline.trust import trusted_packages
from pipeline.video import remembering
from pipeline.video.kept import scan_bytes
from pipeline.video.remembering import RememberingReader, _known_scan
from pipeline.video.scan import scan

KEY = "0123456789abcdef"
QUESTION = Question("a", "v.mp4", "What?", ("red", "blue"), 0, {"kind": "S2E"})
ASKED = {"a": QUESTION}
VIDEO = Video("v.mp4", "seen", 100.0, 25.0, 2500, 64, 48)
RELEVANCE = Relevance("a", (0.0, 1.0), (5.0, 0.5), (0, 25))
SELECTION = Selection("a", (SelectedFrame(1.0, 25, 0.5, FrameOrigin.SAMPLER),), "topk", 8)
ANSWER = Answer("a", "B", 1, frame_times=(1.0,))
ROWS = {
    RelevanceRow: to_line(RelevanceRow("k", "s", QUESTION, VIDEO, RELEVANCE)),
    SelectionRow: to_line(SelectionRow("k", "s", QUESTION, VIDEO, SELECTION)),
    AnswerRow: to_line(AnswerRow("k", "s", "w", QUESTION, ANSWER)),
}


def of(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def rows(kind: Any) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        for row in read_rows(kind, path, ASKED):
            assert to_line(row)

    return read


def stored(path: Path) -> None:
    assert len(list(StoredRows.opened(AnswerRow, path, ASKED))) <= 2


def journal(path: Path) -> None:
    """Opened as by the next command, which appends."""
    with Journal(AnswerRow, path) as opened:
        row = AnswerRow("new", "s", "w", QUESTION, ANSWER)
        opened.find(QUESTION, "k")
        opened.append(row)
        assert opened.find(QUESTION, "new") == row


def with_index(path: Path) -> None:
    """The index beside a journal."""
    beside = path.with_suffix("")
    beside.write_bytes(ROWS[AnswerRow] * 2)
    with Journal(AnswerRow, beside) as opened:
        opened.find(QUESTION, "k")


def index() -> bytes:
    lines = ROWS[AnswerRow] * 2
    place = {"key": "k", "offset": len(lines) // 2, "length": len(lines) // 2}
    about = {"kind": "gens/answer/2", "size": len(lines), "modified": 0, "crc": zlib.crc32(lines), "lines": 2}
    return json.dumps({**about, "outdated": 0, "places": {"a": place}, "schema": "gens/index/1"}).encode()


def selections(path: Path) -> None:
    for row in read_selections(path):
        assert to_line(row)


def questions(path: Path) -> None:
    read_questions(path.parent)
    sibling_questions(path.with_name("answers.jsonl"))


def whole_run(path: Path) -> None:
    """As ``gens report`` reads it, with the damaged file among others that are whole."""
    for kind, name in ((RelevanceRow, "relevance"), (SelectionRow, "selections"), (AnswerRow, "answers")):
        (path.parent / f"{name}.jsonl").write_bytes(ROWS[kind])
    found = read_run(path.parent, "run")
    assert found.budget is None or isinstance(found.budget, int)
    assert all(isinstance(word, str) for word in (found.benchmark, found.selection, found.sampler, found.answerer))


def state(path: Path) -> None:
    """As ``gens status`` and ``gens runs`` read it."""
    now = time.time()
    found = read_state(path.parent, now)
    assert all(line.isprintable() or line for line in _lines(found, now))
    json.dumps(found.content(), default=str)


def ended(path: Path) -> None:
    record_end(path.parent)
    state(path)


def cached(kept: Callable[[Path], Any]) -> Callable[[Path], None]:
    """The entry of a cache, which is put in the place of a whole one."""

    def read(path: Path) -> None:
        cache = path.parent / path.stem
        find = kept(cache)
        (entry,) = (each for each in cache.rglob("*") if each.is_file())
        entry.write_bytes(path.read_bytes())
        find()

    return read


def relevances(folder: Path) -> Callable[[], Any]:
    RelevanceCache(folder).keep(KEY, RELEVANCE)
    return lambda: RelevanceCache(folder).find(KEY, "a")


def answers(folder: Path) -> Callable[[], Any]:
    AnswerCache(folder).keep(KEY, ANSWER)
    return lambda: AnswerCache(folder).find(KEY, "a")


def replies(folder: Path) -> Callable[[], Any]:
    ReplyStore(folder).keep(KEY, Reply("B", "stop", "", 10, 1))
    return lambda: ReplyStore(folder).find(KEY)


def features(folder: Path) -> Callable[[], Any]:
    FeatureStore(folder).keep(KEY, Features((0.0, 1.0), np.eye(2, 4, dtype=np.float32)))
    return lambda: FeatureStore(folder).find(KEY)


def notes(folder: Path) -> Callable[[], Any]:
    Notes(folder).keep("found", "about")
    return lambda: Notes(folder).find("about")


def crash(folder: Path) -> Callable[[], Any]:
    Crashes(folder, "auto", False, 20.0).note("seen", "hung", 10.0)

    def find() -> None:
        with suppress(CrashedVideoError):
            Crashes(folder, "auto", False, 5.0).check("seen", "v.mp4")

    return find


def scans(path: Path) -> None:
    store = ContentStore(path.parent, ".npz")
    (path.parent / KEY[:2]).mkdir(exist_ok=True)
    (path.parent / KEY[:2] / f"{KEY}.npz").write_bytes(path.read_bytes())
    _known_scan(store, KEY, Path("v.mp4"), Path("v.mp4"))


def probes(path: Path) -> None:
    film = path.with_name("film.mp4")
    film.write_bytes(b"x")
    reader = RememberingReader("test", "pyav", 1, 1.0, path.parent / "store")
    key = remembering._key(film, 1.0)
    assert key
    ContentStore(path.parent / "store" / "probes", ".json").keep(key, path.read_bytes())
    reader.known(film)


TABLE = [[0.0, 0, "|u1", [2, 2, 3], None, 0], [1.0, 25, "|u1", [2, 2, 3], {"height": 2, "width": 2}, 0]]


def table(path: Path) -> None:
    """The table of an entry of candidates, with its checksum right."""
    content = path.read_bytes()
    end = _END.pack(len(content), zlib.crc32(content), _MARK)
    path.write_bytes(bytes(24) + content + end)
    candidates(path)


def candidates(path: Path) -> None:
    folder = path.parent / "store" / "candidates"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.pictures").write_bytes(path.read_bytes())
    store: Any = CandidateStore(path.parent / "store", 1 << 30)
    found = store.find("key", [0, 25], lambda _: iter(()))
    if found is not None:
        list(found)


def npz(**arrays: Any) -> bytes:
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def outcome(folder: Path) -> bytes:
    write_outcome(Outcome(JobStatus.FAILED, 2, "no", "do"), folder)
    return (folder / "outcome.json").read_bytes()


def settings_file(path: Path) -> None:
    with patch.dict(os.environ, {"XDG_CONFIG_HOME": str(path.parents[1])}):
        trusted_packages([])


def of_project(path: Path) -> None:
    with chdir(path.parent):
        project()


OUTCOME = of(status="failed", code=2, problem="no", remedy="do", traceback="")
REPLY = of(text="B", finish="stop", refusal="", prompt_tokens=1, output_tokens=2)
EVENT = {"event": "stage", "time": "2026-11-26T08:00:00+00:00", "elapsed": 0.1, "stage": "sampling", "total": 4}
EVENTS = [{**EVENT, "event": "start", "stage": ""}, EVENT, {**EVENT, "event": "progress", "done": 3, "elapsed": 9.0}]
FACTS = {"command": "gens evaluate", "started": "2026-11-26T08:00:00+00:00", "ended": None, "host": "h", "process": 7}
RUN = {**FACTS, "machine": "Linux", "gpu": "", "commit": "c", "python": "3.11", "versions": {"torch": "2.13.0"}}
CONFIG = (
    b"sampler: {name: gens}\nselection:\n  name: topk\n  budget: 8\nbenchmark: {name: micro}\nanswerer: {name: w}\n"
)

YAML = rb"""?  - :  &a[*a] *a !!timestamp\ 2026-13-45 2026-13-45 !!int\ x 0x 1:99:99 !!binary\ '?' <<:\ %YAML\ 9 ---
... | {?{}} [[]]:\ 1 0o9 !!set\ {a} !!float\ x !!bool\ x""".replace(b"\\ ", b"\0").split()
YAML = [word.replace(b"\0", b" ") for word in YAML]
TOML = b'[project]\nname = "x"\n[tool.gens-videoqa]\nplugins = ["own"]\n'

JOURNALS = [
    Parser("relevance", "relevance.jsonl", [ROWS[RelevanceRow] * 2], rows(RelevanceRow)),
    Parser("selections", "selections.jsonl", [ROWS[SelectionRow] * 2], selections),
    Parser("answers", "answers.jsonl", [ROWS[AnswerRow] * 2], rows(AnswerRow)),
    Parser("stored", "answers.jsonl", [ROWS[AnswerRow] * 2], stored),
    Parser("journal", "answers.jsonl", [ROWS[AnswerRow] * 2], journal, longest=8000),
    Parser("index", "answers.jsonl.index", [index()], with_index),
    Parser("questions", "questions.jsonl", [to_line(QuestionRow(QUESTION))], questions),
]
STATE = [
    Parser("run.json", "run.json", [json.dumps(RUN).encode()], ended),
    Parser("outcome.json", "outcome.json", [OUTCOME], state),
    Parser("events.jsonl", "events.jsonl", ["".join(f"{json.dumps(each)}\n" for each in EVENTS).encode()], state),
    Parser("report's run.json", "run.json", [json.dumps(RUN).encode()], whole_run),
    Parser("config.yaml", "config.yaml", [CONFIG], whole_run, words=YAML, longest=2000),
    Parser("past config.yaml", "config.yaml", [CONFIG], lambda path: _config(path.parent), words=YAML, longest=2000),
    Parser("plugins", "gens-videoqa/plugins.yaml", [b"plugins: [own]\n"], settings_file, words=YAML, longest=2000),
    Parser("pyproject.toml", "pyproject.toml", [TOML], of_project, words=[b"gens-videoqa", b"[[", b"]]", b"= "]),
]
CACHES = [
    Parser("cached relevance", "r.json", [of(question_id="a", times=[0.0], scores=[5.0])], cached(relevances)),
    Parser("cached answer", "a.json", [of(question_id="a", text="B", option=1)], cached(answers)),
    Parser(
        "cached reply",
        "s.json",
        [REPLY],
        cached(replies),
    ),
    Parser("features", "f.npz", [npz(times=np.arange(2.0), vectors=np.eye(2, dtype=np.float32))], cached(features)),
    Parser("notes", "n.json", [of(text="found")], cached(notes)),
    Parser("crashes", "c.json", [of(reason="hung", within=10.0)], cached(crash)),
    Parser("probes", "p.json", [of(video=asdict(VIDEO))], probes),
    Parser("candidates", "e.pictures", [bytes(24) + json.dumps(TABLE).encode() + _END.pack(9, 9, _MARK)], candidates),
    Parser("table of candidates", "t.pictures", [json.dumps(TABLE).encode()], table),
]
GROUPS = {"journals": JOURNALS, "state": STATE, "caches": CACHES}


@pytest.mark.parametrize("group", GROUPS)
def test_any_bytes_give_a_value_or_an_error_that_names_the_file(
    group: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    survives(GROUPS[group], tmp_path, is_long=request.config.getoption("--long"))


@pytest.mark.parametrize("group", GROUPS)
def test_the_time_to_read_grows_linearly(group: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert slow_growth(GROUPS[group], tmp_path, is_long=request.config.getoption("--long")) == []


def test_a_damaged_scan_is_made_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole = scan_bytes(scan(write_video(tmp_path / "film.mp4", seconds=2)))
    parser = Parser("scan", "s.npz", [whole], scans)
    survives([parser], tmp_path, is_long=request.config.getoption("--long"))
