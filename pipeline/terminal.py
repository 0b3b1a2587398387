"""Prints to standard output and standard error. No other module does.

File names, labels, questions and the texts of models come from others. Control characters in them are written out, no
text is read as markup, and no secret is shown.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pipeline.errors import StorageError
from pipeline.secrecy import without_secrets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_NO_WIDTH = 100_000
"""Columns of what is no terminal: a row of a table is one line."""
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, and C1, which holds a one-byte CSI
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    "\u2028\u2029\ufff9-\ufffb"  # separators that some terminals take for line ends; annotations
    "\U000e0001-\U000e007f"  # invisible tags
    "\ud800-\udfff]"  # halves of a surrogate pair, which no encoding can write
)


def visible(text: str) -> str:
    r"""``text`` with its control characters written out, ESC as ``\u001b``; valid inside a JSON string too."""
    return _UNSAFE.sub(_written_out, text.replace("\r\n", "\n"))


def tell(text: str = "") -> None:
    """Print a line on standard output.

    Raises:
        StorageError: it cannot be written, for instance because its disk is full.
        BrokenPipeError: its reader is gone.
    """
    _checked(lambda: print(visible(without_secrets(text)), file=sys.stdout, flush=True))


def remark(text: str) -> None:
    """Print a line on standard error. A failure to write is ignored, since it could not be reported."""
    try:
        print(visible(without_secrets(text)), file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError):
        return


def draw(*renderables: Any) -> None:
    """Print rich's tables and texts on standard output. Texts are not wrapped, so that commands can be copied.

    Raises:
        StorageError, BrokenPipeError: as :func:`tell`.
    """
    from rich.text import Text

    printed = console()

    def write() -> None:
        with nullcontext() if printed.is_terminal else printed.capture() as captured:
            for renderable in renderables:
                printed.print(renderable, soft_wrap=isinstance(renderable, str | Text))
        if captured is not None:  # rich fills the last column with spaces
            sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
        sys.stdout.flush()

    _checked(write)


def styled(text: object, style: str = "") -> Text:
    """A text for rich in which brackets are not markup and control characters are written out."""
    from rich.text import Text

    return Text(visible(str(text)), style=style)


def console(stderr: bool = False) -> Console:
    """A rich console that reads no markup and writes out control characters."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class PlainConsole(Console):
        def render_str(self, text: str, **settings: Any) -> Text:
            return super().render_str(visible(text), **settings)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

        def on_broken_pipe(self) -> None:
            # rich would end the process with code 1
            raise BrokenPipeError(errno.EPIPE, "the reader of the output closed it")

    # A file or a pipe has no width, in which rich would wrap at 80 columns.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _NO_WIDTH
    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


def prepare_streams() -> None:
    """Make the standard streams safe to print to.

    A descriptor that is closed is opened on the null device: the next file that is opened would get its number, and
    would receive what is printed. A character that the encoding does not have is written out.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    # None where Python found the descriptor closed at its start.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_streams() -> None:
    """Discard unwritten buffers, so that Python does not report the failure again when it flushes them at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            if isinstance(stream, io.TextIOWrapper) and not stream.closed:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _checked(write: Callable[[], None]) -> None:
    try:
        write()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(
            f"standard output cannot be written: {error.strerror}",
            "free some space, then run the same command; or send the output elsewhere",
        ) from error


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
