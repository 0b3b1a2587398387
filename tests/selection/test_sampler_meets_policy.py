"""A sampler and a policy put together by config alone find the same embeddings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from made import write_video
from tiny_encoders import write_clip

from pipeline.artefacts.cache import RelevanceCache
from pipeline.config import build, conf_dir, register_resolvers
from pipeline.domain import Question
from pipeline.orchestrator import sample, select
from pipeline.run_names import run_name

pytest.importorskip("av")


def test_clip_with_every_policy_that_compares_frames(tmp_path: Path) -> None:
    register_resolvers()
    clip = tmp_path / "clip.mp4"
    write_video(clip, seconds=12)
    given = [
        "sampler=clip",
        f"sampler.checkpoint.source={write_clip(tmp_path / 'checkpoint')}",
        "sampler.checkpoint.device=cpu",
        "selection.budget=4",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    relevances = None
    for policy in ("topk", "mdp3", "dpp", "scene", "facility_location", "mmr"):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("evaluate", [*given, f"selection={policy}"])
        if relevances is None:
            sampler = build(config.sampler, "sampler")
            reader = build(config.reader, "reader")
            questions = [Question("q", str(clip), "What colour is the square?")]
            cache = RelevanceCache(tmp_path / "cache")
            relevances = list(sample(questions, sampler, reader, cache, tmp_path / "run"))
            sampler.close()
        (row,) = select(relevances, build(config.selection, "selection"), reader, tmp_path / "run")
        assert len(row.selection.frames) == 4, row.selection.detail
        assert row.selection.policy.startswith(policy)


def test_where_embeddings_are_kept_names_no_run_folder(tmp_path: Path) -> None:
    register_resolvers()
    names = []
    for cache in ("here", "there"):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            overrides = ["sampler=clip", "selection=mdp3", f"paths.cache={tmp_path / cache}"]
            config = compose("evaluate", [*overrides, "hydra.job.config_name=evaluate"], return_hydra_config=True)
        names.append(run_name(config))
    assert names[0] == names[1]
