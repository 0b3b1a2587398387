"""What Hydra tells of each job of a sweep, written down by a callback: models loaded, and tensors alive behind the job.

``+hydra.callbacks.probe._target_=sweep_probe.Probe`` with this folder on PYTHONPATH and PROBE_LOG=FILE. With
PROBE_INTERRUPT=N the process gets a real SIGINT as it begins to load its Nth model.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class Probe(Callback):
    def __init__(self) -> None:
        self.log = Path(os.environ["PROBE_LOG"])
        self.loads = 0

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        from transformers import PreTrainedModel

        real = PreTrainedModel.from_pretrained.__func__
        probe = self

        def counted(cls: Any, folder: str, *args: Any, **words: Any) -> Any:
            probe.loads += 1
            if probe.loads == int(os.environ.get("PROBE_INTERRUPT", "0")):
                os.kill(os.getpid(), signal.SIGINT)
            loaded = real(cls, folder, *args, **words)
            probe.write(event="load", folder=Path(folder).name, live=live_bytes())
            return loaded

        PreTrainedModel.from_pretrained = classmethod(counted)

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        self.write(event="end", overrides=list(job_return.overrides), live=live_bytes())

    def write(self, **facts: Any) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(facts) + "\n")


def live_bytes() -> int:
    """Of all tensors that some object still holds; storages shared by tensors count once."""
    torch = sys.modules.get("torch")
    if torch is None:
        return 0
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if issubclass(type(each), torch.Tensor) and each.device.type != "meta"
    }
    return sum(storages.values())
