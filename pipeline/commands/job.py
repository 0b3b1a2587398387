"""What Hydra calls: one verb with one composed configuration, in this process or, under some launchers, in another."""

from __future__ import annotations

import gc
import importlib
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline import library_messages
from pipeline.commands.outcome import JobStatus, Outcome, write_outcome
from pipeline.errors import BusyError, with_remedy
from pipeline.explain import explain

FAILED, INTERRUPTED = 2, 130
GOES_ON = "the same command goes on from here"


class Job:
    """Runs a verb. What ends it is told, left in its run folder, and no concern of the other jobs of a sweep.

    Attributes:
        codes: exit codes of what ran in this process, in order.
    """

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.codes: list[int] = []

    def __call__(self, config: DictConfig) -> None:
        """Run the verb; an error that is none of ours goes on to Hydra, which raises it behind the last job."""
        library_messages.route()
        _leave(Outcome(JobStatus.RUNNING))
        try:
            command = importlib.import_module(f"pipeline.commands.{self.verb}")
            outcome = Outcome(JobStatus.DONE, command.run(config))
        except KeyboardInterrupt:
            _leave(Outcome(JobStatus.INTERRUPTED, INTERRUPTED, "interrupted", GOES_ON))
            raise
        except Exception as error:
            outcome = self._failed(error)
            _let_go(error)
            if outcome.traceback:
                _leave(outcome)
                raise
            print(f"error: {with_remedy(outcome.problem, outcome.remedy)}", file=sys.stderr)
            if isinstance(error, BusyError):
                self.codes.append(FAILED)
                return  # the folder's outcome is that of the process at work in it
        _leave(outcome)
        self.codes.append(outcome.code or 0)

    def _failed(self, error: Exception) -> Outcome:
        explained = explain(error, self.verb, list(HydraConfig.get().overrides.task))
        if explained is not None:
            return Outcome(JobStatus.FAILED, FAILED, explained.problem, explained.remedy)
        problem = f"{type(error).__name__}: {error}"
        remedy = "this is a fault of the program; outcome.json in the run folder says where"
        return Outcome(JobStatus.FAILED, FAILED, problem, remedy, traceback="".join(traceback.format_exception(error)))


def _leave(outcome: Outcome) -> None:
    """Write into the run folder; a verb without one has Hydra leave nothing behind either."""
    told = HydraConfig.get()
    if told.output_subdir is not None:
        # A disk that takes no file has been told of by the command, or will be.
        with suppress(OSError):
            write_outcome(outcome, Path(told.runtime.output_dir))


def _let_go(error: BaseException) -> None:
    """Free the model that an error's frames may hold, half loaded; Hydra keeps some errors until the sweep ends."""
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at = at.__cause__ or at.__context__
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
