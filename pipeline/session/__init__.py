"""The two stages from Python: an object that asks questions about videos and keeps its models loaded in between."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.artefacts.results import Held, Results, RunFolder
from pipeline.artefacts.rows import AnswerRow, RelevanceRow, SelectionRow
from pipeline.benchmarks.jsonl import question_of
from pipeline.domain import Question
from pipeline.errors import ConfigError, InputError
from pipeline.identity import digest
from pipeline.orchestrator import answer, sample, select
from pipeline.progress import silently
from pipeline.session.composing import call, composed, own_hydra, told_in_python
from pipeline.session.results import Drawing, Moment, Result, Selected
from pipeline.subtitles import SubtitleChoice

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.answerers import Answerer
    from pipeline.commands.run import RunContext
    from pipeline.samplers import Sampler
    from pipeline.selection import SelectionPolicy
    from pipeline.video import Reader

__all__ = ["Drawing", "Moment", "Result", "Selected", "Session"]

Setting: TypeAlias = str | Mapping[str, Any] | tuple[str, Mapping[str, Any]]
"""The name of an option, keys of the default option, or a name and keys."""
Asked: TypeAlias = Question | Mapping[str, Any]
"""A question, or the fields of a line of ``benchmark=jsonl``."""


class Session:
    """Asks questions about videos with a sampler, a selection policy and an answerer.

    ::

        with Session(sampler="gens_3b", answerer="qwen2_vl_7b", selection={"budget": 32}) as session:
            result = session.ask("lecture.mp4", "Which theorem does she prove?", ["Bayes", "Noether", "Gauss"])
            print(result.answer, result.status, [frame.time for frame in result.frames])

    Arguments are the names and keys of the command line, with the defaults of ``gens ask``. A group of options
    (``sampler``, ``selection``, ``answerer``, ``reader``, ``execution``) takes

    * the name of an option: ``sampler="gens_3b"`` is ``sampler=gens_3b``;
    * a mapping of keys, nested as in the YAML: ``selection={"budget": 32}`` is ``selection.budget=32``;
    * a pair of both: ``sampler=("gens_3b", {"fps": 2})``. Below the first level an option is named in the same way:
      ``answerer={"prompt": "letter_or_phrase"}``. A key that a YAML does not have begins with ``+``.

    ``sampler``, ``selection`` and ``answerer`` also take an object that follows :class:`pipeline.samplers.Sampler`,
    :class:`pipeline.selection.SelectionPolicy` or :class:`pipeline.answerers.Answerer`.

    Models are loaded when a question first needs them and stay loaded until :meth:`close`, which a ``with`` block calls
    also after an exception. Scores and answers are cached by content where the commands cache them, so that a question
    that was asked before, by a session or by a command, is not computed again. An answerer whose answers may differ the
    next time, such as a server with ``response_store: null``, is asked again, unless ``run`` keeps its row. Everything
    is computed in this process and in its processes that read videos, which scripts need no main guard for.

    Wrong settings raise. What a question meets is its ``status``: a missing video or a cut output is no exception.

    Any number of threads may use a session. One call is worked on at a time and the others wait for it, since a model
    takes no two calls at once; questions that come together are best given to one :meth:`ask_many`.

    Args:
        sampler: that scores frames.
        answerer: that answers.
        selection: the policy that selects frames by their scores.
        run: name of a folder below ``paths.runs``, or path of a folder, that keeps rows as a run's, for ``gens report``
            and :func:`pipeline.load_runs`. A session in the same folder goes on with it. None writes no run.
        plugins: packages that you trust, whose classes and functions settings may name.
        config_dir: folder of YAML files of your own.
        **settings: other keys of ``gens ask``: ``subtitles="at_frames"``, ``over_limit="keep_best"``,
            ``paths={"cache": "cache"}``, ``execution={"answer_batch": 4}``.

    Raises:
        ConfigError: a setting cannot be used; its remedy names the key and the argument.
        PipelineError: a checkpoint or an extra is missing, or a folder cannot be written.
    """

    def __init__(
        self,
        sampler: Setting | Sampler | None = None,
        answerer: Setting | Answerer | None = None,
        selection: Setting | SelectionPolicy | None = None,
        *,
        run: str | os.PathLike[str] | None = None,
        plugins: Sequence[str] = (),
        config_dir: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        self._begin()
        parts: dict[str, Any] = {"sampler": sampler, "selection": selection, "answerer": answerer}
        objects = {name: part for name, part in parts.items() if part is not None and not _is_setting(part)}
        named = {name: part for name, part in parts.items() if part is not None and name not in objects}
        given = {**named, **settings, **({"plugins": list(plugins)} if plugins else {})}
        folder = None if config_dir is None else os.fspath(config_dir)
        with told_in_python(), own_hydra(), silently(), self._closing_on_failure():
            config = composed(given, list(objects), folder)
            self._prepare(config, objects, run, call({**parts, **given, "run": None if run is None else str(run)}))

    @classmethod
    def of(cls, config: DictConfig, folder: Path | None) -> Session:
        """The session of a command whose settings are composed, with the groups of ``gens ask``.

        Frames that are prepared for the sampler are stored as in a sweep, since questions about the same videos come
        at any time.

        Args:
            config: the command's.
            folder: keeps the rows as a run's; whoever calls holds it. None keeps them in memory.

        Raises:
            PipelineError: as for a new session.
        """
        session = cls.__new__(cls)
        session._begin()
        with silently(), session._closing_on_failure():
            session._prepare(config, {}, None, "", more_will_be_asked=True)
        session._folder = folder
        return session

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._closing = ExitStack()
        self._is_closed = False

    def _prepare(
        self, config: DictConfig, objects: Mapping[str, Any], run: Any, command: str, more_will_be_asked: bool = False
    ) -> None:
        """Make the parts and check them. The settings are resolved here, while their resolvers are ours."""
        from omegaconf import OmegaConf, open_dict

        from pipeline.answerers import PreparesAhead
        from pipeline.checks.admission import admit_together
        from pipeline.commands.run import run_context, run_to_check
        from pipeline.config import build
        from pipeline.errors import PipelineError
        from pipeline.explain import as_composed
        from pipeline.samplers.uniform import UniformSampler
        from pipeline.selection import without_scores

        try:
            with open_dict(config):
                for name, part in objects.items():
                    config[name] = {"name": str(getattr(part, "name", type(part).__name__))}
            _check_execution(config)
            self._context: RunContext = run_context(config, more_will_be_asked)
            made = {
                name: objects[name] if name in objects else build(config[name], name, config.plugins)
                for name in ("sampler", "selection", "answerer")
            }
            variant = without_scores(made["selection"])
            if variant is not None and not isinstance(made["sampler"], UniformSampler):
                # As settings are composed (pipeline.commands.without_scores); here one of the two is an object.
                made["sampler"] = UniformSampler("uniform", variant)
                with open_dict(config):
                    config.sampler = {"name": "uniform"}
            self._sampler: Sampler = made["sampler"]
            self._policy: SelectionPolicy = made["selection"]
            self._answerer: Answerer = made["answerer"]
            admit_together(
                run_to_check(
                    config,
                    self._context,
                    [],
                    sampler=self._sampler,
                    policy=self._policy,
                    answerer=self._answerer,
                )
            )
            self._closing.callback(self._free)
            if isinstance(self._answerer, PreparesAhead):
                self._answerer.hold_at_most(self._context.prepared_bytes)
            self._folder: Path | None = None
            if run is not None:
                bare = OmegaConf.masked_copy(config, [str(name) for name in config if name not in _OF_OTHERS])
                self._folder = _folder_of(run, Path(config.paths.runs))
                self._closing.enter_context(_recorded(bare, self._folder, command))
        except PipelineError as error:
            error.remedy = as_composed(error.problem, error.remedy, config)
            raise

    @property
    def parts(self) -> Mapping[str, str]:
        """The names of sampler, policy and answerer, and the policy's budget."""
        policy = self._policy
        return {
            "sampler": self._sampler.name,
            "selection": policy.name,
            "budget": str(policy.budget),
            "answerer": self._answerer.name,
        }

    @property
    def takes_subtitles(self) -> bool:
        """Whether a question may come with subtitles: lines are shown to the answerer, or the sampler reads them."""
        from pipeline.samplers.subtitles import reads_subtitles

        return self._context.subtitles is not SubtitleChoice.NONE or reads_subtitles(self._sampler)

    @property
    def folder(self) -> Path | None:
        """The run folder that keeps the rows."""
        return self._folder

    @property
    def reader(self) -> Reader:
        """Reads videos as the session does: in limited processes, where there are any. Any thread may use it."""
        return self._context.reader

    # ------------------------------------------------------------------------------------------------------- questions

    def ask(
        self,
        video: str | os.PathLike[str],
        question: str,
        options: Sequence[str] | None = None,
        *,
        answer: str | int | None = None,
        subtitles: str | os.PathLike[str] | None = None,
        span: tuple[float, float] | None = None,
    ) -> Result:
        """Answer a question about a video.

        Args:
            video: a video file, or a folder of numbered images.
            question: in words.
            options: of which one is the answer; None asks for free text.
            answer: the right option, if it is known: its text, letter or place.
            subtitles: a file of them; the session's ``subtitles`` says which lines are shown.
            span: the part of the video that may be seen, in seconds.
        """
        (result,) = self.ask_many([_fields(video, question, options, answer, subtitles, span)])
        return result

    def ask_many(self, questions: Iterable[Asked]) -> list[Result]:
        """Answer questions, in their order. All questions about one video are scored in one pass over its frames.

        An interrupt, such as a notebook's stop button, raises ``KeyboardInterrupt`` at once, unlike the first Ctrl-C of
        a command: who asks interactively waits for nothing else. The session stays usable.

        Args:
            questions: each a :class:`pipeline.domain.Question`, or a mapping with the fields of a line of
                ``benchmark=jsonl``: ``video`` and ``question``, and if need be ``options``, ``answer``, ``id``,
                ``subtitles``, ``span``, ``evidence``, ``groups``, ``reference`` and ``scoring_points``.

        Raises:
            InputError: two different questions have the same id.
            PipelineError: a model cannot be loaded, or a folder cannot be written.
        """
        with self._lock:
            return self.answer_many(self.select_many(questions))

    def select(
        self,
        video: str | os.PathLike[str],
        question: str,
        options: Sequence[str] | None = None,
        *,
        answer: str | int | None = None,
        subtitles: str | os.PathLike[str] | None = None,
        span: tuple[float, float] | None = None,
    ) -> Selected:
        """Stage 1 alone: the frames that matter for a question. Arguments as of :meth:`ask`."""
        (selected,) = self.select_many([_fields(video, question, options, answer, subtitles, span)])
        return selected

    def select_many(self, questions: Iterable[Asked]) -> list[Selected]:
        """Stage 1 alone, for many questions. Arguments and errors as of :meth:`ask_many`."""
        asked = [each if isinstance(each, Question) else _question(each) for each in questions]
        self._check(asked)
        once = {question.id: question for question in asked}
        relevances: dict[str, RelevanceRow] = {}

        def noted(rows: Iterator[RelevanceRow]) -> Iterator[RelevanceRow]:
            for row in rows:
                relevances[row.question.id] = row
                yield row

        context = self._context
        with self._working("sampler", self._sampler):
            into = self._results(list(once.values()))
            scored = sample(list(once.values()), self._sampler, context.reader, context.relevances, into)
            with closing(scored):
                rows = {row.question.id: row for row in select(noted(scored), self._policy, context.reader, into)}
        return [Selected(rows[each.id], relevances[each.id], context.reader) for each in asked]

    def answer(self, selected: Selected | SelectionRow) -> Result:
        """Stage 2 alone: answer from frames that were selected before.

        Args:
            selected: what :meth:`select` gave, perhaps that of another session, or a row of a ``selections.jsonl`` as
                :func:`pipeline.artefacts.selections.read_selections` reads it.
        """
        (result,) = self.answer_many([selected])
        return result

    def answer_many(self, selections: Iterable[Selected | SelectionRow]) -> list[Result]:
        """Stage 2 alone, for many selections, in their order. Errors as of :meth:`ask_many`."""
        context = self._context
        given = [each if isinstance(each, Selected) else Selected(each, None, context.reader) for each in selections]
        asked = [each.question for each in given]
        self._check(asked)
        once = {each.question.id: each.row for each in given}
        with self._working("answerer", self._answerer):
            answered = answer(
                list(once.values()),
                self._answerer,
                context.reader,
                context.answers,
                context.over_limit,
                context.subtitles,
                context.answer_batch,
                self._results(asked),
            )
            rows: dict[str, AnswerRow] = {row.question.id: row for row in answered}
        return [Result(each, rows[each.question.id]) for each in given]

    # ---------------------------------------------------------------------------------------------------------- its end

    def close(self) -> None:
        """Free the models and let go of the run folder, once the call under way is finished. May be called twice.

        Results stay usable; questions raise :class:`pipeline.errors.InputError`.
        """
        with self._lock:
            self._is_closed = True
            self._closing.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _free(self) -> None:
        try:
            self._sampler.close()
        finally:
            self._answerer.close()

    @contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._closing.close()
            raise

    @contextmanager
    def _working(self, stage: str, part: Any) -> Iterator[None]:
        """Work of a stage, by one thread at a time."""
        from pipeline.checks.remedies import own_overrides

        with self._lock, told_in_python(), own_overrides(stage, part), silently():
            if self._is_closed:
                raise InputError(
                    "the session is closed, and its models are freed",
                    "ask inside its with block, or make another: Session(...)",
                )
            yield

    def _results(self, questions: Sequence[Question]) -> Results:
        """Where the rows of a call go: the run folder, or memory for as long as the call lasts."""
        if self._folder is None:
            return Held()
        from pipeline.artefacts.folder import read_questions, write_questions

        known = {question.id: question for question in read_questions(self._folder)}
        asked = {question.id: _labelled(question, known.get(question.id, question)) for question in questions}
        # A question that could not be asked has failed all the same, in later calls too.
        failed = [question for question in known.values() if question.fault and question.id not in asked]
        write_questions([*failed, *asked.values()], self._folder)
        return RunFolder(self._folder)

    def _check(self, questions: Sequence[Question]) -> None:
        """Raise for questions that do not go together, or not with the settings."""
        by_id: dict[str, Question] = {}
        for question in questions:
            if by_id.setdefault(question.id, question) != question:
                raise InputError(
                    f"two questions have the id {question.id!r}: {by_id[question.id].text!r} and {question.text!r}",
                    "give each an id of its own; the same question with other labels is asked once, or in another call",
                )
            if question.subtitles is not None and not self.takes_subtitles:
                with told_in_python():
                    raise ConfigError(
                        f"{question.subtitles.path} is given, and the session shows no subtitles",
                        "say which lines are shown: subtitles=at_frames",
                    )


_LABELS = ("answer", "groups", "evidence", "id", "reference", "scoring_points")
"""Fields of a row that do not change what is asked."""
_OF_OTHERS = ("hydra", "video", "question", "options", "answer", "subtitles_file")
"""Parts of the settings of ``gens ask`` that no session has."""


def _is_setting(part: Any) -> bool:
    return isinstance(part, str | Mapping | tuple)


def _check_execution(config: DictConfig) -> None:
    executor = config.execution.get("executor")
    if executor not in (None, "inline"):
        raise ConfigError(
            f"execution.executor={executor}: a session keeps its models in its own process",
            "leave it out, execution=inline, or compute in several processes with gens evaluate",
        )
    if config.execution.overlap_stages:
        raise ConfigError(
            f"execution.overlap_stages={config.execution.overlap_stages}: a session answers once it has sampled",
            "leave it out, execution.overlap_stages=false, or overlap the stages of gens evaluate",
        )


def _fields(video: Any, question: Any, options: Any, answer: Any, subtitles: Any, span: Any) -> dict[str, Any]:
    given = {"options": options, "answer": answer, "subtitles": subtitles, "span": span}
    fields = {"video": video, "question": question, **{name: each for name, each in given.items() if each is not None}}
    return {**fields, "answer": answer} if options is not None else fields


def _question(fields: Mapping[str, Any]) -> Question:
    """The question, or one that says what is wrong with it. Without an id it has one made of what is asked."""
    plain = {str(name): _plain(value) for name, value in fields.items()}
    if plain.get("options") is not None:
        plain.setdefault("answer", None)
    asked = {name: value for name, value in plain.items() if name not in _LABELS}
    return question_of(plain, digest(repr(sorted(asked.items())))[:16])


def _labelled(question: Question, before: Question) -> Question:
    """A question that is asked again, with the labels that were given when it was asked before."""
    if question.fault or before.fault or question.options != before.options:
        return question
    return replace(
        question,
        correct=before.correct if question.correct is None else question.correct,
        evidence=question.evidence or before.evidence,
        groups=question.groups or before.groups,
        reference=question.reference or before.reference,
        scoring_points=question.scoring_points or before.scoring_points,
    )


def _plain(value: Any) -> Any:
    """A value as a line of JSON has it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _folder_of(run: Any, runs: Path) -> Path:
    from pipeline.paths import local_path

    path = local_path(run)
    return path if isinstance(run, os.PathLike) or len(path.parts) > 1 else runs / path


@contextmanager
def _recorded(config: DictConfig, folder: Path, command: str) -> Iterator[None]:
    """Hold a run folder and write into it what runs there, and that it ends."""
    from pipeline.artefacts.journal import sole_writer
    from pipeline.commands.outcome import JobStatus, Outcome, write_outcome
    from pipeline.commands.record import record, record_end
    from pipeline.stopping import ExitCode

    with sole_writer(folder):
        write_outcome(Outcome(JobStatus.RUNNING), folder)
        record(config, folder, command)
        try:
            yield
        finally:
            record_end(folder)
            write_outcome(Outcome(JobStatus.DONE, ExitCode.SUCCESS), folder)
