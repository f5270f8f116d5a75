"""Settings of the library, and how a YAML file plus overrides becomes a validated config.

Imports pydantic only: reading a config must load neither torch nor Ray.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from moos.config_errors import describe_errors, show_value
from moos.config_keys import iterate_keys
from moos.errors import ConfigError
from moos.redaction import find_secret, show_key
from moos.yaml_text import parse_yaml

Share = Annotated[float, Field(gt=0.0, le=1.0)]
UnitInterval = Annotated[float, Field(ge=0.0, le=1.0)]
ProtectedClass = Literal["numbers", "negations", "urls", "identifiers", "code"]
EngineName = Literal["auto", "torch", "openvino"]
ALL_PROTECTED: tuple[ProtectedClass, ...] = ("numbers", "negations", "urls", "identifiers", "code")

_DATA_SUFFIXES = ("/", ".jsonl", ".ndjson", ".parquet", ".gz", ".zst", ".txt")
_DATA_KEYS = ("input.path", "data.path", "input")
BUDGETS = ("rate", "target_tokens", "threshold", "corpus_rate")
"""Keys of `selection` of which one at most is set."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class ConfigModel(BaseModel):
    """Base of every config: unknown keys are errors, and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SelectionConfig(ConfigModel):
    """How scores become a keep mask: one budget, and what is kept whatever its score."""

    rate: Share | None = None
    """Share of each document's tokens to keep (kept / all). With no budget set, 0.5."""

    target_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens to keep per document."""

    threshold: UnitInterval | None = None
    """Keep every word whose score is at least this."""

    corpus_rate: Share | None = None
    """Share of the whole corpus's tokens to keep, by one threshold for all documents: dense ones
    keep more, padded ones less."""

    protect: tuple[ProtectedClass, ...] = ALL_PROTECTED
    """Classes of words that stay whatever their score. `[]` turns protection off."""

    protect_words: tuple[str, ...] = ()
    """Words or phrases that stay, compared without case."""

    protect_patterns: tuple[str, ...] = ()
    """Regular expressions (`regex` syntax); every word a match overlaps stays."""

    budget_tokenizer: str | None = None
    """A reader's `tokenizer.json`: budgets and counts are then in that reader's tokens."""

    @field_validator("protect_patterns")
    @classmethod
    def _patterns_compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        # Imported late: most configs hold no pattern.
        import regex

        for pattern in patterns:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns

    @field_validator(*BUDGETS, mode="before")
    @classmethod
    def _no_bool(cls, value: object) -> object:
        # YAML reads `no` and `off` as False, which pydantic would take for 0.
        if isinstance(value, bool):
            raise ValueError("must be a number or null")
        return value

    @model_validator(mode="after")
    def _one_budget(self) -> "SelectionConfig":
        budgets = {name: value for name in BUDGETS if (value := getattr(self, name)) is not None}
        if len(budgets) > 1:
            shown = ", ".join(f"{name}={value}" for name, value in budgets.items())
            raise ValueError(f"set one budget, not {len(budgets)} ({shown}); null the others")
        for name in ("threshold", "corpus_rate"):
            if name in budgets and self.budget_tokenizer is not None:
                raise ValueError(
                    f"budget_tokenizer has no effect on {name}; set rate or target_tokens"
                )
        return self

    @property
    def effective_rate(self) -> float | None:
        """The rate in force: 0.5 when no budget is set, None when another budget is."""
        return 0.5 if all(getattr(self, name) is None for name in BUDGETS) else self.rate


class OutlierConfig(ConfigModel):
    """The outlier score; null means what the checkpoint says. Our reading of arXiv 2504.16786."""

    statistics: Literal["window", "checkpoint"] | None = None
    """Source of means, deviations and range: the window itself, or the checkpoint's constants."""

    reduction: Literal["l2", "mean_abs", "max"] | None = None
    """How a token's per-dimension z-scores become one number."""


class ScoringConfig(ConfigModel):
    """How the model's outputs become scores; null means what the checkpoint says."""

    alpha: UnitInterval | None = None
    """Weight of the preserve probability against the outlier score; 1 turns the latter off."""

    outlier: OutlierConfig = OutlierConfig()
    """How the outlier score is computed."""

    word_score: Literal["mean", "max", "first"] | None = None
    """How the scores of a word's tokens become the word's score."""

    phrases: bool | None = None
    """Whether words that say something only together stay or go together: the words of a name, a
    number with what it counts, punctuation with its words."""

    preserve_label: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None
    """Name or index of the class "preserve", when the checkpoint's config does not say."""


class WindowConfig(ConfigModel):
    """How a document is cut into encoder inputs; null means what the checkpoint says."""

    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens per window, special tokens included. At most what the encoder was built for."""

    context_tokens: Annotated[int, Field(ge=0)] | None = None
    """Neighbouring tokens on each side that the encoder sees but that are not scored."""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: The file is missing, is not YAML, or is not a mapping.
    """
    try:
        loaded = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        hint = _suggest_file(Path(path))
        raise ConfigError(f"config {path} cannot be read: {error.strerror}{hint}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"config {path} is not valid YAML: it is not UTF-8") from None
    except (ConfigError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"config {path} is not valid YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"config {path} must be a mapping of keys, not {type(loaded).__name__}")
    return loaded


def _suggest_file(path: Path) -> str:
    """The YAML file beside a missing one whose name is closest, where one is close."""
    beside = [file.name for file in path.parent.glob("*.yaml")]
    close = get_close_matches(path.name, beside, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one `key.path=value` in a tree of mappings; the value is read as YAML.

    Raises:
        ConfigError: The override has no `=`, or a parent key holds a plain value.
    """
    key, equals, text = override.partition("=")
    told = f"override {show_key([key])}=..."
    if not equals or not key:
        # Of one without a key and `=`, what stands behind may be anything: `password: X`.
        shown = show_value(override) if equals else f"'{show_key([override])}'"
        raise ConfigError(f"override {shown} must look like key.path=value")
    try:
        value = parse_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{told}: the value is not valid YAML: {error}") from None
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{told}: {parent} holds a value, not a mapping")
        node = child
    node[last] = value


def load_config(
    cls: type[ConfigT], path: str | Path | None = None, overrides: Sequence[str] = ()
) -> ConfigT:
    """Read `path` if given, apply `key.path=value` overrides in order, and validate once.

    Raises:
        ConfigError: The file cannot be read, an override is malformed, a secret stands in one of
            them, or the result does not validate. The message names the dotted key and the value
            seen, but for a secret.
    """
    if path is not None and (str(path).endswith(_DATA_SUFFIXES) or Path(path).is_dir()):
        keys = [key.name for key in iterate_keys(cls)]
        hint = next((f", such as {key}={path}" for key in _DATA_KEYS if key in keys), "")
        raise ConfigError(f"{path} is no config, which is YAML; data is given by a key{hint}")
    tree = read_yaml(path) if path is not None else {}
    for override in overrides:
        apply_override(tree, override)
    return validate_config(cls, tree, f"config {path}" if path is not None else "the config")


def validate_config(cls: type[ConfigT], tree: dict[str, Any], name: str) -> ConfigT:
    """The config that a tree of plain values stands for.

    Args:
        cls: The config's model.
        tree: The values.
        name: What it is called in messages.

    Raises:
        ConfigError: A value is a secret, or the tree does not validate. The message names the
            dotted key and the value seen, but for a secret.
    """
    if (secret := find_secret(tree)) is not None:
        # The value stays out of the message: it would end up in logs.
        raise ConfigError(
            f"{name} is not valid:\n  {secret}: looks like a secret; leave it to the credential "
            "chain (environment variables, profile, instance role), or name the environment "
            "variable of an endpoint's key in api_key_env"
        )
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{name} is not valid:\n{describe_errors(error, cls)}") from error
