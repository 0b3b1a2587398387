"""Hydra's launchers, which run the jobs of a sweep in this process, in others, or on other machines."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig

from pipeline.commands.job import CONTINUES, Job
from pipeline.errors import LauncherError, PipelineError


def launch(config: DictConfig, context: HydraContext, job: Job, overrides: Sequence[Sequence[str]]) -> list[int]:
    """Run jobs.

    Returns:
        Their exit codes.

    Raises:
        LauncherError: a job's process ended before the job did, or the jobs could not be started.
    """
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=config)
    context.callbacks.on_multirun_start(config=config, config_name=job.verb)
    codes: list[int] = []
    for batch in BasicSweeper.split_overrides_to_chunks(overrides, config.hydra.sweeper.max_batch_size):
        try:
            codes += [each.return_value for each in launcher.launch(batch, initial_job_idx=len(codes))]
        except Exception as error:
            # A job's own failure is an outcome and not an exception.
            if isinstance(launcher, BasicLauncher) or isinstance(error, PipelineError):
                raise
            chosen = config.hydra.runtime.choices["hydra/launcher"]
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise LauncherError(
                f"hydra/launcher={chosen} did not bring all jobs to their end ({type(error).__name__}: {reason})",
                f"{CONTINUES}; gens status says what is still running",
            ) from error
    context.callbacks.on_multirun_end(config=config, config_name=job.verb)
    return codes
