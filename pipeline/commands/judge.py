"""``gens judge run=RUN judge=NAME``: grades the free answers of runs, in a column beside the strict figure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from pipeline.artefacts.folder import ANSWERS_FILE
from pipeline.artefacts.grades import Calibration, GradedBy, write_judge
from pipeline.artefacts.journal import sole_writer
from pipeline.artefacts.stored import LastRead
from pipeline.commands.run import exit_code
from pipeline.config import build
from pipeline.errors import ConfigError, InputError, PipelineError
from pipeline.judging import Judge
from pipeline.judging.stage import calibrated, free_questions, grade_run, graded_by
from pipeline.paths import local_path
from pipeline.reports.judged import agreement_words, judged_table
from pipeline.reports.page import page_on
from pipeline.reports.results import share
from pipeline.reports.runs import RunArtefacts, read_run
from pipeline.reports.scoreboard import score
from pipeline.stopping import ExitCode
from pipeline.terminal import draw, remark, tell
from pipeline.video import Reader


def run(config: DictConfig) -> int:
    """Grade what has no grade by this judge yet, or calibrate the judge; write the pages and print the figures."""
    limit, most = _count(config, "limit"), _count(config, "calibration")
    judge: Judge = build(config.judge, "judge", config.plugins)
    reader: Reader = build(config.reader, "reader", config.plugins)
    runs = _runs(local_path(config.run), judge)
    codes: list[int] = []
    try:
        for folder, graded in runs.items():
            if len(runs) > 1:
                tell(f"{graded.name}:")
            with sole_writer(folder):
                by = graded_by(judge, _notes(judge, graded))
                if config.calibrate:
                    codes.append(_calibrate(judge, by, graded, reader, folder, most or 1))
                else:
                    codes.append(_grade(judge, by, graded, reader, folder, limit))
                page_on([folder], reader, folder)
    finally:
        judge.close()
    if not config.calibrate:
        _tell_figures(runs, judge)
    return max(codes)


def _runs(place: Path, judge: Judge) -> dict[Path, RunArtefacts]:
    """The runs at or below a folder whose answers the judge can grade, by their folders.

    Raises:
        InputError, ConfigError: there is none.
    """
    is_one = (place / ANSWERS_FILE).is_file()
    folders = [place] if is_one else sorted({path.parent for path in place.rglob(ANSWERS_FILE)})
    found: dict[Path, RunArtefacts] = {}
    faults: list[PipelineError] = []
    for folder in folders:
        try:
            of = read_run(folder, folder.name if is_one else folder.relative_to(place).as_posix())
            judge.check(of.benchmark)
            _check_questions(judge, of, folder)
        except (InputError, ConfigError) as error:
            faults.append(error.kept())
        else:
            found[folder] = of
    if not folders:
        raise _no_answers(place)
    if not found:
        raise faults[0]
    for fault in faults:
        remark(f"left out: {fault.problem}")
    return found


def _no_answers(place: Path) -> InputError:
    return InputError(
        f"{place} holds no answers ({ANSWERS_FILE})",
        "name a run folder that gens evaluate or gens answer has written: run=runs/evaluate-...",
    )


def _check_questions(judge: Judge, of: RunArtefacts, folder: Path) -> None:
    if not of.answers:
        raise _no_answers(folder)
    free = free_questions(of.questions)
    if not free:
        raise InputError(
            f"{folder} has no question that is answered in free text, and others need no judge",
            "name a run with free answers: run=runs/evaluate-...",
        )
    lacking = judge.lacks(free[0])
    if lacking is not None and all(judge.lacks(question) for question in free):
        raise InputError(
            f"no question of {folder} has {lacking}",
            "add it to the questions, and run the command that answered them once more, which keeps the answers",
        )


def _grade(judge: Judge, by: GradedBy, of: RunArtefacts, reader: Reader, folder: Path, limit: int | None) -> int:
    _, _, find = of.find
    done = grade_run(of.questions, lambda id_: find(id_, LastRead()), judge, by, reader, folder, limit)
    tell(f"judged {done.asked} answers; {len(done.statuses) - done.asked} had a grade or need none")
    if done.left:
        tell(f"{done.left} answers are left by limit={limit}; they count as not judged")
    return exit_code(list(done.statuses))


def _tell_figures(runs: Mapping[Path, RunArtefacts], judge: Judge) -> None:
    """Print the figures of all judges, and how far each of the others agrees with this one."""
    scores = {of.name: score(read_run(folder, of.name)).judged for folder, of in runs.items()}
    draw(judged_table([(name, each) for name, found in scores.items() for each in found]))
    stem = graded_by(judge, ()).stem
    for name, found in scores.items():
        for line in agreement_words(found, stem):
            tell(f"{name}: {line}" if len(runs) > 1 else line)


def _calibrate(judge: Judge, by: GradedBy, of: RunArtefacts, reader: Reader, folder: Path, most: int) -> int:
    found = calibrated(judge, of.questions, reader, most)
    if not found.questions:
        raise InputError(
            f"no question of {folder} has a reference that this judge can be calibrated with",
            "add references to the questions, or take another judge=",
        )
    write_judge(replace(by, calibration=found), folder)
    tell(f"{by.label}, {found.questions} questions, as shares of the scale:")
    tell(f"  the reference as the answer: {share(found.gold)}; 100.0 % is right")
    tell(f"  the reference of another question: {share(found.shuffled)}; 0.0 % is right")
    tell(f"  an answer that decides for nothing: {share(found.listed)}; 0.0 % is right")
    if found.failed:
        remark(f"{found.failed} of the answers got no grade, and are in no share")
    return ExitCode.SUCCESS if _is_exact(found) else ExitCode.QUESTIONS_FAILED


def _is_exact(found: Calibration) -> bool:
    return not found.failed and found.gold == 1 and not found.shuffled and not found.listed


def _notes(judge: Judge, of: RunArtefacts) -> list[str]:
    """What this run's readers should know: whether the judge may favour its own family."""
    model = getattr(judge, "model", None)
    node = of.parsed_settings.get("answerer")
    named = node if isinstance(node, dict) else {}
    checkpoint = named.get("checkpoint")
    source = checkpoint.get("source") if isinstance(checkpoint, dict) else None
    of_answerer = {_family(str(name)) for name in (named.get("model"), source, of.answerer) if name} - {""}
    if model is None or _family(str(model)) not in of_answerer:
        return []
    note = f"the judge {model} is of the answerer's own family"
    remark(f"note: {note}, and models favour their own")
    return [note]


def _family(model: str) -> str:
    """``Qwen/Qwen3-VL-8B`` is ``qwen``, ``gpt-4o-2024-08-06`` is ``gpt``."""
    found = re.match(r"[a-z]+", model.rpartition("/")[2].casefold())
    return found[0] if found else ""


def _count(config: DictConfig, key: str) -> int | None:
    given = config[key]
    if given is None and key == "limit":
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigError(f"{key}={given} is not a number of questions", f"set {key}=50")
    return given
