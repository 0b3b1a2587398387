"""Every foreign format from a small file in its own schema, with the seconds worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain import Video
from pipeline.errors import InputError
from pipeline.foreign import ForeignRow, SelectionFormat
from pipeline.foreign.aks import Aks
from pipeline.foreign.bolt import Bolt
from pipeline.foreign.frag import Frag
from pipeline.foreign.gens_rag import GensRag
from pipeline.foreign.seconds import SecondsList
from pipeline.foreign.tspo import Tspo
from pipeline.foreign.videoitg import VideoItg
from pipeline.video.unseen import UnseenFrames, unseen_video

VIDEO = Video("v.mp4", "seen", 100.0, 25.0, 2500, 64, 48)


def listed(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def whole(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def seconds(rows: Sequence[ForeignRow], video: Video = VIDEO) -> dict[str | None, tuple[float, ...]]:
    return {row.question_id: row.moments.seconds(UnseenFrames(video)) for row in rows}


def fault(row: ForeignRow) -> str:
    """What is wrong with a row, which names its place."""
    assert row.fault is not None
    assert row.fault.remedy
    return row.fault.problem


def test_gens_counts_images_at_the_rows_own_rate(tmp_path: Path) -> None:
    row = {"id": "a", "video_id": "v", "video_path": "v.mp4", "question": "What?", "fps": 1.0}
    file = listed(
        tmp_path / "rag.jsonl",
        {**row, "rag_images": ["v/40.jpg", "/data/v/sec012.png"], "rag_sim": [5, 3]},
        {**row, "id": 7, "fps": 0.5, "rag_images": ["v/6.jpg"], "rag_sim": [4]},
    )
    rows = GensRag(first_number=0).rows(file)
    assert seconds(rows) == {"a": (40, 12), "7": (12,)}
    assert [row.scores for row in rows] == [(5, 3), (4,)]
    assert rows[0].text == "What?"
    assert seconds(GensRag(first_number=1).rows(file)) == {"a": (39, 11), "7": (10,)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"fps": 0}, "fps: Input should be greater"),
        ({"fps": 1e308}, "fps: Input should be less"),
        ({"rag_sim": [1e308, 1]}, "rag_sim.0: Input should be less"),
        ({"rag_sim": [1]}, "2 rag_images and 1 rag_sim"),
        ({"rag_images": ["v/first.jpg", "v/2.jpg"]}, "'v/first.jpg' has no number"),
        ({"rag_images": None}, "rag_images"),
        ({"id": None}, "id"),
        ({"fps": float("nan")}, "fps"),
        ({"rag_sim": [float("inf"), 1]}, "rag_sim.0"),
        ({"rag_images": ["v/" + "9" * 400 + ".jpg", "v/\u00b2.jpg"]}, "'v/\u00b2.jpg' has no number"),
    ],
)
def test_a_rag_row_that_cannot_be_read_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    row = {"id": "a", "fps": 1.0, "rag_images": ["v/1.jpg", "v/2.jpg"], "rag_sim": [5, 3]}
    file = listed(tmp_path / "rag.jsonl", row, {**row, **change})
    first, second = GensRag(first_number=0).rows(file)
    assert first.fault is None
    assert f"{file}:2: " in fault(second)
    assert problem in fault(second)


def aks(folder: Path, frames: Any, ids: Sequence[str] = ("a", "b")) -> Sequence[ForeignRow]:
    annotations = whole(folder / "annotations.json", [{"id": each, "question": "What?"} for each in ids])
    return Aks(str(annotations), "id").rows(whole(folder / "selected_frames.json", frames))


def test_aks_is_joined_through_the_annotations_and_counts_native_frames(tmp_path: Path) -> None:
    assert seconds(aks(tmp_path, [[25, 75], [0]])) == {"a": (1, 3), "b": (0,)}
    fast = Video("v.mp4", "seen", 100.0, 29.97, 2997, 64, 48)
    assert seconds(aks(tmp_path, [[29, 58], [0]]), fast)["a"] == pytest.approx((29 / 29.97, 58 / 29.97))


def test_aks_rows_of_another_benchmark_or_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has 1 rows and .* has 2") as error:
        aks(tmp_path, [[25]])
    assert "sampler.format.annotations=" in error.value.remedy
    first, second = aks(tmp_path, [[25], ["x"]])
    assert (first.fault, second.question_id) == (None, "b")
    assert "entry 2: frames.0: Input should be a valid integer" in fault(second)
    with pytest.raises(InputError, match="not multiples of 25"):
        seconds(aks(tmp_path, [[30, 60], [0]]))
    nearly = Video("v.mp4", "seen", 100.0, 29.9997, 3000, 64, 48)  # one reader says 30, another a little less
    assert len(seconds(aks(tmp_path, [[30, 60], [0]]), nearly)["a"]) == 2
    with pytest.raises(InputError, match="no id in the field 'question_id'"):
        Aks(str(tmp_path / "annotations.json"), "question_id").rows(tmp_path / "selected_frames.json")


def test_aks_annotations_may_be_parquet_with_ids_that_are_numbers(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "validation-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([{"id": 7, "question": "What?"}, {"id": 8, "question": "Who?"}]), file)
    chosen = whole(tmp_path / "selected_frames.json", [[25.0, 75.0], []])
    assert seconds(Aks(str(file), "id").rows(chosen)) == {"7": (1, 3), "8": ()}
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as parquet") as error:
        Aks(str(file), "id").rows(chosen)
    assert "sampler.format.annotations=" in error.value.remedy


def test_native_frames_need_a_video_that_was_looked_at(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        seconds(aks(tmp_path, [[600], [0]]), unseen_video("v.mp4", 100.0))
    assert "timeline=videos" in error.value.remedy


def test_bolt_nests_questions_in_videos_and_counts_seconds(tmp_path: Path) -> None:
    file = whole(
        tmp_path / "bolt.json",
        {
            "v": [{"question_id": "v-1", "question": "What?", "frames": [3, 3, 9.5]}],
            "w": [{"question_id": 2, "frames": []}],
        },
    )
    rows = Bolt().rows(file)
    assert seconds(rows) == {"v-1": (3, 3, 9.5), "2": ()}
    assert [row.text for row in rows] == ["What?", None]
    assert "'v', entry 1: question_id" in fault(Bolt().rows(whole(file, {"v": [{"frames": [1]}]}))[0])
    assert "'v', entry 1: frames.0" in fault(Bolt().rows(whole(file, {"v": [{"question_id": 1, "frames": ["x"]}]}))[0])
    with pytest.raises(InputError, match="not an object of videos"):
        Bolt().rows(whole(file, [[1, 2]]))


def test_tspo_adds_native_frames_to_annotation_rows(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "What?", "frame_idx": [50.0, 25.0]}, {"question_id": "b", "frame_idx": [0.0]}]
    expected = {"a": (2, 1), "b": (0,)}
    assert seconds(Tspo().rows(whole(tmp_path / "list.json", rows))) == expected
    assert seconds(Tspo().rows(listed(tmp_path / "lines.jsonl", *rows))) == expected
    assert "entry 1: neither id" in fault(Tspo().rows(whole(tmp_path / "list.json", [{"frame_idx": [1.0]}]))[0])


def test_tspo_rows_are_those_of_the_benchmark_and_may_lack_a_selection(tmp_path: Path) -> None:
    repacked = {
        "video_name": "needle_32.mp4",
        "duration": 467.98,
        "question": "What does the hand do?\n(A) Waves\n(B) Points\n",
        "candidates": ["Waves", "Points"],
        "answer": "A",
        "task_type": "needle",
        "question_id": "Q0",
    }
    videomme = {"video_id": "001", "videoID": "fFjv", "question_id": "001-1", "question": "What?", "options": ["A. x"]}
    rows = [{**repacked, "frame_idx": [0.0, 780.0]}, videomme, {**videomme, "question_id": "001-2", "frame_idx": []}]
    first, second = Tspo().rows(whole(tmp_path / "list.json", rows))
    assert (first.question_id, first.video, first.moments.seconds(UnseenFrames(VIDEO))) == (
        "Q0",
        "needle_32.mp4",
        (0, 31.2),
    )
    assert (second.question_id, second.video, second.moments.seconds(UnseenFrames(VIDEO))) == ("001-2", "fFjv", ())
    with pytest.raises(InputError, match="no row has frame_idx"):
        Tspo().rows(whole(tmp_path / "list.json", [repacked]))


@pytest.mark.parametrize("number", [12.5, float("nan"), float("inf"), -1.0, 10**300, "x", None, [3]])
def test_a_frame_number_that_is_none_costs_its_row(tmp_path: Path, number: Any) -> None:
    rows = [{"id": "a", "frame_idx": [1.0, number]}, {"id": "b", "frame_idx": ["25", 50.0]}]
    first, second = Tspo().rows(whole(tmp_path / "list.json", rows))
    assert first.question_id == "a"
    assert "entry 1: frame_idx.1: " in fault(first)
    assert second.moments.seconds(UnseenFrames(VIDEO)) == (1, 2)


def test_frag_scores_native_frames_one_by_one(tmp_path: Path) -> None:
    document = {"question": "What?", "candidates": ["x", "y"], "video": "v.mp4"}
    scored = {**document, "id": "a", "frames": [[0], [100]], "scores": [0.2, 0.9]}
    file = whole(tmp_path / "frag.json", [scored, {**scored, "id": 7, "frames": [25, 50]}])
    rows = Frag().rows(file)
    assert seconds(rows) == {"a": (0, 4), "7": (1, 2)}
    assert rows[0].scores == (0.2, 0.9)
    assert "2 frames and 1 scores" in fault(Frag().rows(whole(file, [{**scored, "scores": [1.0]}]))[0])
    pairs = {**scored, "frames": [[0, 25], [25, 50]]}
    assert "a score belongs to several frames" in fault(Frag().rows(whole(file, [pairs]))[0])


def test_frag_writes_a_file_a_question_and_its_results_have_one_list(tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    folder.mkdir()
    whole(folder / "a.json", {"id": "a", "frames": [[0], [100]], "scores": [0.2, 0.9]})
    (folder / "b.json").write_text(json.dumps({"id": "b", "frames": [[0, 25, 50]], "pred": ["A"]}, indent=4))
    (folder / "c.json").write_text('{"id": "c", "frames": [[0]')
    first, second, third = Frag().rows(folder)
    assert seconds([first, second]) == {"a": (0, 4), "b": (0, 1, 2)}
    assert (first.scores, second.scores) == ((0.2, 0.9), None)
    assert f"{folder / 'c.json'}: not JSON" in fault(third)


def itg(doc_id: object, index: list[int], contexts: str = "What? Answer with a letter.") -> dict[str, Any]:
    """As ``lmms_eval/models/videoitg.py`` writes it."""
    logits = [round(0.99 - place / 100, 2) for place in range(len(index))]
    row = {"index": index, "logits": logits, "num_frames": 1, "contexts": contexts, "video_path": "/x/v.mp4"}
    return {**row, "doc_id": doc_id}


def test_videoitg_counts_native_frames_best_first(tmp_path: Path) -> None:
    file = listed(tmp_path / "results.jsonl", itg("a", [1250, 0, 75]), itg("a", [1250, 0, 75]))
    rows = VideoItg(None, "id").rows(file)  # written twice by a run that was started again
    assert [row.moments.seconds(UnseenFrames(VIDEO)) for row in rows] == [(50, 0, 3)] * 2
    assert (rows[0].scores, rows[0].ranked, rows[0].text) == ((0.99, 0.98, 0.97), True, "What? Answer with a letter.")
    assert rows[0].moments == rows[1].moments


def test_the_other_form_of_videoitg_has_no_scores(tmp_path: Path) -> None:
    file = listed(tmp_path / "top.jsonl", {"doc_id": "a", "index": [0, 75, 1250]}, {"doc_id": "b", "index": [75, 0]})
    first, second = VideoItg(None, "id").rows(file)
    assert (first.scores, first.ranked, first.moments.seconds(UnseenFrames(VIDEO))) == (None, False, (0, 3, 50))
    assert (second.scores, second.ranked, second.moments.seconds(UnseenFrames(VIDEO))) == (None, True, (3, 0))


def test_videoitg_rows_are_joined_through_the_annotations_that_they_count(tmp_path: Path) -> None:
    annotations = whole(tmp_path / "annotations.json", [{"id": "a"}, {"id": "b"}])
    chosen: SelectionFormat = VideoItg(str(annotations), "id")
    rows = chosen.rows(listed(tmp_path / "itg.jsonl", itg(1, [0]), itg("0", [1, 3]), itg(2, [0]), itg("\u00b2", [0])))
    assert [row.question_id for row in rows[:2]] == ["b", "a"]
    assert "itg.jsonl:3: doc_id 2 is none of the 2 rows" in fault(rows[2])
    assert "itg.jsonl:4: doc_id" in fault(rows[3])
    assert "no doc_id" in fault(chosen.rows(listed(tmp_path / "itg.jsonl", itg(None, [0])))[0])
    assert "2 index and 1 logits" in fault(
        chosen.rows(listed(tmp_path / "itg.jsonl", {**itg(0, [5, 6]), "logits": [1]}))[0]
    )


def test_older_versions_of_videoitg_write_a_file_a_question(tmp_path: Path) -> None:
    folder = tmp_path / "videomme_result_512"
    folder.mkdir()
    for number in range(12):
        row = {key: value for key, value in itg(number, [25 * number]).items() if key != "doc_id"}
        (folder / f"{number}.json").write_text(json.dumps(row, indent=4))
    annotations = whole(tmp_path / "annotations.json", [{"id": f"q{number}"} for number in range(12)])
    rows = VideoItg(str(annotations), "id").rows(folder)
    assert seconds(rows) == {f"q{number}": (number,) for number in range(12)}


def test_the_plain_form_keeps_a_key_that_stands_twice(tmp_path: Path) -> None:
    file = tmp_path / "plain.json"
    file.write_text('{"a": [1, 2.5], "b": [], "a": [3]}')
    assert [row.question_id for row in SecondsList().rows(file)] == ["a", "b", "a"]
    file.write_text('{"a": {"b": 1}}')
    assert "'a': seconds" in fault(SecondsList().rows(file)[0])
    file.write_text('{"a\\ud83d": [NaN], "b": [1]}')
    first, second = SecondsList().rows(file)
    assert "seconds.0: Input should be a finite number" in fault(first)
    assert (first.question_id, second.moments.seconds(UnseenFrames(VIDEO))) == ("a\ufffd", (1,))
    file.write_text('{"a": [' + "9" * 5000 + "]}")
    with pytest.raises(InputError, match="not JSON that can be read"):
        SecondsList().rows(file)
    file.write_text("[1, 2]")
    with pytest.raises(InputError, match="not a JSON object"):
        SecondsList().rows(file)


@pytest.mark.parametrize("chosen", [GensRag(0), Bolt(), Tspo(), Frag(), SecondsList(), VideoItg(None, "id")])
def test_a_file_that_is_not_there_or_not_json_is_refused(chosen: SelectionFormat, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        chosen.rows(tmp_path / "nowhere")
    (tmp_path / "cut.json").write_text('{"a": [1, ')
    with pytest.raises(InputError, match="not JSON"):
        chosen.rows(tmp_path / "cut.json")


def test_a_row_whose_video_no_file_can_be_called_is_named(tmp_path: Path) -> None:
    row = {"id": "a", "video": "v.mp4", "question": "What?", "frame_idx": [25]}
    first, second = Tspo().rows(whole(tmp_path / "tspo.json", [row, {**row, "id": "b", "video": "v\0.mp4"}]))
    assert first.fault is None
    assert (second.question_id, "tspo.json: entry 2: 'v\\x00.mp4' is not the path" in fault(second)) == ("b", True)
