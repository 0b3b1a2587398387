"""A model behind an OpenAI-compatible server as a judge. Requests, failures and prices are those of the answerer."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipeline.answerers.ahead import each
from pipeline.answerers.openai_replies import Prices, Reply, ReplyStore
from pipeline.answerers.openai_requests import SentFrame
from pipeline.answerers.openai_server import Endpoint, NoAnswerError, Server
from pipeline.domain import Cost, Grade, Question, Status
from pipeline.errors import ConfigError, PipelineError, SubtitlesError, VideoError, with_remedy
from pipeline.identity import Identified, Label, Place, Speed, digest
from pipeline.judging import GivenAnswer, Scale
from pipeline.judging.evidence import Evidence, evidence_of
from pipeline.judging.rubrics import Look, Rubric, Wording
from pipeline.thoughts import split_thoughts
from pipeline.video import Reader

_TRIES = 2
_LOCKS = 4096
_OWN_FIELDS = ("model", "messages", "temperature", "seed", "n", "stream", "response_format", "structured_outputs")
_LIMITS = ("max_tokens", "max_completion_tokens")
_AT_LEAST = {"max_new_tokens": 1, "at_once": 1, "most_frames": 1, "repeat": 1}


class _NoVerdictError(Exception):
    """An answer has no grade; the reason is its status."""

    def __init__(self, status: Status, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.status = status
        self.detail = with_remedy(problem, remedy)


@dataclass(frozen=True)
class ServerJudge(Identified):
    """Asks a server's model for a verdict by a rubric."""

    kind: ClassVar[str] = "server_judge"

    name: Label[str]
    base_url: str
    """The address of the API, which mostly ends in ``/v1``."""
    model: str
    """The server's name for the model. A published judge is named by its snapshot."""
    api_key_env: Place[str | None]
    """Name of the environment variable that holds the key; None for a server without keys."""
    rubric: Rubric
    temperature: float | None
    """None: not sent."""
    seed: int | None
    max_new_tokens: int
    """Of a reply, with its thoughts."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"]
    constrain: Literal["none", "openai", "vllm"]
    """How the server is bound to the form of a verdict. ``openai``: ``response_format`` with a JSON schema, where the
    verdict is an object; ``vllm``: also ``structured_outputs.choice``, where it is one of a few words."""
    extra_body: Mapping[str, Any]
    """Further fields of the request, sent unchanged."""
    repeat: int
    """How often each answer is judged. The median counts."""
    frame: SentFrame
    """The form of frames, for rubrics that let the judge see the evidence."""
    most_frames: int
    """Of one answer's evidence."""
    at_once: Speed[int]
    """Requests under way at one time."""
    timeout: Speed[float]
    retries: Speed[int]
    give_up_after: Speed[float | None]
    prices: Label[Prices]
    reply_store: Place[Path | None]
    """Folder where replies are kept from run to run; None: every request is made."""

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            if (value := getattr(self, name)) < least:
                raise ConfigError(f"judge.{name}={value} is too small", f"set judge.{name}={least} or more")
        if self.repeat % 2 == 0:
            raise ConfigError(
                f"judge.repeat={self.repeat}: an even number of verdicts may have no majority", "set judge.repeat=3"
            )
        if doubled := sorted({*_OWN_FIELDS, *_LIMITS} & set(self.extra_body)):
            raise ConfigError(
                f"judge.extra_body holds {', '.join(doubled)}, which has a setting of its own, or no meaning here",
                f"take it out: '~judge.extra_body.{doubled[0]}'",
            )
        with _of_judge():
            _ = self._endpoint

    @property
    def label(self) -> str:
        """Model and rubric."""
        return f"{self.model}, {self.rubric.name}" + (f", median of {self.repeat}" if self.repeat > 1 else "")

    @property
    def scale(self) -> Scale:
        """The rubric's."""
        return self.rubric.scale

    @property
    def mean_over(self) -> str | None:
        """The rubric's."""
        return self.rubric.mean_over

    @property
    def notes(self) -> Sequence[str]:
        """Whether words, model and temperature are those of published figures."""
        published, notes = self.rubric.published, [self.rubric.note]
        if published is not None and published.judge != self.model:
            notes.append(f"not the published judge, {published.judge}")
        if published is not None and published.temperature != self.temperature:
            known = "of its own" if self.temperature is None else f"{self.temperature:g}"
            notes.append(f"a temperature {known} and not the published {published.temperature:g}")
        return notes

    def identity(self) -> Mapping[str, Any]:
        """All that decides verdicts and nothing secret: only host and path of the URL."""
        return {**super().identity(), "base_url": self._endpoint.address}

    def check(self, benchmark: str) -> None:
        """Check that the rubric is for the benchmark and that requests can be made. Sends nothing.

        Raises:
            ConfigError: the rubric is for others, or there is no key.
            MissingExtraError: the client is not installed.
        """
        of = self.rubric.benchmarks
        if of and benchmark not in of:
            raise ConfigError(
                f"judge/rubric={self.rubric.name} grades the answers of {', '.join(of)}, and these are of "
                f"{benchmark or 'a benchmark that the run does not name'}",
                "take judge/rubric=general, or say that it fits: judge.rubric.benchmarks=[]",
            )
        with _of_judge():
            self._server.check()

    def lacks(self, question: Question) -> str | None:
        """As the rubric says."""
        return self.rubric.lacks(question)

    def grade(self, answers: Iterable[GivenAnswer], reader: Reader) -> Iterator[Grade]:
        """One grade for each answer, as they come.

        Raises:
            CheckpointError: the server does not have the model.
            ConfigError: the server takes no request with this key or these settings.
            StorageError: replies cannot be kept.
        """
        with _of_judge():
            yield from each(partial(self._grade, reader=reader), answers, self.at_once)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    @cached_property
    def _endpoint(self) -> Endpoint:
        return Endpoint(self.base_url, self.model, self.api_key_env, self.timeout, self.retries)

    @cached_property
    def _server(self) -> Server:
        return Server(self._endpoint, self.give_up_after)

    @cached_property
    def _under_way(self) -> Sequence[threading.Lock]:
        """Locks of requests, by their keys: many more than there are requests at one time."""
        return [threading.Lock() for _ in range(_LOCKS)]

    @cached_property
    def _store(self) -> ReplyStore | None:
        return None if self.reply_store is None else ReplyStore(self.reply_store)

    def _grade(self, given: GivenAnswer, reader: Reader) -> Grade:
        said = _Replies()
        try:
            votes = [self._vote(given, reader, said, number) for number in range(self.repeat)]
        except _NoVerdictError as none:
            grade = Grade(given.question.id, None, status=none.status, detail=none.detail)
        else:
            score = statistics.median(score for score, _ in votes)
            parts = {name: statistics.median(each[name] for _, each in votes) for name in votes[0][1]}
            many = tuple(score for score, _ in votes) if self.repeat > 1 else ()
            grade = Grade(given.question.id, score, parts, many)
        models = ", ".join(dict.fromkeys(said.models))
        rubric = f"{self.rubric.name} {self.rubric.version}"
        return replace(grade, replies=tuple(said.replies), model=models, rubric=rubric, cost=said.cost)

    def _vote(
        self, given: GivenAnswer, reader: Reader, said: _Replies, number: int
    ) -> tuple[float, Mapping[str, float]]:
        first, look = self.rubric.wording(given.question), self.rubric.look
        verdict = self._verdict(first, partial(first.messages, given), said, number)
        if verdict.score is None and look is not None:
            seen = self._seen(look, given.question, reader)
            images = [self.frame.image_part(self.frame.encoded(frame.pixels)) for frame in seen.frames]
            verdict = self._verdict(look, partial(look.messages, given, images, seen), said, number)
        assert verdict.score is not None  # the rubric checks it
        return verdict.score, verdict.parts

    def _verdict(self, wording: Wording, messages: Callable[..., list[Any]], said: _Replies, number: int) -> Any:
        """The verdict of the first reply that holds one.

        Args:
            wording: what is asked.
            messages: the wording's, for what is graded; once more, with ``is_again``.
            said: takes what is replied.
            number: of the times that the answer is judged.

        Raises:
            _NoVerdictError: none does.
        """
        is_cut = False
        for place in range(_TRIES):
            body = self._body(wording, messages(is_again=place > 0))
            reply = self._reply(body, said, number)
            if reply.is_refused:
                words = reply.refusal or f"its filter stepped in ({reply.finish})"
                raise _NoVerdictError(
                    Status.JUDGE_FAILED, f"{self._endpoint.host} declined to judge: {words}", "take another judge.model"
                )
            # Of a text that was cut, any object may be one that it would have taken back.
            is_cut = reply.is_cut
            split = split_thoughts(reply.text)
            verdict = None if is_cut or split.is_open else wording.verdict.read(split.answer)
            if verdict is not None:
                return verdict
        if is_cut:
            problem = f"The token limit cut the judge's reply, {_TRIES} times."
            remedy = f"Set judge.max_new_tokens={2 * self.max_new_tokens}"
        else:
            problem = f"No verdict can be read from the judge's reply, {_TRIES} times: {reply.text.strip()[:200]!r}"
            remedy = "Take a stronger judge.model, or bind its replies: judge.constrain=vllm or judge.constrain=openai"
        raise _NoVerdictError(Status.UNREADABLE_VERDICT, problem, remedy)

    def _reply(self, body: Mapping[str, Any], said: _Replies, number: int) -> Reply:
        """The reply, asked for or kept, noted in ``said``.

        Raises:
            _NoVerdictError: there is none.
        """
        if self._store is None:
            return self._asked(body, said)
        key = digest({"host": self._endpoint.address, "body": body, "number": number})
        # Equal requests at the same time, of equal answers to equal questions, are sent once.
        with self._under_way[int(key[:4], 16) % len(self._under_way)]:
            kept = self._store.find(key)
            if kept is not None:
                said.add(0.0, kept)
                return kept
            reply = self._asked(body, said)
            self._store.keep(key, reply)
            return reply

    def _asked(self, body: Mapping[str, Any], said: _Replies) -> Reply:
        begin = time.perf_counter()
        try:
            reply = self._server.ask(body, ["another judge.model"])
        except NoAnswerError as error:
            said.add(time.perf_counter() - begin)
            raise _NoVerdictError(Status.JUDGE_FAILED, *_judge_words(error.problem, error.remedy)) from None
        said.add(time.perf_counter() - begin, reply, self.prices.dollars(reply))
        return reply

    def _body(self, wording: Wording, messages: Sequence[Any]) -> dict[str, Any]:
        settings = {"temperature": self.temperature, "seed": self.seed}
        return {
            "model": self.model,
            "messages": list(messages),
            self.max_tokens_field: self.max_new_tokens,
            **{name: value for name, value in settings.items() if value is not None},
            **self._bound(wording),
            **self.extra_body,
        }

    def _bound(self, wording: Wording) -> Mapping[str, Any]:
        schema, choices = wording.verdict.schema(), wording.verdict.choices()
        if self.constrain != "none" and schema is not None:
            named = {"name": "verdict", "strict": True, "schema": schema}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        if self.constrain == "vllm" and choices is not None:
            return {"structured_outputs": {"choice": list(choices)}}
        return {}

    def _seen(self, look: Look, question: Question, reader: Reader) -> Evidence:
        try:
            return evidence_of(question, reader, self.most_frames, with_subtitles=look.subtitles is not None)
        except SubtitlesError as error:
            raise _NoVerdictError(
                Status.JUDGE_FAILED,
                f"The judge wants to see the video, and is to read its subtitles: {error.problem}",
                "Repair the file, or judge without, by words that are not the authors' then: "
                "judge.rubric.look.subtitles=null",
            ) from error
        except VideoError as error:
            raise _NoVerdictError(
                Status.JUDGE_FAILED, f"The judge wants to see the video: {error.problem}", error.remedy
            ) from error


class _Replies:
    """All that a judge said of one answer, and what it cost."""

    def __init__(self) -> None:
        self.replies: list[str] = []
        self.models: list[str] = []
        self.cost = Cost()

    def add(self, seconds: float, reply: Reply | None = None, dollars: float = 0.0) -> None:
        """Note a reply, or the time that none took."""
        cost = self.cost
        prompt, output = (reply.prompt_tokens, reply.output_tokens) if reply else (0, 0)
        self.cost = Cost(
            cost.seconds + seconds, cost.prompt_tokens + prompt, cost.output_tokens + output, cost.dollars + dollars
        )
        if reply is not None:
            self.replies.append(reply.text)
            self.models += [reply.model] if reply.model else []


_WORDS = (
    (re.compile(r"\banother answerer=NAME\b"), "another judge.model=NAME"),
    (re.compile(r"\banswerer\b"), "judge"),
    (re.compile(r"\bexecution\.answer_batch\b"), "judge.at_once"),
)
"""The answerer's settings in messages of the transport, which serves both, and the judge's."""


def _judge_words(*texts: str) -> tuple[str, ...]:
    for pattern, ours in _WORDS:
        texts = tuple(pattern.sub(ours, text) for text in texts)
    return texts


@contextmanager
def _of_judge() -> Iterator[None]:
    """Errors of the transport name the judge's settings."""
    try:
        yield
    except PipelineError as error:
        error.problem, error.remedy = _judge_words(error.problem, error.remedy)
        raise
