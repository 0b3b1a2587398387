"""A tiny random GenS in the authors' layout (``yi_vl``): their tensor names, their config keys, their tokenizer files.

The layout is written out here a second time, apart from the code that reads it, so that a mistake in one of them shows.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for item in message['content'] %}"
    "{% if item['type'] == 'text' %}{{ item['text'] }}{% elif item['type'] == 'image' %}"
    "<fim_prefix><|img|><fim_suffix>{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKERS = ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|img|>")
"""Ids 3 to 9, behind ``<unk>`` 0, ``<|startoftext|>`` 1 and ``<|endoftext|>`` 2."""

_SENTENCES = (
    "Please identify the video frames most relevant to the given question and provide their timestamps in seconds",
    "along with a relevance score. The score should be on a scale from 1 to 5, where higher scores indicate greater",
    'relevance. Return the output strictly in the following JSON format: {"timestamp": score, ...}. {"0": 5, "1-2": 4}',
    "Question: What colour is the square that appears after the circle? [0] [1] [23] [45] [67] [89] user assistant",
)

HIDDEN, EXPERT, SHARED, LAYERS, HEADS = 32, 16, 2, 2, 2
EXPERTS = 12
"""More than ten: a reader that sorts their names as text would put 10 before 2."""
VISION, VISION_MLP, VISION_LAYERS = 32, 48, 2

Form = Literal["safetensors", "bin"]


def write_yi_vl(
    folder: Path,
    seed: int = 0,
    form: Form = "safetensors",
    shards: int = 1,
    context: int = 8192,
    dummy_prefix: bool = False,
    byte_fallback: bool = True,
    config: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
) -> Path:
    """A checkpoint in ``folder``.

    Args:
        folder: made if need be.
        seed: of the weights.
        form: safetensors, or pickles as older repositories have them.
        shards: files that the weights are spread over; an index names them if there are several.
        context: ``max_position_embeddings``.
        dummy_prefix: whether the SentencePiece model begins every text with a space.
        byte_fallback: whether it knows every byte.
        config: keys of the config that differ; ``None`` takes one out. ``text`` and ``vision`` are its sections.
        text: likewise.
        vision: likewise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab = write_tokenizer(folder, dummy_prefix, byte_fallback)
    write_weights(folder, tensors(vocab, seed), form, shards)
    written = {
        "architectures": ["YiVLForConditionalGeneration"],
        "image_aspect_ratio": None,
        "image_token_index": 9,
        "mm_projector": "resampler",
        "mm_use_im_start_end": True,
        "model_type": "yi_vl",
        "projector_hidden_act": "gelu",
        "text_config": {
            "first_k_dense_replace": 0,
            "hidden_size": HIDDEN,
            "intermediate_size": 9 * EXPERT,
            "max_position_embeddings": context,
            "model_type": "deepseek",
            "moe_intermediate_size": EXPERT,
            "moe_layer_freq": 1,
            "n_routed_experts": EXPERTS,
            "n_shared_experts": SHARED,
            "norm_topk_prob": True,
            "num_attention_heads": HEADS,
            "num_experts_per_tok": 2,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": HEADS,
            "rope_theta": 5000000.0,
            "scoring_func": "softmax",
            "vocab_size": vocab,
            **(text or {}),
        },
        "tokens_per_image": [128, 256],
        "torch_dtype": "float32",
        "vision_config": {
            "_flash_attn_2_enabled": True,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": VISION,
            "image_size": 980,
            "intermediate_size": VISION_MLP,
            "layer_norm_eps": 1e-06,
            "model_type": "custom_siglip_vision_model",
            "num_attention_heads": 2,
            "num_hidden_layers": VISION_LAYERS,
            "patch_size": 14,
            **(vision or {}),
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
        **(config or {}),
    }
    _write(folder / "config.json", _without_none(written))
    _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    return folder


def tensors(vocab: int, seed: int) -> dict[str, Any]:
    """Every tensor by the authors' name. Norms and biases are drawn too, so that a wrong place shows."""
    drawn = _Drawn(seed)
    _draw_tower(drawn)
    _draw_projector(drawn)
    _draw_language_model(drawn, vocab)
    return drawn.made


class _Drawn:
    def __init__(self, seed: int) -> None:
        import torch

        self._dice = torch.Generator().manual_seed(seed)
        self.made: dict[str, Any] = {}

    def draw(self, name: str, *shape: int, scale: float, around: float = 0.0) -> None:
        import torch

        self.made[name] = around + torch.randn(*shape, generator=self._dice) * scale

    def linear(self, name: str, outputs: int, inputs: int, bias: bool = False, scale: float = 0.2) -> None:
        self.draw(f"{name}.weight", outputs, inputs, scale=scale)
        if bias:
            self.draw(f"{name}.bias", outputs, scale=0.1)

    def norm(self, name: str, size: int, bias: bool = True) -> None:
        self.draw(f"{name}.weight", size, scale=0.1, around=1.0)
        if bias:
            self.draw(f"{name}.bias", size, scale=0.1)


def _draw_tower(drawn: _Drawn) -> None:
    tower = "vision_tower.vision_model"
    drawn.draw(f"{tower}.embeddings.patch_embedding.weight", VISION, 3, 14, 14, scale=0.04)
    drawn.draw(f"{tower}.embeddings.patch_embedding.bias", VISION, scale=0.1)
    drawn.draw(f"{tower}.embeddings.position_embedding.weight", 70 * 70, VISION, scale=0.5)
    for layer in range(VISION_LAYERS):
        here = f"{tower}.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            drawn.linear(f"{here}.self_attn.{part}", VISION, VISION, bias=True)
        drawn.linear(f"{here}.mlp.fc1", VISION_MLP, VISION, bias=True)
        drawn.linear(f"{here}.mlp.fc2", VISION, VISION_MLP, bias=True)
        drawn.norm(f"{here}.layer_norm1", VISION)
        drawn.norm(f"{here}.layer_norm2", VISION)


def _draw_projector(drawn: _Drawn) -> None:
    projector = "multi_modal_projector"
    drawn.draw(f"{projector}.query", 256, VISION, scale=1.0)
    for part in ("q_proj", "k_proj", "v_proj"):
        drawn.linear(f"{projector}.cross_attn.{part}", VISION, VISION)
    drawn.draw(f"{projector}.cross_attn.multihead_attn.in_proj_weight", 3 * VISION, VISION, scale=0.3)
    drawn.draw(f"{projector}.cross_attn.multihead_attn.in_proj_bias", 3 * VISION, scale=0.1)
    drawn.linear(f"{projector}.cross_attn.multihead_attn.out_proj", VISION, VISION, bias=True)
    drawn.linear(f"{projector}.cross_attn.linear", VISION, VISION, bias=True)
    drawn.norm(f"{projector}.cross_attn.layer_norm", VISION)
    drawn.norm(f"{projector}.cross_attn.ln_kv", VISION)
    drawn.norm(f"{projector}.ln_ffn", VISION)
    drawn.linear(f"{projector}.ffn.linear_in", HIDDEN, VISION)
    drawn.linear(f"{projector}.ffn.linear_out", HIDDEN, HIDDEN)


def _draw_language_model(drawn: _Drawn, vocab: int) -> None:
    drawn.draw("language_model.model.embed_tokens.weight", vocab, HIDDEN, scale=1.0)
    for layer in range(LAYERS):
        here = f"language_model.model.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            drawn.linear(f"{here}.self_attn.{part}", HIDDEN, HIDDEN, scale=0.4)
        drawn.norm(f"{here}.input_layernorm", HIDDEN, bias=False)
        drawn.norm(f"{here}.post_attention_layernorm", HIDDEN, bias=False)
        drawn.linear(f"{here}.mlp.gate", EXPERTS, HIDDEN)
        sizes = {f"experts.{expert}": EXPERT for expert in range(EXPERTS)} | {"shared_experts": SHARED * EXPERT}
        for name, size in sizes.items():
            drawn.linear(f"{here}.mlp.{name}.gate_proj", size, HIDDEN, scale=0.4)
            drawn.linear(f"{here}.mlp.{name}.up_proj", size, HIDDEN, scale=0.4)
            drawn.linear(f"{here}.mlp.{name}.down_proj", HIDDEN, size, scale=0.4)
    drawn.norm("language_model.model.norm", HIDDEN, bias=False)
    drawn.draw("language_model.lm_head.weight", vocab, HIDDEN, scale=0.5)


def write_weights(folder: Path, made: dict[str, Any], form: Form, shards: int) -> None:
    """The tensors in ``shards`` files; an expert's parts fall into different ones."""
    import torch
    from safetensors.torch import save_file

    stem, ending = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
    names = sorted(made)
    index = {}
    for shard in range(shards):
        part = {name: made[name].contiguous() for name in names[shard::shards]}
        file = f"{stem}.{ending}" if shards == 1 else f"{stem}-{shard + 1:05}-of-{shards:05}.{ending}"
        if form == "safetensors":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
        index |= dict.fromkeys(part, file)
    if shards > 1:
        total = sum(tensor.numel() * 4 for tensor in made.values())
        _write(folder / f"{stem}.{ending}.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def write_tokenizer(folder: Path, dummy_prefix: bool = False, byte_fallback: bool = True) -> int:
    """The tokenizer files; returns the size of the vocabulary."""
    import sentencepiece

    model = _sentencepiece(dummy_prefix, byte_fallback)
    (folder / "tokenizer.model").write_bytes(model)
    vocab: int = sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size()
    # As published with GenS: the beginning and end that Llama's tokenizer insists on lie beyond the embeddings.
    beyond = {"<unk>": 0, "<s>": vocab, "</s>": vocab + 1}
    _write(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_eos_token": False,
            "add_prefix_space": True,
            "added_tokens_decoder": {
                str(token): {
                    "content": name,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for name, token in beyond.items()
            },
            "bos_token": "<s>",
            "chat_template": TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "</s>",
            "legacy": True,
            "pad_token": None,
            "spaces_between_special_tokens": False,
            "tokenizer_class": "LlamaTokenizer",
            "unk_token": "<unk>",
        },
    )
    _write(folder / "added_tokens.json", {"<s>": vocab, "</s>": vocab + 1})
    return vocab


@lru_cache(maxsize=4)
def _sentencepiece(dummy_prefix: bool, byte_fallback: bool) -> bytes:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=model,
        model_type="bpe",
        vocab_size=400 if byte_fallback else 144,
        character_coverage=1.0,
        byte_fallback=byte_fallback,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=dummy_prefix,
        bos_piece="<|startoftext|>",
        eos_piece="<|endoftext|>",
        user_defined_symbols=list(MARKERS),
        minloglevel=2,
    )
    return model.getvalue()


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value is not None
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
