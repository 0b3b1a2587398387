"""``gens VERB --help``: help from the verb's primary config and the comments in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

from pipeline.config import conf_dir
from pipeline.wellformed import loaded_yaml

NOT_KEYS = ("defaults", "hydra")
OPTIONS = ("--help", "--cfg", "--resolve", "--package", "--multirun", "--config-dir", "--info", "--hydra-help")
"""Options of Hydra that every verb takes."""

_VARIABLE = r"\$\{oc\.env:(?P<name>\w+),'?(?P<value>[^'}]*)'?\}"
_ONE_CHOICE = (
    "GROUP/NAME.KEY=VALUE sets a key of one option alone, in the jobs that choose it:\n"
    "  -m sampler=uniform,gens_micro sampler/gens_micro.fps=2\n"
)


def usage_of(verb: str, what: str) -> str:
    """The help of a verb: example commands, groups with their options, keys with their comments."""
    texts = [path.read_text() for path in _with_parents(conf_dir() / f"{verb}.yaml")]
    examples = [line.removeprefix("# ") for line in texts[-1].splitlines() if line.startswith("# ")]
    groups = dict(group for text in texts for group in _groups(text))
    keys = [block for text in reversed(texts) for block in _keys(text)]
    parts = [f"gens {verb}: {what}", _indented(examples)]
    if listed := _listed(groups):
        parts.append(f"groups, chosen with GROUP=NAME (gens list says what each is):\n{listed}")
    parts.append(
        f"keys, set with KEY=VALUE (??? must be given, paths.runs=... is one inside another):\n{_indented(keys)}"
    )
    parts.append(
        f"gens {verb} --cfg job shows all keys, those of the chosen parts too. -m sweeps over values with commas.\n"
        f"{_ONE_CHOICE if 'sampler' in groups else ''}"
        "--config-dir FOLDER adds your own YAML files; conf/README.md describes keys, secrets and plug-ins."
    )
    return "\n\n".join(parts)


def keys_of(verb: str) -> list[str]:
    """The groups and keys that a verb's help shows."""
    texts = [path.read_text() for path in _with_parents(conf_dir() / f"{verb}.yaml")]
    groups = [key for text in texts for key, _ in _groups(text)]
    return [
        *groups,
        *(found[0] for text in texts for line in _keys(text) if (found := re.match(r"[a-z_]+(?=:)", line))),
    ]


def _with_parents(path: Path) -> Iterator[Path]:
    """The primary config, preceded by those that it builds on."""
    for entry in _defaults(path.read_text()):
        if isinstance(entry, str) and entry != "_self_":
            yield from _with_parents(path.with_name(f"{entry}.yaml"))
    yield path


def _defaults(text: str) -> list[str | dict[str, str | None]]:
    entries: list[str | dict[str, str | None]] = loaded_yaml(text).get("defaults", [])
    return entries


def _groups(text: str) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Groups that a config chooses from, and the groups inside them, each with its choice and options."""
    for entry in _defaults(text):
        for key, choice in entry.items() if isinstance(entry, dict) else ():
            folder = conf_dir() / key
            if folder.is_dir():
                yield key, (str(choice or "null"), _options(folder))
                for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
                    yield f"{key}/{inner.name}", ("", _options(inner))


def _options(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _keys(text: str) -> Iterator[str]:
    """The blocks of a YAML file that begin with a key of its own, without what only Hydra reads."""
    for block in re.split(r"^(?=[a-z_]+:)", text, flags=re.MULTILINE)[1:]:
        if block.partition(":")[0] not in NOT_KEYS:
            lines = (line for line in block.rstrip().splitlines() if not re.match(r" *_target_:", line))
            yield from (re.sub(_VARIABLE, _variable, line).rstrip() for line in lines)


def _variable(found: re.Match[str]) -> str:
    """A value that an environment variable may give, as wide as it stands in the file."""
    return f"${found['name']}, or {found['value']}".ljust(len(found[0]))


def _listed(groups: dict[str, tuple[str, list[str]]]) -> str:
    lines = [
        fill(f"{key}={choice}: {', '.join(options)}", 118, initial_indent="  ", subsequent_indent="      ")
        for key, (choice, options) in groups.items()
        if len(options) > 1
    ]
    return "\n".join(lines)


def _indented(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
