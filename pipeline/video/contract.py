"""The version of the decoding contract: which picture is shown at which second."""

from __future__ import annotations

FRAMES_VERSION = 2
"""Part of every key of what is computed from frames: relevance, features and answers.

Raise it when any file gives another picture at some second, or another length, than it did before. Entries of another
version are then misses."""
