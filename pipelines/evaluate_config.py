"""Settings of the evaluation job. Imports pydantic only: reading a config must load no torch."""

from collections import Counter
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from moos.config import ConfigModel, Share
from moos.evaluation.method_config import MethodConfig
from moos.evaluation.reader_config import ReaderConfig
from pipelines.config import RunOutputConfig

Name = Annotated[str, Field(min_length=1)]
Limit = Annotated[int, Field(ge=1)]


class TaskConfig(ConfigModel):
    """A benchmark, and how much of it."""

    name: Name
    """Such as `xquad-en`, `gsm8k`, `longbench/hotpotqa`, `bbh/navigate`, or `custom/NAME` for
    questions of one's own; an unknown name is answered with all of them."""

    path: Name | None = None
    """Local file or directory, or fsspec URL; null: the hub, through `datasets`. `custom` needs
    it: JSONL of `context`, `question`, `answers` and, if not F1, `metric`."""

    limit: Limit | None = None
    """Most examples, spread evenly over the task by `seed`; null: all."""

    max_context_tokens: Annotated[int, Field(ge=2)] | None = None
    """Longer contexts lose their middle before anything else, as LongBench does it; set it to what
    the reader has room for beside the question and the answer. null: none do."""

    demonstrations: Name | None = None
    """Where the demonstrations of `gsm8k` and `bbh/...` are, unless beside or in `path`."""


class RetentionConfig(ConfigModel):
    """Documents whose facts are looked for in their compressions; needs no reader."""

    path: Name
    """JSON or JSONL, also `.gz`, a local file or fsspec URL."""

    text_column: Name = "text"
    """Key that holds the text."""

    limit: Limit | None = None
    """Documents at most, from the first; null: all."""


class DeletionsConfig(ConfigModel):
    """Sentences with what people left of them, to rank by word scores; needs no reader."""

    path: Name
    """JSONL, also `.gz`, of `text` and `summaries`, a list of texts made by deleting words."""

    limit: Limit | None = None
    """Sentences at most, from the first; null: all."""


class SmoothingConfig(ConfigModel):
    """Encoders whose layers are compared for how alike they make the classes; needs no reader."""

    checkpoints: Annotated[dict[str, str], Field(min_length=1)]
    """Names for reports and what they stand for: `default`, a checkpoint's directory, fsspec URL or
    hub id, or the directory of a bare encoder."""

    labels: Name
    """Labelled documents, as `moos label` writes them and `moos train` reads them."""

    limit: Limit | None = 200
    """Documents at most, from the first; null: all."""


class EvaluateConfig(ConfigModel):
    """An evaluation: methods side by side at the same budgets, on tasks and without a reader."""

    output: RunOutputConfig
    """What is written, and where."""

    tasks: tuple[TaskConfig, ...] = ()
    """What the reader is asked. `[]`: only the figures that need no reader."""

    reader: ReaderConfig | None = None
    """Who answers. null: only the figures that need no reader."""

    methods: tuple[MethodConfig, ...] = ()
    """What shortens contexts. `full` among them is what speed-up and shares are relative to. `[]`:
    `smoothing` alone."""

    rates: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.33)
    """Budgets: shares of each context's tokens."""

    baseline: Name | None = None
    """Name of the method that the others are compared with, example by example; null: none."""

    budget_tokenizer: Name | None = None
    """A `tokenizer.json` that budgets are counted by, for every method alike. null: the reader's
    own."""

    retention: RetentionConfig | None = None
    """Documents to look for lost facts in; null: none."""

    deletions: DeletionsConfig | None = None
    """Sentences with human deletions; null: none."""

    smoothing: SmoothingConfig | None = None
    """Encoders to look into; null: none."""

    device: Name | None = None
    """Device of all models, such as `cpu` or `cuda:1`; null: CUDA where there is one."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of all models; null: torch's choice."""

    seed: int = 0
    """Seed of which examples are used where a limit is set, and of the intervals."""

    price_per_million_tokens: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Price of a million tokens that the reader reads, in any currency, to show quality against
    cost; null: cost is not shown."""

    @field_validator("rates")
    @classmethod
    def _rates_differ(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(rates)) < len(rates):
            raise ValueError("a rate stands there twice; give each once")
        return rates

    @model_validator(mode="after")
    def _has_work(self) -> "EvaluateConfig":
        asked = (self.tasks, self.retention, self.deletions, self.smoothing)
        if not any(asked):
            raise ValueError("nothing to do: set tasks, retention, deletions or smoothing")
        if self.tasks and self.reader is None:
            raise ValueError(
                f"tasks: {self.tasks[0].name!r} needs a reader; set reader.kind, or tasks=[]"
            )
        if self.reader is not None and not (self.tasks or self.retention):
            raise ValueError("reader: it has no effect without tasks; set tasks, or reader=null")
        if not self.methods and any(asked[:3]):
            raise ValueError("methods: there is none; set methods, such as [{kind: moos}]")
        if self.retention and self.reader is None and self.budget_tokenizer is None:
            raise ValueError(
                "retention: budgets are counted by a tokenizer; without a reader, set "
                "budget_tokenizer to a tokenizer.json"
            )
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> "EvaluateConfig":
        names = self.method_names
        for key, found, remedy in (
            ("methods", names, "set a name of its own for one of them"),
            ("tasks", [task.name for task in self.tasks], "leave one out"),
        ):
            twice = [name for name, count in Counter(found).items() if count > 1]
            if twice:
                raise ValueError(f"{key}: {twice[0]!r} stands there twice; {remedy}")
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(
                f"baseline: {self.baseline!r} is none of the methods {', '.join(map(repr, names))}"
            )
        return self

    @property
    def method_names(self) -> list[str]:
        """What reports call the methods, in order."""
        return [method.display_name for method in self.methods]
