"""The model: lmms-eval's questions, grouped by video, to ``gens serve``."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.usage_metrics import log_usage
from lmms_eval.protocol import ChatMessages
from loguru import logger
from openai import APIStatusError
from tqdm import tqdm

from gens_lmms_eval.server import Server, ServerError, Started, command_of, folders_of, found
from gens_lmms_eval.tasks import harm_of, in_turn, span_in

_MOST_NAMED = 5
_HOPELESS = 16
"""Errors of the server among the first questions, with no answer between them, after which no more is asked."""


@dataclass(frozen=True)
class _Asked:
    """A question of a task."""

    id: str
    """In the run folder: task, split, number of the document, and a digest of what is asked."""
    task: str
    harm: str
    """As :func:`gens_lmms_eval.tasks.harm_of` says it."""
    video: str
    messages: list[dict[str, Any]]
    span: list[float] | None
    """Start and end of the part of the video that the question is about; None: all of it."""


@dataclass(frozen=True)
class _Answered:
    text: str
    tokens: TokenCounts
    status: str
    detail: str
    folder: str
    """Name of the run folder, where the server keeps one."""


class Gens(lmms):
    """GenS chooses frames, and an answerer sees these alone.

    Args:
        gens: executable of the environment that gens-videoqa is installed in; None finds it on the ``PATH``.
        python: or the interpreter of that environment.
        base_url: of a ``gens serve`` that runs already, ``http://127.0.0.1:8000/v1``; None starts one.
        api_key: which it demands.
        num_concurrent: questions that are under way at a time.
        batch_size: lmms-eval gives it to every model; the server's settings decide.
        max_batch_size: the same.
        device: the same.
        **settings: of ``gens serve``, as on its command line: ``sampler=gens_3b``, ``selection.budget=32``.
    """

    is_simple = False

    def __init__(
        self,
        gens: str | None = None,
        python: str | None = None,
        base_url: str | None = None,
        api_key: str = "none",
        num_concurrent: int = 32,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self._concurrent = int(num_concurrent)
        self._settings = settings
        self._command: list[str] = []
        self._server: Server | None = None
        if base_url is None:
            self._command = command_of(gens, python)
        else:
            others = sorted(set(settings) - {"sampler", "answerer"})
            if others or gens or python:
                raise ServerError(
                    f"the server at {base_url} runs already: {', '.join(others) or 'gens, python'} cannot be set here"
                )
            self._server = found(base_url, api_key, settings)

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The answers, in the order of the requests."""
        asked = [self._asked(request) for request in requests]
        if not asked:
            return []
        server = self._server_for([each.video for each in asked])
        answered: dict[int, _Answered] = {}
        with ThreadPoolExecutor(self._concurrent) as threads:
            waiting = {
                threads.submit(_answer, server, asked[place]): place
                for place in in_turn([each.video for each in asked])
            }
            try:
                for done in tqdm(as_completed(waiting), total=len(asked), desc="gens"):
                    answered[waiting[done]] = done.result()
                    _check_hope(answered.values(), len(asked))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        results = [answered[place] for place in range(len(asked))]
        _check(asked, results)
        return [GenerationResult(each.text, each.tokens) for each in results]

    def clean(self) -> None:
        """Called after the last request: the server's models leave the GPU before a judge's come."""
        if isinstance(self._server, Started):
            self._server.stop()
            self._server = None
        super().clean()

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refused."""
        raise NotImplementedError("gens generates text; tasks with output_type: loglikelihood need another model")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refused."""
        raise NotImplementedError("gens answers one question at a time; tasks with several rounds need another model")

    def _asked(self, request: Instance) -> _Asked:
        _, doc_to_messages, _, number, task, split = request.args
        messages = ChatMessages(messages=doc_to_messages(self.task_dict[task][split][number]))
        images, videos, audios = messages.extract_media()
        if len(videos) != 1 or images or audios:
            held = f"{len(videos)} videos, {len(images)} images and {len(audios)} sounds"
            raise ValueError(f"gens answers about one video: question {number} of {task} has {held}")
        span = span_in(messages, f"question {number} of {task}")
        sent = messages.to_openai_messages(pass_video_url=True)
        harm = harm_of(task, getattr(doc_to_messages, "__self__", None))
        said = hashlib.sha256(repr(sent if span is None else (sent, span)).encode()).hexdigest()[:8]
        return _Asked(f"{task}/{split}/{number}/{said}", task, harm, _local(videos[0]), sent, span)

    def _server_for(self, videos: Sequence[str]) -> Server:
        """The server, which may read these videos."""
        known = self._server.folders if isinstance(self._server, Started) else ()
        folders = folders_of(videos, known)
        if isinstance(self._server, Started) and folders != [*known]:
            self._server.stop()
            self._server = None
        if self._server is None:
            self._server = Started(self._command, self._settings, folders)
        return self._server


def _answer(server: Server, asked: _Asked) -> _Answered:
    """The answer to a question, or why there is none.

    Raises:
        OpenAIError: the server is gone, or refuses the request.
    """
    try:
        wishes = {"id": asked.id} if asked.span is None else {"id": asked.id, "span": asked.span}
        response = server.client.chat.completions.create(
            model=server.model, messages=asked.messages, extra_body={"gens": wishes}
        )
    except APIStatusError as error:
        # Where failures are errors, the response has the same field.
        gens = _gens_in(error)
        if gens is None:
            raise
        text, tokens = "", TokenCounts()
    else:
        gens = (response.model_extra or {})["gens"]
        text = response.choices[0].message.content or ""
        usage = response.usage
        tokens = TokenCounts(usage.prompt_tokens, usage.completion_tokens) if usage else TokenCounts()
        log_usage("gens", asked.task, tokens.input_tokens or 0, tokens.output_tokens or 0)
    folder = gens.get("run", {}).get("folder") or ""
    return _Answered(text if gens["status"] == "ok" else "", tokens, gens["status"], gens["detail"], folder)


def _check_hope(answered: Collection[_Answered], of_all: int) -> None:
    """Raise where all the first questions met an error of the server, such as a model that cannot be loaded.

    Raises:
        ServerError: the others would meet it as well.
    """
    if len(answered) == min(_HOPELESS, of_all) and all(each.status == "error" for each in answered):
        raise ServerError(f"no question can be answered: {next(iter(answered)).detail}")


def _gens_in(error: APIStatusError) -> Mapping[str, Any] | None:
    try:
        body = error.response.json()
    except ValueError:
        return None
    found = body.get("gens") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else None


def _check(asked: Sequence[_Asked], results: Sequence[_Answered]) -> None:
    """Say which questions failed, and raise where their task would not count them as wrong.

    Raises:
        RuntimeError: the task's score would be another one than that of the answers.
    """
    failed = [(question, result) for question, result in zip(asked, results, strict=True) if result.status != "ok"]
    if not failed:
        return
    kinds = ", ".join(f"{count} {status}" for status, count in Counter(each.status for _, each in failed).most_common())
    logger.warning(f"gens: {len(failed)} of {len(asked)} questions failed ({kinds}); they are answered with empty text")
    for question, result in failed[:_MOST_NAMED]:
        logger.warning(f"gens: {question.id}: {result.status}: {result.detail}")
    harmed = {question.task: question.harm for question, _ in failed if question.harm}
    if harmed:
        told = "; ".join(f"{task} {harm}" for task, harm in harmed.items())
        folders = dict.fromkeys(result.folder for result in results if result.folder)
        raise RuntimeError(
            f"{len(failed)} questions have no answer, and {told}: its score would not be that of the answers.\n"
            "  what to do: mend the questions that are named above and run again, which computes only these; or take "
            f"the strict accuracy from the run folder{''.join(f' {name}' for name in folders)}: gens report"
        )


def _local(address: str) -> str:
    return os.path.abspath(address.removeprefix("file://"))
