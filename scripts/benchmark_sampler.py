"""Seconds a question and window of GenS: all questions over one shared prefix, against a loop of stock `generate`.

    python scripts/benchmark_sampler.py                      # the 3B model at its real size, random weights, on a GPU
    python scripts/benchmark_sampler.py --windows 14 --questions 2       # an hour of video
    python scripts/benchmark_sampler.py --layers 2 --frames 16 --questions 4 --tokens 8      # does it run at all?

Both write the same number of tokens on the same prompts in the same process; the loop does the vision tower and the
prefill anew for each question, as a user of stock transformers does, and is measured on one window. Ours is given once
with the windows answered one after another, and once with all of them together. Prints a Markdown row and the machine.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pipeline.generation.shared_prefix import Branches, continue_greedily, prefill

IMAGE, START, END = 151655, 151652, 151653
GRID = (1, 8, 8)  # patches of a frame of 112 x 112 pixels
TOKENS_A_FRAME = 16
LABEL, SUFFIX = 5, 120
"""Tokens of "[128]" and the line break, and of question and instruction: about those of GenS's prompt."""


def real_size(layers: int) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL-3B as its config.json has it, which is what GenS-3B is."""
    text = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    vision = {
        "depth": min(32, layers),
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=IMAGE, tie_word_embeddings=True)


def seconds(work: Callable[[], Any], device: str) -> float:
    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--questions", type=int, default=26, help="26 is HourVideo's mean a video")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--peer-questions", type=int, default=4, help="the loop's time is linear in them")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--float32", action="store_true", help="on a GPU too, where both then write the same tokens")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    dtype = torch.float32 if arguments.device == "cpu" or arguments.float32 else torch.bfloat16
    with torch.device(arguments.device):
        model: Any = Qwen2_5_VLForConditionalGeneration._from_config(real_size(arguments.layers), dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    frames, device = arguments.frames, arguments.device
    head: list[int] = []
    for _ in range(frames):
        label = torch.randint(100, 100_000, (LABEL,)).tolist()
        head += [*label, START, *[IMAGE] * TOKENS_A_FRAME, END]
    suffixes = [torch.randint(100, 100_000, (SUFFIX,)).tolist() for _ in range(arguments.questions)]
    pixels = torch.randn(frames * GRID[1] * GRID[2], 1176, dtype=dtype, device=device)
    grids = torch.tensor([GRID] * frames, device=device)
    ids = torch.tensor([head], device=device)

    @torch.inference_mode()
    def read_window() -> Branches:
        one_row = torch.tensor([[frames, *GRID[1:]]], device=device)
        features = torch.cat(tuple(model.model.get_image_features(pixels, one_row).pooler_output))
        embeddings = model.get_input_embeddings()(ids).clone()
        embeddings[ids == IMAGE] = features.to(embeddings)
        positions, _ = model.model.get_rope_index(ids, (ids == IMAGE).int(), image_grid_thw=grids)
        return Branches(prefill(model, embeddings, positions), suffixes)

    def written(branches: list[Branches]) -> list[Any]:
        return continue_greedily(
            model, branches, end_tokens=frozenset(), is_complete=lambda _: False, max_new_tokens=arguments.tokens
        )

    def one_by_one() -> list[Any]:
        return [row for _ in range(arguments.windows) for row in written([read_window()])]

    def together() -> list[Any]:
        return written([read_window() for _ in range(arguments.windows)])

    def stock() -> list[list[int]]:
        texts = []
        for suffix in suffixes[: arguments.peer_questions]:
            whole = torch.cat([ids, torch.tensor([suffix], device=device)], 1)
            given = model.generate(
                input_ids=whole,
                attention_mask=torch.ones_like(whole),
                mm_token_type_ids=(whole == IMAGE).int(),
                pixel_values=pixels,
                image_grid_thw=grids,
                max_new_tokens=arguments.tokens,
                do_sample=False,
            )
            texts.append(given[0, whole.shape[1] :].tolist())
        return texts

    same = sum(list(mine.tokens) == theirs for mine, theirs in zip(together(), stock(), strict=False))  # and warm
    asked = arguments.questions * arguments.windows
    mine, mine_alone = (seconds(way, device) / asked for way in (together, one_by_one))
    theirs = seconds(stock, device) / arguments.peer_questions
    alone = torch.cuda.get_device_name() if device != "cpu" else platform.processor() or platform.machine()
    print("| windows | frames | prompt tokens | questions | tokens each | stock, s | one by one | together | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {arguments.windows} | {frames} | {len(head) + SUFFIX} | {arguments.questions} | {arguments.tokens} | "
        f"{theirs:.2f} | {mine_alone:.3f} | {mine:.3f} | {theirs / mine:.1f} |"
    )
    print(
        f"\n{alone}, {dtype}, torch {torch.__version__}, transformers {transformers.__version__}; same tokens in "
        f"{same} of {arguments.peer_questions} (random weights{', rounding decides ties' if device != 'cpu' else ''})"
    )


if __name__ == "__main__":
    main()
