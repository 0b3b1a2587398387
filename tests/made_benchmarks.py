"""Tiny benchmarks in the published schemas over short real videos, laid out as ``gens download`` would leave them.

Each function writes one under a data folder and returns the words that run it: ``gens evaluate`` and the like follow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from made import write_video

SECONDS = 12
"""How long each video is, whatever the group that its row names."""


def longvideobench(data: Path) -> list[str]:
    """Five rows over three videos of all four groups; subtitles in both schemas, one cut out of a longer film."""
    home = data / "LongVideoBench"
    lines = {
        "one": [{"start": "00:00:01.000", "end": "00:00:03.500", "line": "the red square comes in"}],
        "two": [{"timestamp": [101.0, 104.0], "text": "now it is blue"}, {"timestamp": [108.0, None], "text": "bye"}],
        "three": [{"timestamp": [0.0, 5.0], "text": "nothing moves"}],
    }
    for number, (name, said) in enumerate(lines.items()):
        write_video(home / "videos" / f"{name}.mp4", SECONDS, seed=number)
        _json(home / "subtitles" / f"{name}_en.json", said)
    rows = [
        _lvb_row("one", 0, 15, 3, "S2E", [24]),
        _lvb_row("one", 1, 15, 4, "T2O", [48, 96]),
        _lvb_row("two", 0, 60, 5, "TOS", [120], subtitles_from=100),
        _lvb_row("two", 1, 600, 5, "SSS", [24 * 11], subtitles_from=100),
        _lvb_row("three", 0, 3600, 4, "E3E", [61388250]),
    ]
    _json(home / "lvb_val.json", rows)
    return _words("longvideobench", data)


def _lvb_row(
    video: str, number: int, group: int, options: int, category: str, position: list[int], subtitles_from: int = 0
) -> dict[str, Any]:
    return {
        "video_id": video,
        "question": f"What is to be seen in {video}, number {number}?",
        "question_wo_referring_query": "What is to be seen?",
        "candidates": [f"colour {option}" for option in range(options)],
        "correct_choice": number % options,
        "position": position,
        "topic_category": "KA-Knowledge-Art",
        "question_category": category,
        "level": "L1-Perception" if number == 0 else "L2-Relation",
        "id": f"{video}_{number}",
        "video_path": f"{video}.mp4",
        "subtitle_path": f"{video}_en.json",
        "duration_group": group,
        "starting_timestamp_for_subtitles": subtitles_from,
        "duration": float(SECONDS),
        "view_count": 1,
    }


def mlvu(data: Path) -> list[str]:
    """Two rows a task of four tasks with options, and one of each generation task, over three videos."""
    home = data / "MLVU" / "MLVU"
    tasks = {"1_plotQA": "plotQA", "2_needle": "findNeedle", "4_count": "count", "7_topic_reasoning": "topic_reasoning"}
    for number, (folder, task) in enumerate(tasks.items()):
        write_video(home / "video" / folder / "1.mp4", SECONDS, seed=number)
        rows = [
            {
                "video": "1.mp4",
                "duration": float(SECONDS),
                "question": f"What does {task} ask, number {row}?",
                "candidates": ["one", "two", "three", "four"],
                "answer": ("two", "four")[row],
                "question_type": task,
            }
            for row in range(2)
        ]
        _json(home / "json" / f"{folder}.json", rows)
    for folder, task in (("8_sub_scene", "subPlot"), ("9_summary", "summary")):
        write_video(home / "video" / folder / "1.mp4", SECONDS, seed=7)
        row = {
            "video": "1.mp4",
            "duration": float(SECONDS),
            "question": "Say it.",
            "answer": "So.",
            "question_type": task,
        }
        _json(home / "json" / f"{folder}.json", [row])
    return _words("mlvu", data)


def videomme(data: Path) -> list[str]:
    """Three questions to each of three videos, one of each duration; two have subtitles. Parquet, as on the hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    home = data / "Video-MME"
    rows = []
    for number, (key, duration) in enumerate({"aaa": "short", "bbb": "medium", "ccc": "long"}.items()):
        write_video(home / "data" / f"{key}.mp4", SECONDS, seed=number)
        rows += [
            {
                "video_id": f"{number + 1:03d}",
                "duration": duration,
                "domain": ("Knowledge", "Film & Television", "Life Record")[number],
                "sub_category": ("Astronomy", "Animation", "Food")[number],
                "url": f"https://www.youtube.com/watch?v={key}",
                "videoID": key,
                "question_id": f"{number + 1:03d}-{part}",
                "task_type": ("Counting Problem", "Object Recognition", "Action Reasoning")[part - 1],
                "question": f"How many colours has {key}, number {part}?",
                "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
                "answer": "ABC"[part - 1],
            }
            for part in (1, 2, 3)
        ]
    said = '1\n00:00:01,000 --> 00:00:04,000\n<font color="white" size=".72c">a colour, and another</font>\n\n'
    for key in ("aaa", "bbb"):
        place = home / "subtitle" / f"{key}.srt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(said)
    file = home / "videomme" / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return _words("videomme", data)


def lvbench(data: Path) -> list[str]:
    """Two questions to each of two videos: several types, a time that cannot be read, an id that is a number."""
    home = data / "LVBench"
    lines = []
    for number, key in enumerate(("aaa", "bbb")):
        write_video(home / "videos" / f"{key}.mp4", SECONDS, seed=number)
        qa = [
            {
                "uid": 10 * number if part == 0 else str(10 * number + part),
                "question": f"What is in {key}, number {part}?\n(A) red\n(B) blue\n(C) green\n(D) white",
                "answer": "AC"[part],
                "question_type": [["reasoning"], ["entity recognition", "summarization"]][part],
                "time_reference": ["00:02-00:04", "00:05-None"][part],
            }
            for part in range(2)
        ]
        info = {"duration_minutes": SECONDS / 60, "fps": 4.0, "resolution": {"width": 64, "height": 64}}
        lines.append({"key": key, "type": ("cartoon", "sport")[number], "qa": qa, "video_info": info})
    (home / "video_info.meta.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return _words("lvbench", data)


def hourvideo(data: Path) -> list[str]:
    """Four questions to each of two videos: two of text, prediction before 6 s, options that are pictures."""
    home = data / "HourVideo"
    videos = {}
    for number, uid in enumerate(("u-1", "u-2")):
        write_video(home / "videos" / f"{uid}.mp4", SECONDS, seed=number)
        pictures = [f"navigation_images/{uid}/0/{letter}.png" for letter in "ABCDE"]
        for shade, picture in enumerate(pictures):
            _picture(home / "v1.0_release" / picture, shade)
        texts = [f"thing {option}" for option in range(5)]
        rows = [
            _hour_row(uid, "perception/tracking", texts, "B", "0:00:02-0:00:04"),
            _hour_row(uid, "summarization/key_events_objects", texts, "E", "0:00:00-0:00:12"),
            _hour_row(uid, "reasoning/predictive", texts, "A", "0:00:06-0:00:09"),
            _hour_row(uid, "navigation/room_to_room_image", pictures, "D", "0:00:01-0:00:03"),
        ]
        meta = {"video_uid": uid, "duration_in_seconds": float(SECONDS)}
        videos[uid] = {"video_metadata": meta, "benchmark_dataset": rows}
    _json(home / "v1.0_release" / "json" / "dev_v1.0_annotations.json", videos)
    return _words("hourvideo", data)


def _hour_row(uid: str, task: str, answers: list[str], right: str, when: str) -> dict[str, Any]:
    question = f"What of {task} in {uid}?"
    return {
        "qid": f"{uid}_{task.replace('/', '_')}",
        "task": task,
        "question": question,
        "mcq_test": question,
        **{f"answer_{number}": answer for number, answer in enumerate(answers, start=1)},
        "correct_answer_label": right,
        "relevant_timestamps": when,
    }


def _picture(path: Path, shade: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((48, 64, 3), 50 * shade, np.uint8)).save(path)


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _words(name: str, data: Path) -> list[str]:
    return [f"benchmark={name}", f"paths.data={data}", "benchmark.rows=null"]
