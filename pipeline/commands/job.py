"""What Hydra calls: one verb with one composed configuration, in this process or, under some launchers, in another."""

from __future__ import annotations

import gc
import importlib
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.commands.outcome import JobStatus, Outcome, write_outcome
from pipeline.config import register_resolvers
from pipeline.errors import with_remedy
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
        _leave(Outcome(JobStatus.RUNNING))
        try:
            command = importlib.import_module(f"pipeline.commands.{self.verb}")
            outcome = Outcome(JobStatus.DONE, command.run(config))
        except KeyboardInterrupt:
            _leave(Outcome(JobStatus.INTERRUPTED, INTERRUPTED, "interrupted", GOES_ON))
            raise
        except Exception as error:
            outcome = self._failed(error)
            if outcome.traceback:
                _leave(outcome)
                _forget_locals(error)
                raise
            print(f"error: {with_remedy(outcome.problem, outcome.remedy)}", file=sys.stderr)
        finally:
            _let_go()
        _leave(outcome)
        self.codes.append(outcome.code or 0)

    def _failed(self, error: Exception) -> Outcome:
        explained = explain(error, self.verb, list(HydraConfig.get().overrides.task))
        if explained is not None:
            return Outcome(JobStatus.FAILED, FAILED, explained.problem, explained.remedy)
        problem = f"{type(error).__name__}: {error}"
        remedy = "this is a fault of the program; outcome.json in the run folder says where"
        return Outcome(JobStatus.FAILED, FAILED, problem, remedy, traceback="".join(traceback.format_exception(error)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_another_process, (self.verb,)


def _in_another_process(verb: str) -> Job:
    """The job as a launcher's worker unpickles it: the first of us that is there, before folders are named."""
    register_resolvers()
    return Job(verb)


def _leave(outcome: Outcome) -> None:
    """Write into the run folder; a verb without one has Hydra leave nothing behind either."""
    told = HydraConfig.get()
    if told.output_subdir is not None:
        # A disk that takes no file has been told of by the command, or will be.
        with suppress(OSError):
            write_outcome(outcome, Path(told.runtime.output_dir))


def _forget_locals(error: BaseException | None) -> None:
    """Clear the frames that an error went through: Hydra keeps it until the sweep ends, and they may hold a model."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _let_go() -> None:
    """Give back the memory of a model whose loading failed; one that was loaded has been released by its stage."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
