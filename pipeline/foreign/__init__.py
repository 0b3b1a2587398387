"""File formats of other projects: reads their selections, and writes selections and answers for them.

One module per format. A format is a frozen dataclass named in a YAML file; its fields hold what the file itself does
not say. Its docstring has formulas, pitfalls and the repository that they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pipeline.artefacts.rows import AnswerRow, SelectionRow
from pipeline.domain import Question, Status
from pipeline.foreign.rows import ForeignRow

if TYPE_CHECKING:
    from pipeline.video import Reader

__all__ = ["AnswerForm", "FillsGaps", "FolderForm", "ForeignRow", "SelectionForm", "SelectionFormat", "frames_status"]


@runtime_checkable
class SelectionFormat(Protocol):
    """Reads selections from a file."""

    def rows(self, file: Path) -> Sequence[ForeignRow]:
        """All rows, each with the id of its question, or with its video and text. A damaged one carries its fault.

        Raises:
            InputError: the file is not of this kind.
        """
        ...


@runtime_checkable
class SelectionForm(Protocol):
    """Writes selections as a file."""

    @property
    def suffix(self) -> str:
        """End of the file's name, such as ``.jsonl``."""
        ...

    def text(self, rows: Sequence[SelectionRow]) -> str:
        """The content of the file. Rows without frames are included, with no frames.

        Raises:
            InputError: a row cannot be expressed in this form.
        """
        ...


@runtime_checkable
class AnswerForm(Protocol):
    """Writes answers as a file."""

    @property
    def suffix(self) -> str:
        """End of the file's name, such as ``.jsonl``."""
        ...

    def samples(self, rows: Sequence[AnswerRow], questions: Sequence[Question]) -> str:
        """The content of the file, for ``questions`` in their order.

        Raises:
            InputError: the answers cannot be expressed in this form.
        """
        ...


@runtime_checkable
class FillsGaps(Protocol):
    """An answer form that holds something for questions without an answer too."""

    def filled(self, rows: Sequence[AnswerRow], questions: Sequence[Question]) -> Sequence[str]:
        """Ids of the questions without an answer."""
        ...


@runtime_checkable
class FolderForm(Protocol):
    """Writes selections and their pictures as a folder."""

    def write(self, rows: Sequence[SelectionRow], reader: Reader, folder: Path) -> list[Status]:
        """Fill ``folder`` and return the status of each row, ``ok`` for those that were written.

        Raises:
            InputError: a row cannot be expressed in this form.
        """
        ...


def frames_status(row: SelectionRow) -> Status:
    """``ok`` for a selection with frames, otherwise why it has none."""
    if row.selection.frames:
        return Status.OK
    return row.selection.status if row.selection.status is not Status.OK else Status.NO_FRAMES
