from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artefacts.rows import SelectionRow
from pipeline.domain import FrameOrigin, Question, SelectedFrame, Selection, Status, Video
from pipeline.errors import ConfigError
from pipeline.foreign.gens_rag import GensRag, GensRagForm
from pipeline.foreign.seconds import SecondsForm, SecondsList
from pipeline.video.unseen import UnseenFrames

VIDEO = Video("/videos/v.mp4", "f", 100.0, 25.0, 2500, 64, 48)
FRAMES = (
    SelectedFrame(12.0, 300, 5.0, FrameOrigin.SAMPLER),
    SelectedFrame(40.52, 1013, None, FrameOrigin.FILL),
)


def row(id: str, *frames: SelectedFrame, status: Status = Status.OK) -> SelectionRow:
    question = Question(id, "/videos/v.mp4", "Was ist „das“?")
    return SelectionRow("key", "gens", question, VIDEO, Selection(id, frames, "topk", 8, status))


ROWS = [row("a", *FRAMES), row("ä", status=Status.NO_SCORES)]


def test_a_rag_file_holds_what_gens_reads(tmp_path: Path) -> None:
    written = GensRagForm(fps=None, image="{video_id}/{number}.jpg").text(ROWS)
    first, second = (json.loads(line) for line in written.splitlines())
    assert first == {
        "id": "a",
        "video_id": "v",
        "video_path": "/videos/v.mp4",
        "question": "Was ist „das“?",
        "fps": 25.0,
        "rag_images": ["v/300.jpg", "v/1013.jpg"],
        "rag_sim": [5.0, 0.0],
    }
    assert second["rag_images"] == []
    (tmp_path / "rag.jsonl").write_text(written)
    back = GensRag(first_number=0).rows(tmp_path / "rag.jsonl")
    assert [each.moments.seconds(VIDEO) for each in back] == [(12.0, 40.52), ()]
    assert [each.question_id for each in back] == ["a", "ä"]


def test_a_rag_file_tells_the_second_also_where_a_video_begins_later(tmp_path: Path) -> None:
    """As a file that was cut out of a longer one: its frame 50 is on screen at second 12."""
    late = replace(ROWS[0], video=replace(VIDEO, start=10.0, frame_count=2250))
    moment = replace(FRAMES[0], index=50)
    chosen = replace(late, selection=replace(late.selection, frames=(moment,)))
    (tmp_path / "rag.jsonl").write_text(GensRagForm(fps=None, image="{video_id}/{number}.jpg").text([chosen]))
    (back,) = GensRag(first_number=0).rows(tmp_path / "rag.jsonl")
    assert back.moments.seconds(UnseenFrames(VIDEO)) == (12.0,)


def test_a_rag_file_for_images_of_another_rate_names_the_image_shown_then() -> None:
    entry = json.loads(GensRagForm(fps=1.0, image="frames/sec{number:03d}.png").text(ROWS[:1]))
    assert entry["rag_images"] == ["frames/sec012.png", "frames/sec040.png"]
    assert entry["fps"] == 1.0


@pytest.mark.parametrize("image", ["{video_id}.jpg", "{number}/frame.jpg", "{second}.jpg", "{video_id}{number}x.jpg"])
def test_an_image_name_that_hides_its_number_is_refused(image: str) -> None:
    with pytest.raises(ConfigError) as error:
        GensRagForm(fps=None, image=image)
    assert "form.image=" in error.value.remedy


def test_the_plain_form_goes_there_and_back(tmp_path: Path) -> None:
    written = SecondsForm().text(ROWS)
    assert json.loads(written) == {"a": [12.0, 40.52], "ä": []}
    (tmp_path / "plain.json").write_text(written)
    back = SecondsList().rows(tmp_path / "plain.json")
    assert {each.question_id: each.moments.seconds(VIDEO) for each in back} == {"a": (12.0, 40.52), "ä": ()}
