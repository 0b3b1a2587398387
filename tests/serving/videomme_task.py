"""A task of lmms-eval in the form of Video-MME, with its prompt and its rules, over made videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.domain import Question, option_letter

TASK = """\
task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.made_doc_to_visual
doc_to_text: !function utils.videomme_doc_to_text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 16, temperature: 0, top_p: 1.0, num_beams: 1, do_sample: false}
process_results: !function utils.RULE
metric_list:
  - metric: videomme_perception_score
    aggregation: !function utils.videomme_aggregate_results
    higher_is_better: true
lmms_eval_specific_kwargs:
  default: {pre_prompt: "", post_prompt: "\\nAnswer with the option's letter from the given choices directly."}
"""
UTILS = """\
import random

from lmms_eval.tasks.videomme.utils import (
    videomme_aggregate_results, videomme_doc_to_text, videomme_process_results
)

def made_doc_to_visual(doc):
    return [doc["path"]]

def drawing(doc, results):
    return videomme_process_results(doc, [results[0] or random.choice("ABCD")])
"""


def rows(questions: Sequence[Question], videos: Sequence[Path]) -> list[dict[str, Any]]:
    """Questions as Video-MME has them, each about its video."""
    about = {"duration": "short", "domain": "Knowledge", "sub_category": "Astronomy", "task_type": "OCR Problems"}
    return [
        {
            **about,
            "question_id": f"{number}",
            "videoID": video.stem,
            "path": str(video),
            "question": question.text,
            "options": [f"{option_letter(i)}. {option}" for i, option in enumerate(question.options or ())],
            "answer": option_letter(question.correct or 0),
        }
        for number, (question, video) in enumerate(zip(questions, videos, strict=True))
    ]


def write_task(docs: Sequence[dict[str, Any]], folder: Path, rule: str = "videomme_process_results") -> str:
    """The name of a task whose files are written into a folder.

    Args:
        docs: rows.
        folder: for ``--include_path``.
        rule: that grades; ``drawing`` grades a random letter where there is no answer.
    """
    folder.mkdir()
    file = folder / "rows.json"
    file.write_text(json.dumps(docs))
    name = f"made_{rule}"
    (folder / "task.yaml").write_text(TASK.replace("NAME", name).replace("FILE", str(file)).replace("RULE", rule))
    (folder / "utils.py").write_text(UTILS)
    return name


def samples_in(folder: Path) -> list[dict[str, Any]]:
    """The samples that a run logged, in the order of their questions; none where it logged nothing."""
    files = sorted(folder.rglob("*_samples_made_*.jsonl"))
    found = [json.loads(line) for line in files[-1].read_text().splitlines()] if files else []
    return sorted(found, key=lambda sample: int(sample["doc_id"]))
