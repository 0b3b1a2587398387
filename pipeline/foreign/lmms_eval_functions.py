"""Functions that an exported lmms-eval task calls; ``gens export form=lmms_eval_task`` copies this file beside the
task's YAML.

It stands on its own: it needs Pillow and lmms-eval, nothing of this project. A row is a line of ``questions.jsonl``::

    {"id": ..., "video": ..., "question": ..., "options": [...], "answer": "B", "prompt": ...,
     "frames": [{"image": "frames/00000/000.jpg", "time": 12.0, "label": "12.0s: "}, ...], "groups": {...}}
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def pictures(row: dict[str, Any]) -> list[Any]:
    """The selected frames in order of time; all that lmms-eval's simple models see."""
    from PIL import Image

    opened = []
    for frame in row["frames"]:
        with Image.open(HERE / frame["image"]) as image:
            opened.append(image.convert("RGB"))
    return opened


def prompt(row: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    """Question, options and instruction."""
    return str(row["prompt"])


def messages(row: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """For lmms-eval's chat models: each frame after a label with its time, then the prompt."""
    content: list[dict[str, Any]] = []
    for frame, picture in zip(row["frames"], pictures(row), strict=True):
        if frame["label"]:
            content.append({"type": "text", "text": frame["label"]})
        content.append({"type": "image", "url": picture})
    content.append({"type": "text", "text": prompt(row)})
    return [{"role": "user", "content": content}]


def count(row: dict[str, Any], results: list[str]) -> dict[str, dict[str, Any]]:
    """Right or wrong by lmms-eval's own reading; the reading itself is stored with it, with the question's id."""
    # By name, since this file is also part of a project that does not depend on lmms-eval.
    extraction = importlib.import_module("lmms_eval.tasks._task_utils.mcq_extract")
    letters = [chr(ord("A") + number) for number in range(len(row["options"]))]
    said = extraction.extract_mcq_answer(results[0], choices=letters)
    score = float(said == row["answer"])
    result = {"id": row["id"], "video": row["video"], "answer": row["answer"], "parsed_pred": said, "score": score}
    return {"gens_acc": {**row["groups"], **result}}


def mean(results: list[dict[str, Any]]) -> float:
    """Percent of the questions that are right."""
    return 100 * sum(float(result["score"]) for result in results) / len(results)
