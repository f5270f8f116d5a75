"""The dotted keys of a config model, for its reference, shell completion, and error messages."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One key of a config.

    Attributes:
        name: The dotted name; `[]` stands for an element of a list.
        field: What pydantic knows of it.
        condition: A sentence's beginning that says with which values of other keys it exists, such
            as "With `teacher.kind=pairs`: "; empty where it always does.
    """

    name: str
    field: FieldInfo
    condition: str = ""

    @property
    def description(self) -> str:
        """What the key does, on one line."""
        return " ".join((self.field.description or "").split())

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are allowed as its value, or as an element of it; none if any value is."""
        return tuple(dict.fromkeys(_choices(self.field.annotation)))

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return typing.get_origin(self.field.annotation) is tuple

    @property
    def is_text(self) -> bool:
        """Whether any string may be its value, as for a path."""
        return str in (self.field.annotation, *_parts(self.field.annotation))


def iterate_keys(model: type[BaseModel], prefix: str = "") -> Iterator[ConfigKey]:
    """Each key below a model, in order; one that several members of a union have, once for each."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from iterate_keys(inner, f"{prefix}{name}.")
            continue
        yield ConfigKey(f"{prefix}{name}", field)
        key = f"{prefix}{name}[]" if typing.get_origin(inner) is tuple else f"{prefix}{name}"
        for part, tag in _find_models(inner, field.discriminator):
            condition = _condition(key, part, tag)
            for below in iterate_keys(part, f"{key}."):
                yield replace(below, condition=f"{condition}{below.condition}")


def _find_models(annotation: Any, tag: Any) -> Iterator[tuple[type[BaseModel], Any]]:
    """The models within an annotation, with the discriminator of the union that each is of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, tag
        return
    parts = typing.get_args(annotation)
    for part in parts:
        if isinstance(part, FieldInfo):
            tag = part.discriminator or tag
    for part in parts:
        yield from _find_models(part, tag)


def _condition(key: str, member: type[BaseModel], tag: Any) -> str:
    """Which member of a tagged union a key belongs to; nothing for any other union."""
    if not isinstance(tag, str):
        return ""
    values = typing.get_args(member.model_fields[tag].annotation)
    return f"With `{key}.{tag}={'|'.join(values)}`: "


def _choices(annotation: Any) -> Iterator[str]:
    """The values of each `Literal` in an annotation, and of `bool`."""
    if annotation is bool:
        yield from ("true", "false")
    elif typing.get_origin(annotation) is typing.Literal:
        yield from map(str, typing.get_args(annotation))
    else:
        for part in typing.get_args(annotation):
            yield from _choices(part)


def _parts(annotation: Any) -> Iterator[Any]:
    """What a union, a list or an annotated type is made of, at any depth."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, typing.Annotated):
        for part in typing.get_args(annotation):
            yield part
            yield from _parts(part)
