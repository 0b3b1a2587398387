"""Identities of configured objects, keys of results, and the content of a configuration.

Every setting decides what comes out, where things are, or how fast it goes. The class that owns a setting says which,
on the field: ``device: Speed[str]``. A setting without such a mark is content, so that a forgotten mark costs time and
never returns the result of another setting.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, StrEnum
from functools import lru_cache
from pathlib import Path, PurePath
from types import FunctionType
from typing import Annotated, Any, ClassVar, TypeVar

from pipeline.errors import ConfigError

FRAMES_VERSION = 2
"""Version of the decoding contract: which picture is shown at which second. Part of the key of everything that is
computed from frames: relevance, features and answers.

Raise it when any file gives another picture at some second, or another length, than before. Entries of earlier
versions are then misses."""

READING_VERSION = 2
"""Version of the rules that read an answer from a model's text: its thoughts, its option, whether it is a refusal. Part
of the key of answers.

Raise it when some text is read differently than before. A stored answer cannot be read again: it holds the text without
its thoughts, and not how the prompt began the answer. Servers' replies are stored as they came
(``answerer.response_store``), so there a new version sends no request."""


class Role(StrEnum):
    """The role of a setting that is not plain content."""

    PLACE = "place"
    LABEL = "label"
    SPEED = "speed"
    IN_QUERY = "in_query"
    ROW_FILE = "row_file"


T = TypeVar("T")
Place = Annotated[T, Role.PLACE]
"""A place. Left out of identities and of the names of run folders."""
Label = Annotated[T, Role.LABEL]
"""A name, a price or a label. Left out likewise."""
Speed = Annotated[T, Role.SPEED]
"""A setting that only affects speed or safety. Left out likewise."""
InQuery = Annotated[T, Role.IN_QUERY]
"""Content that is part of a sampler's ``query`` for each question. It counts in the name of a run folder and in no
identity, so that only the questions whose query it changes are computed again."""
RowFile = Annotated[T, Role.ROW_FILE]
"""A file of rows, each of which is content by itself. It counts in no identity, and in the name of a run folder by the
file's name without its folder."""

_NOT_CONTENT = (Role.PLACE, Role.LABEL, Role.SPEED)
_OF_SERVER = ("access", "api", "engine", "videos")
_OUTSIDE_OF_SETTINGS = ("hydra", "paths", "execution", "plugins", "limit", "experiment", *_OF_SERVER)
"""Parts of a verb's configuration that hold no content."""
_ABOUT = ("about", "origin")
"""Keys that only describe a part."""


class Identified:
    """Mixin that gives a configurable dataclass the identity that its fields declare."""

    kind: ClassVar[str] = ""
    """Name of the class in identities; the class's own name if empty. Changing it invalidates caches."""

    def identity(self) -> Mapping[str, Any]:
        """All settings that decide the results, as JSON values. Loads no model."""
        return settings_of(self)


def digest(content: Any) -> str:
    """A digest of JSON content. Equal content has an equal digest, whatever the order of keys.

    Raises:
        TypeError: the content holds something that JSON does not have.
    """
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def settings_of(part: Any) -> dict[str, Any]:
    """The content settings of a dataclass, as JSON values.

    Raises:
        ConfigError: a setting is of a type that has no identity.
    """
    roles = roles_of(type(part))
    kind = getattr(part, "kind", "") or type(part).__name__
    found: dict[str, Any] = {"kind": kind}
    for each in dataclasses.fields(part):
        if each.init and roles.get(each.name) is None:
            found[each.name] = _identity(getattr(part, each.name), f"{type(part).__name__}.{each.name}")
    return found


def identity_of(part: Any) -> dict[str, Any]:
    """All that decides the results of a sampler, a policy or an answerer, as JSON values.

    The identity of a class outside this package consists of its settings, its own ``identity()`` and a digest of its
    package's source files: a setting that ``identity()`` leaves out, or a changed line of code, gives another identity.
    A class without source files, as in a notebook, needs a ``version`` attribute; without one its results are never
    reused. The same holds for a function that is a setting.

    Raises:
        ConfigError: a setting is of a type that has no identity.
    """
    found = _identity(part, type(part).__name__)
    assert isinstance(found, dict)
    return found


def roles_of(kind: type) -> dict[str, Role | None]:
    """The role of each setting of a class; None for content."""
    found: dict[str, Role | None] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        marks = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        found[name] = next((mark for mark in marks if isinstance(mark, Role)), None)
    return found


def unkeyed(part: Any) -> tuple[str, ...]:
    """The settings of plug-ins that are in no identity, so that changing one gives the results of before.

    A setting is a field of a dataclass, or a parameter of another class's ``__init__``. It is in no identity where its
    field is declared as place, speed or label, and where a class that is not a dataclass neither keeps it in a public
    attribute of a plain type nor names it in ``identity()``. The name of a part is left out: it is a label in every
    class. Settings of a plug-in that another part holds are named with their place: ``localised.threshold``.
    """
    kind = type(part)
    if isinstance(part, type):
        return ()
    if not dataclasses.is_dataclass(part):
        if _is_ours(kind) or not callable(getattr(part, "identity", None)):
            return ()
        keyed = {*_attributes(part), *map(str, part.identity())}
        return tuple(name for name in _parameters(kind) if name not in keyed and name != "name")
    roles = roles_of(kind)
    found = [] if _is_ours(kind) else [name for name, role in roles.items() if role in _NOT_CONTENT and name != "name"]
    for each in dataclasses.fields(part):
        found += [f"{each.name}.{inner}" for inner in unkeyed(getattr(part, each.name, None))]
    return tuple(found)


def _parameters(kind: type) -> Iterator[str]:
    """Names of the settings that a class takes, without those that stand for any name."""
    given = list(inspect.signature(kind).parameters.values())
    return (each.name for each in given if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == __package__


def _identity(value: Any, where: str) -> Any:
    match value:
        case Enum():
            return _identity(value.value, where)
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): _identity(inner, f"{where}.{key}") for key, inner in value.items()}
        case list() | tuple():
            return [_identity(inner, where) for inner in value]
        case FunctionType():
            return f"{value.__module__}.{value.__qualname__} {_source(value)}"
    identifies = callable(getattr(value, "identity", None))
    if isinstance(value, PurePath) or not (identifies or dataclasses.is_dataclass(value)):
        raise ConfigError(
            f"{where} is a {type(value).__name__}, which has no identity, so results could not be distinguished",
            "declare what it is with Place[...] or Speed[...] of pipeline.identity, or give its class an "
            "identity() that returns JSON values",
        )
    declared = value.identity() if identifies else settings_of(value)
    found = {str(key): _identity(inner, f"{where}.{key}") for key, inner in declared.items()}
    if not _is_ours(type(value)):
        kind = type(value)
        settings = settings_of(value) if dataclasses.is_dataclass(value) else _identity(_attributes(value), where)
        found = {"declared": found, "settings": settings, "class": kind.__qualname__, "source": _source(kind)}
    return found


def _attributes(value: Any) -> dict[str, Any]:
    """The settings of a plug-in that is not a dataclass: its public attributes of plain types."""
    plain = (type(None), bool, int, float, str, list, tuple, dict, Enum)
    public = {name: inner for name, inner in vars(value).items() if not name.startswith("_")}
    return {name: inner for name, inner in public.items() if isinstance(inner, plain)}


def source_of(kind: type | FunctionType) -> str | None:
    """Digest of the .py files of the whole package of a class or function; None if there are none."""
    return _source_digest(kind.__module__.partition(".")[0])


def _source(kind: type | FunctionType) -> str:
    """As :func:`source_of`, or its ``version`` if there are no such files."""
    found = source_of(kind)
    if found is not None:
        return found
    version = getattr(kind, "version", None)
    return f"version {version}" if version is not None else f"unknown {_THIS_PROCESS}"


_THIS_PROCESS = uuid.uuid4().hex
"""Part of the identity of classes that cannot be identified, so that no other process uses their results."""


@lru_cache(maxsize=64)
def _source_digest(package: str) -> str | None:
    files = sorted(_source_files(package))
    if not files:
        return None
    total = hashlib.blake2b(digest_size=16)
    for name, path in files:
        total.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        total.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
    return total.hexdigest()


def _source_files(package: str) -> Iterator[tuple[str, Path]]:
    """The .py files of a package with their names relative to it."""
    module = sys.modules.get(package)
    spec = module.__spec__ if module is not None else importlib.util.find_spec(package)
    if spec is not None and spec.submodule_search_locations is not None:
        for root in spec.submodule_search_locations:
            for path in Path(root).rglob("*.py"):
                yield str(path.relative_to(root)), path
        return
    file = getattr(module, "__file__", None) or (spec.origin if spec is not None else None)
    if file and Path(file).is_file() and file.endswith(".py"):
        yield Path(file).name, Path(file)


# Keys of results, all of which also depend on which picture is shown at which second.


def relevance_key(fingerprint: str, query: str, sampler: Mapping[str, Any]) -> str:
    """The key of a relevance.

    Args:
        fingerprint: of the clip that the question may see.
        query: the question as the sampler is given it.
        sampler: identity of the sampler.
    """
    return digest({"frames": FRAMES_VERSION, "video": fingerprint, "query": query, "sampler": dict(sampler)})


def features_key(fingerprint: str, encoder: Mapping[str, Any]) -> str:
    """The key of the embeddings of a video's candidate frames, by the identity of what computes them."""
    return digest({"frames": FRAMES_VERSION, "video": fingerprint, "encoder": dict(encoder)})


def answer_key(answerer: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The key of an answer, by the answerer's identity and all that the answerer is given."""
    content = {"frames": FRAMES_VERSION, "answerer": dict(answerer), "asked": dict(asked)}
    if READING_VERSION > 1:  # answers of version 1 have keys without it
        content["reading"] = READING_VERSION
    return digest(content)


# Settings as they stand in a configuration, before any object is made


def configured(node: Any, kind: type | None = None) -> Any:
    """The content of a configuration node, by the roles that the classes named in it declare. Builds no object.

    Args:
        node: resolved plain values; a mapping with ``_target_`` is a part of that class.
        kind: the class of a mapping that does not name one.
    """
    if isinstance(node, Mapping):
        target = node.get("_target_")
        kind = _class(target) if isinstance(target, str) else kind
        hints = typing.get_type_hints(kind) if kind is not None else {}
        roles = roles_of(kind) if kind is not None else {}
        found: dict[str, Any] = {}
        for name, value in node.items():
            role = roles.get(str(name))
            if name in _ABOUT or role in _NOT_CONTENT:
                continue
            if role is Role.ROW_FILE and isinstance(value, str):
                found[str(name)] = PurePath(value).name
            else:
                found[str(name)] = configured(value, _dataclass_in(hints.get(str(name))))
        return found
    if isinstance(node, list | tuple):
        return [configured(inner, kind) for inner in node]
    return node


def configured_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a verb's whole configuration, resolved."""
    return {str(name): configured(part) for name, part in config.items() if name not in _OUTSIDE_OF_SETTINGS}


def _class(target: str) -> type | None:
    """The dataclass that ``target`` names; None outside this package, whose classes are checked when they are built."""
    module, _, name = target.rpartition(".")
    if not module.startswith(f"{__package__}."):
        return None
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


def _dataclass_in(hint: Any) -> type | None:
    candidates: Sequence[Any] = (hint, *typing.get_args(hint))
    return next((each for each in candidates if isinstance(each, type) and dataclasses.is_dataclass(each)), None)
