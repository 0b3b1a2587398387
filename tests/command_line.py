"""``gens`` as the tests call it: in this process, or apart in one of its own.

A process takes seconds of work to begin with torch. One is worth that where the process is what is asked about:
exit codes that a shell sees, signals, memory, what is imported, variables that libraries read as they are imported.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

AT_IMPORT = ("HF_", "PYTHON")
"""How the names of variables begin that a process reads once."""


def gens(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, from the words on; what is printed and how it ends is as in one of its own."""
    assert not [name for name in environment if name.startswith(AT_IMPORT)], "use gens_apart"
    from pipeline.cli import main

    out, err = io.StringIO(), io.StringIO()
    command = ["gens", *words]
    with (
        chdir(cwd),
        patch.object(sys, "argv", command),
        patch.dict(os.environ, environment_in(cwd, environment)),
        logging_left_alone(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main()
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def gens_apart(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=cwd,
        env={**os.environ, **environment_in(cwd, environment)},
        capture_output=True,
        text=True,
        check=False,
    )


def environment_in(cwd: Path, more: dict[str, str]) -> dict[str, str]:
    return {"GENS_CACHE": str(cwd / "cache"), **more}


@contextmanager
def logging_left_alone() -> Iterator[None]:
    """Hydra gives the root logger handlers of each run's own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
