"""From a command line to jobs: settings are composed and checked, then Hydra runs them.

Hydra makes callbacks, loggers and folders as soon as it has composed a configuration, and writes the configuration to
disk. Here every composed configuration is checked first (:class:`CheckingLoader`), so that nothing from a YAML file is
run or written that the user has not trusted.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import configure_log, run_job
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.commands.choices import for_choices, unchosen
from pipeline.commands.clearing import clear_away, nearest_existing
from pipeline.commands.config_folders import folder_given, project, use_standing_folders
from pipeline.commands.job import Job
from pipeline.commands.sweep import run_sweep
from pipeline.commands.without_scores import stand_in, use_no_sampler, words_of_use
from pipeline.config import conf_dir, register_resolvers
from pipeline.environment import check_no_secrets, overrides_of
from pipeline.errors import ConfigError, PipelineError
from pipeline.explain import explained_errors, unknown_key, without
from pipeline.paths import local_path
from pipeline.run_names import register_run_name
from pipeline.trust import check_hydra, check_plugins, trusted_packages

_BUILT = ("sampler", "selection", "answerer", "benchmark")
"""Parts of a configuration that may be plug-ins. A verb without them, such as ``report``, needs no trust."""


class CheckingLoader(ConfigLoaderImpl):  # type: ignore[misc]
    """Composes only configurations that may be run and written, with a sampler only where its scores are looked at.

    Args:
        folder: of YAML files added by the user; it comes before ours.
        trusted: packages of plug-ins.
        typed: overrides on the command line.
    """

    def __init__(self, folder: str | None, trusted: Sequence[str], typed: Sequence[str]) -> None:
        search_path = create_config_search_path(str(conf_dir()))
        if folder is not None:
            search_path.prepend(provider="command-line", path=f"file://{folder}")
        super().__init__(config_search_path=search_path)
        self._trusted = trusted
        self._typed = typed

    def load_configuration(self, *given: Any, **named: Any) -> DictConfig:
        """Load as Hydra does, then check.

        Raises:
            ConfigError: a file names code that the user has not trusted, or a setting holds a secret.
        """
        config: DictConfig = super().load_configuration(*given, **named)
        _expand_home(config)
        check_plugins(config, self._trusted)
        here = project()
        if here is not None and any(part in config for part in _BUILT):
            here.check_trusted(self._trusted)
        check_hydra(config.hydra, self._trusted, [word.partition("=")[0].lstrip("+~") for word in self._typed])
        check_no_secrets(config, self._typed)
        use_no_sampler(config, self._uniform, self._trusted)
        return config

    def _uniform(self) -> DictConfig:
        found: DictConfig = super().load_configuration("sampler/uniform", [], RunMode.RUN).sampler
        return found


def _expand_home(config: DictConfig) -> None:
    """Expand ``~/`` in paths that Hydra uses: shells expand it only at the beginning of a word."""
    with suppress(OmegaConfBaseException):  # what cannot be resolved is told of where it is used
        found = {f"paths.{name}": path for name, path in config.paths.items()}
        # As written: resolving it would name the run folder, before the settings are accepted.
        found |= {f"hydra.{mode}.dir": config.hydra[mode]._get_node("dir")._value() for mode in ("run", "sweep")}
        for key, path in found.items():
            if isinstance(path, str) and path.startswith("~"):
                OmegaConf.update(config, key, str(local_path(path)))


def run(verb: str, given: Namespace) -> list[int]:
    """Run the jobs of a command line.

    Args:
        verb: also the name of the primary config.
        given: the command line as parsed by Hydra.

    Returns:
        The jobs' exit codes.

    Raises:
        PipelineError: the command line cannot be used.
        KeyboardInterrupt: a signal ended it.
    """
    register_resolvers()
    register_run_name()
    trusted = trusted_packages(_plugins(given.overrides))
    job = Job(verb, trusted)
    # An error is explained while Hydra still knows the user's own folder.
    with _hydra(given, trusted) as hydra, explained_errors(verb, given.overrides):
        others, chosen = for_choices(given.overrides, hydra.config_loader)
        mode = RunMode.MULTIRUN if given.multirun else RunMode.RUN
        if given.multirun:
            config = _of_sweep(hydra, verb, others)
        else:
            config = hydra.compose_config(verb, others, run_mode=mode, with_log_configuration=False)
        if RunMode.MULTIRUN in (config.hydra.mode, mode):
            if mode == RunMode.RUN:
                config = hydra.compose_config(verb, others, run_mode=RunMode.MULTIRUN)
            config.hydra.mode = RunMode.MULTIRUN
            if config.hydra.sweeper._target_ != f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}":
                if chosen:
                    raise ConfigError(
                        f"{chosen[0].word}: another sweeper thinks of its jobs by itself",
                        "leave the word out, or sweep with hydra/sweeper=basic",
                    )
                hydra.multirun(verb, job, [*others, "hydra.mode=MULTIRUN"])
                return job.codes
            return run_sweep(hydra, config, job, chosen)
        if chosen:
            config = hydra.compose_config(verb, [*others, *_of_choices(config, chosen)], run_mode=RunMode.RUN)
        config.hydra.mode = RunMode.RUN
        _run_one(hydra, config, job)
        return job.codes


def _of_sweep(hydra: Hydra, verb: str, words: Sequence[str]) -> DictConfig:
    """The settings of a sweep as a whole, with all of its words.

    A key that the default options lack is left to the jobs: their options may have it.
    """
    known = list(words)
    while True:
        try:
            config: DictConfig = hydra.compose_config(
                verb, known, run_mode=RunMode.MULTIRUN, with_log_configuration=False
            )
            break
        except ConfigCompositionException as error:
            key = unknown_key(error)
            fewer = known if key is None or key.startswith("hydra.") else without(key, known)
            if len(fewer) == len(known):
                raise
            known = fewer
    composed = overrides_of(config.hydra)
    with open_dict(config):
        config.hydra.overrides.task = [word for word in words if word in composed or word not in known]
    return config


def as_chosen(verb: str, given: Namespace) -> list[str]:
    """The overrides as a run takes them.

    Keys of one choice (:mod:`pipeline.commands.choices`) are written out, and so is the sampler that stands in for
    another (:mod:`pipeline.commands.without_scores`).
    """
    register_resolvers()
    trusted = trusted_packages(_plugins(given.overrides))
    with _hydra(given, trusted) as hydra, explained_errors(verb, given.overrides):
        others, chosen = for_choices(given.overrides, hydra.config_loader)
        config = hydra.compose_config(verb, others, run_mode=RunMode.RUN, with_log_configuration=False)
        words = [*others, *_of_choices(config, chosen)]
        name = stand_in(config)
        if name is None:
            return words
        kept = [word for word in words_of_use(words, name) if not word.startswith("sampler=")]
        return [*kept, f"sampler={name}", f"sampler.spread={config.sampler.spread}"]


def composed(verb: str, words: Sequence[str], folder: str | None = None) -> DictConfig:
    """The settings of a verb, checked as those of a command are. Nothing is run or written.

    Args:
        verb: also the name of the primary config.
        words: overrides as on the command line.
        folder: of YAML files added by the user, as ``--config-dir`` names it.

    Raises:
        PipelineError: the words cannot be used.
    """
    register_resolvers()
    register_run_name()
    trusted = trusted_packages(_plugins(words))
    given = Namespace(config_dir=folder, overrides=list(words))
    with _hydra(given, trusted) as hydra, explained_errors(verb, words):
        config: DictConfig = hydra.compose_config(verb, list(words), run_mode=RunMode.RUN, with_log_configuration=False)
    with open_dict(config):
        config.plugins = list(trusted)
    return config


@contextmanager
def explained_with(verb: str, given: Namespace) -> Iterator[None]:
    """As :func:`explained_errors`, for an app of Hydra's own, whose folders are unknown once it has ended.

    Raises:
        PipelineError: in place of an error of configuration or storage; other errors pass unchanged.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception:
        with _hydra(given, trusted_packages(_plugins(given.overrides))), explained_errors(verb, given.overrides):
            raise


def _run_one(hydra: Hydra, config: DictConfig, job: Job) -> None:
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    folder = Path(config.hydra.run.dir).absolute()
    there = nearest_existing(folder)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=job.verb)
    try:
        returned = run_job(
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
            task_function=job,
            config=config,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
        )
        callbacks.on_run_end(config=config, config_name=job.verb, job_return=returned)
    finally:
        clear_away(folder, there)


def _of_choices(config: DictConfig, chosen: Sequence[Any]) -> list[str]:
    words: list[str] = []
    for word in chosen:
        overrides = word.overrides(config.hydra.runtime.choices)
        if not overrides:
            raise unchosen(word)
        words += overrides
    return words


@contextmanager
def _hydra(given: Namespace, trusted: Sequence[str]) -> Iterator[Hydra]:
    folder = None if given.config_dir is None else folder_given(given.config_dir, "--config-dir")
    use_standing_folders(folder)
    hydra = Hydra(task_name="gens", config_loader=CheckingLoader(folder, trusted, given.overrides))
    GlobalHydra.instance().clear()
    GlobalHydra.instance().initialize(hydra)
    try:
        yield hydra
    finally:
        GlobalHydra.instance().clear()


def _plugins(words: Sequence[str]) -> list[str]:
    """The packages that the command line declares."""
    named: list[str] = []
    for word in words:
        if word.lstrip("+").partition("=")[0] != "plugins":
            continue
        try:
            (override,) = OverridesParser.create().parse_overrides([word])
        except HydraException:
            continue  # composing the configuration reports it
        values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        for value in values:
            named += value if isinstance(value, list) else [value]
    return [str(name) for name in named if name is not None]
