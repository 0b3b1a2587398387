"""Recognises secrets and hides them, so that no file and no terminal shows their values."""

from __future__ import annotations

import re

_TELLS_APART = 8
"""Characters. A shorter value (``1``, ``EMPTY``) may occur in any text and is not a secret."""
_SECRET_NAME = re.compile(
    r"(?:^|[_.\-])(?:api[_\-]?keys?|(?:access|auth|bearer|refresh|session|secret|hf|id)[_\-]?tokens?|secrets?"
    r"|(?:client|shared)[_\-]?secret|(?:private|secret|access|signing|subscription)[_\-]?key|passw(?:or)?d|passphrase"
    r"|authorization|credentials?|cookie)$|(?:^|\.)token$",
    re.IGNORECASE,
)
_SHAPES = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_\-]{12,}"  # OpenAI, Anthropic, OpenRouter
    r"|\b(?:hf|gsk|xai|nvapi|r8|pplx|fw)[_\-][A-Za-z0-9_\-]{16,}"  # Hugging Face, Groq, xAI, NVIDIA, Replicate, ...
    r"|\bAIza[0-9A-Za-z_\-]{30,}"  # Google
    r"|\b(?:gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"
    r"|\bxox[abeoprs]-[A-Za-z0-9\-]{10,}"  # Slack
    r"|\bAKIA[0-9A-Z]{16}\b"  # AWS
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"  # JSON web tokens
    r"|(?<=\bBearer )(?!\$\{)[^\s\"',;]{8,}"
    r"|(?i:(?<=\bapi-key: ))[^\s\"',;]{4,}"
    r"|(?<=\bBasic )[A-Za-z0-9+/]{8,}={0,2}"
    r"|(?<=://)[^\s/@\"']+(?=@)"  # user:password@host
    r"|(?<=[?&]key=)[^\s&\"'#]{4,}|(?<=token=)[^\s&\"'#]{4,}|(?<=[?&]sig=)[^\s&\"'#]{4,}"
)
_HIDDEN = "(hidden)"

_known: dict[str, str] = {}
"""Values that settings took from the environment, with the names of their variables."""


def keep_secret(value: str, variable: str) -> None:
    """From now on, show the variable's name in place of its value, unless the value is too short for a secret."""
    if len(value) >= _TELLS_APART:
        _known[value] = variable


def without_secrets(text: str) -> str:
    """``text`` with variables' names in place of their values, and with everything hidden that looks like a key."""
    for value, variable in sorted(_known.items(), key=lambda known: -len(known[0])):
        text = text.replace(value, f"${{oc.env:{variable}}}")
    return _SHAPES.sub(_HIDDEN, text)


def looks_secret(text: str) -> bool:
    """Whether a part of ``text`` has the form of a key, a token or ``user:password@``."""
    return _SHAPES.search(text) is not None


def is_secret_name(key: str) -> bool:
    """Whether a setting of this name holds a secret: ``api_key``, ``authorization``, and not ``api_key_env``."""
    return _SECRET_NAME.search(key) is not None
