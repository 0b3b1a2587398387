"""Tiny random VILA-1.5 checkpoints in the authors' layout: their folders, tensor names, config keys, tokenizer files.

The layout is written out here a second time, apart from the code that reads it, so that a mistake in one of them shows.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

Kind = Literal["3b", "8b", "40b"]
"""SigLIP and Llama with Vicuna's prompt; SigLIP and Llama 3; InternViT and Yi."""

WIDTH, LAYERS, HEADS, HIDDEN = 24, 3, 3, 32
"""Of the tower: width, layers, heads; of the language model: width."""
CONTEXT = 512

_SENTENCES = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed,",
    "and polite answers to the user's questions. USER: ASSISTANT: system user assistant Answer the questions.",
    "Which colour is the box? A. red B. blue Answer with the option's letter from the given choices directly.",
    "0.0s: 1.2s: 2.5s: 13.8s: 4567.9s: What happens first, the circle or the square?",
)


def write_vila(folder: Path, kind: Kind, image_size: int = 70, context: int = CONTEXT) -> Path:
    """A checkpoint of this kind; 70 pixels are 5 x 5 patches and 9 tokens, 56 are 4 x 4 and 4."""
    intern = kind == "40b"
    for name in ("llm", "vision_tower", "mm_projector"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    vocab, ends = _write_llama_3(folder / "llm") if kind == "8b" else _write_pieces(folder / "llm", yi=intern)
    llm = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2 if intern else 4,
        "vocab_size": vocab,
        "max_position_embeddings": 4 * context,
        "tokenizer_model_max_length": context,
        "tokenizer_padding_side": "right",
        "model_max_length": None,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000000.0 if intern else 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": ends,
    }
    tower = {
        "architectures": ["InternVisionModel" if intern else "SiglipVisionModel"],
        "model_type": "intern_vit_6b" if intern else "siglip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 40,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "image_size": image_size,
        "patch_size": 14,
        "layer_norm_eps": 1e-6,
        "torch_dtype": "bfloat16",
        **(
            {"hidden_act": "gelu", "qk_normalization": True, "qkv_bias": False, "drop_path_rate": 0.0}
            if intern
            else {"hidden_act": "gelu_pytorch_tanh"}
        ),
    }
    projector = {
        "architectures": ["MultimodalProjector"],
        "model_type": "v2l_projector",
        "mm_projector_type": "mlp_downsample",
        "torch_dtype": "bfloat16",
    }
    top = {
        "architectures": ["LlavaLlamaModel"],
        "model_type": "llava_llama",
        "hidden_size": HIDDEN,
        "image_aspect_ratio": "resize",
        "interpolate_mode": "linear",
        "llm_cfg": {"_name_or_path": "./llm", **llm},
        "vision_tower_cfg": {"_name_or_path": "./vision_tower", **tower},
        "mm_projector_cfg": {"_name_or_path": "./mm_projector", **projector},
        "mm_hidden_size": WIDTH,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch" if intern else "cls_patch",
        "mm_vision_select_layer": -1 if intern else -2,
        "num_video_frames": 8,
        "s2": False,
        "vision_resolution": -1,
    }
    for path, content in (
        (folder, top),
        (folder / "llm", llm),
        (folder / "vision_tower", tower),
        (folder / "mm_projector", projector),
    ):
        _write(path / "config.json", content)
    _write(folder / "llm" / "generation_config.json", {"bos_token_id": 1, "eos_token_id": ends})
    if not intern:
        image = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255, "resample": 3}
        size = {"size": {"height": image_size, "width": image_size}}
        kind_of = {"image_processor_type": "SiglipImageProcessor"}
        _write(folder / "vision_tower" / "preprocessor_config.json", {**kind_of, **image, **size})
    patches = (image_size // 14) ** 2
    random = torch.Generator().manual_seed(len(kind) + patches)
    _save(folder / "vision_tower", _intern_vit(patches) if intern else _siglip(patches), random)
    _save(folder / "mm_projector", _projector(), random)
    _save(folder / "llm", _llama(llm), random, shards=2 if intern else 1)
    return folder


def _llama(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    wide, keys = config["intermediate_size"], HIDDEN // 4 * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (config["vocab_size"], HIDDEN),
    }
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (keys, HIDDEN),
            "self_attn.v_proj": (keys, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (wide, HIDDEN),
            "mlp.up_proj": (wide, HIDDEN),
            "mlp.down_proj": (HIDDEN, wide),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int = WIDTH) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _projector() -> dict[str, tuple[int, ...]]:
    wide = 4 * WIDTH
    return {**_norm("layers.1", wide), **_linear("layers.2", HIDDEN, wide), **_linear("layers.4", HIDDEN, HIDDEN)}


def _siglip(patches: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, 14, 14),
        "vision_model.embeddings.patch_embedding.bias": (WIDTH,),
        "vision_model.embeddings.position_embedding.weight": (patches, WIDTH),
        **_norm("vision_model.post_layernorm"),
        "vision_model.head.probe": (1, 1, WIDTH),
        "vision_model.head.attention.in_proj_weight": (3 * WIDTH, WIDTH),
        "vision_model.head.attention.in_proj_bias": (3 * WIDTH,),
        **_linear("vision_model.head.attention.out_proj", WIDTH, WIDTH),
        **_norm("vision_model.head.layernorm"),
        **_linear("vision_model.head.mlp.fc1", 40, WIDTH),
        **_linear("vision_model.head.mlp.fc2", WIDTH, 40),
    }
    for layer in range(LAYERS):
        name = f"vision_model.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes.update(_linear(f"{name}.self_attn.{part}", WIDTH, WIDTH))
        shapes.update({**_norm(f"{name}.layer_norm1"), **_norm(f"{name}.layer_norm2")})
        shapes.update({**_linear(f"{name}.mlp.fc1", 40, WIDTH), **_linear(f"{name}.mlp.fc2", WIDTH, 40)})
    return shapes


def _intern_vit(patches: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (1, 1, WIDTH),
        "embeddings.patch_embedding.weight": (WIDTH, 3, 14, 14),
        "embeddings.patch_embedding.bias": (WIDTH,),
        "embeddings.position_embedding": (1, patches + 1, WIDTH),
    }
    for layer in range(LAYERS):
        name = f"encoder.layers.{layer}"
        shapes.update(
            {
                f"{name}.ls1": (WIDTH,),
                f"{name}.ls2": (WIDTH,),
                f"{name}.norm1.weight": (WIDTH,),
                f"{name}.norm2.weight": (WIDTH,),
                f"{name}.attn.qkv.weight": (3 * WIDTH, WIDTH),
                f"{name}.attn.q_norm.weight": (WIDTH,),
                f"{name}.attn.k_norm.weight": (WIDTH,),
                **_linear(f"{name}.attn.proj", WIDTH, WIDTH),
                **_linear(f"{name}.mlp.fc1", 40, WIDTH),
                **_linear(f"{name}.mlp.fc2", WIDTH, 40),
            }
        )
    return shapes


def intern_vit_patches(tensors: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """What InternViT-6B makes of ``pixels``, from the tensors as they lie on disk: ``[n, patches, width]``.

    Written after ``modeling_intern_vit.py`` (github.com/OpenGVLab/InternVL): RMS norms, queries and keys normed over
    all heads together, and a learnt scale behind either half of a layer.
    """

    def rms(x: torch.Tensor, name: str) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * tensors[f"{name}.weight"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    name = "embeddings.patch_embedding"
    patches = torch.nn.functional.conv2d(pixels, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride=14)
    count = len(pixels)
    x = torch.cat([tensors["embeddings.class_embedding"].expand(count, -1, -1), patches.flatten(2).mT], dim=1)
    x = x + tensors["embeddings.position_embedding"]
    for layer in range(LAYERS):
        name = f"encoder.layers.{layer}"
        q, k, v = linear(rms(x, f"{name}.norm1"), f"{name}.attn.qkv").chunk(3, dim=-1)
        q, k = rms(q, f"{name}.attn.q_norm"), rms(k, f"{name}.attn.k_norm")
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        weights = (q @ k.mT * (WIDTH // HEADS) ** -0.5).softmax(-1)
        attended = linear((weights @ v).transpose(1, 2).flatten(2), f"{name}.attn.proj")
        x = x + attended * tensors[f"{name}.ls1"]
        inner = torch.nn.functional.gelu(linear(rms(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        x = x + linear(inner, f"{name}.mlp.fc2") * tensors[f"{name}.ls2"]
    return x[:, 1:]


def _save(folder: Path, shapes: dict[str, tuple[int, ...]], random: torch.Generator, shards: int = 1) -> None:
    tensors = {}
    for name, shape in shapes.items():
        scale = 0.4 if len(shape) > 1 else 0.2
        ones = len(shape) == 1 and name.endswith("weight")
        tensors[name] = (torch.randn(shape, generator=random) * scale + float(ones)).bfloat16()
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    _write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def _write_pieces(folder: Path, yi: bool) -> tuple[int, int]:
    """A SentencePiece model; the vocabulary's size and the token that ``generation_config.json`` has for the end."""
    (folder / "tokenizer.model").write_bytes(_sentencepiece(yi))
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=_sentencepiece(yi))
    begin, end = ("<|startoftext|>", "<|endoftext|>") if yi else ("<s>", "</s>")
    markers = ["<unk>", begin, end, *(["<|im_start|>", "<|im_end|>"] if yi else [])]
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    _write(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": not yi,
            "add_eos_token": False,
            "added_tokens_decoder": {
                str(pieces.piece_to_id(name)): {"content": name, **flags, "special": True} for name in markers
            },
            "bos_token": begin,
            "eos_token": "<|im_end|>" if yi else end,
            "pad_token": "<unk>",
            "unk_token": "<unk>",
            "legacy": yi,
            "tokenizer_class": "LlamaTokenizer",
        },
    )
    return pieces.vocab_size(), pieces.piece_to_id(end)


@lru_cache(maxsize=2)
def _sentencepiece(yi: bool) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        character_coverage=1.0,
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        bos_piece="<|startoftext|>" if yi else "<s>",
        eos_piece="<|endoftext|>" if yi else "</s>",
        user_defined_symbols=["<|im_start|>", "<|im_end|>"] if yi else [],
        minloglevel=2,
    )
    return model.getvalue()


def _write_llama_3(folder: Path) -> tuple[int, int]:
    """Bytes and markers, and a token of beginning that the tokenizer puts before every text."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.processors import TemplateProcessing

    vocab = {letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    markers = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in markers])
    begin, end = (tokenizer.token_to_id(marker) for marker in markers[:2])
    tokenizer.post_processor = TemplateProcessing(single=f"{markers[0]} $A", special_tokens=[(markers[0], begin)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": markers[0], "eos_token": markers[1], "tokenizer_class": "PreTrainedTokenizerFast"}
    _write(folder / "tokenizer_config.json", names)
    return tokenizer.get_vocab_size(), end


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
