"""Names of run folders, from what is computed and for which questions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.errors import VideoError
from pipeline.identity import configured_run, digest
from pipeline.paths import local_path


def run_name(config: DictConfig) -> str:
    """The name of a run folder: the names of the parts and a digest of all settings that are content.

    A question set counts by its benchmark, the name of its file and the settings that choose its rows, never by labels.
    """
    bare = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    settings = OmegaConf.to_container(bare, resolve=True)
    assert isinstance(settings, dict)
    verb = str(config.hydra.job.config_name)
    parts = [
        settings[group].get("name")
        for group in ("benchmark", "sampler", "answerer")
        if isinstance(settings.get(group), dict)
    ]
    selection = settings.get("selection")
    if isinstance(selection, dict) and "budget" in selection:
        budget = selection["budget"]
        parts.append("k" + "-".join(str(count) for count in (budget if isinstance(budget, list) else [budget])))
    content = {**configured_run({str(name): part for name, part in settings.items()}), **_question_set(verb, settings)}
    return "-".join([verb, *(str(part) for part in parts if part), digest(content)[:8]])


def _question_set(verb: str, settings: Mapping[Any, Any]) -> dict[str, Any]:
    """The content that identifies the questions of verbs without a benchmark, by the settings that it replaces."""
    if verb == "answer":
        # The folder's name says what was selected; the name of the file itself is always the same.
        path = local_path(str(settings["selections"]))
        return {"selections": [path.parent.name, path.name]}
    if verb == "ask":
        subtitles = settings["subtitles_file"]
        return {
            "video": _video_content(str(settings["video"]), settings["reader"]),
            "answer": None,
            "subtitles_file": subtitles and local_path(str(subtitles)).name,
        }
    return {}


def _video_content(path: str, reader: Mapping[str, Any]) -> str:
    """The fingerprint of a video, so that a copy of it is the same run; its path where it cannot be read."""
    from pipeline.video.remembering import RememberingReader  # not for commands without a video

    try:
        store = reader["probe_store"]
        return (
            RememberingReader(
                name="", backend="auto", threads=0, image_fps=reader["image_fps"], probe_store=store and Path(store)
            )
            .probe(path)
            .fingerprint
        )
    except VideoError:
        return str(path)


def register_run_name() -> None:
    """Register the resolver ``${run_name:}`` for YAML files."""
    OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(_root_), replace=True)
