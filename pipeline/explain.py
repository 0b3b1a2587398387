"""Hydra's and OmegaConf's errors in our words: what is wrong, which words are valid, which is nearest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, MissingMandatoryValue, OmegaConfBaseException

from pipeline.config import conf_dir, nearest
from pipeline.errors import ConfigError, PipelineError, StorageError


def explain(error: Exception, verb: str, overrides: Sequence[str]) -> PipelineError | None:
    """The error as one that says what to do; none if it is not one of configuration or storage."""
    match error:
        case PipelineError():
            explained: PipelineError | None = error
        case MissingConfigException(missing_cfg_file=str()):
            explained = _missing_option(error)
        case OverrideParseException(override=str(word)) if "=" not in word:
            explained = ConfigError(f"{word}: no setting", f"say which: KEY=VALUE; gens {verb} --help shows the keys")
        case OverrideParseException(override=str(word)):
            key, _, value = word.partition("=")
            explained = ConfigError(
                f"{word}: {str(error).splitlines()[0]}", f"quote what is no plain word: '{key}=\"{value}\"'"
            )
        case MissingMandatoryValue() | ConfigAttributeError():
            key = str(error.full_key or "a value")
            explained = ConfigError(f"{key} is missing", f"give it: gens {verb} {key}=...")
        case ValueError() if str(error).startswith("Config group override must be"):
            explained = _no_name(overrides)
        case ValueError() if str(error).startswith("Only one of --run"):
            explained = ConfigError(str(error), "leave one of them out: --cfg job shows one job, -m runs several")
        case ConfigCompositionException() if str(error).startswith("Ambiguous value"):
            explained = ConfigError(str(error).split("\n")[0], f"-m sweeps over several: gens {verb} -m ...")
        case HydraException() if "config directory" in str(error):
            explained = ConfigError(str(error), "check the path: --config-dir FOLDER")
        case HydraException() | OmegaConfBaseException():
            explained = _unknown_key(error, verb, overrides)
        case OSError(filename=str() as name):
            remedy = "check the path; run folders go to paths.runs=..., the cache to paths.cache=..."
            explained = StorageError(f"{name}: {error.strerror}", remedy)
        case _:
            explained = None
    return explained


def _no_name(overrides: Sequence[str]) -> ConfigError:
    words = [word for word in overrides if re.match(r"[\w/]*=(\d|null|true|false)", word, re.IGNORECASE)]
    at_fault = next((word for word in words if (conf_dir() / word.partition("=")[0]).is_dir()), "an override")
    return ConfigError(f"{at_fault}: no name of an option", "gens list shows the names")


def _missing_option(error: MissingConfigException) -> ConfigError:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    options = list(error.options or ())
    valid = f"one of {', '.join(options)}" if options else "check the name, and --config-dir for your own files"
    return ConfigError(f"{group}={option}: no such option.{nearest(option, options)}", valid)


def _unknown_key(error: Exception, verb: str, overrides: Sequence[str]) -> ConfigError:
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found is None:
        first = str(error.__cause__ or error).split("\n")[0]
        return ConfigError(first, f"see the composed configuration: gens {verb} --cfg job")
    key = found.group(1)
    bad = re.compile(rf"^[+~]*{re.escape(key)}(@[^=]*)?(=|$)")
    keys = list(
        _keys_of(verb, [word for word in overrides if "=" in word and not word.startswith("-") and not bad.match(word)])
    )
    parent = key.rpartition(".")[0]
    siblings = [name for name in keys if name.rpartition(".")[0] == parent]
    hint = nearest(key, siblings) or nearest(key, keys)
    valid = ", ".join(siblings) if siblings else ", ".join(name for name in keys if "." not in name)
    return ConfigError(f"{key} is not a key of gens {verb}.{hint}", f"valid here: {valid}")


def _keys_of(verb: str, overrides: Sequence[str]) -> Iterator[str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            config = compose(verb, list(overrides))
        except (HydraException, OmegaConfBaseException):
            config = compose(verb)
    yield from _flat(config, "")


def _flat(config: DictConfig, prefix: str) -> Iterator[str]:
    for name in config:
        key = f"{prefix}{name!s}"
        yield key
        inner = OmegaConf.to_container(config, resolve=False)
        if isinstance(inner, dict) and isinstance(inner.get(str(name)), dict):
            yield from _flat(config[name], f"{key}.")
