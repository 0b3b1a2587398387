"""``gens ask``: one question about one video, answered with the moments that the answer rests on."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, ListConfig, OmegaConf

from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.benchmarks.jsonl import question_from_fields
from pipeline.checks.admission import admit
from pipeline.commands.run import first_stage, run_context, run_folder, run_to_check, second_stage
from pipeline.config import build
from pipeline.domain import Question, Status, option_letter
from pipeline.errors import ConfigError
from pipeline.paths import local_path, path_text
from pipeline.reports.page import page_on
from pipeline.reports.timeline import clock
from pipeline.stopping import ExitCode
from pipeline.subtitles import SubtitleChoice
from pipeline.terminal import remark, tell

_MOST_SHOWN = 400
"""Characters of a thought that the terminal shows."""


def run(config: DictConfig) -> int:
    """Print the answer and the moments it rests on."""
    context = run_context(config)
    question = question_from(config)
    sampler = build(config.sampler, "sampler", config.plugins)
    policy = build(config.selection, "selection", config.plugins)
    answerer = build(config.answerer, "answerer", config.plugins)
    admit(run_to_check(config, context, [question], sampler=sampler, policy=policy, answerer=answerer))
    with run_folder(config) as folder:
        (selection,) = first_stage(config, [question], sampler, policy, context, folder)
        (answer,) = second_stage(config, [selection], answerer, context, folder)
        _show(selection, answer)
        page_on([folder], context.reader, folder)
    return ExitCode.SUCCESS if answer.answer.status is Status.OK else ExitCode.QUESTIONS_FAILED


def question_from(config: DictConfig) -> Question:
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
        subtitles=_subtitles(config),
    )


def _subtitles(config: DictConfig) -> str | None:
    given = config.subtitles_file is not None
    if given == (config.subtitles == SubtitleChoice.NONE):
        raise ConfigError(
            f"subtitles={config.subtitles} and subtitles_file={config.subtitles_file} do not go together",
            "give both, subtitles=at_frames subtitles_file=FILE.srt, or neither",
        )
    return path_text(local_path(config.subtitles_file)) if given else None


def _show(selected: SelectionRow, answered: AnswerRow) -> None:
    answer, question = answered.answer, answered.question
    if selected.selection.status is not Status.OK:
        remark(f"the sampler: {selected.selection.status}\n{selected.selection.detail}")
    if answer.status is not Status.OK:
        told_already = (answer.status, answer.detail) == (selected.selection.status, selected.selection.detail)
        remark(f"no answer: {answer.status}" if told_already else f"no answer: {answer.status}\n{answer.detail}")
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
        tell(f"  {clock(frame.time):>8}  ({frame.time:.2f} s){score}  {frame.source}")


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
