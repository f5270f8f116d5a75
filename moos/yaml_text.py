"""YAML as configs use it: null, booleans, numbers, text, lists and mappings, in bounds.

PyYAML's safe loader runs no code, but it makes other types too (dates, sets, bytes), which no
printed config could give back; it raises whatever its constructors raise; a few hundred bytes of
aliases become gigabytes; and its messages quote the file, which may hold a secret by mistake.
"""

from typing import Any

import yaml

from moos.errors import ConfigError

MAX_DEPTH = 32
_INTEGERS = range(-(1 << 63), 1 << 63)
_TYPES = ("null", "bool", "int", "float", "str", "seq", "map", "merge")


class _PlainLoader(yaml.SafeLoader):
    """Makes plain values alone; a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML's own attribute
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] in _TYPES]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012  PyYAML's own attribute
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _TYPES
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases: each may stand for all that the ones in it stand for."""
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.composer.ComposerError(None, None, "write out what *aliases stand for", mark)
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """The value that a YAML text stands for; None for an empty one.

    Raises:
        ConfigError: It is not YAML, or holds what no config needs. The message tells the place, and
            nothing of the text.
    """
    try:
        value = yaml.load(text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{_problem(error)}{where}") from None
    except yaml.YAMLError:  # a character that no YAML may hold
        raise ConfigError("it holds a character that is not printable") from None
    except RecursionError:
        raise ConfigError(f"values are nested more than {MAX_DEPTH} deep") from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # PyYAML's constructors check little: `!!int ""` is an IndexError.
        raise ConfigError(f"a value is not what its tag says ({type(error).__name__})") from None
    _check_bounds(value)
    return value


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without what PyYAML quotes of the text: tags, anchors, keys."""
    problem = (error.problem or error.context or "wrong").splitlines()[0]
    return problem.partition("'")[0].rstrip(" :") or "wrong"


def _check_bounds(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise ConfigError(f"values are nested more than {MAX_DEPTH} deep")
        if any(isinstance(part, int) and part not in _INTEGERS for part in level):
            raise ConfigError("a whole number does not fit 64 bits")
        inner = [[*part, *part.values()] for part in level if isinstance(part, dict)]
        inner += [part for part in level if isinstance(part, list)]
        level, depth = [part for parts in inner for part in parts], depth + 1
