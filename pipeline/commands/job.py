"""The task function for Hydra: runs one verb with one configuration, under some launchers in another process."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline import library_messages
from pipeline.commands.outcome import JobStatus, Outcome, holding_lock, record_outcome
from pipeline.commands.without_scores import stand_in, words_of_use
from pipeline.environment import check_no_secrets, overrides_of
from pipeline.errors import StorageError
from pipeline.explain import as_composed, explain
from pipeline.stopping import ExitCode, Stopped, stop_code
from pipeline.terminal import remark, tell
from pipeline.trust import check_plugins

CONTINUES = "the same command continues from here"


class Job:
    """Runs a verb. Its outcome is printed and written into its run folder; other jobs of a sweep go on after a failure.

    Args:
        verb: its module under ``pipeline.commands``.
        trusted: packages of plug-ins.

    Attributes:
        codes: exit codes of the jobs that ran in this process, in order.
        places: folder of each job that ran in this process, by its number.
        of_jobs: number of jobs of the sweep; None for a single job.
        swept: keys that differ between its jobs.
        is_summed_up: whether the sweep reports failures at its end.
    """

    def __init__(self, verb: str, trusted: tuple[str, ...] = ()) -> None:
        self.verb = verb
        self.trusted = trusted
        self.codes: list[int] = []
        self.places: dict[int, Path] = {}
        self.of_jobs: int | None = None
        self.swept: tuple[str, ...] = ()
        self.is_summed_up = False

    def __call__(self, config: DictConfig) -> int:
        """Run the verb.

        Returns:
            The exit code, which a launcher brings back from another process.

        Raises:
            KeyboardInterrupt: the command was stopped; the other jobs do not run.
        """
        library_messages.route()
        told = HydraConfig.get()
        folder = Path(told.runtime.output_dir)
        number = OmegaConf.select(told, "job.num", default=0)
        self.places[number] = folder
        typed_sampler = [word for word in overrides_of(told) if word.startswith("sampler=")]
        if self.of_jobs is None and stand_in(config) is not None and typed_sampler not in ([], ["sampler=uniform"]):
            remark(f"{typed_sampler[-1]} does not run: selection={config.selection.name} looks at no scores")
        if self.of_jobs is not None:
            typed = words_of_use(overrides_of(told), stand_in(config))
            words = [word for word in typed if word.partition("=")[0] in self.swept]
            tell(f"job {number + 1} of {self.of_jobs}: {' '.join(words)}")
        stop: KeyboardInterrupt | None = None
        with holding_lock():
            try:
                outcome = Outcome(JobStatus.DONE, self._run(config))
            except KeyboardInterrupt as error:
                stop = error
                outcome = Outcome(JobStatus.INTERRUPTED, stop_code(stop), f"interrupted{_by(stop)}", CONTINUES)
            except BrokenPipeError:
                # End as programs do that SIGPIPE ends.
                stop = Stopped(signal.SIGPIPE)
                outcome = Outcome(
                    JobStatus.INTERRUPTED, stop_code(stop), "the reader of its output closed it", CONTINUES
                )
            except Exception as error:
                outcome = self._failed(error, config)
                _let_go(error)
            # The command reports a disk that cannot be written.
            if folder != Path.cwd():
                with suppress(StorageError):
                    record_outcome(outcome, folder)
        if stop is not None:
            raise stop
        code = outcome.code or 0
        self.codes.append(code)
        return code

    def _run(self, config: DictConfig) -> int:
        check_plugins(config, self.trusted)
        check_no_secrets(config, overrides_of(HydraConfig.get()))
        with open_dict(config):
            config.plugins = list(self.trusted)
        code: int = importlib.import_module(f"pipeline.commands.{self.verb}").run(config)
        return code

    def _failed(self, error: Exception, config: DictConfig) -> Outcome:
        """Print the error on standard error, unless the sweep will."""
        explained = explain(error, self.verb, overrides_of(HydraConfig.get()))
        if explained is not None:
            explained.remedy = as_composed(explained.problem, explained.remedy, config)
            if not self.is_summed_up:
                remark(f"error: {explained}")
            return Outcome(JobStatus.FAILED, ExitCode.CANNOT_RUN, explained.problem, explained.remedy)
        told = "".join(traceback.format_exception(error))
        remark(told.rstrip("\n"))
        problem = f"{type(error).__name__}: {error}"
        remedy = "this is a fault of the program; its traceback says where"
        return Outcome(JobStatus.FAILED, ExitCode.FAULT, problem, remedy, traceback=told)


def _by(stop: KeyboardInterrupt) -> str:
    return f" by {stop}" if isinstance(stop, Stopped) else ""


def _let_go(error: BaseException) -> None:
    """Free a half-loaded model that the error's frames may hold. Hydra keeps some errors until the sweep ends."""
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at = at.__cause__ or at.__context__
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
