"""Decoding over a shared prefix against stock ``generate`` on each whole prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_llava_onevision, write_qwen2_5_vl, write_qwen2_vl

from pipeline.errors import CheckpointError
from pipeline.generation.prefix_attention import Prefixes, PrefixStates
from pipeline.generation.running_batch import Continuation, IsComplete, RunningBatch
from pipeline.generation.shared_prefix import Prefix, prefill

pytestmark = pytest.mark.moving

FRAMES, SIDE = 6, 4  # an image of 4 x 4 patches is 4 tokens
NEW = 24


@dataclass(frozen=True)
class Branches:
    """Prompts that share their beginning."""

    prefix: Prefix
    suffixes: Sequence[Sequence[int]]


def continue_greedily(
    model: Any,
    branches: Sequence[Branches],
    *,
    end_tokens: frozenset[int],
    is_complete: IsComplete,
    max_new_tokens: int,
) -> list[Continuation]:
    """All of them together, in their order."""
    batch: RunningBatch[int] = RunningBatch(
        model, end_tokens=end_tokens, is_complete=is_complete, max_new_tokens=max_new_tokens
    )
    found: dict[int, Continuation] = {}
    count = 0
    for each in branches:
        batch.add(each.prefix, dict(enumerate(each.suffixes, count)))
        count += len(each.suffixes)
    while batch:
        found.update(batch.step())
    return [found[place] for place in range(count)]


class Reference:
    """A tiny checkpoint, a prompt beginning with images, and what stock ``generate`` appends to it."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        generator = torch.Generator().manual_seed(1)
        text = lambda count: torch.randint(20, 200, (count,), generator=generator).tolist()  # noqa: E731
        config = model.config
        image = [config.vision_start_token_id, *[config.image_token_id] * 4, config.vision_end_token_id]
        self.start = text(7) + [token for _ in range(FRAMES) for token in text(3) + image]
        self.suffixes = [text(count) for count in (9, 1, 30, 4, 17)]
        patches = 3 * 2 * 14 * 14
        self.pixels = torch.randn(FRAMES * SIDE * SIDE, patches, generator=generator)
        self.grids = torch.tensor([[1, SIDE, SIDE]] * FRAMES)

    def _inputs(self, ids: list[int]) -> dict[str, torch.Tensor]:
        tokens = torch.tensor([ids])
        kinds = (tokens == self.model.config.image_token_id).int()
        return {"input_ids": tokens, "mm_token_type_ids": kinds, "image_grid_thw": self.grids}

    def stock(self, suffix: list[int], ends: list[int], new: int = NEW) -> list[int]:
        from transformers import GenerationConfig

        prompt = self.start + suffix
        self.model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=0, do_sample=False)
        written = self.model.generate(**self._inputs(prompt), pixel_values=self.pixels, max_new_tokens=new)
        return written[0, len(prompt) :].tolist()

    @torch.inference_mode()
    def prefix(self) -> Prefix:
        inner, inputs = self.model.model, self._inputs(self.start)
        embeddings = self.model.get_input_embeddings()(inputs["input_ids"])
        features = torch.cat(inner.get_image_features(self.pixels, self.grids).pooler_output)
        embeddings[inputs["mm_token_type_ids"].bool()] = features
        positions, _ = inner.get_rope_index(**inputs)
        return prefill(self.model, embeddings, positions)

    def together(
        self,
        suffixes: list[list[int]],
        ends: list[int],
        new: int = NEW,
        prefix: Prefix | None = None,
        is_complete: Callable[[Any], bool] = lambda tokens: False,
    ) -> list[Continuation]:
        return continue_greedily(
            self.model,
            [Branches(prefix or self.prefix(), suffixes)],
            end_tokens=frozenset(ends),
            is_complete=is_complete,
            max_new_tokens=new,
        )


@pytest.fixture(scope="module", params=[write_qwen2_5_vl, write_qwen2_vl])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    from transformers import AutoModelForImageTextToText

    folder = request.param(tmp_path_factory.mktemp("checkpoint"), seed=3)
    return Reference(AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32))


def test_token_for_token_what_generate_gives(reference: Reference) -> None:
    stock = [reference.stock(suffix, ends=[0]) for suffix in reference.suffixes]
    assert len({tuple(tokens) for tokens in stock}) > 1  # the suffix matters to this model
    together = reference.together(reference.suffixes, ends=[0])
    assert [list(given.tokens) for given in together] == stock
    assert not any(given.ended for given in together)


def test_alone_or_in_company_makes_no_difference(reference: Reference) -> None:
    together = reference.together(reference.suffixes, ends=[0])
    alone = [reference.together([suffix], ends=[0])[0] for suffix in reference.suffixes]
    assert alone == together
    assert reference.together(reference.suffixes[::-1], ends=[0]) == together[::-1]


def test_each_ends_at_its_own_end_token(reference: Reference) -> None:
    free = [reference.stock(suffix, ends=[0]) for suffix in reference.suffixes]
    ends = sorted({free[0][4], free[2][9]})  # so that they leave at different steps
    together = reference.together(reference.suffixes, ends=ends)
    for suffix, given in zip(reference.suffixes, together, strict=True):
        stock = reference.stock(suffix, ends=ends)
        assert given.ended == (stock[-1] in ends)
        assert list(given.tokens) == (stock[:-1] if given.ended else stock)
    assert len({len(given.tokens) for given in together}) > 1


def test_leaves_when_it_is_complete(reference: Reference) -> None:
    free = [reference.stock(suffix, ends=[0]) for suffix in reference.suffixes]
    together = reference.together(reference.suffixes, ends=[0], is_complete=lambda tokens: tokens[-1] % 7 == 3)
    for tokens, given in zip(free, together, strict=True):
        until = next((place for place, token in enumerate(tokens) if token % 7 == 3), None)
        assert given.ended == (until is not None)
        assert list(given.tokens) == (tokens if until is None else tokens[: until + 1])


@pytest.mark.parametrize("new", [1, 2])
def test_the_limit_is_kept(reference: Reference, new: int) -> None:
    together = reference.together(reference.suffixes, ends=[0], new=new)
    assert [list(given.tokens) for given in together] == [reference.stock(s, [0], new) for s in reference.suffixes]


def test_the_prefix_is_read_once_and_never_copied(reference: Reference) -> None:
    """Tokens that pass through the decoder: the prefix once, then each suffix and each new token."""
    read: list[torch.Size] = []
    decoder = reference.model.get_decoder()
    hook = decoder.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    prefix = reference.prefix()
    before = [(keys.data_ptr(), keys.clone()) for keys in prefix.states.keys]
    reference.together(reference.suffixes, ends=[0], new=5, prefix=prefix)
    reference.together(reference.suffixes[:2], ends=[0], new=5, prefix=prefix)
    hook.remove()
    assert read == [(1, len(reference.start)), (5, 30), *[(5, 1)] * 4, (2, 9), *[(2, 1)] * 4]
    for (place, content), keys in zip(before, prefix.states.keys, strict=True):
        assert keys.data_ptr() == place
        assert torch.equal(keys, content)


def test_the_models_own_attention_is_back_afterwards(reference: Reference) -> None:
    def fails(tokens: Any) -> bool:
        raise KeyboardInterrupt

    before = reference.stock(reference.suffixes[0], ends=[0])
    with pytest.raises(KeyboardInterrupt):
        reference.together(reference.suffixes, ends=[0], is_complete=fails)
    assert reference.model.get_decoder().config._attn_implementation == "sdpa"
    assert reference.stock(reference.suffixes[0], ends=[0]) == before


def test_a_decoder_without_m_rope(tmp_path: Path) -> None:
    """LLaVA-OneVision's Qwen2 counts positions in one dimension."""
    from transformers import AutoModelForImageTextToText, GenerationConfig

    model: Any = AutoModelForImageTextToText.from_pretrained(write_llava_onevision(tmp_path), dtype=torch.float32)
    start = torch.randint(20, 200, (1, 40), generator=torch.Generator().manual_seed(2))
    suffixes = [[30, 31, 32], [40, 41, 42, 43, 44, 45]]
    prefix = prefill(model, model.get_input_embeddings()(start), torch.arange(40)[None])
    together = continue_greedily(
        model,
        [Branches(prefix, suffixes)],
        end_tokens=frozenset(),
        is_complete=lambda tokens: False,
        max_new_tokens=NEW,
    )
    model.generation_config = GenerationConfig(eos_token_id=None, pad_token_id=0, do_sample=False)
    for suffix, given in zip(suffixes, together, strict=True):
        prompt = torch.cat([start, torch.tensor([suffix])], dim=1)
        assert list(given.tokens) == model.generate(prompt, max_new_tokens=NEW)[0, prompt.shape[1] :].tolist()


def test_prompts_with_different_beginnings_are_decoded_together(reference: Reference) -> None:
    """Prefixes of different lengths, one of them with a single prompt, and each ends in its own time."""
    own, suffixes = reference.start, reference.suffixes
    pictures = reference.prefix()
    embed = reference.model.get_input_embeddings()
    branches = [
        Branches(pictures, suffixes[:2]),
        Branches(
            prefill(reference.model, embed(torch.tensor([[*range(40, 52)]])), torch.arange(12)[None]), suffixes[2:3]
        ),
        Branches(prefill(reference.model, embed(torch.tensor([own[:5]])), torch.arange(5)[None]), suffixes[3:4]),
    ]
    alone = [reference.together(list(each.suffixes), ends=[0], prefix=each.prefix) for each in branches]
    ends = [alone[1][0].tokens[7], alone[0][1].tokens[3]]
    expected = [one for each in branches for one in reference.together(list(each.suffixes), ends, prefix=each.prefix)]
    given = continue_greedily(
        reference.model, branches, end_tokens=frozenset(ends), is_complete=lambda _: False, max_new_tokens=NEW
    )
    assert given == expected
    assert len({len(one.tokens) for one in given}) > 1


def test_a_long_suffix_is_read_in_parts(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = reference.together(reference.suffixes, ends=[0])
    monkeypatch.setattr("pipeline.generation.running_batch._TOKENS_AT_ONCE", 7)
    assert reference.together(reference.suffixes, ends=[0]) == expected


def test_sliding_attention_is_refused() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, use_sliding_window=True, sliding_window=4, max_window_layers=1,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="sliding"):
        prefill(Qwen2ForCausalLM(config), torch.randn(1, 9, 16), torch.arange(9)[None])


# --- the attention alone ---------------------------------------------------------------------------------------------

BATCH, HEADS, GROUPS, SHARED, OWN, SIZE = 5, 6, 2, (33, 20), 9, 8
ROWS = (3, 2)
"""The first three rows of the batch begin with 33 tokens, the others with 20 others."""


class Attention:
    """Random inputs of one call, and what stock attention makes of them row by row."""

    def __init__(self, tokens: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(tokens)
        normal = lambda *shape: (3 * torch.randn(*shape, generator=generator)).to(dtype)  # noqa: E731
        self.mask = torch.ones(BATCH, 1, tokens, OWN, dtype=torch.bool).tril(OWN - tokens)
        for row in range(BATCH):
            self.mask[row, ..., :row] = False  # padding of different lengths
        self.mask[-1, :, 0] = False  # and a row that is all padding
        self.shared = [(normal(GROUPS, length, SIZE), normal(GROUPS, length, SIZE)) for length in SHARED]
        self.key, self.value = normal(BATCH, GROUPS, OWN, SIZE), normal(BATCH, GROUPS, OWN, SIZE)
        self.query = normal(BATCH, HEADS, tokens, SIZE)

    def ours(self, device: str = "cpu") -> torch.Tensor:
        states = tuple(PrefixStates((key.to(device),), (value.to(device),)) for key, value in self.shared)
        inputs = [tensor.to(device) for tensor in (self.key, self.value, self.mask)]
        return Prefixes(states, ROWS).attend(self.query.to(device), 0, *inputs, 0.3).cpu()

    def stock(self, dtype: torch.dtype) -> torch.Tensor:
        made = []
        for row in range(BATCH):
            prefix_key, prefix_value = self.shared[0 if row < ROWS[0] else 1]
            key, value = (
                torch.cat(pair, dim=1).repeat_interleave(HEADS // GROUPS, 0).to(dtype)
                for pair in ((prefix_key, self.key[row]), (prefix_value, self.value[row]))
            )
            beside = torch.ones(*self.mask.shape[1:3], prefix_key.shape[1], dtype=torch.bool)
            seen = torch.cat([beside, self.mask[row]], dim=2)
            query = self.query[row].to(dtype)
            made.append(torch.nn.functional.scaled_dot_product_attention(query, key, value, seen, scale=0.3))
        return torch.stack(made)


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_attention_is_that_over_the_joined_keys(tokens: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.generation.prefix_attention._SCORE_BYTES", rows * 4 * GROUPS * max(SHARED))
    inputs = Attention(tokens, torch.float32)
    torch.testing.assert_close(inputs.ours(), inputs.stock(torch.float32), rtol=1e-5, atol=1e-5)


def test_attention_in_bfloat16_is_as_near_the_truth_as_stock() -> None:
    inputs = Attention(4, torch.bfloat16)
    truth = inputs.stock(torch.float32)
    ours = (inputs.ours().float() - truth).abs().mean()
    stock = (inputs.stock(torch.bfloat16).float() - truth).abs().mean()
    assert ours <= 1.1 * stock


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 4])
def test_attention_on_the_gpu(dtype: torch.dtype, tokens: int) -> None:
    inputs = Attention(tokens, dtype)
    truth = inputs.stock(torch.float32)
    atol = 0.05 if dtype is torch.bfloat16 else 0.02
    torch.testing.assert_close(inputs.ours("cuda").float(), truth, rtol=0.02, atol=atol)
