"""Typed settings from TOML: every problem is reported at once, and an unknown key names its nearest known word."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
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


def _problems(value: Any, kind: Any, where: str) -> typing.Iterator[str]:
    """Walk `value` beside the type `kind` and say everything that does not fit."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        yield from _struct_problems(value, kind, where)
    elif typing.get_origin(kind) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _problems(item, typing.get_args(kind)[1], _join(where, key))
    elif typing.get_origin(kind) is list and isinstance(value, list):
        for position, item in enumerate(value):
            yield from _problems(item, typing.get_args(kind)[0], f"{where}[{position}]")
    elif typing.get_origin(kind) in (typing.Union, types.UnionType) and isinstance(value, dict):
        for option in typing.get_args(kind):
            if isinstance(option, type) and issubclass(option, msgspec.Struct):
                yield from _struct_problems(value, option, where)
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            yield f"{where}: {_plain(str(error))}"


def _struct_problems(value: dict[str, Any], kind: type[msgspec.Struct], where: str) -> typing.Iterator[str]:
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
    if not any(name not in value for name, field in fields.items() if field.required):
        yield from _invalid_whole(value, kind, where, fields)


def _invalid_whole(
    value: dict[str, Any], kind: type[msgspec.Struct], where: str, fields: dict[str, Any]
) -> typing.Iterator[str]:
    """What only the struct itself can say, in its `__post_init__`."""
    known = {key: item for key, item in value.items() if key in fields}
    if any(True for key in known for _ in _problems(known[key], fields[key].type, key)):
        return
    try:
        msgspec.convert(known, kind)
    except msgspec.ValidationError as error:
        yield f"{where or 'file'}: {_plain(str(error))}"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _plain(message: str) -> str:
    return message.replace("Object missing required field", "missing").replace(" - at `$`", "")
