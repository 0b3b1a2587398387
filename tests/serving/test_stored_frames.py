"""What a server keeps for a further question about a video."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from pipeline import Session
from pipeline.config import conf_dir, register_resolvers
from pipeline.execution.reader import WorkerReader


def test_prepared_frames_are_stored_for_the_next_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's reader has the store of a sweep, by which frames are decoded once; a session in a script has none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENS_CACHE", str(tmp_path / "cache"))
    register_resolvers()
    parts = {"sampler": "uniform", "answerer": "qwen2_vl_micro"}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        named = [f"{stage}={name}" for stage, name in parts.items()]
        configs = [
            compose("serve", overrides=[*named, *more, "execution.decode_workers=1"])
            for more in ([], ["execution.candidates_gb=0"])
        ]
    readers = []
    for config in configs:
        with Session.of(config, None) as session:
            readers.append(session.reader)
    with Session(**parts, execution={"decode_workers": 1}) as session:
        readers.append(session.reader)
    stores = [reader.candidates for reader in readers if isinstance(reader, WorkerReader)]
    assert [store is not None for store in stores] == [True, False, False]
