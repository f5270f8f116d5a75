"""What pydantic found wrong with a config, told in the config's own words."""

import re
import types
import typing
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from moos.config_keys import iterate_keys
from moos.redaction import is_secret_name, redact, show_key
from moos.suggestions import suggest

_EXPECTED = {
    "literal_error": "expected",
    "enum": "expected",
    "union_tag_invalid": "expected_tags",
}
"""Kinds of problems for which pydantic lists what is allowed, and under which name."""

_NO_SECTION = ("model_type", "model_attributes_type")
"""Kinds of problems of a value that stands where keys should."""

SHOWN_CHARS = 200
"""Of a value, in messages."""

SEARCHED_CHARS = 20 * SHOWN_CHARS
"""Of a value, for secrets."""

_SHOULD_BE = "Input should be "


def describe_errors(error: ValidationError, cls: type[BaseModel] | None = None) -> str:
    """One line per key: its dotted name, what is wrong, the value seen, and a likely remedy."""
    lines: dict[str, list[tuple[str, str, str]]] = {}
    for problem in error.errors():
        key, line = _describe(problem, cls)
        lines.setdefault(key, []).append(line)
    # Of the members of a union, the one that a mapping was tried as says more than the others.
    outer = {key for key in lines if any(other.startswith(f"{key}.") for other in lines)}
    return "\n".join(f"  {key}: {_join(told)}" for key, told in lines.items() if key not in outer)


def _describe(problem: Any, cls: type[BaseModel] | None) -> tuple[str, tuple[str, str, str]]:
    """A problem's key, and what is wrong, the value seen, and a remedy."""
    kind, value = problem["type"], problem["input"]
    location, model = _follow(cls, [str(part) for part in problem["loc"]])
    message = problem["msg"].removeprefix("Value error, ")
    hint = ""
    if kind == "extra_forbidden":
        hint = _suggest_key(cls, [str(part) for part in problem["loc"]])
    elif kind in _EXPECTED:
        hint = _suggest_value(problem)
    elif kind == "tuple_type":
        message = f"{_SHOULD_BE}a list"
        hint = _suggest_override("; write ", location, value, "[{}]") if cls else ""
    elif kind in _NO_SECTION:
        if model and "path" in model.model_fields:
            hint = _suggest_override("; did you mean ", [*location, "path"], value, "{}?")
        message = f"{_SHOULD_BE}a section{'' if hint else _name_keys(cls, location, model)}"
    if kind == "missing":
        location = [*location, *_required(model)]
        message = "this key is required"
    key = show_key(location) or "(config)"
    if kind in ("missing", "union_tag_not_found") and (tags := _tags(cls, location)):
        key = f"{key}.{_tag_key(cls, location)}"
        message = f"this key is required: one of {', '.join(tags)}"
    is_shown = not (isinstance(value, dict | BaseModel) or any(map(is_secret_name, location)))
    seen = f" (got {show_value(value)})" if is_shown else ""
    return key, (message, seen, hint)


def show_value(value: Any) -> str:
    """A value for messages: cut, and without what can be told to be a secret."""
    # Half a secret cannot be told to be one, so the cut comes last; nor is a long value searched.
    shown = redact(repr(value)[:SEARCHED_CHARS])
    return shown if len(shown) <= SHOWN_CHARS else f"{shown[:SHOWN_CHARS]}..."


def _join(told: Sequence[tuple[str, str, str]]) -> str:
    """The problems of one key on one line: each member of a union has its own."""
    messages = [message for message, _, _ in told]
    (_, seen, _), hint = told[0], "".join(hint for _, _, hint in told)
    more = [f"; or {message.removeprefix(_SHOULD_BE)}" for message in messages[1:]]
    return f"{messages[0]}{''.join(more)}{seen}{hint}"


def _suggest_key(cls: type[BaseModel] | None, location: list[str]) -> str:
    """The key that was probably meant: one beside it, or one of that name elsewhere."""
    _, parent = _follow(cls, location[:-1])
    hint = suggest(location[-1], parent.model_fields) if parent else ""
    if hint or cls is None:
        return hint
    names = dict.fromkeys(key.name for key in iterate_keys(cls))
    found = [name for name in names if name.rpartition(".")[2] == location[-1]][:3]
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def _suggest_value(problem: Any) -> str:
    """The allowed word that was probably meant."""
    seen = problem["ctx"].get("tag", problem["input"])
    return suggest(str(seen), re.findall(r"'([^']*)'", problem["ctx"][_EXPECTED[problem["type"]]]))


def _suggest_override(words: str, location: Sequence[str], value: Any, form: str) -> str:
    """The override that was probably meant by a plain word; nothing for any other value."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w./:*-]{1,100}", value):
        return ""
    return f"{words}{show_key(location)}={form.format(redact(value))}"


def _name_keys(
    cls: type[BaseModel] | None, location: list[str], model: type[BaseModel] | None
) -> str:
    """The keys of a section, in words behind it."""
    if tags := _tags(cls, location):
        return f" with the key {_tag_key(cls, location)}, one of {', '.join(tags)}"
    return f" with the keys {', '.join(model.model_fields)}" if model else ""


def _follow(
    cls: type[BaseModel] | None, location: list[str]
) -> tuple[list[str], type[BaseModel] | None]:
    """The keys to a place as they stand in a config, and the model below it, if it is one.

    pydantic names the member of a union that it tried among the keys; a config does not.
    """
    keys: list[str] = []
    field: FieldInfo | None = None
    for name in location:
        members = _members(field)
        if name in members:
            cls, field = members[name], None
            continue
        if len(alternatives := _alternatives(field)) > 1:
            cls = next(
                (model for model in map(_model, alternatives) if _is_named(model, name)), None
            )
            field = None
            continue
        keys.append(name)
        field = None if cls is None else cls.model_fields.get(name)
        single = _alternatives(field)
        cls = _model(single[0]) if len(single) == 1 else None
    return keys, cls


def _alternatives(field: FieldInfo | None) -> list[Any]:
    """The types that a field's value may be of, null aside; none for a tagged union."""
    if field is None or field.discriminator is not None:
        return []
    if typing.get_origin(field.annotation) not in (typing.Union, types.UnionType):
        return [field.annotation]
    return [part for part in get_args(field.annotation) if part is not type(None)]


def _model(annotation: Any) -> type[BaseModel] | None:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def _is_named(model: type[BaseModel] | None, name: str) -> bool:
    return model is not None and model.__name__ == name


def _members(field: FieldInfo | None) -> dict[str, type[BaseModel]]:
    """The models of a tagged union by their tags; none for any other field."""
    if field is None or not isinstance(field.discriminator, str):
        return {}
    return {
        str(tag): member
        for member in get_args(field.annotation)
        for tag in get_args(member.model_fields[field.discriminator].annotation)
    }


def _tags(cls: type[BaseModel] | None, location: list[str]) -> list[str]:
    """The tags of the tagged union at a place; none where there is none."""
    return list(_members(_field_at(cls, location)))


def _tag_key(cls: type[BaseModel] | None, location: list[str]) -> str:
    field = _field_at(cls, location)
    assert field is not None, "a tagged union is a field"
    return str(field.discriminator)


def _field_at(cls: type[BaseModel] | None, location: list[str]) -> FieldInfo | None:
    _, parent = _follow(cls, location[:-1])
    return parent.model_fields.get(location[-1]) if parent is not None and location else None


def _required(cls: type[BaseModel] | None) -> list[str]:
    """The first key that a model cannot do without, if it has one."""
    fields = {} if cls is None else cls.model_fields
    return [name for name, field in fields.items() if field.is_required()][:1]
