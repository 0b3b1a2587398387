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
from pipeline.video.unseen import unseen_video

VIDEO = Video("v.mp4", "seen", 100.0, 25.0, 2500, 64, 48)


def listed(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def whole(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def seconds(rows: Sequence[ForeignRow], video: Video = VIDEO) -> dict[str, tuple[float, ...]]:
    return {row.question_id: row.moments.seconds(video) for row in rows}


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
        ({"fps": 0}, "fps=0"),
        ({"rag_sim": [1]}, "2 rag_images and 1 rag_sim"),
        ({"rag_images": ["v/first.jpg", "v/2.jpg"]}, "'v/first.jpg' has no number"),
        ({"rag_images": None}, "rag_images"),
        ({"id": None}, "id"),
    ],
)
def test_a_rag_row_that_cannot_be_read_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    row = {"id": "a", "fps": 1.0, "rag_images": ["v/1.jpg", "v/2.jpg"], "rag_sim": [5, 3]}
    file = listed(tmp_path / "rag.jsonl", row, {**row, **change})
    with pytest.raises(InputError) as error:
        GensRag(first_number=0).rows(file)
    assert f"{file}:2: " in error.value.problem
    assert problem in error.value.problem


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
    with pytest.raises(InputError, match="entry 2: frames"):
        aks(tmp_path, [[25], ["x"]])
    with pytest.raises(InputError, match="no multiples of 25"):
        seconds(aks(tmp_path, [[30, 60], [0]]))
    nearly = Video("v.mp4", "seen", 100.0, 29.9997, 3000, 64, 48)  # one reader says 30, another a little less
    assert len(seconds(aks(tmp_path, [[30, 60], [0]]), nearly)["a"]) == 2
    with pytest.raises(InputError, match="no id in the field 'question_id'"):
        Aks(str(tmp_path / "annotations.json"), "question_id").rows(tmp_path / "selected_frames.json")


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
    with pytest.raises(InputError, match="'v', entry 1: question_id"):
        Bolt().rows(whole(file, {"v": [{"frames": [1]}]}))
    with pytest.raises(InputError, match="not an object of videos"):
        Bolt().rows(whole(file, [[1, 2]]))


def test_tspo_adds_native_frames_to_annotation_rows(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "What?", "frame_idx": [50.0, 25.0]}, {"question_id": "b", "frame_idx": [0.0]}]
    expected = {"a": (2, 1), "b": (0,)}
    assert seconds(Tspo().rows(whole(tmp_path / "list.json", rows))) == expected
    assert seconds(Tspo().rows(listed(tmp_path / "lines.jsonl", *rows))) == expected
    with pytest.raises(InputError, match="entry 1: neither id nor question_id"):
        Tspo().rows(whole(tmp_path / "list.json", [{"frame_idx": [1.0]}]))
    with pytest.raises(InputError, match=r"12\.5 is not a frame number"):
        Tspo().rows(whole(tmp_path / "list.json", [{"id": "a", "frame_idx": [12.5]}]))


def test_frag_scores_native_frames(tmp_path: Path) -> None:
    file = whole(tmp_path / "frag.json", [{"id": "a", "frames": [0, 100], "scores": [0.2, 0.9]}])
    rows = Frag().rows(file)
    assert seconds(rows) == {"a": (0, 4)}
    assert rows[0].scores == (0.2, 0.9)
    with pytest.raises(InputError, match="2 frames and 1 scores"):
        Frag().rows(whole(file, [{"id": "a", "frames": [0, 1], "scores": [1.0]}]))


def itg(doc_id: object, index: list[int], contexts: str = "What? Answer with a letter.") -> dict[str, Any]:
    logits = [float(9 - place) for place in range(len(index))]
    return {"doc_id": doc_id, "video_path": "v.mp4", "contexts": contexts, "index": index, "logits": logits}


def test_videoitg_counts_among_frames_spread_over_the_video(tmp_path: Path) -> None:
    file = listed(tmp_path / "itg.jsonl", itg("a", [2, 0]), itg("a", [2, 0]))
    rows = VideoItg(None, "id", 5, "linspace").rows(file)  # written twice by a run that was started again
    # 0, 1249 * 1/2 ... : positions 0 and 2 of five over 2500 frames are frames 0 and floor(2 * 2499 / 4).
    assert seconds(rows) == {"a": (1249 / 25, 0)}
    assert rows[0].scores == (9, 8)
    with pytest.raises(InputError, match="position 5 is not one of the 5") as error:
        seconds(VideoItg(None, "id", 5, "linspace").rows(listed(file, itg("a", [5]))))
    assert "sampler.format.frames=" in error.value.remedy


def test_videoitg_rows_are_joined_through_the_annotations_that_they_count(tmp_path: Path) -> None:
    annotations = whole(tmp_path / "annotations.json", [{"id": "a"}, {"id": "b"}])
    chosen: SelectionFormat = VideoItg(str(annotations), "id", 512, "linspace")
    rows = chosen.rows(listed(tmp_path / "itg.jsonl", itg(1, [0]), itg(0, [1, 3])))
    assert [row.question_id for row in rows] == ["b", "a"]
    with pytest.raises(InputError, match="doc_id 2 is none of the 2 rows"):
        chosen.rows(listed(tmp_path / "itg.jsonl", itg(2, [0])))


def test_the_plain_form_keeps_a_key_that_stands_twice(tmp_path: Path) -> None:
    file = tmp_path / "plain.json"
    file.write_text('{"a": [1, 2.5], "b": [], "a": [3]}')
    assert [row.question_id for row in SecondsList().rows(file)] == ["a", "b", "a"]
    file.write_text('{"a": {"b": 1}}')
    with pytest.raises(InputError, match="'a': seconds"):
        SecondsList().rows(file)
    file.write_text("[1, 2]")
    with pytest.raises(InputError, match="not a JSON object"):
        SecondsList().rows(file)


@pytest.mark.parametrize(
    "chosen", [GensRag(0), Bolt(), Tspo(), Frag(), SecondsList(), VideoItg(None, "id", 8, "stride")]
)
def test_a_file_that_is_not_there_or_not_json_is_refused(chosen: SelectionFormat, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        chosen.rows(tmp_path / "nowhere")
    (tmp_path / "cut.json").write_text('{"a": [1, ')
    with pytest.raises(InputError, match="not JSON"):
        chosen.rows(tmp_path / "cut.json")
