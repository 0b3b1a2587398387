"""A tiny random LLaVA-Video in the authors' layout: their tensor names, their flat config, no image settings.

The layout is written out here a second time, apart from the code that reads it, so that a mistake in one of them shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import QWEN_TEMPLATE, _write, _write_tokenizer

HIDDEN, MLP, LAYERS, HEADS, KV_HEADS = 32, 48, 2, 4, 2
VISION, VISION_MLP, VISION_LAYERS = 32, 40, 2
PADDING_ROWS = 5
"""Of the vocabulary, behind the tokenizer's last token, as the released 7B has 418."""
TOWER = "model.vision_tower.vision_tower.vision_model"


def write_llava_video(
    folder: Path,
    seed: int = 0,
    shards: int = 2,
    context: int = 32768,
    padding_rows: int = PADDING_ROWS,
    config: dict[str, Any] | None = None,
    tensors: dict[str, Any] | None = None,
) -> Path:
    """A checkpoint in ``folder``.

    Args:
        folder: made if need be.
        seed: of the weights.
        shards: files that the weights are spread over; an index names them.
        context: ``max_position_embeddings``.
        padding_rows: of the vocabulary.
        config: keys of the config that differ; ``None`` takes one out.
        tensors: tensors that differ, by the authors' name; ``None`` takes one out.
    """
    vocabulary = max(_write_tokenizer(folder, (), QWEN_TEMPLATE).values()) + 1 + padding_rows
    made = authors_tensors(vocabulary, seed) | (tensors or {})
    _write_shards(folder, {name: tensor for name, tensor in made.items() if tensor is not None}, shards)
    written = {
        "add_faster_video": False,
        "add_time_instruction": True,
        "architectures": ["LlavaQwenForCausalLM"],
        "force_sample": True,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "image_aspect_ratio": "anyres_max_9",
        "intermediate_size": MLP,
        "max_position_embeddings": context,
        "mm_hidden_size": VISION,
        "mm_newline_position": "grid",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "model_type": "llava",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 32768,
        "torch_dtype": "float32",
        "use_sliding_window": False,
        "vocab_size": vocabulary,
    }
    kept = {key: value for key, value in (written | (config or {})).items() if value is not None}
    _write(folder / "config.json", kept)
    (folder / "chat_template.json").unlink()  # the repositories have none
    return folder


def authors_tensors(vocabulary: int, seed: int = 0) -> dict[str, Any]:
    """Every tensor by the authors' name. Norms and biases are drawn too, so that a wrong place shows."""
    import torch

    dice = torch.Generator().manual_seed(seed)
    made: dict[str, Any] = {}

    def draw(name: str, *shape: int, scale: float, around: float = 0.0) -> None:
        made[name] = around + torch.randn(*shape, generator=dice) * scale

    def linear(name: str, outputs: int, inputs: int, bias: bool = True, scale: float = 0.3) -> None:
        draw(f"{name}.weight", outputs, inputs, scale=scale)
        if bias:
            draw(f"{name}.bias", outputs, scale=0.1)

    def norm(name: str, size: int, bias: bool = True) -> None:
        draw(f"{name}.weight", size, scale=0.1, around=1.0)
        if bias:
            draw(f"{name}.bias", size, scale=0.1)

    draw(f"{TOWER}.embeddings.patch_embedding.weight", VISION, 3, 14, 14, scale=0.04)
    draw(f"{TOWER}.embeddings.patch_embedding.bias", VISION, scale=0.1)
    draw(f"{TOWER}.embeddings.position_embedding.weight", 27 * 27, VISION, scale=0.5)
    for layer in range(VISION_LAYERS):
        here = f"{TOWER}.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{here}.self_attn.{part}", VISION, VISION)
        linear(f"{here}.mlp.fc1", VISION_MLP, VISION)
        linear(f"{here}.mlp.fc2", VISION, VISION_MLP)
        norm(f"{here}.layer_norm1", VISION)
        norm(f"{here}.layer_norm2", VISION)
    norm(f"{TOWER}.post_layernorm", VISION)  # stored and never used
    linear("model.mm_projector.0", HIDDEN, VISION)
    linear("model.mm_projector.2", HIDDEN, HIDDEN)
    draw("model.image_newline", HIDDEN, scale=1.0)
    draw("model.embed_tokens.weight", vocabulary, HIDDEN, scale=1.0)
    for layer in range(LAYERS):
        here = f"model.layers.{layer}"
        shared = HIDDEN // HEADS * KV_HEADS
        for part, outputs in (("q_proj", HIDDEN), ("k_proj", shared), ("v_proj", shared)):
            linear(f"{here}.self_attn.{part}", outputs, HIDDEN)
        linear(f"{here}.self_attn.o_proj", HIDDEN, HIDDEN, bias=False)
        linear(f"{here}.mlp.gate_proj", MLP, HIDDEN, bias=False)
        linear(f"{here}.mlp.up_proj", MLP, HIDDEN, bias=False)
        linear(f"{here}.mlp.down_proj", HIDDEN, MLP, bias=False)
        norm(f"{here}.input_layernorm", HIDDEN, bias=False)
        norm(f"{here}.post_attention_layernorm", HIDDEN, bias=False)
    norm("model.norm", HIDDEN, bias=False)
    linear("lm_head", vocabulary, HIDDEN, bias=False)
    # The padding rows would win every step if they could be written.
    made["lm_head.weight"][-PADDING_ROWS:] *= 50
    return made


def _write_shards(folder: Path, made: dict[str, Any], shards: int) -> None:
    from safetensors.torch import save_file

    names, index = sorted(made), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: made[name].contiguous() for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    total = sum(tensor.numel() * 4 for tensor in made.values())
    _write(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})
