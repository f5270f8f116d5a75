"""The settings that a document is shown by: a run's own, or the defaults, with overrides."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from moos.config import apply_override
from moos.config_errors import describe_errors
from moos.errors import ConfigError
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.run_state import CONFIG

_BUDGETS = ("rate", "target_tokens", "threshold", "corpus_rate")


def config_of_run(output: Storage, overrides: Sequence[str]) -> CompressConfig:
    """The config that began a run, with overrides.

    Raises:
        ConfigError: It cannot be read, or an override does not validate.
    """
    try:
        tree = yaml.safe_load(output.get(CONFIG))
    except (FileNotFoundError, yaml.YAMLError) as error:
        raise ConfigError(f"{output.url}/{CONFIG} cannot be read: {error}") from error
    return _validate(tree, overrides, f"{output.url}/{CONFIG}")


def config_of_input(path: str, overrides: Sequence[str]) -> CompressConfig:
    """The default settings for documents of a file, with overrides.

    Raises:
        ConfigError: An override does not validate.
    """
    return _validate({"input": {"path": path}, "output": {"path": "-"}}, overrides, "the config")


def _validate(tree: dict[str, Any], overrides: Sequence[str], name: str) -> CompressConfig:
    for override in overrides:
        _make_room(tree, override.partition("=")[0])
        apply_override(tree, override)
    try:
        return CompressConfig.model_validate(tree)
    except ValidationError as error:
        shown = describe_errors(error, CompressConfig)
        raise ConfigError(f"{name} is not valid:\n{shown}") from error


def _make_room(tree: Mapping[str, Any], key: str) -> None:
    """A budget takes the place of the one before it."""
    section, _, name = key.partition(".")
    selection = tree.get("selection")
    if section == "selection" and name in _BUDGETS and isinstance(selection, dict):
        selection.update(dict.fromkeys(_BUDGETS))


def compared_override(value: str) -> str:
    """The override that `--compare VALUE` stands for: a rate where it is a number in (0, 1].

    Raises:
        ConfigError: It is a number outside that.
    """
    try:
        rate = float(value)
    except ValueError:
        return f"checkpoint={json.dumps(value)}"
    if not 0 < rate <= 1:
        raise ConfigError(f"--compare takes a rate in (0, 1] or a checkpoint, got {value}")
    return f"selection.rate={value}"
