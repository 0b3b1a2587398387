"""Questions a second of stage 2 at real size: ours, against a loop of stock `generate` in the same process.

    python scripts/benchmark_answerers.py                              # Qwen2-VL-7B and LLaVA-Video-7B, on a GPU
    python scripts/benchmark_answerers.py --layers 2 --frames 4 --questions 3 --tokens 4        # does it run at all?

Random weights, 64 frames, 16 questions, each about frames of its own, or all about the same ones, as with
`sampler=uniform`. Both write the same number of tokens on the same prompts. The stock loop runs as transformers does by
itself: its own vision attention, one question after another. Resizing is left out of both, and of stock also
normalising and cutting into patches, which ours does on the device. Prints Markdown rows and the machine.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from transformers import LlavaOnevisionConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from pipeline.families.labels import FrameLabels, TimeSentence
from pipeline.families.llava_video.model import LlavaVideoForConditionalGeneration, LlavaVideoModel
from pipeline.families.llava_video.processor import LlavaVideoProcessor
from pipeline.families.llava_video.processor import VideoForm as LlavaVideoForm
from pipeline.families.qwen.corrections import attend_frames_at_once, correct_positions
from pipeline.families.qwen.forms import ImagesForm
from pipeline.families.qwen.model import QwenModel
from pipeline.families.qwen.processor import FrameScale, QwenProcessor
from pipeline.families.seam import Model, PreparedFrame, Processor, Prompt
from pipeline.generation.framed_prompts import generate_texts
from pipeline.generation.limits import OutputLimits

IMAGE, START, END = 151655, 151652, 151653
FRAME = (336, 560)  # pixels: 240 tokens of Qwen2-VL
LABEL, QUESTION = 6, 120
"""Tokens of "123.4s: " and of question, options and instruction."""
VIDEO_TOKEN = 151647

Prompts = list[Prompt]


class NoTokenizer:
    """Random tokens have no words, and nothing ends them."""

    eos_token_id = None

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return ""

    def convert_tokens_to_ids(self, token: str) -> int:
        return IMAGE


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


def qwen(layers: int, dtype: torch.dtype) -> Model:
    text = language(layers) | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    }
    vision = {"depth": min(32, layers), "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "hidden_size": 3584}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, image_token_id=IMAGE, vision_start_token_id=START)
    network = Qwen2VLForConditionalGeneration._from_config(config, dtype=dtype).eval()
    correct_positions(network)
    return QwenModel(network, QWEN)


def prompts_of(processor: Processor[Any], frames: int, questions: int, same: bool) -> Prompts:
    """Of Qwen2-VL with a label before each frame, of LLaVA-Video with one sentence behind them all."""
    dice = np.random.default_rng(0)
    prompts: Prompts = []
    for number in range(questions):
        if number == 0 or not same:
            shown: tuple[PreparedFrame, ...] = tuple(
                processor.prepare(dice.integers(0, 256, (*FRAME, 3), dtype=np.uint8)) for _ in range(frames)
            )
            head: list[int] = []
            for frame in shown:
                pictures = [processor.picture_token] * frame.shape.tokens
                head += [*words(LABEL), START, *pictures, END] if processor is QWEN else pictures
        sentence = [] if processor is QWEN else words(frames * LABEL)
        ids = np.array([*head, *sentence, *words(QUESTION)])
        prompts.append(Prompt(ids, shown, processor.frames_end(ids)))
    return prompts


def llava(layers: int, dtype: torch.dtype) -> Model:
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
    return LlavaVideoModel(LlavaVideoForConditionalGeneration._from_config(config, dtype=dtype).eval())


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


def stock(network: Any, inputs: Sequence[dict[str, torch.Tensor]], tokens: int) -> None:
    for given in inputs:
        mask = torch.ones_like(given["input_ids"])
        network.generate(**given, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)


def measure(name: str, chosen: argparse.Namespace, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make, processor = MODELS[name]
    with torch.device(chosen.device):
        model = make(chosen.layers, dtype)
    model.network.generation_config.eos_token_id = None
    cases = [(same, prompts_of(processor, chosen.frames, chosen.questions, same)) for same in (False, True)]
    few = [model.arguments(prompt, prompt.tokens) for prompt in cases[0][1][: chosen.peer_questions]]
    theirs = {}
    for tokens in chosen.tokens:
        stock(model.network, few[:1], tokens)
        theirs[tokens] = seconds(lambda n=tokens: stock(model.network, few, n), chosen.device) / len(few)
    if processor is QWEN:
        attend_frames_at_once(model.network.model.visual)
    for tokens in chosen.tokens:
        for same, prompts in cases:
            generate_texts(model, NoTokenizer(), prompts[:2], OutputLimits(tokens))
            spent = seconds(
                lambda p=prompts, n=tokens: generate_texts(model, NoTokenizer(), p, OutputLimits(n)), chosen.device
            )
            mine = spent / len(prompts)
            print(
                f"| {name} | {'the same' if same else 'its own'} | {prompts[0].tokens} | {tokens} | "
                f"{1 / theirs[tokens]:.2f} | {1 / mine:.2f} | {theirs[tokens] / mine:.1f} |",
                flush=True,
            )


QWEN = QwenProcessor(
    NoTokenizer(),
    32768,
    ImagesForm(FrameLabels("", "")),
    "qwen2_vl",
    FrameScale(784, FRAME[0] * FRAME[1], None),
    np.zeros((3, 256), np.float32),
    None,
)
MODELS: dict[str, tuple[Callable[[int, torch.dtype], Model], Processor[Any]]] = {
    "Qwen2-VL-7B": (qwen, QWEN),
    "LLaVA-Video-7B": (
        llava,
        LlavaVideoProcessor(
            NoTokenizer(), 32768, LlavaVideoForm(TimeSentence("none"), "grid"), VIDEO_TOKEN, "bilinear"
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*MODELS])
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
