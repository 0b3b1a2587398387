"""Train one of the embedded micro models: ``python -m scripts.train_micro gens_micro --minutes 8 --out build/micro``.

Needs torch and transformers only. Every step draws new data, so the accuracies that are printed are those on unseen
videos. The result lies in OUT/MODEL (the checkpoint in bfloat16) and OUT/MODEL.pt (to go on from: ``--resume``);
without the latter, ``--weights FOLDER`` goes on from a checkpoint with a fresh optimizer.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.benchmarks.micro.questions import KINDS as QUESTION_KINDS
from scripts.micro_training import models
from scripts.micro_training.batches import HEADS, SHAPES_OF, Shape, Stream
from scripts.micro_training.forward import Trained
from scripts.micro_training.pictures import Pictures, backgrounds

AUXILIARY_WEIGHT = 0.5
_CHUNK = 128


def main() -> None:
    """Train until the time or the steps are over."""
    arguments = _arguments()
    torch.set_float32_matmul_precision("high")
    out = Path(arguments.out)
    folder = out / arguments.model
    fresh = models.prepare(arguments.model, folder, arguments.seed)
    model = models.load(Path(arguments.weights)) if arguments.weights else fresh
    trained = Trained(model).to(arguments.device).train()
    optimizer = _optimizer(trained, arguments)
    step = 0
    state_file = out / f"{arguments.model}.pt"
    if arguments.resume and state_file.is_file():
        state = torch.load(state_file, map_location=arguments.device, weights_only=True)
        trained.load_state_dict(state["trained"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    print(f"{arguments.model}: {sum(p.numel() for p in model.parameters()):,} parameters, from step {step}", flush=True)
    _train(trained, optimizer, arguments, step, folder, state_file)


def _train(
    trained: Trained, optimizer: Any, arguments: argparse.Namespace, step: int, folder: Path, state_file: Path
) -> None:
    device, cuda = arguments.device, arguments.device != "cpu"
    shape = shape_for(SHAPES_OF[arguments.model], arguments.frames)
    shape = replace(shape, samples=arguments.batch or shape.samples)
    stream = Stream(arguments.model, folder, shape, f"{arguments.seed}/{step}")
    loader = iter(
        torch.utils.data.DataLoader(
            stream, batch_size=None, num_workers=arguments.workers, pin_memory=cuda,
            prefetch_factor=6 if arguments.workers else None,
        )
    )  # fmt: skip
    pictures = Pictures(_backgrounds(arguments), device)
    run = torch.compile(trained, dynamic=False) if arguments.compile else trained
    begin, first, saved, report = None, step, time.monotonic(), _Report(arguments.model)
    warm = 0
    while True:
        batch = {name: array.to(device, non_blocking=True) for name, array in next(loader).items()}
        with torch.no_grad():
            pixels = pictures.draw(batch["frames"].flatten(0, 1))
        with torch.autocast(device if not cuda else "cuda", torch.bfloat16, enabled=cuda):
            told = run(batch, pixels)
        (told["answer"] + AUXILIARY_WEIGHT * told["auxiliary"]).backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        part = 0.0 if begin is None else min(1.0, (time.monotonic() - begin) / (60 * arguments.minutes))
        if arguments.steps:
            part = max(part, (step - first) / arguments.steps)
        rate = arguments.end + (arguments.lr - arguments.end) * (1 + math.cos(math.pi * part)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step - first + 1) / arguments.warmup)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        report.add(told, batch["kind"], norm)
        step, warm = step + 1, warm + 1
        if begin is None and warm == 5:  # compiled by now
            if cuda:
                torch.cuda.synchronize()
            begin = time.monotonic()
            print(f"{arguments.model}: first steps done, {begin - saved:.0f} s", flush=True)
        if step % arguments.every == 0:
            report.show(step, begin, rate)
        over = part >= 1.0
        if over or time.monotonic() - saved > 150:
            saved = time.monotonic()
            models.export(trained.model, folder, folder)
            if over:
                torch.save(
                    {"trained": trained.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, state_file
                )
                report.show(step, begin, rate)
                print(f"{arguments.model}: done at step {step}", flush=True)
                return


def shape_for(shape: Shape, frames: int) -> Shape:
    """The batch for answerers of fewer frames: fewer tokens, so more samples fit. 0 leaves it."""
    words = 96  # of the longest question with its options
    return (
        replace(shape, frames=frames, tokens=words + (shape.tokens - words) // shape.frames * frames)
        if frames
        else shape
    )


class _Report:
    """Means since the last line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._clear()

    def _clear(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.right: list[torch.Tensor] = []
        self.kinds: list[torch.Tensor] = []
        self.known: list[torch.Tensor] = []

    def add(self, told: dict[str, torch.Tensor], kinds: torch.Tensor, norm: torch.Tensor) -> None:
        self.losses.append(torch.stack([told["answer"].detach(), told["auxiliary"].detach(), norm]))
        self.right.append(told["right"])
        self.kinds.append(kinds)
        self.known.append(torch.cat([told["known"], told["seen"]]))

    def show(self, step: int, begin: float | None, rate: float) -> None:
        if not self.losses:
            return
        answer, auxiliary, norm = torch.stack(self.losses).float().mean(0).tolist()
        right, kinds = torch.stack(self.right), torch.stack(self.kinds)
        share = {kind: right[kinds == number].float().mean().item() for number, kind in enumerate(QUESTION_KINDS)}
        known = torch.stack(self.known).nanmean(0).tolist()
        heads = " ".join(f"{name}{value:.2f}" for name, value in zip([*HEADS, "vc", "vs"], known, strict=True))
        print(
            f"{self.name} step {step} {0 if begin is None else time.monotonic() - begin:.0f}s lr {rate:.1e} "
            f"loss {answer:.4f} aux {auxiliary:.3f} norm {norm:.2f} | right {right[kinds >= 0].float().mean():.3f} "
            + " ".join(f"{kind} {value:.3f}" for kind, value in share.items())
            + f" | {heads}",
            flush=True,
        )
        self._clear()


def _optimizer(trained: Trained, arguments: argparse.Namespace) -> torch.optim.AdamW:
    matrices = [p for p in trained.parameters() if p.dim() >= 2]
    others = [p for p in trained.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=arguments.lr, betas=(0.9, 0.97), fused=arguments.device != "cpu")


def _backgrounds(arguments: argparse.Namespace) -> np.ndarray:
    chunks = max(1, arguments.backgrounds // _CHUNK)
    seeds = [arguments.seed * 1000 + 17 + chunk for chunk in range(chunks)]
    if not arguments.workers:
        return np.concatenate([backgrounds(_CHUNK, seed) for seed in seeds])
    with ProcessPoolExecutor(arguments.workers) as pool:
        return np.concatenate(list(pool.map(backgrounds, [_CHUNK] * chunks, seeds)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=models.KINDS)
    parser.add_argument("--out", default="build/micro")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--steps", type=int, default=0, help="end after so many, if that comes first")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/MODEL.pt if it is there")
    parser.add_argument("--weights", help="go on from this checkpoint folder")
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--end", type=float, default=2e-5, help="learning rate at the end")
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--batch", type=int, default=0, help="samples a step; 0: the model's own")
    parser.add_argument("--frames", type=int, default=0, help="an answerer's frames at most; 0: the model's own")
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--backgrounds", type=int, default=4096)
    parser.add_argument("--every", type=int, default=100, help="steps between two lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    arguments = parser.parse_args()
    if arguments.frames and arguments.model == "gens_micro":
        parser.error("--frames is for answerers: the sampler's windows have one length")
    return arguments


if __name__ == "__main__":
    main()
