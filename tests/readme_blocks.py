"""What stands in the READMEs: fenced blocks with the commands in them, code in running text, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FRONT = ROOT / "README.md"
READMES = sorted(
    [FRONT, *(path for room in ("conf", "pipeline", "scripts", "tests") for path in (ROOT / room).rglob("README.md"))]
)
FENCE = re.compile(r"```(\w*)")
NEEDS = re.compile(r"# needs (.+)")
FILE = re.compile(r"`([\w./-]+)`:$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    lines: tuple[str, ...]
    needs: str
    """What a shell block says that it needs; empty for one that runs anywhere."""
    file: str
    """The file that the text before the block says to write it to; empty for other blocks."""

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def commands(self) -> list[str]:
        """Lines of a shell block, those that end in a backslash joined with the next."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def blocks(text: str) -> list[Block]:
    return [part for part in _parts(text) if isinstance(part, Block)]


def prose(text: str) -> str:
    """Everything outside of fenced blocks."""
    return "\n".join(part for part in _parts(text) if isinstance(part, str))


def _parts(text: str) -> Iterator[Block | str]:
    before, lines = "", iter(text.splitlines())
    for line in lines:
        fence = FENCE.fullmatch(line)
        if fence is None:
            yield line
            before = line.strip() or before
            continue
        held = []
        for inner in lines:
            if inner == "```":
                break
            held.append(inner)
        else:
            raise ValueError(f"a block that begins with {line} has no end")
        needs = NEEDS.fullmatch(held[0]) if held else None
        named = FILE.search(before)
        yield Block(fence[1], tuple(held), needs[1] if needs else "", named[1] if named else "")
        before = ""


def links(text: str) -> list[str]:
    """Targets of links and pictures that are in this repository."""
    return [target for target in LINK.findall(prose(text)) if "://" not in target]


def anchors(text: str) -> set[str]:
    """Headings as GitHub links them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def inline(text: str) -> list[str]:
    """Code in running text."""
    return INLINE.findall(prose(text))
