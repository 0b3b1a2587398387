r"""The three prompts of VILA-1.5, and which of them a checkpoint was trained with.

Source: ``conversation.py`` of github.com/NVlabs/VILA at commit ec7fb2c. Its ``llama_3`` is the corrected one: that of
May 2024 let the model answer as ``system`` and ended turns with ``<|end_of_text|>``. Hermes' turns have no line feed
behind ``<|im_end|>`` there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ConfigError

ConversationName = Literal["auto", "vicuna_v1", "llama_3", "hermes-2"]


@dataclass(frozen=True)
class Conversation:
    """One turn of the user, and the beginning of the model's."""

    name: str
    system: str
    before: str
    """Of the user's turn; ``{system}`` stands for the system text."""
    after: str
    answer: str
    """Between ``after`` and an answer that is begun already."""
    stop: str
    """The token that ends the model's turn."""
    markers: tuple[str, ...]
    """What the tokenizer must read as one token each; none of them may stand in a question."""

    def prompt(self, turn: str, system: str | None = None, begun: str = "") -> str:
        """The whole prompt.

        Args:
            turn: the user's.
            system: in place of the conversation's own, if there is one.
            begun: how the answer begins already.
        """
        before = self.before.replace("{system}", self.system if system is None else system)
        return f"{before}{turn}{self.after}{self.answer + begun if begun else ''}"


_LLAMA_3 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
_KNOWN = (
    Conversation(
        "llama_3",
        _LLAMA_3,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "",
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    Conversation(
        "hermes-2",
        "Answer the questions.",
        "<|im_start|>system\n{system}<|im_end|><|im_start|>user\n",
        "<|im_end|><|im_start|>assistant\n",
        "",
        "<|im_end|>",
        ("<|im_start|>", "<|im_end|>"),
    ),
    Conversation("vicuna_v1", _VICUNA, "{system} USER: ", " ASSISTANT:", " ", "</s>", ("</s>",)),
)
CONVERSATIONS = {conversation.name: conversation for conversation in _KNOWN}


def choose(name: ConversationName, vocabulary: Collection[str]) -> Conversation:
    """The conversation of this name; ``auto``: the first whose markers the tokenizer has.

    The authors go by the checkpoint's name. Its tokenizer says the same: only Llama 3 (8B) has headers, and of the
    others only Yi (40B) has ``<|im_start|>``.

    Raises:
        ConfigError: the tokenizer does not have the markers, so that the model would not know its turn's end.
    """
    asked = _KNOWN if name == "auto" else (CONVERSATIONS[name],)
    for conversation in asked:
        if all(marker in vocabulary for marker in conversation.markers):
            return conversation
    absent = sorted(marker for marker in asked[-1].markers if marker not in vocabulary)
    raise ConfigError(
        f"answerer.conversation={name} needs {', '.join(absent)}, which this checkpoint's tokenizer does not have.",
        "Let the checkpoint decide: answerer.conversation=auto; if it does, its tokenizer is not one of VILA-1.5.",
    )
