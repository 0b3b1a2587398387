"""``gens export selections=FILE form=FORM``, or ``answers=RUN``: our files as other projects read them."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.artefacts.folder import ANSWERS_FILE, sibling_questions
from pipeline.artefacts.rows import AnswerRow
from pipeline.artefacts.selections import read_selections
from pipeline.artefacts.stored import StoredRows
from pipeline.artefacts.writing import write_whole
from pipeline.commands.run import exit_code
from pipeline.config import build
from pipeline.domain import Status
from pipeline.errors import ConfigError, InputError
from pipeline.foreign import AnswerForm, FillsGaps, FolderForm, SelectionForm, frames_status
from pipeline.paths import local_path
from pipeline.terminal import tell


def run(config: DictConfig) -> int:
    """Write the export. Returns 1 if something is left out, since the other form cannot say why."""
    form = build(config.form, "form", config.plugins)
    chosen = HydraConfig.get().runtime.choices["form"]
    if isinstance(form, AnswerForm):
        return _answers(config, form, chosen)
    if isinstance(form, FolderForm):
        return _folder(config, form, chosen)
    return _selections(config, form, chosen)


def _selections(config: DictConfig, form: SelectionForm, chosen: str) -> int:
    source = _given(config, "selections", chosen)
    rows = read_selections(source)
    target = _write(form.text(rows), _target(config, source.with_suffix(f".{chosen}{form.suffix}")))
    tell(f"{len(rows)} selections as {chosen}: {target}")
    scaled = sum(any(frame.scale not in (None, 1.0) for frame in row.selection.frames) for row in rows)
    if scaled:
        tell(
            f"the frames of {scaled} selections have sizes of their own, for which form={chosen} has no place. "
            "form=lmms_eval_task writes the frames themselves, in these sizes"
        )
    return max(exit_code([frames_status(row) for row in rows]), int(scaled > 0))


def _folder(config: DictConfig, form: FolderForm, chosen: str) -> int:
    source = _given(config, "selections", chosen)
    rows = read_selections(source)
    target = _target(config, source.with_suffix(f".{chosen}"))
    statuses = form.write(rows, build(config.reader, "reader", config.plugins), target)
    tell(f"{statuses.count(Status.OK)} of {len(rows)} selections as {chosen}: {target}")
    return exit_code(statuses)


def _answers(config: DictConfig, form: AnswerForm, chosen: str) -> int:
    source = _given(config, "answers", chosen)
    file = source / ANSWERS_FILE if source.is_dir() else source
    asked = sibling_questions(file)
    rows = StoredRows.opened(AnswerRow, file, asked)
    if not rows:
        raise InputError(f"{file} holds no answer", "name a run that gens answer or gens evaluate has finished")
    questions = tuple(asked.values()) or tuple(row.question for row in rows)
    target = _write(form.samples(rows, questions), _target(config, file.with_suffix(f".{chosen}{form.suffix}")))
    tell(f"{len(rows)} answers as {chosen}: {target}")
    if isinstance(form, FillsGaps) and (filled := form.filled(rows, questions)):
        tell(f"{len(filled)} questions have no answer, and form.missing stands for them: {', '.join(filled)}")
    elif len(rows) < len(questions):
        tell(f"{len(questions) - len(rows)} of {len(questions)} questions have no answer yet, and are not in it")
    return max(exit_code([row.answer.status for row in rows]), int(len(rows) < len(questions)))


def _given(config: DictConfig, key: str, chosen: str) -> Path:
    other = "answers" if key == "selections" else "selections"
    if config[key] is None:
        raise ConfigError(f"form={chosen} is made from {key}", f"name them: {key}=runs/...")
    if config[other] is not None:
        raise ConfigError(f"form={chosen} is made from {key} and not from {other}", f"leave out {other}=")
    return local_path(config[key])


def _target(config: DictConfig, default: Path) -> Path:
    return local_path(config.target) if config.target else default


def _write(text: str, target: Path) -> Path:
    write_whole(text.encode(), target, "target=...")
    return target
