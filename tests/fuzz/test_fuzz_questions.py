"""Benchmark files, lists of ids, subtitles and selections of other projects, damaged in any way."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import made_benchmarks
import pytest
from fuzzing import Parser, slow_growth, survives

from pipeline.artefacts.rows import QuestionRow, from_line, to_line
from pipeline.benchmarks.cgbench import CGBench
from pipeline.benchmarks.egoschema import EgoSchema
from pipeline.benchmarks.extremewhen import ExtremeWhen
from pipeline.benchmarks.gens_video import Fields, GenSVideo
from pipeline.benchmarks.hourvideo import HourVideo
from pipeline.benchmarks.jsonl import JsonlBenchmark
from pipeline.benchmarks.longvideobench import LongVideoBench
from pipeline.benchmarks.lvbench import LVBench
from pipeline.benchmarks.lvhaystack import LVHaystack
from pipeline.benchmarks.mlvu import MLVU
from pipeline.benchmarks.subsets import read_ids
from pipeline.benchmarks.videoeval_pro import VideoEvalPro
from pipeline.benchmarks.videomme import VideoMME
from pipeline.benchmarks.videomme_v2 import VideoMMEv2
from pipeline.domain import Question, Subtitles, Video
from pipeline.errors import InputError
from pipeline.foreign import SelectionFormat
from pipeline.foreign.aks import Aks
from pipeline.foreign.bolt import Bolt
from pipeline.foreign.frag import Frag
from pipeline.foreign.gens_rag import GensRag
from pipeline.foreign.lmms_eval_samples import read_samples
from pipeline.foreign.seconds import SecondsList
from pipeline.foreign.tspo import Tspo
from pipeline.foreign.videoitg import VideoItg
from pipeline.samplers.file import FileSampler
from pipeline.subtitles import read
from pipeline.video.unseen import UnseenFrames

VIDEO = Video("v.mp4", "seen", 100.0, 25.0, 2500, 64, 48)
ASKED = [
    Question("a", "v.mp4", "What?", ("red", "blue"), 0, {"kind": "S2E"}),
    Question("b", "v.mp4", "Who is it?", ("he", "she"), None),
]


def of(*rows: Any) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def usable(questions: Sequence[Question]) -> None:
    """What a run does with questions before any video is opened."""
    for question in questions:
        row = QuestionRow(question)
        assert from_line(QuestionRow, to_line(row), "row", {}) == row


def own(path: Path) -> None:
    usable(JsonlBenchmark("own", str(path), None).questions())


def published(kind: Callable[..., Any], **more: Any) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        found = kind("some", str(path), None, None, None, **more)
        usable(found.questions())
        found.durations()

    return read


def parquet(rows: list[dict[str, Any]]) -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), written)
    return written.getvalue()


LVB = made_benchmarks._lvb_row("one", 1, 60, 4, "T2O", [48, 96], subtitles_from=100)
MLVU_ROW = {
    "video": "1.mp4",
    "duration": 12.0,
    "question": "What?",
    "candidates": ["one", "two"],
    "answer": "two",
    "question_type": "plotQA",
}
MLVU_PACKED = {
    "video_name": "1.mp4",
    "duration": 12.0,
    "question": "What?\n(A) one\n(B) two",
    "candidates": ["one", "two"],
    "answer": "B",
    "task_type": "plotQA",
    "question_id": "Q1",
}
MME = {
    "duration": "short",
    "domain": "Knowledge",
    "sub_category": "Astronomy",
    "videoID": "aaa",
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "How many?",
    "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
    "answer": "B",
}
LVB_QA = {
    "uid": "10",
    "question": "What is it?\n(A) red\n(B) blue\n(C) green\n(D) white",
    "answer": "A",
    "question_type": ["reasoning", "summarization"],
    "time_reference": "00:02-00:04",
}
LV = {"key": "aaa", "type": "cartoon", "qa": [LVB_QA], "video_info": {"duration_minutes": 0.2, "fps": 4.0}}
HOUR = {
    "u-1": {
        "video_metadata": {"video_uid": "u-1", "duration_in_seconds": 12.0},
        "benchmark_dataset": [
            made_benchmarks._hour_row("u-1", "perception/tracking", list("vwxyz"), "B", "0:00:02-0:00:04"),
            made_benchmarks._hour_row("u-1", "reasoning/predictive", list("vwxyz"), "B", "0:00:06-0:00:09"),
            made_benchmarks._hour_row("u-1", "navigation/room_to_room_image", list("vwxyz"), "B", "0:00:02"),
        ],
    },
    "canary": "a text",
}
OWN = {
    "id": "a",
    "video": "v.mp4",
    "question": "What?",
    "options": ["a cup", "a plate"],
    "answer": "B",
    "evidence": [[1, 2.5]],
    "groups": {"task": "counting"},
    "subtitles": "v.srt",
    "span": [0, 10],
}
V2 = {
    "video_id": "1",
    "question_id": "1-1",
    "question": "What?",
    "options": "A. red\nB. blue\nand more",
    "group_type": "logic",
    "group_structure": "[1, [2, 3], 4]",
    "answer": "B",
}
CG = {
    "qid": 7,
    "video_uid": "v",
    "question": "What?",
    "answer": "blue",
    "choices": ["red", "blue"],
    "right_answer": "B",
    "clue_intervals": [[8, 11], [60, 62]],
    "domain": "Driving",
    "sub_category": "Entity",
    "duration": 100,
}
HAY = {
    "video_id": "v",
    "vclip_id": "c",
    "question": "What?",
    "options": {"A": "red", "B": "blue", "C": None},
    "answer": "B",
    "frame_indexes_video": [300, 30],
    "video_metadata": {"frame_rate": 30.0, "video_duration": 100.0},
}
WHEN = {
    "qid": "q",
    "video_id": "v",
    "question": "When?",
    "correct_interval": [5, 9.5],
    "video_duration_s": 100,
    "source_corpus": "MLVU",
}
PRO = {
    "video": "v.mp4",
    "question": "What?",
    "options": ["A. red", "B. blue"],
    "answer": "B",
    "answer_text": "blue",
    "source": "mlvu",
    "qa_type": "Local Perception",
}
EGO = {"q_uid": "u", "question": "What?", **{f"option {number}": f"x{number}" for number in range(5)}}
EGO_HUB = {"video_idx": "u", "question": "What?", "option": ["A. red", "B. blue"], "answer": "1"}
GENS_VIDEO = {"video": "v.mp4", "question": "What?", "frames": {"30s-35s": 5, "25s": 4}, "id": 3}
FIELDS = Fields("video", "question", "frames", "id", "answer")

longvideobench = published(LongVideoBench, subtitle_root=None)
videomme = published(VideoMME, subtitle_root=None)
BENCHMARKS = [
    Parser("jsonl", "own.jsonl", [of(OWN, {"video": "w.mp4", "question": "Who?"})], own),
    Parser("longvideobench", "lvb.json", [of([LVB, {**LVB, "id": "two"}])], longvideobench),
    Parser(
        "mlvu",
        "1_plotQA.json",
        [of([MLVU_ROW, MLVU_ROW]), of([MLVU_PACKED])],
        published(MLVU, leave_out=("summary",)),
    ),
    Parser("videomme", "mme.json", [of(MME, {**MME, "question_id": "2"})], videomme),
    Parser("lvbench", "info.jsonl", [of(LV, {**LV, "key": "b", "qa": [{**LVB_QA, "uid": 5}]})], published(LVBench)),
    Parser("hourvideo", "dev.json", [of(HOUR)], published(HourVideo, image_root=None, leave_out=("summary",))),
    Parser(
        "gens_video",
        "rows.json",
        [of([GENS_VIDEO, {**GENS_VIDEO, "id": 4, "frames": '{"5s": 1}'}])],
        published(GenSVideo, fields=FIELDS, evidence_from=4.0),
    ),
    Parser(
        "videomme_v2",
        "v2.json",
        [of([V2, {**V2, "question_id": "1-2", "group_type": "relevance", "level": 2}])],
        published(VideoMMEv2, subtitle_root=None),
    ),
    Parser(
        "cgbench",
        "cg.json",
        [of([CG, {**CG, "qid": "8"}])],
        published(CGBench, subtitle_root=None, task="intervals"),
    ),
    Parser("lvhaystack", "hay.json", [of([HAY, {**HAY, "options": None, "answer": None}])], published(LVHaystack)),
    Parser("extremewhen", "when.json", [of([WHEN]), of({"questions": [WHEN]})], published(ExtremeWhen)),
    Parser("videoeval_pro", "pro.json", [of([PRO, PRO])], published(VideoEvalPro, task="open")),
    Parser(
        "egoschema", "ego.json", [of([EGO, {**EGO, "q_uid": "v"}]), of([EGO_HUB])], published(EgoSchema, part="all")
    ),
    Parser("ids", "ids.txt", [b"a\nb\n", of(["a", "b"])], lambda path: read_ids(path, "benchmark.ids", ["a", "b", ""])),
]
TABLES = [
    Parser(
        "parquet",
        "rows.parquet",
        [parquet([MME, {**MME, "question_id": "2"}])],
        videomme,
    ),
]

SRT = b"1\n00:00:01,000 --> 00:00:03,500\n<i>so</i> we begin\n\n2\n00:00:03,000 --> 00:00:06,000\nand on\n"
VTT = b"WEBVTT\n\nNOTE x\n\nSTYLE\n::cue{}\n\nid\n00:01.000 --> 00:03.500 line:0 align:start\n<v Ann>so <00:02.000>we\n"
SAID = [{"start": "00:00:01.000", "end": "00:00:03.500", "line": "so"}, {"timestamp": [8.0, None], "text": "bye"}]
WORDS = [{"text": "so", "start_time": 1.0, "end_time": 1.2}, {"text": "on.", "start_time": 1.2, "end_time": 2}]


def subtitles(path: Path) -> None:
    for line in read(Subtitles(str(path), 1.5), 60.0).lines:
        assert line.text.encode()
        assert -10 < line.start <= line.end


SUBTITLES = [
    Parser("srt", "a.srt", [SRT], subtitles, words=[b" --> ", b"00:00:01,000", b"-->", b"<i>", b"<", b"\n\n9\n"]),
    Parser("vtt", "a.vtt", [VTT], subtitles, words=[b" --> ", b"WEBVTT", b"NOTE ", b"<v ", b"<00:01.0>", b"STYLE"]),
    Parser("json", "a.json", [of(SAID)], subtitles),
    Parser("jsonl", "a.jsonl", [of(*WORDS)], subtitles),
]


def selected(kind: SelectionFormat) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        for surplus, missing in (("refuse", "refuse"), ("ignore", "record")):
            sampler = FileSampler("file", str(path), kind, surplus, missing)  # type: ignore[arg-type]
            try:
                sampler.check(ASKED)
            except InputError:
                if surplus == "ignore":
                    raise
            list(map(sampler.query, ASKED))
            for relevance in sampler.score(VIDEO, UnseenFrames(VIDEO), ASKED) if surplus == "ignore" else ():
                assert relevance.times == tuple(sorted(relevance.times))

    return read


def aks(path: Path) -> None:
    annotations = path.with_name("annotations.json")
    annotations.write_text(json.dumps([{"id": "a"}, {"id": "b"}]))
    selected(Aks(str(annotations), "id"))(path)


def numbered(path: Path) -> None:
    """The annotations themselves are damaged."""
    rows = path.with_name("rows.jsonl")
    rows.write_bytes(of({"doc_id": 1, "index": [510, 90], "logits": [0.9, 0.4]}))
    selected(VideoItg(str(path), "id"))(rows)


TSPO = {"id": "a", "video": "v.mp4", "question": "What?", "frame_idx": [25.0, 75]}
ITG = {"doc_id": "a", "video_path": "v.mp4", "contexts": "What?", "index": [510, 90], "logits": [0.97, 0.4]}
BOLT = {"v": [{"question_id": "a", "question": "What?", "frames": [1.5, 40]}]}
RAG = {
    "id": "a",
    "video_id": "v",
    "video_path": "v.mp4",
    "question": "What?",
    "fps": 1.0,
    "rag_images": ["v/40.jpg", "v/sec012.png"],
    "rag_sim": [5, 3],
}
SAMPLE = {
    "doc_id": 0,
    "target": "A",
    "filtered_resps": ["B"],
    "lvb_acc": {"id": "a", "answer": "B", "parsed_pred": "B"},
    "input": "What?\nA. red\nB. blue",
}


def samples(path: Path) -> None:
    for row in read_samples(path, ASKED, "compare.files").rows:
        assert to_line(row)


FOREIGN = [
    Parser("aks", "selected_frames.json", [of([[25, 75], [0]])], aks),
    Parser("annotations", "annotations.json", [of([{"id": "a"}, {"id": "b"}])], numbered),
    Parser(
        "bolt",
        "bolt.json",
        [of(BOLT)],
        selected(Bolt()),
    ),
    Parser("frag", "frag.json", [of([{"id": "a", "frames": [[25], 75], "scores": [0.5, 0.1]}])], selected(Frag())),
    Parser("gens_rag", "rag.jsonl", [of(RAG, {**RAG, "id": 7})], selected(GensRag(0))),
    Parser("seconds", "seconds.json", [of({"a": [12.0, 40.5], "b": []})], selected(SecondsList())),
    Parser("tspo", "tspo.json", [of([TSPO, {**TSPO, "id": None, "question_id": "b"}])], selected(Tspo())),
    Parser("videoitg", "itg.jsonl", [of(ITG, {**ITG, "doc_id": "b", "logits": None})], selected(VideoItg(None, "id"))),
    Parser("lmms_eval", "samples.jsonl", [of(SAMPLE, {**SAMPLE, "doc_id": 1, "lvb_acc": 0.0})], samples),
]
GROUPS = {"benchmarks": BENCHMARKS, "parquet": TABLES, "subtitles": SUBTITLES, "foreign": FOREIGN}


@pytest.mark.parametrize("group", GROUPS)
def test_any_bytes_give_questions_or_an_error_that_names_the_file(
    group: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    survives(GROUPS[group], tmp_path, is_long=request.config.getoption("--long"))


@pytest.mark.parametrize("group", ["benchmarks", "subtitles", "foreign"])
def test_the_time_to_read_grows_linearly(group: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert slow_growth(GROUPS[group], tmp_path, is_long=request.config.getoption("--long")) == []
