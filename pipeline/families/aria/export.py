"""GenS as a stock Aria checkpoint, for programs that know no ``yi_vl``: serving engines, training code, transformers.

Used by ``scripts/convert_checkpoint SOURCE TARGET [--only-490]``. The tensors are those of the source bit for bit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError, InputError, PipelineError
from pipeline.families.aria import CANVAS, NAMES, PATCH, YI_VL, aria_config, renormalises
from pipeline.families.loading import contents
from pipeline.families.loading.checkpoint import Checkpoint, load, model_type, raw_config, resolve
from pipeline.terminal import tell
from pipeline.wellformed import loaded_object

_TOKENIZER_FILES = ("tokenizer.model", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


def export(checkpoint: Checkpoint, target: Path, *, only_490: bool) -> None:
    """Write ``checkpoint``, a ``yi_vl`` one, to ``target`` as transformers' Aria.

    Args:
        checkpoint: in the number format that it is to be written in; it needs room in memory once.
        target: a folder that does not exist or is empty.
        only_490: keep the queries for frames of 490 pixels alone. Engines that take the greatest number of tokens that
            an image can have for the number that it has (vLLM) need this form.

    Raises:
        CheckpointError: Aria cannot be this model: its router always renormalises; or it cannot be loaded exactly.
        InputError: the target holds something.
    """
    from transformers import AriaConfig, AriaForConditionalGeneration, GenerationConfig

    from pipeline.families.aria.model import YiVlAria

    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} is not empty.", "Name a folder that does not exist yet.")
    model_type(checkpoint, {YI_VL: NAMES[YI_VL]})
    raw = raw_config(checkpoint)
    arguments = aria_config(raw, checkpoint.source)
    if not renormalises(raw) and arguments["text_config"]["moe_topk"] > 1:
        raise CheckpointError(
            f"{checkpoint.source} has norm_topk_prob=false, and stock Aria always renormalises: its answers would be "
            "another model's.",
            f"Use the checkpoint as it is, which this package can: sampler=gens "
            f"sampler.checkpoint.source={checkpoint.source}.",
        )
    folder = resolve(checkpoint)
    loaded: Any = load(YiVlAria, checkpoint, AriaConfig(**arguments))
    tensors = dict(loaded.state_dict())
    if only_490:
        patches = (CANVAS // PATCH) ** 2
        queries = arguments["projector_patch_to_query_dict"][patches]
        arguments["projector_patch_to_query_dict"] = {patches: queries}
        name = "model.multi_modal_projector.query"
        tensors[name] = tensors[name][:queries].clone()
    stock: Any = _empty(AriaForConditionalGeneration, AriaConfig(**arguments, dtype=loaded.dtype))
    stock.load_state_dict(tensors, strict=True, assign=True)
    # Only the end: the authors' files name a beginning that has no embedding.
    ends = loaded.generation_config.eos_token_id or arguments["text_config"]["eos_token_id"]
    stock.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=ends if isinstance(ends, int) else ends[0]
    )
    # Under another name until it is whole.
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    stock.save_pretrained(str(part), max_shard_size="5GB")
    _write_tokenizer(folder, part)
    _write_processor(part)
    part.replace(target)


def _empty(model_class: Any, config: Any) -> Any:
    """A model without storage."""
    import torch

    with torch.device("meta"):
        return model_class(config)


def _write_tokenizer(folder: Path, target: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    settings = loaded_object((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    # Transformers' tokenizer would begin a word after every marker otherwise, which the authors' does not.
    settings["add_prefix_space"] = False
    _write(target / "tokenizer_config.json", settings)


def _write_processor(target: Path) -> None:
    _write(
        target / "preprocessor_config.json",
        {
            "image_processor_type": "AriaImageProcessor",
            "processor_class": "AriaProcessor",
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "max_image_size": CANVAS,
            "min_image_size": 336,
            "split_image": False,
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    """``convert_checkpoint SOURCE TARGET [--only-490]``."""
    parser = argparse.ArgumentParser(prog="convert_checkpoint", description=__doc__)
    parser.add_argument("source", help="hub id or folder of a yi_vl checkpoint, such as yaolily/GenS")
    parser.add_argument("target", type=Path, help="folder to be made")
    parser.add_argument("--revision", help="commit, tag or branch on the hub")
    parser.add_argument(
        "--only-490", action="store_true", help="keep only the queries that GenS uses, as vLLM needs them"
    )
    given = parser.parse_args()
    try:
        plain = Checkpoint(given.source, given.revision, "auto", "eager", "cpu")
        stored: Any = contents.stored_dtype(resolve(plain), raw_config(plain))
        export(Checkpoint(given.source, given.revision, stored, "eager", "cpu"), given.target, only_490=given.only_490)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    tell(f"Written: {given.target}. To use it here: sampler=gens sampler.checkpoint.source={given.target}")


if __name__ == "__main__":
    main()
