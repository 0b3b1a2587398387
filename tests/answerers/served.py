"""A real OpenAI-compatible server on the CPU: ``transformers serve`` with a tiny random LLaVA.

It starts as any user starts it, in a process of its own, but without torchvision: one that is built for CUDA decodes no
pictures beside a torch for the CPU::

    transformers serve FOLDER --host 127.0.0.1 --port PORT --device cpu --dtype float32

and says on ``/health`` when the model is loaded. LLaVA, because its processor is the one that needs no torchvision.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tiny

_COMMAND = "import sys; sys.modules['torchvision'] = None; from transformers.cli.transformers import main; main()"
SIDE = 28  # pixels, 2 x 2 patches: 4 tokens an image
LOADED_WITHIN = 120  # seconds; a dozen on two idle cores
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Served:
    """A server that is up."""

    url: str
    model: str


def write_llava(folder: Path, seed: int = 0) -> Path:
    """A LLaVA-1.5 in ``folder``: two layers each, pictures of 28 pixels."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    tokens = tiny._write_tokenizer(folder, ("<image>",), TEMPLATE)
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": "float32",
        "image_token_index": tokens["<image>"],
        "image_seq_length": 4,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "text_config": tiny._text_config(tokens, 512) | {"model_type": "qwen2"},
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 14,
        },
    }
    tiny._write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "processor_class": "LlavaProcessor",
            "do_center_crop": True,
            "crop_size": {"height": SIDE, "width": SIDE},
            "size": {"shortest_edge": SIDE},
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )
    tiny._write(
        folder / "processor_config.json",
        {
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": 14,
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": "default",
        },
    )
    return tiny._write_weights(folder, LlavaForConditionalGeneration, LlavaConfig, config, seed)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """``transformers serve`` of a checkpoint folder while the block runs; killed after it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = folder.parent / "serve.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + LOADED_WITHIN
            while not _is_up(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield Served(f"http://127.0.0.1:{port}/v1", str(folder))
        finally:
            process.kill()
            process.wait()


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
