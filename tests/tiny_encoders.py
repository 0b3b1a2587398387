"""Tiny random checkpoints of models that embed pictures and texts, in the layout of the hub's repositories.

Their similarities are noise; files, tokenizers, sizes of the text towers and tensor names are as real ones have them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny import QWEN_TEMPLATE, QWEN_VISION, _text_config, _write, _write_tokenizer

_WORDS = (
    "What colour is the square that appears after the circle? red green blue yellow\n"
    "which frames show the triangle; when does the star leave, and who is there before it?\n"
    "a photo of a cat. The dog is cooking, then it sleeps in the garden. AN UPPER CASE LINE\n"
)
_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
_SIDE, _PATCH = 28, 14


def write_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP as OpenAI's repositories hold it: the old forms of the image size, and an end token of 2 in the config."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer, trained.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.ByteLevel(False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(_WORDS.splitlines() * 3, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    # The order of the original: bytes, bytes that end a word, merges, and last the two marks, of which the text tower
    # finds the second by its being the highest id.
    marks = ("<|startoftext|>", "<|endoftext|>")
    pieces = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(pair) for pair in merges), *marks]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=marks[1]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = trained.normalizer, trained.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    tokenizer.post_processor = processors.RobertaProcessing(
        (marks[1], vocabulary[marks[1]]), (marks[0], vocabulary[marks[0]]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    _write(
        folder / "tokenizer_config.json",
        {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer",
        },
    )
    _write(
        folder / "preprocessor_config.json",
        {
            "crop_size": _SIDE,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": _SIDE,
        },
    )
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": 16,
        "text_config": _TOWER
        | {
            "model_type": "clip_text_model",
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 77,
            "projection_dim": 16,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        "vision_config": _TOWER
        | {"model_type": "clip_vision_model", "image_size": _SIDE, "patch_size": _PATCH, "projection_dim": 16},
    }
    return _save(folder, CLIPModel, CLIPConfig, config, seed)


def write_siglip(folder: Path, seed: int = 0) -> Path:
    """A SigLIP with its SentencePiece model: ``<pad>`` 0, ``</s>`` 1, ``<unk>`` 2, as in T5's vocabulary."""
    import io

    import sentencepiece
    from transformers import SiglipConfig, SiglipModel

    folder.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_WORDS.lower().splitlines() * 3),
        model_writer=made,
        vocab_size=90,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(made.getvalue())
    _write(
        folder / "tokenizer_config.json",
        {
            "do_lower_case": True,
            "eos_token": "</s>",
            "model_input_names": ["input_ids"],
            "model_max_length": 64,
            "pad_token": "</s>",
            "sp_model_kwargs": {},
            "tokenizer_class": "SiglipTokenizer",
            "unk_token": "<unk>",
        },
    )
    _write_siglip_preprocessor(folder)
    return _save(folder, SiglipModel, SiglipConfig, _siglip_config("siglip", 120, {"image_size": _SIDE}), seed)


def write_siglip2(folder: Path, seed: int = 0) -> Path:
    """A SigLIP 2 of one size: its ``config.json`` says ``siglip``, its tokenizer is Gemma's and keeps upper case."""
    from transformers import SiglipConfig, SiglipModel

    words = _write_gemma_tokenizer(folder, "GemmaTokenizer")
    _write_siglip_preprocessor(folder)
    return _save(folder, SiglipModel, SiglipConfig, _siglip_config("siglip", words, {"image_size": _SIDE}), seed)


def write_siglip2_naflex(folder: Path, seed: int = 0) -> Path:
    """A SigLIP 2 for any aspect, of at most 16 patches."""
    from transformers import Siglip2Config, Siglip2Model

    words = _write_gemma_tokenizer(folder, "Siglip2Tokenizer")
    _write(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "image_processor_type": "Siglip2ImageProcessor",
            "max_num_patches": 16,
            "patch_size": _PATCH,
            "resample": 2,
            "rescale_factor": 1 / 255,
        },
    )
    config = _siglip_config("siglip2", words, {"num_patches": 16})
    return _save(folder, Siglip2Model, Siglip2Config, config, seed)


def write_qwen3_vl(folder: Path, seed: int = 0, *, ends_itself: bool = False, head: bool = False) -> Path:
    """A Qwen3-VL, the architecture of Qwen3-VL-Embedding.

    Args:
        folder: where.
        seed: of the weights.
        ends_itself: whether its tokenizer puts ``<|endoftext|>`` behind every text, as that of Qwen3-Embedding does.
        head: whether the language model has a head of its own; that of the 2B model is tied.
    """
    from tokenizers import Tokenizer, processors
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokens = _write_tokenizer(folder, QWEN_VISION, QWEN_TEMPLATE)
    if ends_itself:
        path = str(folder / "tokenizer.json")
        tokenizer = Tokenizer.from_file(path)
        end = ("<|endoftext|>", tokens["<|endoftext|>"])
        tokenizer.post_processor = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[end])
        tokenizer.save(path)
    text = _text_config(tokens, 4096) | {
        "model_type": "qwen3_vl_text",
        "head_dim": 16,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5000000.0,
            "mrope_interleaved": True,
            "mrope_section": [2, 3, 3],
        },
    }
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "dtype": "float32",
        "image_token_id": tokens["<|image_pad|>"],
        "video_token_id": tokens["<|video_pad|>"],
        "vision_start_token_id": tokens["<|vision_start|>"],
        "vision_end_token_id": tokens["<|vision_end|>"],
        "tie_word_embeddings": not head,
        "text_config": text,
        "vision_config": {
            "model_type": "qwen3_vl",
            "deepstack_visual_indexes": [0],
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "num_position_embeddings": 16,
            "out_hidden_size": 64,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "merge_size": 2,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "size": {"longest_edge": 1310720, "shortest_edge": 4096},
        },
    )
    return _save(folder, Qwen3VLForConditionalGeneration, Qwen3VLConfig, config, seed)


def _siglip_config(kind: str, words: int, picture: dict[str, Any]) -> dict[str, Any]:
    text = {"model_type": f"{kind}_text_model", "vocab_size": words, "max_position_embeddings": 64}
    return {
        "architectures": ["SiglipModel" if kind == "siglip" else "Siglip2Model"],
        "model_type": kind,
        "text_config": _TOWER | text | {"projection_size": 32, "bos_token_id": None, "eos_token_id": 1},
        "vision_config": _TOWER | {"model_type": f"{kind}_vision_model", "patch_size": _PATCH} | picture,
    }


def _write_siglip_preprocessor(folder: Path) -> None:
    _write(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "SiglipProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": _SIDE, "width": _SIDE},
        },
    )


def _write_gemma_tokenizer(folder: Path, kind: str) -> int:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special + bytes_, show_progress=False)
    tokenizer.train_from_iterator(_WORDS.splitlines() * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in special]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    _write(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_eos_token": True,
            "bos_token": "<bos>",
            "do_lower_case": True,
            "eos_token": "<eos>",
            "mask_token": "<mask>",
            "model_input_names": ["input_ids"],
            "model_max_length": 64,
            "pad_token": "<pad>",
            "padding_side": "right",
            "tokenizer_class": kind,
            "unk_token": "<unk>",
        },
    )
    return tokenizer.get_vocab_size()


def _save(folder: Path, model_class: Any, config_class: Any, config: dict[str, Any], seed: int) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config_class(**json.loads(json.dumps(config))))
        for name, weight in model.named_parameters():
            # Wide enough that what is seen and read changes the vectors.
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.15)
            elif name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.02)
        model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    _write(folder / "config.json", config)
    return folder
