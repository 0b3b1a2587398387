"""A task for lmms-eval whose questions bring their selected frames: its models then answer from GenS's frames.

lmms-eval samples frames inside each model, so a selection cannot be handed to it without patching one file a model. But
a task may bring pictures in place of a video, and ``--include_path`` takes tasks from any folder. So the frames become
JPEG files, and beside them stand the questions, the task's YAML and the few functions that it calls::

    FOLDER/gens_frames.yaml  gens_functions.py  questions.jsonl  frames/00000/000.jpg ...

Checked with lmms-eval 0.7.3. Its chat models (``models/chat``) get each frame after its time; its simple models are
given pictures and a prompt, and learn the frames' order alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.answerers.prompts import AnswerPrompt
from pipeline.artefacts.rows import SelectionRow
from pipeline.domain import OPTION_LETTERS, SelectedFrame, Status, option_letter
from pipeline.errors import ConfigError, InputError, VideoError
from pipeline.foreign import frames_status
from pipeline.progress import track

if TYPE_CHECKING:
    from pipeline.video import Reader

QUESTIONS = "questions.jsonl"
FUNCTIONS = "gens_functions.py"

_YAML = """\
# python -m lmms_eval --include_path {folder} --tasks {task} --model MODEL --log_samples --output_path OUT
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
test_split: test
output_type: generate_until
doc_to_visual: !function gens_functions.pictures
doc_to_text: !function gens_functions.prompt
doc_to_messages: !function gens_functions.messages
doc_to_target: answer
process_results: !function gens_functions.count
cluster_key: video
generation_kwargs:
  max_new_tokens: {max_new_tokens}
  temperature: 0
  do_sample: false
metric_list:
  - metric: gens_acc
    aggregation: !function gens_functions.mean
    higher_is_better: true
"""


@dataclass(frozen=True)
class LmmsEvalTaskForm:
    """Writes the folder of a task."""

    task: str
    """Its name in ``--tasks``; letters, digits and ``_``."""
    label: str
    """Label before each frame in chat models, from ``{time}`` in seconds; empty for no times."""
    prompt: AnswerPrompt
    """Question, options and instruction, as one of our answerers would put them; without subtitles."""
    max_new_tokens: int
    quality: int
    """JPEG quality, 1..95; the frames keep their size, unless their selection states another."""

    def __post_init__(self) -> None:
        if re.fullmatch(r"\w+", self.task, re.ASCII) is None:
            raise ConfigError(
                f"form.task={self.task!r} is not a task name", "use letters, digits and _: form.task=gens"
            )
        if not 1 <= self.quality <= 95:
            raise ConfigError(f"form.quality={self.quality} is not in 1..95", "set form.quality=95")
        if self.max_new_tokens < 1:
            raise ConfigError(f"form.max_new_tokens={self.max_new_tokens} says nothing", "set form.max_new_tokens=16")
        try:
            self.label.format(time=1.5)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"form.label={self.label!r} cannot be filled: {error}",
                "use {time}: \"form.label='{time:.1f}s: '\"",
            ) from error
        if self.prompt.system or self.prompt.answer_prefix or self.prompt.tells_frames:
            raise ConfigError(
                f"form.prompt={self.prompt.name} has a system turn, begins the answer or names the frames, for which a "
                "task has no place",
                "take another: answerer/prompt@form.prompt=letter, or one of those named ..._lmms_eval",
            )

    def write(self, rows: Sequence[SelectionRow], reader: Reader, folder: Path) -> list[Status]:
        """Write everything below ``folder``; existing files of the same names are replaced.

        A question without frames, or whose video cannot be read, is left out of the task: lmms-eval would have its
        model guess without seeing anything.

        Returns:
            The status of each row: ``ok`` for those in the task.

        Raises:
            InputError: a question has no options or no known answer, so that the task could not count it.
        """
        _check(rows)
        entries: dict[int, dict[str, Any]] = {}
        statuses = [frames_status(row) for row in rows]
        by_video: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            if row.selection.frames:
                by_video.setdefault(row.question.video, []).append(number)
        with track("frames", len(by_video)) as advance:
            for video, numbers in by_video.items():
                try:
                    self._pictures(video, {number: rows[number].selection.frames for number in numbers}, reader, folder)
                except VideoError as error:
                    for number in numbers:
                        statuses[number] = error.status
                else:
                    entries.update({number: self._entry(rows[number], number) for number in numbers})
                advance(1)
        self._files(folder, [entries[number] for number in sorted(entries)])
        return statuses

    def _pictures(self, video: str, frames: dict[int, tuple[SelectedFrame, ...]], reader: Reader, folder: Path) -> None:
        from PIL import Image

        wanted: dict[float, list[tuple[Path, float]]] = {}
        for number, selected in frames.items():
            for place, moment in enumerate(selected):
                wanted.setdefault(moment.time, []).append((folder / _image(number, place), moment.scale or 1.0))
        seconds = sorted(wanted)
        with reader.open(video) as source:
            for second, frame in zip(seconds, source.frames_at(seconds), strict=True):
                picture = Image.fromarray(frame.pixels)
                for path, scale in wanted[second]:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    width, height = (max(1, round(side * scale)) for side in picture.size)
                    shown = picture if scale == 1.0 else picture.resize((width, height), Image.Resampling.BICUBIC)
                    shown.save(path, quality=self.quality, subsampling=0)

    def _entry(self, row: SelectionRow, number: int) -> dict[str, Any]:
        question = row.question
        assert question.correct is not None
        return {
            "id": question.id,
            "video": question.video,
            "question": question.text,
            "options": list(question.options or ()),
            "answer": option_letter(question.correct),
            "prompt": self.prompt.render(question),
            "frames": [
                {
                    "image": _image(number, place),
                    "time": frame.time,
                    "label": self.label.format(time=frame.time),
                }
                for place, frame in enumerate(row.selection.frames)
            ],
            "groups": dict(question.groups),
        }

    def _files(self, folder: Path, entries: Sequence[dict[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        questions = (folder / QUESTIONS).resolve()
        questions.write_text(
            "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8"
        )
        source = resources.files("pipeline.foreign").joinpath("lmms_eval_functions.py")
        (folder / FUNCTIONS).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        text = _YAML.format(
            task=self.task,
            folder=folder.resolve(),
            questions=json.dumps(str(questions), ensure_ascii=False),
            max_new_tokens=self.max_new_tokens,
        )
        (folder / f"{self.task}.yaml").write_text(text, encoding="utf-8")


def _image(number: int, place: int) -> str:
    return f"frames/{number:05d}/{place:03d}.jpg"


def _check(rows: Sequence[SelectionRow]) -> None:
    unknown = [row.question.id for row in rows if not row.question.options or row.question.correct is None]
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(rows)} questions have no options or no known answer, {unknown[0]!r} for one",
            "export a selection over multiple-choice questions whose answers are known: form=seconds takes any",
        )
    long = [row.question.id for row in rows if len(row.question.options or ()) > len(OPTION_LETTERS)]
    if long:
        raise InputError(
            f"{len(long)} of {len(rows)} questions have more options than there are letters, {long[0]!r} for one",
            f"give them {len(OPTION_LETTERS)} at most, or take a form that lists no options: form=seconds",
        )
