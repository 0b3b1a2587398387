"""How fast both stages are: ours, stock transformers in the same run, and what the machine allows at best.

    python -m scripts.benchmark_speed --out build/speed                    # all of it, on a GPU: about 12 minutes
    python -m scripts.benchmark_speed --out build/speed --part gens_3b     # a part
    python -m scripts.benchmark_speed --out build/speed --tiny             # does it run at all? Seconds on a CPU

The models have their real sizes and random weights, and answers have a fixed length. Finished cells are kept in OUT and
skipped by the next run, one that failed is tried again. Writes OUT/speed/NAME.yaml for `gens check --config-dir OUT
speed=NAME`, and OUT/NAME.json, and prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import groupby
from pathlib import Path

import torch

from scripts.speed import tables
from scripts.speed.answering import ANSWERERS, AnswererCells
from scripts.speed.cells import Store
from scripts.speed.files import Videos, measure_decoding, measure_readers, measure_sampler
from scripts.speed.machine import Machine, any_device, free_memory, this_machine
from scripts.speed.projection import projected
from scripts.speed.sampling import SamplerCells
from scripts.speed.scale import FULL, TINY, Scale
from scripts.speed.weights import RandomWeights
from scripts.speed.workers import WorkerCells

SAMPLERS = ("gens", "gens_3b")
PARTS = ("gens", "gens_files", "gens_3b", "gens_3b_files", "answerers", "readers", "gens_workers", "gens_3b_workers")
"""In this order: a sampler's model is made once for both of its parts."""
_USUAL = PARTS[:5]
"""The others run only where they are named: ``readers`` needs no GPU, and workers are for several."""
_FILES, _WORKERS = "_files", "_workers"


def main(words: list[str] | None = None) -> int:
    """Measure what is left, write and print all; 1 if a cell failed."""
    arguments = _arguments(words)
    device = arguments.device
    scale = TINY if arguments.tiny else FULL
    out = Path(arguments.out)
    machine = this_machine(device)
    free_memory()
    store = Store(out / "cells", machine, arguments.cells, time.monotonic() + 60 * arguments.minutes)
    parts = [part for part in PARTS if part in arguments.part]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        videos = Videos(work, scale, arguments.video and arguments.video.resolve())
        for model, own in groupby(parts, key=lambda part: part.removesuffix(_FILES)):
            weights = RandomWeights(device)
            with weights.used():
                of_sampler = SamplerCells(model, scale, weights, machine, store, work) if model in SAMPLERS else None
                for part in own:
                    began = time.monotonic()
                    if of_sampler is None:
                        _measure(part, arguments.seconds, videos, scale, weights, machine, store, work)
                    elif part == model:
                        of_sampler.measure()
                    else:
                        measure_decoding(videos, scale, store)
                        measure_sampler(model, of_sampler.words, videos, scale, weights, store)
                    print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
            weights.release()
            free_memory()
    cells = store.cells()
    written = tables.write(out, arguments.name, cells, machine)
    print(f"\n{tables.markdown(cells, machine)}")
    if arguments.project:
        for sampler in SAMPLERS:
            print("\n".join([*projected(cells, sampler, ANSWERERS[0]), ""]))
    print(" ".join(map(str, written)))
    return int(any(cell.problem for cell in cells))


def _measure(
    part: str,
    seconds: int | None,
    videos: Videos,
    scale: Scale,
    weights: RandomWeights,
    machine: Machine,
    store: Store,
    work: Path,
) -> None:
    """Measure a part that makes no model of a sampler in this process."""
    if part == "readers":
        measure_readers(videos, seconds or scale.lengths[-1], store)
        return
    if part.endswith(_WORKERS):
        sampler = part.removesuffix(_WORKERS)
        words = SamplerCells(sampler, scale, weights, machine, store, work).words
        gpus = 0 if weights.device == "cpu" else torch.cuda.device_count()
        WorkerCells(sampler, words, videos, scale, gpus, store, work).measure()
        return
    for answerer in ANSWERERS:
        AnswererCells(answerer, scale, weights, machine, store, work).measure()


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the cells and the results")
    parser.add_argument("--name", default="measured", help="of the table: speed=NAME")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(_USUAL), help="by default all for one GPU")
    parser.add_argument("--cells", nargs="+", default=[], help="only cells whose key has one of these words in it")
    parser.add_argument("--minutes", type=float, default=7.0, help="no cell begins later than this")
    parser.add_argument("--video", type=Path, help="a file to repeat, in place of the one that is made")
    parser.add_argument("--seconds", type=int, help="length of the file for --part readers")
    parser.add_argument("--project", action="store_true", help="hours for whole benchmarks, as a projection")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few cells")
    parser.add_argument("--device", default=any_device(), help="cuda:0 where there is one")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
