"""One model on two devices that decides alike on both, so that no tie decides a test.

Tokens and experts are chosen: where two are nearly as likely, the order of a sum decides, and another text follows. So
the second model is told what the first one's layers returned, and what its own returned is compared.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.generation.running_batch import RunningBatch

_CHOOSES = ("router", "gate")
"""How transformers names what chooses experts."""


def step_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every device begin a step before the last one's tokens are looked at, as a GPU does.

    A row that is finished takes part once more then, and calls can be compared only if it does so everywhere.
    """
    monkeypatch.setattr(RunningBatch, "_goes_ahead", True)


class Decisions:
    """What the output layer and the routers of a model return from now on, call by call.

    Args:
        model: with output embeddings.
        told: of another model with the same weights; this one goes on with what that one returned.
    """

    def __init__(self, model: Any, told: Decisions | None = None) -> None:
        self._made: list[tuple[torch.Tensor, ...]] = []
        self._told = told
        routers = [module for name, module in model.named_modules() if name.rpartition(".")[2] in _CHOOSES]
        for module in (model.get_output_embeddings(), *routers):
            module.register_forward_hook(self._note)

    def _note(self, module: Any, args: Any, output: Any) -> Any:
        is_many = isinstance(output, tuple)
        made = output if is_many else (output,)
        self._made.append(tuple(tensor.detach().cpu().clone() for tensor in made))
        if self._told is None:
            return None
        told = self._told._made[len(self._made) - 1]
        found = tuple(other.to(tensor.device) for other, tensor in zip(told, made, strict=True))
        return found if is_many else found[0]

    def assert_close(self) -> None:
        """Each call gave what it gave in the other model. In float32 they differ by 1e-4 at most, with TF32 by 1e-2."""
        assert self._told is not None
        assert self._made
        for made, told in zip(self._made, self._told._made, strict=True):
            logits = told[0].float()
            torch.testing.assert_close(made[0].float(), logits, rtol=1e-4, atol=1e-3)
            for ours, theirs in zip(made[1:], told[1:], strict=True):
                if not ours.is_floating_point():  # experts: others only where they are as good
                    best, chosen = (logits.gather(-1, experts.long()).sort(-1).values for experts in (theirs, ours))
                    torch.testing.assert_close(chosen, best, rtol=1e-4, atol=1e-3)
