"""Turns errors of Hydra, OmegaConf and the disk into our own, with the valid words and the nearest one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, MissingMandatoryValue, OmegaConfBaseException

from pipeline.artefacts.writing import FREE_SPACE, is_full
from pipeline.config import conf_dir, nearest
from pipeline.environment import refused_secret
from pipeline.errors import ConfigError, MissingExtraError, PipelineError, StorageError
from pipeline.quoting import for_shell, quoted_override
from pipeline.secrecy import is_secret_name, looks_secret
from pipeline.wellformed import loaded_yaml

_KEY_OF_PART = re.compile(r"(?<![\w.@/])(sampler|selection|answerer)((?:\.\w+)+)(=[^\s;,)`]*)")
_LAUNCHERS = ("joblib", "ray", "submitit")
"""Packages of launchers that have an extra; the names of their options begin like this."""
_OF_CHECKPOINTS = ("sampler", "answerer")
"""Groups whose options have checkpoints."""
_MOST_LISTED = 20
"""Options that an error lists; of more it names those that are alike."""
_UNKNOWN = r"Could not override '([^']+)'"


class UnknownKeyError(ConfigError):
    """A key that the composed configuration does not have."""

    def __init__(
        self, problem: str, remedy: str, key: str, group: str | None, package: str | None, option: str | None
    ) -> None:
        super().__init__(problem, remedy)
        self.key = key
        self.group = group
        """The group whose chosen option lacks the key, such as ``sampler``; None for a key outside all groups."""
        self.package = package
        """The place of that option in the configuration."""
        self.option = option


@contextmanager
def explained_errors(verb: str, overrides: Sequence[str]) -> Iterator[None]:
    """Raise errors of Hydra and of the disk as ones that say what to do.

    Raises:
        PipelineError: in place of an error of configuration or storage; other errors pass unchanged.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        explained = explain(error, verb, overrides)
        if explained is None:
            raise
        raise explained from error


def no_key(word: str, verb: str) -> ConfigError:
    """For an override whose key Hydra cannot read."""
    return ConfigError(f"{word}: the part before = is not a key", f"gens {verb} --help shows the keys")


def explain(error: Exception, verb: str, overrides: Sequence[str]) -> PipelineError | None:
    """The error as one that says what to do; None if it is not one of configuration or storage."""
    match error:
        case PipelineError():
            explained: PipelineError | None = error
        case MissingConfigException(missing_cfg_file=str()):
            explained = _missing_option(error, overrides)
        case OverrideParseException(override=str(word)):
            explained = _unreadable(word, error, verb)
        case MissingMandatoryValue() | ConfigAttributeError():
            key = str(error.full_key or "a value")
            explained = ConfigError(f"{key} is missing", f"give it: gens {verb} {key}=...")
        case OmegaConfBaseException() if unset := re.search(r"environment variable '(\w+)' is not set", str(error)):
            explained = ConfigError(f"the environment variable {unset[1]} is not set", f"export {unset[1]}=...")
        case ValueError() if str(error).startswith("Config group override must be"):
            explained = _no_name(overrides)
        case ValueError() if str(error).startswith("Only one of --run"):
            explained = ConfigError(str(error), "leave one of them out: --cfg job shows one job, -m runs several")
        case ConfigCompositionException() if str(error).startswith("Ambiguous value"):
            explained = ConfigError(str(error).split("\n")[0], f"-m sweeps over several: gens {verb} -m ...")
        case HydraException() | OmegaConfBaseException():
            explained = _unknown_key(error, verb, overrides)
        case OSError() | ValueError(__cause__=OSError()):
            # logging wraps the error of a log file that it cannot open
            explained = _of_system(error if isinstance(error, OSError) else cast("OSError", error.__cause__))
        case RuntimeError() if str(error).startswith("Could not determine home directory"):
            explained = ConfigError(
                "there is no home folder for ~: HOME is not set, and the system has none for this user",
                "set HOME, or name the folder: paths.cache=/tmp/gens-cache",
            )
        case _:
            explained = None
    return explained


def as_composed(problem: str, remedy: str, config: DictConfig) -> str:
    """The remedy with keys that this configuration has.

    A part does not know where it stands and names the usual key, ``sampler.fps``. Of a sampler within another one it is
    ``sampler.second.fps``, and ``samplers.gens.fps`` in a matrix. Of several such keys those count whose value the
    problem names.
    """
    keys = list(_flat(OmegaConf.to_container(config, resolve=False), ""))

    def composed(found: re.Match[str]) -> str:
        group, inside, value = found.groups()
        if f"{group}{inside}" in keys:
            return found[0]
        places = [key for key in keys if key.startswith((f"{group}.", f"{group}s.")) and key.endswith(inside)]
        named = [key for key in places if str(OmegaConf.select(config, key) or "\0") in problem]
        return " or ".join(f"{key}{value}" for key in named or places) or found[0]

    return _KEY_OF_PART.sub(composed, remedy)


def _of_system(error: OSError) -> StorageError | None:
    """The error of a file; None for others, such as errors of the network."""
    elsewhere = "run folders go to paths.runs=..., the cache to paths.cache=..."
    if is_full(error):
        what = f"{error.filename} cannot be written" if error.filename else "a file cannot be written"
        return StorageError(f"{what}: {error.strerror}", f"{FREE_SPACE}; {elsewhere}")
    if str(error.strerror).startswith("No usable temporary directory"):
        # Python says so where all of them are full, too.
        return StorageError(
            f"no folder for temporary files can be written: {error.strerror}",
            f"{FREE_SPACE}; or name another one: export TMPDIR=...",
        )
    if isinstance(error.filename, str | bytes):
        name = error.filename if isinstance(error.filename, str) else repr(error.filename)
        return StorageError(f"{name}: {error.strerror}", f"check the path; {elsewhere}")
    return None


def _unreadable(word: str, error: Exception, verb: str) -> ConfigError:
    if "=" not in word:
        return ConfigError(f"{word} is not a setting", f"write KEY=VALUE; gens {verb} --help shows the keys")
    if is_secret_name(word.partition("=")[0]) or looks_secret(word):
        return refused_secret(word)
    try:
        OverridesParser.create().parse_overrides([f"{word.partition('=')[0]}=1"])
    except OverrideParseException:
        return no_key(word, verb)
    return ConfigError(
        f"{word}: {str(error).splitlines()[0]}", f"quote what is not a plain word: {for_shell(quoted_override(word))}"
    )


def _no_name(overrides: Sequence[str]) -> ConfigError:
    words = [word for word in overrides if re.match(r"[\w/]*=(\d|null|true|false)", word, re.IGNORECASE)]
    at_fault = next((word for word in words if (conf_dir() / word.partition("=")[0]).is_dir()), "an override")
    return ConfigError(f"{at_fault}: not the name of an option", "gens list shows the names")


def _missing_option(error: MissingConfigException, overrides: Sequence[str]) -> PipelineError:
    for word in overrides:
        group, _, source = word.partition("=")
        if group in _OF_CHECKPOINTS and str(error.missing_cfg_file) == f"{group}/{source}" and "/" in source:
            return ConfigError(
                f"{word}: {group}= takes the name of an option, not a checkpoint", _with_source(group, source)
            )
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    plugin = option.partition("_")[0]
    if group == "hydra/launcher" and plugin in _LAUNCHERS:
        return MissingExtraError(
            f"hydra/launcher={option} is of the package hydra-{plugin}-launcher, which is not installed",
            f"pip install 'gens-videoqa[{plugin}-launcher]'",
        )
    options = list(error.options or ())
    if len(options) > _MOST_LISTED:
        close = get_close_matches(option, options, n=3, cutoff=0.5)
        valid = " or ".join([*(f"{group}={name}" for name in close), "a name that gens list shows"])
    else:
        valid = f"one of {', '.join(options)}" if options else "check the name, and --config-dir for your own files"
    return ConfigError(f"{group}={option}: no such option.{nearest(option, options)}", valid)


def _with_source(group: str, source: str) -> str:
    """The overrides for a checkpoint: the option that has it, or one that takes any of its kind."""
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        about = loaded_yaml(path.read_text(encoding="utf-8")).get("about", {})
        if about.get("checkpoint", "").lower() == source.lower():
            return f"{group}={path.stem}"
    if group == "answerer":
        return f"answerer=transformers {for_shell(f'answerer.checkpoint.source={source}')}"
    return f"sampler=NAME {for_shell(f'sampler.checkpoint.source={source}')}; gens list samplers shows the names"


def _unknown_key(error: Exception, verb: str, overrides: Sequence[str]) -> ConfigError:
    found = re.search(_UNKNOWN, str(error))
    if found is None:
        lines = str(error.__cause__ or error).split("\n")
        first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        return ConfigError(first, f"see the composed configuration: gens {verb} --cfg job")
    key = found.group(1)
    config = _composed(verb, without(key, overrides))
    group, package = _group_of(key, config.hydra.runtime.choices)
    option = config.hydra.runtime.choices[group] if group else None
    whose = f"{group.partition('@')[0]}={option}" if group else f"gens {verb}"
    keys = list(_flat(OmegaConf.to_container(config, resolve=False), ""))
    siblings: list[str] = []
    parent = key
    while "." in parent and not siblings:
        parent = parent.rpartition(".")[0]
        siblings = [name for name in keys if name.rpartition(".")[0] == parent]
    hint = nearest(key, siblings) or nearest(key, keys)
    valid = ", ".join(siblings) if siblings else ", ".join(name for name in keys if "." not in name)
    problem = f"{key} is not a key of {whose}.{hint}"
    return UnknownKeyError(problem, f"valid here: {valid}", key, group, package, option)


def _group_of(key: str, choices: Mapping[str, str | None]) -> tuple[str | None, str | None]:
    """The chosen group that a key belongs to, and the group's place in the configuration."""
    places: dict[str, str] = {}
    for chosen, option in choices.items():
        group, _, package = chosen.partition("@")
        place = package or group.replace("/", ".")
        if option is not None and key.startswith(f"{place}."):
            places[place] = chosen
    if not places:
        return None, None
    package = max(places, key=len)
    return places[package], package


def _composed(verb: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration with the overrides whose keys are known, or without any if they cannot be composed."""
    hydra = GlobalHydra.instance()
    words = list(overrides)
    while True:
        try:
            if hydra.is_initialized():
                return cast("DictConfig", hydra.config_loader().load_configuration(verb, words, run_mode=RunMode.RUN))
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                return cast("DictConfig", compose(verb, words, return_hydra_config=True))
        except (HydraException, OmegaConfBaseException, PipelineError) as error:
            if not words:
                raise
            unknown = unknown_key(error)
            known = without(unknown, words) if unknown else []
            words = known if len(known) < len(words) else []


def unknown_key(error: Exception) -> str | None:
    """The key that Hydra could not override, if that is the error."""
    found = re.search(_UNKNOWN, str(error))
    return found[1] if found else None


def without(key: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that do not set ``key``."""
    sets_it = re.compile(rf"^[+~]*{re.escape(key)}(@[^=]*)?(=|$)")
    return [word for word in overrides if not sets_it.match(word)]


def _flat(node: Any, prefix: str) -> Iterator[str]:
    for name, inner in node.items():
        if not prefix and name == "hydra":
            continue
        yield f"{prefix}{name}"
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}.")
