"""Samplers and answerers with the settings of their YAML files."""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_dir

from pipeline.config import build, conf_dir, register_resolvers


def built(verb: str, part: str, *overrides: str) -> Any:
    """The ``part`` of a verb's configuration as an object."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(verb, list(overrides))
    return build(config[part], part, config.plugins)
