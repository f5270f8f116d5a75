"""What `moos evaluate` writes: the shapes of its rows and of `figures.json`.

`results.jsonl` holds a `ResultRow` per line, `contexts.jsonl` a `ContextRow`, `figures.json` one
`Figures`. The figures are all that the report shows; nothing in it is computed from the rows again.

A cell is one task with one method at one rate. `full` and `none` meet no budget: they run once, and
their rate is null. Seconds are as they were measured when a compression or an answer was made,
which may have been in an earlier run. A figure that cannot be told is null, never NaN.
"""

from typing import Any, TypedDict


class ResultRow(TypedDict):
    """One answer: a task's example with its context compressed by a method at a rate."""

    task: str
    group: str
    metric: str
    example: str
    """The example's id."""
    context: str
    """First 8 hex digits of the SHA-256 of the whole context."""
    method: str
    """Name that the method has in reports."""
    rate: float | None
    """The target; null for `full` and `none`."""
    score: float
    """In [0, 1]."""
    answer: str
    """The reader's, as it came."""
    answers: list[str]
    """The accepted ones."""
    question: str
    num_context_tokens: int
    """Of the whole context, counted like budgets."""
    num_compressed_tokens: int
    """Of its compression, counted likewise."""
    num_prompt_tokens: int
    """Of the prompt with question and all, as the reader counts them."""
    compress_seconds: float
    """For the whole context, however many examples share it."""
    read_seconds: float
    """From prompt to the end of the answer."""


class ContextRow(TypedDict):
    """One context as a method left it; that of `full` is the original."""

    task: str
    context: str
    """As in `ResultRow`."""
    method: str
    rate: float | None
    text: str
    num_tokens: int
    """Of `text`."""
    num_full_tokens: int
    """Of the original."""
    seconds: float
    """What the compression took."""


class EstimateFigure(TypedDict):
    """A figure and its bootstrap interval (`moos.evaluation.statistics`)."""

    value: float
    low: float
    high: float
    num_examples: int
    num_groups: int
    """What was resampled: contexts, or examples where all share one context."""


class ScoreFigure(TypedDict):
    """What tasks and groups of tasks have in common; scores are in [0, 1]."""

    method: str
    rate: float | None
    score: EstimateFigure
    share_of_full: EstimateFigure | None
    """Score / score of `full`; null where `full` was not run or scores 0."""
    difference: EstimateFigure | None
    """Score - score of the baseline at the same rate, or at none if it has none, example by
    example; null for the baseline itself and where there is no such pair."""
    achieved_rate: float | None
    """Tokens of the compressions / tokens of the contexts; null where contexts have none."""
    num_prompt_tokens: int
    """Tokens in, over all examples."""
    compress_seconds: float
    """Over all contexts, each counted once."""
    read_seconds: float
    """Over all examples."""
    speed_up: float | None
    """Reader seconds of `full` / (compressor + reader seconds); null without `full`."""
    cost_per_1000: float | None
    """Price of the tokens in of a thousand examples; null without `price_per_million_tokens`."""


class CellFigure(ScoreFigure):
    """A task with a method at a rate."""

    task: str


class GroupFigure(ScoreFigure):
    """A group of tasks with a method at a rate.

    Score, share, difference, rate and cost are means over the tasks; tasks without a share or a
    difference are left out of that mean. An interval combines those of the tasks, which are
    independent. Tokens and seconds are sums, and the speed-up is of sums.
    """

    group: str
    num_tasks: int


class LengthBucket(TypedDict):
    """Examples with contexts of similar length, of all tasks; seconds are means per example.

    What a context takes to compress is shared evenly among the examples that have it, as are the
    seconds of what a local reader reads in one batch.
    """

    num_examples: int
    min_tokens: int
    """Of the whole contexts."""
    max_tokens: int
    mean_tokens: float
    read_seconds_full: float
    """The reader's, on whole contexts."""
    read_seconds: float
    """The reader's, on compressed ones."""
    compress_seconds: float
    speed_up: float
    """read_seconds_full / (compress_seconds + read_seconds)."""


class SpeedFigure(TypedDict):
    """Speed-up of a method at a rate by length of the context, shortest first."""

    method: str
    rate: float
    buckets: list[LengthBucket]
    pays_from: int | None
    """`min_tokens` of the first bucket from which on all have a speed-up above 1; null: none."""


class FactFigure(TypedDict):
    """Facts of one kind."""

    num_facts: int
    num_kept: int
    share: float | None
    """Kept / there; null without any."""


class RetentionFigure(TypedDict):
    """What a method at a rate keeps of the facts of all documents together."""

    method: str
    rate: float | None
    achieved_rate: float | None
    num_documents: int
    kinds: dict[str, FactFigure]
    """By kind, in the order of `moos.evaluation.retention.FACT_KINDS`."""


class DeletionFigure(TypedDict):
    """How well a method's word scores agree with what people deleted."""

    method: str
    auc: float | None
    """Over the tokens of all sentences; a method that tells nothing has 0.5."""
    sentence_auc: float | None
    """Mean of the same within each sentence."""
    num_sentences: int
    num_tokens: int
    kept_share: float | None
    """Share of the tokens that people kept."""


class SmoothingFigure(TypedDict):
    """How alike an encoder's layers make tokens of the two classes."""

    name: str
    """As the config calls the checkpoint."""
    path: str
    layers: list[float]
    """Mean S of the embeddings and of each layer."""
    num_windows: int
    tokens: list[str]
    """Tokens of one short text, the same for all checkpoints, as they stand in it."""
    cosine: list[list[float]]
    """Cosines of their hidden states in the last layer, a row per token."""


class TaskFigure(TypedDict):
    """What a task was run on."""

    name: str
    group: str
    metric: str
    source: str
    """Where prompt, answer extraction and metric are from."""
    num_examples: int
    num_contexts: int
    mean_context_tokens: float
    max_context_tokens: int
    """Of the longest context that was used."""
    num_cut: int
    """Contexts that lost their middle to the task's `max_context_tokens`."""


class MethodFigure(TypedDict):
    """A method as it was set."""

    name: str
    kind: str
    settings: dict[str, Any]
    """Its config, `kind` and `name` left out."""
    content: str | None
    """Hash of its model's files, where it has any that are local."""


class RunFigure(TypedDict):
    """Where the figures are from."""

    reader: str | None
    """The reader's name with its type and a hash of its weights, or the endpoint's model."""
    reader_settings: dict[str, Any] | None
    tasks: list[TaskFigure]
    methods: list[MethodFigure]
    rates: list[float]
    baseline: str | None
    """Name of the method that differences are to."""
    budget_tokenizer: str | None
    """Path of the tokenizer that budgets are counted by."""
    retention: str | None
    """Path of the documents that retention is measured on; likewise the next two."""
    deletions: str | None
    smoothing: str | None
    price_per_million_tokens: float | None
    confidence: float
    """Share of the resamples inside an interval."""
    num_resamples: int
    seed: int
    versions: dict[str, str]
    """Of Python, moos and the packages that figures depend on, by name."""
    device: str
    """Name of the processor or GPU that models ran on."""
    command: str
    """That runs it again."""


class Figures(TypedDict):
    """All of `figures.json`; what was not asked for is an empty list."""

    run: RunFigure
    cells: list[CellFigure]
    """By task, then method in the config's order, then rate in the config's order."""
    groups: list[GroupFigure]
    """By group, method and rate, in the same orders."""
    speed: list[SpeedFigure]
    """By method and rate; `full` and `none` left out. Empty without `full`."""
    retention: list[RetentionFigure]
    deletions: list[DeletionFigure]
    smoothing: list[SmoothingFigure]
