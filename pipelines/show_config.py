"""The settings that a document is shown by: a run's own, or the defaults, with overrides."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from moos.config import BUDGETS, apply_override, validate_config
from moos.errors import ConfigError
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.outputs import read_settings
from pipelines.run_state import CONFIG


def config_of_run(output: Storage, overrides: Sequence[str]) -> CompressConfig:
    """The config that began a run, with overrides.

    Raises:
        ConfigError: It cannot be read, or an override does not validate.
    """
    return _validate(read_settings(output), overrides, f"{output.url}/{CONFIG}")


def config_of_input(
    path: str, storage_options: Mapping[str, Any], overrides: Sequence[str]
) -> CompressConfig:
    """The default settings for documents of a file, with overrides.

    Raises:
        ConfigError: An override does not validate.
    """
    settings = {"path": path, "storage_options": dict(storage_options)}
    return _validate({"input": settings, "output": {"path": "-"}}, overrides, "the config")


def _validate(tree: dict[str, Any], overrides: Sequence[str], name: str) -> CompressConfig:
    for override in overrides:
        _make_room(tree, override.partition("=")[0])
        apply_override(tree, override)
    return validate_config(CompressConfig, tree, name)


def _make_room(tree: dict[str, Any], key: str) -> None:
    """A budget takes the place of the one before it."""
    section, _, name = key.partition(".")
    selection = tree.get("selection")
    if section == "selection" and name in BUDGETS and isinstance(selection, dict):
        selection.update(dict.fromkeys(BUDGETS))


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
