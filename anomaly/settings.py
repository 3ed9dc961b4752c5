"""Typed settings from TOML: all problems are said at once, an unknown key with its nearest known word."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from anomaly.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


def load(path: Path, into: type[T]) -> T:
    """Read the TOML file `path` as the struct `into`.

    Raises ConfigError with every unknown key, wrong type and missing field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return parse(text, into, str(path))


def parse(text: str, into: type[T], subject: str) -> T:
    """Read TOML `text` as the struct `into`; `subject` names the source in errors."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{subject} is not valid TOML: {error}") from error
    problems = list(_problems(tree, into, ""))
    if problems:
        raise ConfigError(subject, problems)
    try:
        return msgspec.convert(tree, into)
    except msgspec.ValidationError as error:
        raise ConfigError(subject, [_plain(str(error))]) from error


def _problems(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Walk `value` beside the type `kind` and say everything that does not fit."""
    structs = _structs(kind)
    if isinstance(value, dict) and structs:
        for struct in structs:
            yield from _struct_problems(value, struct, where)
    elif isinstance(value, dict) and typing.get_origin(kind) is dict:
        for key, item in value.items():
            yield from _problems(item, typing.get_args(kind)[1], _join(where, key))
    elif isinstance(value, list) and typing.get_origin(kind) is list:
        for position, item in enumerate(value):
            yield from _problems(item, typing.get_args(kind)[0], f"{where}[{position}]")
    else:
        yield from _single_problems(value, kind, where)


def _single_problems(value: Any, kind: Any, where: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: {value} is no finite number"
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield f"{where}: {_misfit(value, kind, str(error))}"


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    """The structs among what `kind` allows."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    options = typing.get_args(kind) if union else (kind,)
    return [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]


def _struct_problems(value: dict[str, Any], kind: type[msgspec.Struct], where: str) -> Iterator[str]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, item in value.items():
        if key in fields:
            yield from _problems(item, fields[key].type, _join(where, key))
        else:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(sorted(fields))}"
            yield f"{_join(where, key)}: unknown key; {hint}"
    for name, field in fields.items():
        if field.required and name not in value:
            yield f"{_join(where, name)}: missing"
    if all(name in value for name, field in fields.items() if field.required):
        yield from _invalid_whole(value, kind, where)


def _invalid_whole(value: dict[str, Any], kind: type[msgspec.Struct], where: str) -> Iterator[str]:
    """What only the struct itself can say, in its `__post_init__`: a problem a line."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    known = {key: item for key, item in value.items() if key in fields}
    if any(True for key in known for _ in _problems(known[key], fields[key].type, key)):
        return
    try:
        msgspec.convert(known, kind)
    except msgspec.ValidationError as error:
        for line in _plain(str(error)).splitlines():
            yield f"{where}: {line}" if where else line


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _misfit(value: Any, kind: Any, message: str) -> str:
    """What is wrong with a single value, and what would be right."""
    if message.startswith("Invalid enum value"):
        words = [str(word) for word in _words(kind)]
        if str(value) in _refused(kind):
            return f"{value!r} is refused: {_refused(kind)[str(value)]}"
        near = difflib.get_close_matches(str(value), words, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`? " if near else ""
        return f"{value!r} is not known; {hint}one of {', '.join(words)}"
    text = _plain(message)
    if text.startswith("Expected") and not isinstance(value, list):
        return f"must be {text.removeprefix('Expected ')}, not {value!r}"
    return text


def _refused(kind: Any) -> dict[str, str]:
    """Words that `kind` refuses with a reason of their own: `Meta(extra={"refused": {word: reason}})`."""
    metas = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    return {word: reason for meta in metas for word, reason in (meta.extra or {}).get("refused", {}).items()}


def _words(kind: Any) -> list[Any]:
    """The words that `kind` allows, wherever in it they are."""
    if typing.get_origin(kind) is typing.Literal:
        return list(typing.get_args(kind))
    return [word for part in typing.get_args(kind) for word in _words(part)]


def _plain(message: str) -> str:
    text = re.sub(r" - at `\$[^`]*`$", "", message).replace("Object missing required field", "missing")
    return re.sub(r"^Expected (.*), got (.*)$", r"must be \1, not \2", text)
