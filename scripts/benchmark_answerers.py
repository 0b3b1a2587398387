"""Questions a second of stage 2 at real size: ours, against a loop of stock `generate` in the same process.

    python scripts/benchmark_answerers.py                              # Qwen2-VL-7B and LLaVA-Video-7B, on a GPU
    python scripts/benchmark_answerers.py --layers 2 --frames 4 --questions 3 --tokens 4        # does it run at all?

Random weights, 64 frames, 16 questions, each about frames of its own, or all about the same ones, as with
`sampler=uniform`. Both write the same number of tokens on the same prompts. The stock loop runs as transformers does by
itself: its own vision attention, one question after another. Preprocessing is left out of both. Prints Markdown rows
and the machine.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from transformers import LlavaOnevisionConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from pipeline.answerers.llava_video_reader import LlavaVideoReader
from pipeline.answerers.qwen_reader import QwenReader
from pipeline.inference.framed_prompts import write_answers
from pipeline.models import llava_video_inputs, qwen_inputs
from pipeline.models.frames_at_once import attend_frames_at_once
from pipeline.models.llava_video import LlavaVideoForConditionalGeneration
from pipeline.models.llava_video_inputs import LlavaVideoInputs
from pipeline.models.qwen_inputs import QwenInputs
from pipeline.models.qwen_pixels import Patches
from pipeline.models.qwen_positions import correct_positions

IMAGE, START, END = 151655, 151652, 151653
GRID = (1, 24, 40)  # patches of a frame of 336 x 560 pixels: 240 tokens
LABEL, QUESTION = 6, 120
"""Tokens of "123.4s: " and of question, options and instruction."""
VIDEO_TOKEN, FRAME_TOKENS = 151647, 210

Prompts = list[Any]


class NoTokenizer:
    """Random tokens have no words, and nothing ends them."""

    eos_token_id = None

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return ""


def language(layers: int) -> dict[str, Any]:
    """Qwen2-7B as both checkpoints' config.json has it."""
    return {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": layers,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
    }


def qwen(layers: int, dtype: torch.dtype) -> Any:
    text = language(layers) | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    }
    vision = {"depth": min(32, layers), "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "hidden_size": 3584}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, image_token_id=IMAGE, vision_start_token_id=START)
    model = Qwen2VLForConditionalGeneration._from_config(config, dtype=dtype).eval()
    correct_positions(model)
    return model


def qwen_prompts(frames: int, questions: int, same: bool) -> Prompts:
    prompts: Prompts = []
    for number in range(questions):
        if number == 0 or not same:
            head: list[int] = []
            for _ in range(frames):
                head += [*words(LABEL), START, *[IMAGE] * (GRID[1] * GRID[2] // 4), END]
            patches = Patches(torch.randn(frames * GRID[1] * GRID[2], 1176), torch.tensor([GRID] * frames))
        ids = torch.tensor([*head, *words(QUESTION)])
        prompts.append(QwenInputs(ids, (ids == IMAGE).int(), patches, None))
    return prompts


def llava(layers: int, dtype: torch.dtype) -> Any:
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": min(26, layers),
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "vision_use_head": False,
    }
    text = language(layers) | {"model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    config = LlavaOnevisionConfig(
        vision_config=vision, text_config=text, video_token_id=VIDEO_TOKEN, image_token_id=VIDEO_TOKEN - 1
    )
    return LlavaVideoForConditionalGeneration._from_config(config, dtype=dtype).eval()


def llava_prompts(frames: int, questions: int, same: bool) -> Prompts:
    prompts: Prompts = []
    for number in range(questions):
        if number == 0 or not same:
            pixels = torch.randn(frames, 3, 384, 384)
            head = [*words(14), *[VIDEO_TOKEN] * (frames * FRAME_TOKENS)]
        prompts.append(LlavaVideoInputs(torch.tensor([*head, *words(frames * LABEL), *words(QUESTION)]), pixels))
    return prompts


def words(count: int) -> list[int]:
    return torch.randint(100, 100_000, (count,)).tolist()


def seconds(work: Callable[[], Any], device: str) -> float:
    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def stock(model: Any, prompts: Prompts, arguments: Callable[[Any, int], dict[str, Any]], tokens: int) -> None:
    for prompt in prompts:
        given = {name: value.to(model.device) for name, value in arguments(prompt, len(prompt.input_ids)).items()}
        mask = torch.ones_like(given["input_ids"])
        model.generate(**given, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)


def measure(name: str, chosen: argparse.Namespace, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make, prompts_of, arguments, reader = {
        "Qwen2-VL-7B": (
            qwen,
            qwen_prompts,
            qwen_inputs.arguments,
            QwenReader(NoTokenizer(), None, "qwen2_vl", 32768, None, None, None),  # type: ignore[arg-type]
        ),
        "LLaVA-Video-7B": (
            llava,
            llava_prompts,
            llava_video_inputs.arguments,
            LlavaVideoReader(NoTokenizer(), 32768, VIDEO_TOKEN, "bilinear", "grid", None),  # type: ignore[arg-type]
        ),
    }[name]
    with torch.device(chosen.device):
        model = make(chosen.layers, dtype)
    model.generation_config.eos_token_id = None
    cases = [(same, prompts_of(chosen.frames, chosen.questions, same)) for same in (False, True)]
    few = cases[0][1][: chosen.peer_questions]
    theirs = {}
    for tokens in chosen.tokens:
        stock(model, few[:1], arguments, tokens)
        theirs[tokens] = seconds(lambda n=tokens: stock(model, few, arguments, n), chosen.device) / len(few)
    if name.startswith("Qwen"):
        attend_frames_at_once(model.model.visual)
    for tokens in chosen.tokens:
        for same, prompts in cases:
            write_answers(reader, model, prompts[:2], tokens)
            mine = seconds(lambda p=prompts, n=tokens: write_answers(reader, model, p, n), chosen.device) / len(prompts)
            print(
                f"| {name} | {'the same' if same else 'its own'} | {len(prompts[0].input_ids)} | {tokens} | "
                f"{1 / theirs[tokens]:.2f} | {1 / mine:.2f} | {theirs[tokens] / mine:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["Qwen2-VL-7B", "LLaVA-Video-7B"])
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--peer-questions", type=int, default=4, help="the loop's time is linear in them")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    dtype = torch.float32 if chosen.device == "cpu" else torch.bfloat16
    print("| model | a question's frames | prompt tokens | tokens written | stock, questions a second | ours | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen.models:
        measure(name, chosen, dtype)
        if chosen.device != "cpu":
            torch.cuda.empty_cache()
    machine = torch.cuda.get_device_name() if chosen.device != "cpu" else platform.processor() or platform.machine()
    print(f"\n{machine}, {dtype}, torch {torch.__version__}, transformers {transformers.__version__}, sdpa")


if __name__ == "__main__":
    main()
