"""``gens ask``: one question about one video, answered with the moments that the answer rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.benchmarks.jsonl import question_from_fields
from pipeline.checks.admission import Examination, Run, admit
from pipeline.commands.run import Seen, first_stage, run_context, run_folder, run_to_check, second_stage
from pipeline.config import build
from pipeline.domain import Question, Status, option_letter
from pipeline.errors import ConfigError
from pipeline.paths import local_path, nearest_path, path_text
from pipeline.quoting import for_shell
from pipeline.reports.page import page_on
from pipeline.reports.timeline import clock
from pipeline.samplers import Sampler
from pipeline.samplers.subtitles import reads_subtitles
from pipeline.stopping import ExitCode
from pipeline.subtitles import SubtitleChoice
from pipeline.terminal import remark, tell
from pipeline.video.place import absolute

_MOST_SHOWN = 400
"""Characters of a thought that the terminal shows."""


def run(config: DictConfig) -> int:
    """Print the answer and the moments it rests on."""
    context = run_context(config)
    sampler = build(config.sampler, "sampler", config.plugins)
    question = question_from(config, sampler)
    _check_is_there(str(config.video))
    policy = build(config.selection, "selection", config.plugins)
    answerer = build(config.answerer, "answerer", config.plugins)
    checked = run_to_check(config, context, [question], sampler=sampler, policy=policy, answerer=answerer)
    remark(_header(question, checked, admit(checked)))
    with run_folder(config) as folder:
        seen = Seen()
        (selection,) = first_stage(config, [question], sampler, policy, context, folder, seen)
        if selection.selection.status is Status.OK:
            seen.tell()
        (answer,) = second_stage(config, [selection], answerer, context, folder)
        _show(selection, answer)
        page_on([folder], context.reader, folder)
    return ExitCode.SUCCESS if answer.answer.status is Status.OK else ExitCode.QUESTIONS_FAILED


def _check_is_there(video: str) -> None:
    """Refuse a link, and a file that is not there.

    Raises:
        ConfigError: what is wrong, with a file of a similar name where there is one.
    """
    if re.match(r"(?!file:)\w[\w+.-]+://", video):
        raise ConfigError(
            f"video={video} is a link, and only files are read",
            "download the video, then: video=clip.mp4",
        )
    path = absolute(video)
    if not _is_missing(path):
        return  # what else may be wrong with it is found as it is read
    close = nearest_path(path)
    remedy = "check the path: video=..." if close is None else for_shell(f"video={path_text(close)}")
    raise ConfigError(f"there is no video {video}", remedy)


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _header(question: Question, run: Run, found: Examination) -> str:
    """What answers the question, in one line: video, its length, sampler, policy, answerer, and where models run."""
    name = Path(local_path(question.video)).name
    probe = found.videos.probes.get(question.video)
    length = f", {clock(round(probe.video.duration))}" if probe is not None else ""
    assert run.sampler is not None
    assert run.policy is not None
    assert run.answerer is not None
    parts = f"{run.sampler.name} -> {run.policy.name}, {run.policy.budget} frames -> {run.answerer.name}"
    return f"{path_text(name)}{length} | {parts} | {_devices(found)}"


def _devices(found: Examination) -> str:
    gpus = {f"cuda:{gpu.index}": gpu.name for gpu in found.machine.gpus}
    devices = dict.fromkeys(model.device for _, model in found.held)
    named = [gpus.get(device, {"cpu": "CPU", "spread": found.machine.name}.get(device, device)) for device in devices]
    return ", ".join(named) or "no model on this machine"


def question_from(config: DictConfig, sampler: Sampler) -> Question:
    """The question of a composed configuration, in the words that were typed."""
    if config.options is not None and not isinstance(config.options, ListConfig):
        raise ConfigError(
            f"options={config.options} is not a list", 'set options="[one, another]", or null for free text'
        )
    options = None if config.options is None else OmegaConf.to_container(config.options, resolve=True)
    return question_from_fields(
        id="ask",
        video=path_text(local_path(config.video)),
        text=str(config.question),
        options=options,
        answer=config.answer,
        subtitles=_subtitles(config, sampler),
    )


def _subtitles(config: DictConfig, sampler: Sampler) -> str | None:
    given = config.subtitles_file is not None
    is_for_the_answerer = config.subtitles != SubtitleChoice.NONE
    if given != is_for_the_answerer and not (given and reads_subtitles(sampler)):
        raise ConfigError(
            f"subtitles={config.subtitles} and subtitles_file={config.subtitles_file} do not go together",
            "give both, subtitles=at_frames subtitles_file=FILE.srt, or neither",
        )
    return path_text(local_path(config.subtitles_file)) if given else None


def _show(selected: SelectionRow, answered: AnswerRow) -> None:
    answer, question = answered.answer, answered.question
    selection = selected.selection
    if selection.status is not Status.OK and (selection.status, selection.detail) != (answer.status, answer.detail):
        remark(f"the sampler: {selection.status}\n{selection.detail}")
    if answer.status is not Status.OK:
        remark(f"no answer: {answer.status}\n{answer.detail}")
        if answer.text:
            tell(f"the model said: {_shortened(answer.text)}")
    elif question.options is not None and answer.option is not None:
        tell(f"answer: {_option(question.options, answer.option)}{_verdict(question, answer.option)}")
    else:
        tell(f"answer: {answer.text.strip()}")
    if answer.thought.strip():
        tell(f"its thought, which is not graded: {_shortened(answer.thought)}")
    if selected.selection.frames:
        tell("selected frames:")
    for frame in selected.selection.frames:
        score = "" if frame.score is None else f"  score {frame.score:g}"
        scale = "" if frame.scale in (None, 1.0) else f"  scale {frame.scale:g}"
        tell(f"  {clock(frame.time):>8}  ({frame.time:.2f} s){score}  {frame.source}{scale}")


def _shortened(text: str) -> str:
    """The beginning of a thought or of an output without an answer, in one line; the report has more of it."""
    words = " ".join(text.split())
    return words if len(words) <= _MOST_SHOWN else f"{words[:_MOST_SHOWN]} ..."


def _option(options: Sequence[str], option: int) -> str:
    return f"{option_letter(option)}. {options[option]}"


def _verdict(question: Question, option: int) -> str:
    """Whether it is the right option, where the command said which one is."""
    if question.options is None or question.correct is None:
        return ""
    if option == question.correct:
        return " (right)"
    return f" (wrong: the right option is {_option(question.options, question.correct)})"
