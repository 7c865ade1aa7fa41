"""A topology as TOML, read and written, and its JSON Schema for editors."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_netns.parts.keys import REQUIRED, Key, Part
from pytest_netns.topology.tables import Tables
from pytest_netns.values import suggest
from pytest_netns.values.shapes import is_list, is_mapping

_DEEPEST = 50  # the maximum nesting of tables and arrays
_DEEP_KEY = re.compile(rf"(?<![\w-])(?:[\w-]+[ \t]*\.[ \t]*){{{_DEEPEST + 1}}}", re.ASCII)
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def read(text: str) -> tuple[dict[str, Any], list[str]]:
    """Read the parts of a topology from TOML text.

    Returns:
        The arguments for a `Topology`, and the mistakes in the keys; values are not checked.
    """
    document: dict[str, Any] = {}
    problem = ""
    if _DEEP_KEY.search(text):  # tomllib takes quadratic time in a key's length
        problem = f"cannot use a key with more than {_DEEPEST} dots: a topology has none"
    else:
        try:
            document = tomllib.loads(text)
            problem = _too_large(document)
        except ValueError as error:
            problem = f"not valid TOML: {error}"
        except RecursionError:
            problem = f"cannot use tables or arrays nested more than {_DEEPEST} times: a topology has none"
    if problem:
        return {}, [problem]
    problems: list[str] = []
    return _read_table(Tables, document, "", problems), problems


def _too_large(document: dict[str, Any]) -> str:
    """The mistake about a value that is too large or deep for any key, and for error messages; empty for none."""
    waiting: list[tuple[object, int]] = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            return f"cannot use tables or arrays nested more than {_DEEPEST} times: a topology has none"
        if isinstance(value, int) and value.bit_length() > 63:
            return f"not valid TOML: an integer of {value.bit_length()} bits; at most 64 are allowed"
        if is_mapping(value) or is_list(value):
            waiting += [(each, depth + 1) for each in (value.values() if is_mapping(value) else value)]
    return ""


def _read_table(part: type[Part], table: Mapping[str, Any], path: str, problems: list[str]) -> dict[str, Any]:
    fields = {key.name: (name, key) for name, key in part.keys().items()}
    arguments: dict[str, Any] = {name: None for name, key in part.keys().items() if key.default is REQUIRED}
    for written, value in table.items():
        at = f"{path}.{written}" if path else written
        if written not in fields and part.others:
            others: object = arguments.setdefault(part.others, {})
            if isinstance(others, dict):
                others[written] = value
            continue
        if written not in fields:
            problems.append(f"{at}: cannot use this key: {suggest(written, fields)}")
            continue
        name, key = fields[written]
        if name == part.others and is_mapping(value):
            value = {**arguments.get(name, {}), **value}
        arguments[name] = value if key.part is None else _read_parts(key.part, value, at, problems)
    return arguments


def _read_parts(part: type[Part], value: object, path: str, problems: list[str]) -> object:
    if isinstance(value, dict):
        problems.append(f"{path}: cannot use a single table here: this key is a list; write [[{path}]], or [{{ ... }}]")
        return ()
    if not is_list(value):
        return value
    return [
        part(**_read_table(part, item, f"{path}[{number}]", problems)) if is_mapping(item) else item
        for number, item in enumerate(value)
    ]


def write(tables: Tables) -> str:
    """TOML text that `read` parses to the same parts; default values are left out."""
    lines: list[str] = []
    for name, key in tables.keys().items():
        value = getattr(tables, name)
        if key.part is None and value != key.default:
            lines.append(f"{key.name} = {_write_value(value)}")
        elif key.part is not None:
            for part in value:
                lines += ["", f"[[{key.name}]]", *_write_part(part)]
    return "\n".join(lines).strip() + "\n" if lines else ""


def _write_part(part: Part) -> Iterator[str]:
    for key, value in _written(part):
        if key.part is None:
            yield f"{key.name} = {_write_value(value)}"
        else:
            yield f"{key.name} = ["
            for item in value:
                yield (
                    "  { " + ", ".join(f"{inner.name} = {_write_value(held)}" for inner, held in _written(item)) + " },"
                )
            yield "]"


def _written(part: Part) -> Iterator[tuple[Key, Any]]:
    for name, key in part.keys().items():
        value = getattr(part, name)
        if value != key.default:
            yield key, key.kind.write(value) if key.kind is not None and key.kind.write is not None else value


def _write_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if is_mapping(value):
        return "{ " + ", ".join(f"{_quote_key(name)} = {_write_value(held)}" for name, held in value.items()) + " }"
    if is_list(value):
        if isinstance(value, tuple) and len(value) == 1:
            return _write_value(value[0])
        return "[" + ", ".join(map(_write_value, value)) + "]"
    text = str(value)
    return _quote_lines(text) if "\n" in text else _quote(text)


def _quote_key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else _quote(name)


def _quote(text: str) -> str:
    # TOML's basic strings are those of JSON, except for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _quote_lines(text: str) -> str:
    return '"""\n' + "\n".join(_quote(line)[1:-1] for line in text.split("\n")) + '"""'


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a topology in TOML."""
    return {"$schema": SCHEMA_DIALECT, "title": "pytest-netns topology", **_schema_of(Tables)}


def _schema_of(part: type[Part]) -> dict[str, Any]:
    keys = part.keys().values()
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": bool(part.others),
        "properties": {key.name: {"description": key.help, **_schema_of_value(key)} for key in keys},
    }
    required = [key.name for key in keys if key.default is REQUIRED]
    return {**schema, "required": required} if required else schema


def _schema_of_value(key: Key) -> dict[str, Any]:
    if key.part is not None:
        return {"type": "array", "items": _schema_of(key.part)}
    schema = dict(key.kind.schema) if key.kind else {}
    if isinstance(key.default, str | bool):
        schema["default"] = key.default
    if key.many:
        return {"oneOf": [schema, {"type": "array", "items": schema}]}
    return schema
