"""Tiny random checkpoints of types that transformers loads by itself, saved by their own classes.

Each has a tokenizer of a few hundred tokens, the type's own processor with small pictures, and a chat template of the
published structure, written by us. torchvision is needed to make them, as it is to use them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiny import _WORDS

ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

_CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for part in message.content -%}{%- if part.type == 'image' -%}{{ 'IMAGE' }}"
    "{%- elif part.type == 'video' -%}{{ 'VIDEO' }}"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ 'TURN_END<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}THOUGHT{%- endif -%}"
)


def chatml(image: str, video: str = "", turn_end: str = "", thought: str = "") -> str:
    """A template of Qwen's structure, with these marks of a picture and this beginning of the model's turn."""
    marks = {"IMAGE": image, "VIDEO": video, "TURN_END": turn_end, "THOUGHT": thought}
    made = _CHATML
    for name, value in marks.items():
        made = made.replace(name, value.replace("\n", "\\n") if name != "THOUGHT" else value)
    return made


QWEN_THOUGHT = (
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{%- else -%}{{ '<think>\\n' }}{%- endif -%}"
)
GLM_TEMPLATE = (
    "[gMASK]<sop>{%- for message in messages -%}{{ '<|' + message.role + '|>\\n' }}"
    "{%- for part in message.content -%}{%- if part.type == 'image' -%}"
    "<|begin_of_image|><|image|><|end_of_image|>{%- elif part.type == 'video' -%}"
    "<|begin_of_video|><|video|><|end_of_video|>{%- else -%}{{ part.text }}{%- endif -%}{%- endfor -%}"
    "{%- if message.role == 'user' and enable_thinking is defined and not enable_thinking -%}{{ '/nothink' }}"
    "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking -%}{{ '<think></think>\\n' }}{%- endif -%}{%- endif -%}"
)
GLM_SIZE = {"shortest_edge": 28 * 28 * 2, "longest_edge": 56 * 56 * 2}
GLM_PATCHES = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
GEMMA_TEMPLATE = (
    "{{ bos_token }}{%- if enable_thinking is defined and enable_thinking -%}"
    "{{ '<|turn>system\\n<|think|><turn|>\\n' }}{%- endif -%}"
    "{%- for message in messages -%}{{ '<|turn>' + message.role + '\\n' }}"
    "{%- for part in message.content -%}{%- if part.type == 'image' -%}{{ '<|image|>' }}"
    "{%- elif part.type == 'video' -%}{{ '<|video|>' }}{%- else -%}{{ part.text | trim }}{%- endif -%}{%- endfor -%}"
    "{{ '<turn|>\\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}"
)
SMOL_TEMPLATE = (
    "<|im_start|>{%- for message in messages -%}{{ message.role | capitalize }}"
    "{%- if message.content[0].type == 'image' -%}{{ ':' }}{%- else -%}{{ ': ' }}{%- endif -%}"
    "{%- for part in message.content -%}{%- if part.type == 'text' -%}{{ part.text }}"
    "{%- elif part.type == 'image' -%}{{ '<image>' }}{%- elif part.type == 'video' -%}{{ '<video>' }}{%- endif -%}"
    "{%- endfor -%}<end_of_utterance>\n{% endfor -%}{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{%- for message in messages -%}{%- if message.role == 'system' -%}{{ '[SYSTEM_PROMPT]' }}"
    "{%- for part in message.content -%}{{ part.text }}{%- endfor -%}{{ '[/SYSTEM_PROMPT]' }}"
    "{%- elif message.role == 'user' -%}{{ '[INST]' }}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{{ '[IMG]' }}{%- else -%}{{ part.text }}{%- endif -%}{%- endfor -%}{{ '[/INST]' }}"
    "{%- endif -%}{%- endfor -%}"
)


def tokenizer(
    special: tuple[str, ...], named: Mapping[str, str] | None = None, end: str = "<|im_end|>", pad: str = ENDS[0]
) -> Any:
    """A byte-level BPE with these special tokens; ``named`` are attributes such as ``image_token``."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words.train_from_iterator(
        [_WORDS], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    words.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=end,
        pad_token=pad,
        bos_token="<bos>" if "<bos>" in special else None,
        extra_special_tokens=dict(named or {}),
        padding_side="right",
    )


def _text(size: int, context: int) -> dict[str, Any]:
    return {
        "vocab_size": -(-size // 8) * 8,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": context,
        "initializer_range": 0.2,  # wide enough that what the model sees changes what it says
        "tie_word_embeddings": False,
    }


def _mrope(section: list[int], theta: float = 1e4, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": section, **more}


def _save(folder: Path, model: Any, processor: Any, ends: list[int], pad: int) -> Path:
    from transformers import GenerationConfig

    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    # Published settings sample and penalise; a greedy answer must not take them over.
    GenerationConfig(
        eos_token_id=ends, pad_token_id=pad, do_sample=True, temperature=0.6, top_k=20, repetition_penalty=1.3
    ).save_pretrained(folder)
    return folder


def _made(build: Callable[[], Any], seed: int) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("self_attn.o_proj.weight", "linear_attn.out_proj.weight")):
                weight.mul_(8)  # what was read decides what is said, and not only the last token
    return model


def write_qwen3_5(folder: Path, seed: int = 0, context: int = 32768, template: str | None = None) -> Path:
    """Linear attention and full attention by turns; the template opens a thought unless told otherwise."""
    from transformers import Qwen2VLImageProcessor, Qwen3_5Config, Qwen3_5ForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    vision = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    words = tokenizer((*ENDS, *vision, "<think>", "</think>"))
    ids = words.get_vocab()
    around = ("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>")
    size = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=16, merge_size=2, temporal_patch_size=2, size=size),
        words,
        Qwen3VLVideoProcessor(patch_size=16, merge_size=2, temporal_patch_size=2, size=dict(size, longest_edge=10**6)),
        chat_template=template or chatml(*around, thought=QWEN_THOUGHT),
    )
    config = Qwen3_5Config(
        text_config=_text(len(words), context)
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": _mrope([1, 0, 1], mrope_interleaved=True, partial_rotary_factor=0.25),
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "initializer_range": 0.2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = _made(lambda: Qwen3_5ForConditionalGeneration(config), seed)
    return _save(folder, model, processor, [ids["<|im_end|>"], ids["<|endoftext|>"]], ids["<|endoftext|>"])


def glm46v_words() -> Any:
    """The tokenizer of the next one."""
    turns = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
    boxes = ("<think>", "</think>", "<|begin_of_box|>", "<|end_of_box|>", "/nothink")
    marks = ("image", "video")
    vision = tuple(f"<|{edge}{mark}|>" for mark in marks for edge in ("", "begin_of_", "end_of_"))
    return tokenizer(("<|endoftext|>", "[gMASK]", "<sop>", *turns, *vision, *boxes), end="<|endoftext|>")


def glm46v_model(words: Any, seed: int, context: int) -> Any:
    """The model of the next one."""
    from transformers import Glm46VConfig, Glm46VForConditionalGeneration

    ids = words.get_vocab()
    config = Glm46VConfig(
        text_config=_text(len(words), context)
        | {
            "model_type": "glm4v_text",
            "rope_parameters": _mrope([1, 1, 2], partial_rotary_factor=0.5),
            "eos_token_id": [ids["<|endoftext|>"], ids["<|user|>"], ids["<|observation|>"]],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "model_type": "glm4v_vision",
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "image_size": 56,
            "patch_size": 14,
            "initializer_range": 0.2,
        },
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        image_start_token_id=ids["<|begin_of_image|>"],
        image_end_token_id=ids["<|end_of_image|>"],
        video_start_token_id=ids["<|begin_of_video|>"],
        video_end_token_id=ids["<|end_of_video|>"],
    )
    return _made(lambda: Glm46VForConditionalGeneration(config), seed)


def write_glm46v(folder: Path, seed: int = 0, context: int = 32768, template: str | None = None) -> Path:
    """Plain attention with M-RoPE; ``/nothink`` and an empty thought where thinking is off."""
    from transformers import Glm46VProcessor
    from transformers.models.glm46v.image_processing_glm46v import Glm46VImageProcessor
    from transformers.models.glm46v.video_processing_glm46v import Glm46VVideoProcessor

    words = glm46v_words()
    processor = Glm46VProcessor(
        Glm46VImageProcessor(size=GLM_SIZE, **GLM_PATCHES),
        words,
        Glm46VVideoProcessor(size=dict(GLM_SIZE, longest_edge=10**6), **GLM_PATCHES),
        chat_template=template or GLM_TEMPLATE,
    )
    return save_glm46v(folder, glm46v_model(words, seed, context), processor, words)


def save_glm46v(folder: Path, model: Any, processor: Any, words: Any) -> Path:
    """Model, processor or tokenizer, and the settings of generation."""
    ids = words.get_vocab()
    return _save(folder, model, processor, [ids["<|endoftext|>"], ids["<|user|>"]], ids["<|endoftext|>"])


def write_gemma4(folder: Path, seed: int = 0, context: int = 32768, template: str | None = None) -> Path:
    """Sliding windows and full attention by turns; image tokens see each other in both directions."""
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration, Gemma4Processor
    from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
    from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor
    from transformers.models.gemma4.video_processing_gemma4 import Gemma4VideoProcessor

    named = {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    special = ("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>", "<|video|>")
    words = tokenizer((*special, *named.values()), named, end="<turn|>", pad="<pad>")
    ids = words.get_vocab()
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessor(patch_size=16, pooling_kernel_size=3, max_soft_tokens=70),
        words,
        Gemma4VideoProcessor(patch_size=16, pooling_kernel_size=3, max_soft_tokens=70),
        chat_template=template or GEMMA_TEMPLATE,
        image_seq_length=70,
    )
    config = Gemma4Config(
        text_config=_text(len(words), context)
        | {
            "global_head_dim": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 48,
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": -(-len(words) // 8) * 8,
            "use_bidirectional_attention": "vision",
            "pad_token_id": ids["<pad>"],
            "bos_token_id": ids["<bos>"],
            "eos_token_id": ids["<turn|>"],
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 16,
            "pooling_kernel_size": 3,
            "position_embedding_size": 256,
            "initializer_range": 0.2,
        },
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        boi_token_id=ids["<|image>"],
        eoi_token_id=ids["<image|>"],
        audio_token_id=ids["<|audio|>"],
        boa_token_id=ids["<|audio>"],
        eoa_token_index=ids["<audio|>"],
        audio_config=None,
        initializer_range=0.2,
        tie_word_embeddings=False,  # tied, it would say its last token again
    )
    model = _made(lambda: Gemma4ForConditionalGeneration(config), seed)
    return _save(folder, model, processor, [ids["<eos>"], ids["<turn|>"]], ids["<pad>"])


def write_internvl(folder: Path, seed: int = 0, context: int = 32768, template: str | None = None) -> Path:
    """Tiles by default, as its processor's class has it; a line's end after each picture is the template's."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor
    from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer((*ENDS, *named.values()), named)
    ids = words.get_vocab()
    size = {"height": 56, "width": 56}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size),
        words,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template or chatml("<IMG_CONTEXT>\n", "<video>\n"),
    )
    config = InternVLConfig(
        text_config=_text(len(words), context) | {"model_type": "qwen2"},
        vision_config={
            "model_type": "internvl_vision",
            "hidden_size": 32,
            "image_size": [56, 56],
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "patch_size": [14, 14],
            "initializer_range": 0.2,
        },
        image_seq_length=4,
        image_token_id=ids["<IMG_CONTEXT>"],
        initializer_range=0.2,
    )
    model = _made(lambda: InternVLForConditionalGeneration(config), seed)
    return _save(folder, model, processor, [ids["<|im_end|>"], ids["<|endoftext|>"]], ids["<|endoftext|>"])


def write_smolvlm(folder: Path, seed: int = 0, context: int = 8192, template: str | None = None) -> Path:
    """Tiles with marks of row and column by default."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMProcessor
    from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    named = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "end_of_utterance_token": "<end_of_utterance>",
        "global_image_token": "<global-img>",
        "video_token": "<video>",
    }
    rows = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
    words = tokenizer(("<|im_start|>", "<|endoftext|>", *named.values(), *rows), named, end="<end_of_utterance>")
    ids = words.get_vocab()
    side = {"longest_edge": 64}
    pictures = SmolVLMImageProcessor(size={"longest_edge": 128}, max_image_size=side)
    films = SmolVLMVideoProcessor(size=side, max_image_size=side, do_image_splitting=False)
    processor = SmolVLMProcessor(pictures, words, films, image_seq_len=4, chat_template=template or SMOL_TEMPLATE)
    config = SmolVLMConfig(
        text_config=_text(len(words), context) | {"model_type": "llama", "pad_token_id": ids["<|endoftext|>"]},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "initializer_range": 0.2,
        },
        scale_factor=2,
        image_token_id=ids["<image>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    model = _made(lambda: SmolVLMForConditionalGeneration(config), seed)
    return _save(folder, model, processor, [ids["<end_of_utterance>"]], ids["<|endoftext|>"])


def write_mistral3(folder: Path, seed: int = 0, context: int = 32768, template: str | None = None) -> Path:
    """A row of tokens for each row of patches; the processor is Pixtral's."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PixtralProcessor
    from transformers.models.pixtral.image_processing_pixtral import PixtralImageProcessor

    turns = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]")
    special = ("<bos>", "</s>", "<pad>", *turns, "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    words = tokenizer(special, end="</s>", pad="<pad>")
    ids = words.get_vocab()
    processor = PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}),
        words,
        patch_size=14,
        spatial_merge_size=2,
        chat_template=template or MISTRAL_TEMPLATE,
    )
    config = Mistral3Config(
        text_config=_text(len(words), context) | {"model_type": "mistral", "sliding_window": None},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "head_dim": 16,
            "image_size": 112,
            "patch_size": 14,
            "initializer_range": 0.2,
        },
        image_token_index=ids["[IMG]"],
        spatial_merge_size=2,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    model = _made(lambda: Mistral3ForConditionalGeneration(config), seed)
    return _save(folder, model, processor, [ids["</s>"]], ids["<pad>"])


def write_minicpmv4_6(folder: Path, seed: int = 0, context: int = 32768, template: str | None = None) -> Path:
    """The text model is Qwen3.5's; pictures are sliced by default and numbered."""
    from transformers import MiniCPMV4_6Config, MiniCPMV4_6ForConditionalGeneration, MiniCPMV4_6Processor
    from transformers.models.minicpmv4_6.image_processing_minicpmv4_6 import MiniCPMV4_6ImageProcessor
    from transformers.models.minicpmv4_6.video_processing_minicpmv4_6 import MiniCPMV4_6VideoProcessor

    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    }
    words = tokenizer((*ENDS, *named.values(), "<think>", "</think>"), named)
    ids = words.get_vocab()
    pictures = {"scale_resolution": 112, "patch_size": 14, "max_slice_nums": 9}
    processor = MiniCPMV4_6Processor(
        MiniCPMV4_6ImageProcessor(**pictures),
        MiniCPMV4_6VideoProcessor(**pictures),
        words,
        chat_template=template or chatml("<|image_pad|>", "<|video_pad|>"),
    )
    config = MiniCPMV4_6Config(
        text_config=_text(len(words), context)
        | {
            "model_type": "qwen3_5_text",
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25},
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
            "insert_layer_id": 0,
            "initializer_range": 0.2,
        },
        insert_layer_id=0,
        image_size=112,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        initializer_range=0.2,
    )
    model = _made(lambda: MiniCPMV4_6ForConditionalGeneration(config), seed)
    return _save(folder, model, processor, [ids["<|im_end|>"], ids["<|endoftext|>"]], ids["<|endoftext|>"])


def write_mllama(folder: Path, seed: int = 0, context: int = 32768, template: str | None = None) -> Path:
    """Pictures are looked at by layers of cross attention, through a mask that is as long as the prompt."""
    import torch
    from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor
    from transformers.models.mllama.image_processing_mllama import MllamaImageProcessor

    words = tokenizer((*ENDS, "<|image|>", "<bos>"), {"image_token": "<|image|>"})
    ids = words.get_vocab()
    processor = MllamaProcessor(
        MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=4),
        words,
        chat_template=template or chatml("<|image|>"),
    )
    config = MllamaConfig(
        text_config=_text(len(words), context)
        | {
            "num_hidden_layers": 4,
            "cross_attention_layers": [1, 3],
            "bos_token_id": ids["<bos>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "intermediate_layers_indices": [0, 1],
            "vision_output_dim": 96,
            "max_num_tiles": 4,
            "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
        },
        image_token_index=ids["<|image|>"],
    )
    model = _made(lambda: MllamaForConditionalGeneration(config), seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gate" in name:
                weight.fill_(1.0)  # they begin as zeros, and so closed
    return _save(folder, model, processor, [ids["<|im_end|>"], ids["<|endoftext|>"]], ids["<|endoftext|>"])


WRITERS: Mapping[str, Callable[..., Path]] = {
    "qwen3_5": write_qwen3_5,
    "gemma4": write_gemma4,
    "glm46v": write_glm46v,
    "internvl": write_internvl,
    "smolvlm": write_smolvlm,
    "mistral3": write_mistral3,
    "minicpmv4_6": write_minicpmv4_6,
    "mllama": write_mllama,
}


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    """Change values of a JSON file of a checkpoint; None takes one away."""
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8"))
    content = {key: value for key, value in (content | changes).items() if value is not None}
    path.write_text(json.dumps(content), encoding="utf-8")
