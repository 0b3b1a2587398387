"""Any checkpoint of transformers: the ids and texts are those of the type's own processor and ``generate``."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from asking import answered, written
from native import NEW, TILES, TYPES, Folders, Stock, answerer, frames, requests

from pipeline.answerers import Answerer, AnswerRequest
from pipeline.domain import Question
from pipeline.families.transformers import generation
from pipeline.families.transformers.answerer import Transformers
from pipeline.families.transformers.generation import NativeModel, Way
from pipeline.families.transformers.inputs import NativeInputs
from pipeline.families.transformers.loading import load_model
from pipeline.generation.shared_prefix import Prefix
from pipeline.generation.texts import Generated

pytestmark = [
    pytest.mark.moving,
    # GLM's processor in transformers 5.24 with numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

WAYS = {"qwen3_5": Way.COPIED, "gemma4": Way.COPIED, "minicpmv4_6": Way.COPIED, "mllama": Way.COPIED}
"""Linear attention, sliding windows and cross attention; all others are plain."""


class Pair:
    """Our answerer, and stock transformers, on one tiny checkpoint."""

    def __init__(self, folders: Folders, name: str) -> None:
        self.name = name
        self.ours = answerer(folders[name])
        self.stock = Stock(folders[name], name)

    def write(self, prompts: list[NativeInputs]) -> list[Generated]:
        return written(self.ours.model.writer(self.ours.output_limits(self.ours.processor)), prompts)

    def inputs(self, asked: AnswerRequest) -> object:
        variables = (
            {}
            if self.name in ("internvl", "smolvlm", "mistral3", "minicpmv4_6", "mllama")
            else {"enable_thinking": False}
        )
        return self.stock.inputs(asked, self.ours.prompt.words(asked).text, **variables)


@pytest.fixture(scope="module", params=TYPES)
def pair(request: pytest.FixtureRequest, folders: Folders) -> Iterator[Pair]:
    made = Pair(folders, request.param)
    yield made
    made.ours.close()


def test_it_fits_its_seam_and_its_checkpoint_is_admitted(pair: Pair) -> None:
    assert isinstance(pair.ours, Answerer)
    pair.ours.check_checkpoint()


def test_the_inputs_are_those_of_the_types_own_processor(pair: Pair) -> None:
    for asked in requests():
        ours, stock = pair.ours.encode(asked), dict(pair.inputs(asked))  # type: ignore[call-overload]
        assert ours.input_ids.tolist() == stock.pop("input_ids")[0].tolist()
        assert stock.pop("attention_mask").all()
        for name, value in stock.items():
            found = ours.per_token[name] if name in ours.per_token else ours.frames.tensors[name]
            assert torch.equal(found, value[0] if name in ours.per_token else value), name
        assert set(stock) == {*ours.per_token, *ours.frames.tensors}


def test_the_prompt_is_kept_with_a_mark_for_each_frame(pair: Pair) -> None:
    reader, asked = pair.ours.processor, requests()[0]
    prompt = pair.ours.encode(asked)
    said = reader.sent(prompt)
    first, second = said.index("<frame 1 at 0 s>"), said.index("<frame 2 at 4 s>")
    assert first < second < said.index("What colour is the square?")
    shown = {reader.tokenizer.decode([token], skip_special_tokens=False) for token in prompt.picture_tokens}
    assert not any(token in said for token in shown)
    assert reader.measured(prompt)["visual_tokens"] > 0


def test_tokens_are_counted_exactly_without_looking_at_a_picture(pair: Pair) -> None:
    reader = pair.ours.processor
    for asked in requests():
        counted = reader.count(asked.frames, pair.ours.prompt.words(asked))
        assert counted == len(pair.ours.encode(asked).input_ids)


def test_answers_are_those_of_stock_generate_in_one_batch_and_alone(pair: Pair) -> None:
    tokenizer = pair.stock.processor.tokenizer
    ends = {tokenizer.eos_token_id, *pair.stock.model.generation_config.eos_token_id}
    together = pair.write([pair.ours.encode(asked) for asked in requests()])
    expected = []
    for asked in requests():
        tokens = pair.stock.tokens(pair.inputs(asked))
        cut = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        expected.append(tuple(tokens[:cut]))
    assert [one.tokens for one in together] == expected
    assert len(set(expected)) > 3
    for asked, one in zip(requests(), together, strict=True):
        [alone] = pair.write([pair.ours.encode(asked)])
        assert alone == one


def test_frames_are_shared_in_the_way_that_the_models_cache_allows(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    found: NativeModel = pair.ours.model
    assert found.way is WAYS.get(pair.name, Way.SHARED)
    shown, video = frames(0.0, 4.0), requests()[0].video
    questions = [Question(f"q{place}", "clip.mp4", "Why?" + "?" * place) for place in range(3)]
    inputs = [pair.ours.encode(AnswerRequest(question, video, shown)) for question in questions]
    assert len({id(each.frames) for each in inputs}) == 1
    seen: list[bool] = []
    hook = found.model.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append(kwargs.get("pixel_values") is not None), with_kwargs=True
    )
    pair.write(inputs)
    hook.remove()
    assert sum(seen) == 1


def test_a_processor_goes_to_another_process(pair: Pair) -> None:
    here = pair.ours.processor
    there = pickle.loads(pickle.dumps(here))
    for asked in requests():
        words = pair.ours.prompt.words(asked)
        made, copied = (each.prompt(each.prepared(asked.frames), asked.frames, words) for each in (here, there))
        assert copied.input_ids.tolist() == made.input_ids.tolist()
        assert there.count(asked.frames, words) == len(copied.input_ids)


def test_answers_say_what_they_took_and_how_frames_were_told(pair: Pair) -> None:
    for asked, answer in zip(requests(), answered(pair.ours, requests()), strict=True):
        assert answer.question_id == asked.question.id
        assert answer.cost.prompt_tokens == len(pair.ours.encode(asked).input_ids)
        assert answer.cost.output_tokens <= NEW
        assert answer.frame_times == tuple(frame.time for frame in asked.frames)
        assert answer.form.startswith("images of 768 pixels a side at most")
        assert "text before each image: '<12.5 seconds>'; thinking" in answer.form


def test_positions_of_one_set_of_frames_are_not_taken_for_another(pair: Pair) -> None:
    """Some types keep on the model what the last pictures did to the positions."""
    one, other = requests()[0], requests()[3]
    first = [pair.ours.encode(asked) for asked in (one, requests()[2])]
    expected = pair.write(first)
    pair.write([pair.ours.encode(other)])
    assert pair.write(first) == expected


def test_limits_hold_for_what_a_request_really_takes(pair: Pair) -> None:
    limits = pair.ours.limits()
    one, two = (
        len(pair.ours.encode(AnswerRequest(Question("q", "c", "Why?"), requests()[0].video, shown)).input_ids)
        for shown in (
            frames(9e3, 9e3 + 1, height=720, width=1280),
            frames(9e3, 9e3 + 1, 9e3 + 2, height=720, width=1280),
        )
    )
    assert two - one <= limits.tokens_per_frame
    assert limits.context_tokens == pair.stock.model.config.get_text_config().max_position_embeddings


@pytest.mark.parametrize("name", TILES)
def test_tiles_are_those_of_the_types_own_processor(folders: Folders, name: str) -> None:
    ours, stock = answerer(folders[name], "answerer.frame.tiles=checkpoint"), Stock(folders[name], name)
    stock.tiles = {}
    whole, several = answerer(folders[name]), requests()
    for asked in (several[0], several[-1]):
        made = ours.encode(asked)
        given = dict(stock.inputs(asked, ours.prompt.words(asked).text))
        assert made.input_ids.tolist() == given.pop("input_ids")[0].tolist()
        assert all(torch.equal(made.frames.tensors[key], given[key]) for key in made.frames.tensors)
        assert ours.processor.count(asked.frames, ours.prompt.words(asked)) == len(made.input_ids)
    assert len(ours.encode(several[0]).input_ids) > len(whole.encode(several[0]).input_ids)


def test_a_model_that_shares_by_copies_says_so_once(folders: Folders, caplog: pytest.LogCaptureFixture) -> None:
    ours = answerer(folders["gemma4"])
    with caplog.at_level(logging.WARNING, "pipeline.families.transformers.generation"):
        answered(ours, requests()[:2])
        answered(ours, requests()[:2])
    assert sum("given a copy of what was read" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(("name", "choice"), [("internvl", "internvl3_8b"), ("glm46v", "glm4_6v_flash")])
def test_a_type_with_a_family_of_its_own_still_goes_this_way_and_says_so(
    folders: Folders, caplog: pytest.LogCaptureFixture, name: str, choice: str
) -> None:
    folder = folders.copy(name)
    with caplog.at_level(logging.WARNING, "pipeline.families.transformers.kind"):
        for _ in range(2):
            answered(answerer(folder), requests()[:1])
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert f"answerer={choice} answerer.checkpoint.source={folder}" in told[0]


def test_the_identity_follows_what_decides_answers_and_not_what_decides_speed(folders: Folders) -> None:
    def of(*overrides: str) -> object:
        made: Transformers = answerer(folders["mistral3"], *overrides)
        return made.identity()

    assert of("answerer.name=other") == of("answerer.checkpoint.attention=eager") == of()
    changed = [
        "answerer.images.label=''",
        "answerer.frame.max_side=448",
        "answerer.frame.tiles=checkpoint",
        "+answerer.processor_kwargs.size={longest_edge: 56}",
        "answerer.thinking=checkpoint",
        "answerer.max_thinking_tokens=99",
        "answerer.system=Brief.",
        "answerer.max_new_tokens=9",
    ]
    assert all(of(change) != of() for change in changed)
    assert of()["transformers"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("broken", "taken"), [(("_prefix",), Way.COPIED), (("_prefix", "_read"), Way.WHOLE), ((), Way.SHARED)]
)
def test_a_way_that_does_not_give_the_models_own_logits_is_not_taken(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...], taken: Way
) -> None:
    """Positions that are off by a few, or a prefix of other pictures: nothing of it raises an error."""
    ours = answerer(folders["glm46v"])
    reader = ours.processor
    limits = ours.output_limits(reader)
    expected = written(ours.model.writer(limits), [ours.encode(asked) for asked in requests()])
    prefix, read = generation._prefix, generation._read
    other = ours.encode(requests()[0])

    def shifted(model: Any, prompt: NativeInputs, length: int) -> Prefix:
        return replace(prefix(model, prompt, length), next_position=length + 40)

    def confused(model: Any, prompt: NativeInputs, length: int) -> Any:
        return read(
            model, replace(prompt, frames=other.frames, input_ids=other.input_ids, per_token=other.per_token), length
        )

    for part, wrong in (("_prefix", shifted), ("_read", confused)):
        if part in broken:
            monkeypatch.setattr(generation, part, wrong)
    model = generation.prepared(load_model(ours.checkpoint), reader.processor)
    assert model.way is taken
    if taken is Way.WHOLE:
        inputs = [ours.encode(asked) for asked in requests()]
        assert written(model.writer(limits), inputs) == expected
