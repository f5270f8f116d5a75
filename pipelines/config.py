"""Settings of the jobs. Imports pydantic only: reading a config must load neither torch nor Ray."""

from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, field_validator, model_validator

from moos.config import ConfigModel, EngineName, ScoringConfig, SelectionConfig, WindowConfig
from moos.redaction import is_secret_name

_SECRET_OPTIONS = {"key", "username"}
"""Beside what `moos.redaction.is_secret_name` tells: names that are harmless elsewhere."""


AUTO_STALL_S = 1800.0
"""Silence that nodes which are on their way, and models which load, explain."""


class StorageConfig(ConfigModel):
    """A place on any fsspec filesystem."""

    storage_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the filesystem, such as `endpoint_url`. Never secrets: those come from the usual
    credential chain."""

    retries: Annotated[int, Field(ge=0, le=20)] = 5
    """Times a failed request to a remote store is tried again, waiting 0.2 s and then twice as long
    each time, up to 10 s, less a random part."""

    @field_validator("storage_options")
    @classmethod
    def _no_secrets(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in _option_names(options):
            if name.lower() in _SECRET_OPTIONS or is_secret_name(name):
                # The value stays out of the message: it would end up in logs.
                raise ValueError(
                    f"{name!r} looks like a secret; leave it to the credential chain "
                    "(environment variables, profile, instance role)"
                )
        return options


def _option_names(options: dict[str, Any]) -> list[str]:
    names = []
    for name, value in options.items():
        names.append(str(name))
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                names.extend(_option_names(inner))
    return names


class InputConfig(StorageConfig):
    """What to read."""

    path: str | tuple[str, ...]
    """File, directory or glob, or a list of them: `.parquet`, `.jsonl`, `.ndjson`, `.json` (lines),
    each also `.gz` or `.zst`, on any fsspec URL."""

    text_column: str = "text"
    """Column or key that holds the text."""

    id_column: str | None = None
    """Column or key that names a document, for quarantine records and `moos show`."""

    partitioning: Literal["auto", "hive", "none"] = "auto"
    """Columns that stand in the path, as in `lang=en/part-0.parquet`, become columns of every row,
    as strings. `auto`: where the directories below `path` (below the fixed part of a glob) are
    named so; `hive`: they must be; `none`: the path says nothing."""

    split_bytes: Annotated[ByteSize, Field(ge=1024)] = ByteSize(8 << 20)
    """Text per input split, the unit of work and of resume. Smaller loses less when a run is
    killed; larger has less overhead."""

    max_document_chars: Annotated[int, Field(ge=1)] = 20_000_000
    """A longer document goes to quarantine."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The input paths as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path


class RunOutputConfig(StorageConfig):
    """Where a run writes."""

    path: str
    """Directory or fsspec URL that belongs to this run alone; run again on it to resume."""


class ChunksConfig(ConfigModel):
    """Chunks of the compressed text for a vector store, as a column `chunks` of each row."""

    tokens: Annotated[int, Field(ge=16)] | None = None
    """Most tokens of a chunk, counted like the budget's; null writes no such column. Cuts fall
    behind a blank line, sentence or line where one is near; a longer word is a chunk alone."""

    overlap: Annotated[int, Field(ge=0)] = 0
    """Most tokens of a chunk's end that the next one begins with; at most half of `tokens`."""

    @model_validator(mode="after")
    def _overlap_fits(self) -> "ChunksConfig":
        if self.overlap and self.tokens is None:
            raise ValueError(f"overlap={self.overlap} has no effect without tokens; set tokens")
        if self.tokens is not None and self.overlap > self.tokens // 2:
            raise ValueError(
                f"overlap={self.overlap} is more than half of tokens={self.tokens}; lower it"
            )
        return self


class OutputConfig(RunOutputConfig):
    """What to write, and where."""

    format: Literal["parquet", "jsonl"] = "parquet"
    """`jsonl` writes `.jsonl.zst`, with the input's own JSON untouched in each line."""

    annotations: Literal["kept", "all", "none"] = "kept"
    """Words listed in `kept_words`: the kept ones, all with a `kept` flag, or no such column."""

    chunks: ChunksConfig = ChunksConfig()
    """Chunks for a vector store, each with its spans in the original."""


class ReplicaRange(ConfigModel):
    """A pool that grows and shrinks with the work."""

    min: Annotated[int, Field(ge=1)] = 1
    """Replicas that must be schedulable before the run starts."""

    max: Annotated[int, Field(ge=1)]
    """Replicas at most."""


class PoolConfig(ConfigModel):
    """Replicas and what each one gets."""

    replicas: Literal["auto"] | Annotated[int, Field(ge=1)] | ReplicaRange = "auto"
    """Replicas: a number, `{min: 1, max: 8}`, or `auto`: as many as the cluster holds."""

    cpus_per_replica: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    """CPUs reserved for a replica, and its torch threads on a CPU. `auto`: 1 beside a GPU, else up
    to 4 of a node's."""

    gpus_per_replica: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    """GPUs reserved for a replica; a fraction lets several share one. `auto`: 1 where there are
    GPUs, else 0."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a replica's model runs. `auto`: CUDA where it has a GPU. `cpu` beside reserved GPUs
    tries a cluster's layout on machines without them."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Ray labels that a replica's node must have, such as `{ray.io/accelerator-type: H100}`."""

    @field_validator("gpus_per_replica")
    @classmethod
    def _whole_above_one(cls, gpus: float | str) -> float | str:
        if isinstance(gpus, float) and gpus > 1 and gpus != int(gpus):
            raise ValueError("Ray gives a fraction of one GPU, or whole ones")
        return gpus


class CpuStagesConfig(ConfigModel):
    """Tasks beside the replicas.

    They read, tokenise, select and write with `stages: split`, do the second pass of a corpus rate,
    and decompress large files for many replicas.
    """

    cpus_per_task: Annotated[float, Field(gt=0)] = 1.0
    """CPUs reserved for a task."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Ray labels that a task's node must have, such as `{role: cpu}`."""


class DocumentLimits(ConfigModel):
    """What one document may take before it goes to quarantine instead of taking the run with it."""

    timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Longest time without progress. A replica that hangs is ended, its split worked again in a
    process of its own, and the document that hangs that one too is quarantined."""

    memory: Literal["auto"] | ByteSize = "auto"
    """Most memory of a process that works a split. `auto`: 80 % of what its machine or container
    had free when it began."""


class JobConfig(ConfigModel):
    """What every job over a corpus is told: what to read and write, and who does it."""

    input: InputConfig
    """What to read."""

    output: RunOutputConfig
    """What to write, and where."""

    executor: Literal["ray", "local"] = "ray"
    """`ray` works on a cluster, or starts Ray on this machine; `local` needs no Ray."""

    pool: PoolConfig = PoolConfig()
    """Replicas, which hold the model."""

    cpu_stages: CpuStagesConfig = CpuStagesConfig()
    """Tasks that need no model."""

    document_limits: DocumentLimits = DocumentLimits()
    """When a document is given up."""

    stall_timeout_s: Literal["auto"] | Annotated[float, Field(gt=0)] | None = "auto"
    """Seconds without progress of any split, or while planning and finishing without an answer of a
    store, after which the run says on what it waited and ends with exit code 1; the same command
    resumes. `auto`: 1800, or twice `document_limits.timeout_s` if that is longer; null: never, it
    only warns."""

    max_quarantined: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """Share of records that may go to quarantine; above it the run ends with exit code 3."""

    @property
    def stall_limit_s(self) -> float | None:
        """Seconds without progress after which the run gives up; None is never."""
        if self.stall_timeout_s == "auto":
            return max(AUTO_STALL_S, 2 * self.document_limits.timeout_s)
        return self.stall_timeout_s

    @model_validator(mode="after")
    def _waits_for_documents(self) -> "JobConfig":
        limit, longest = self.stall_timeout_s, self.document_limits.timeout_s
        if isinstance(limit, float) and limit <= longest:
            raise ValueError(
                f"stall_timeout_s={limit:g} must exceed document_limits.timeout_s={longest:g}, for "
                "which one document may rightly hold everything up"
            )
        return self

    @model_validator(mode="after")
    def _pool_has_effect(self) -> "JobConfig":
        if self.executor == "local" and self.pool.replicas not in ("auto", 1):
            raise ValueError(
                f"pool.replicas={self.pool.replicas} has no effect with executor=local, which is "
                "one process; use executor=ray"
            )
        return self


class ReportConfig(ConfigModel):
    """What `report.html` tells; changing it is no other run."""

    price_per_million_tokens: Annotated[float, Field(ge=0)] | None = None
    """What a million tokens cost a reader, in dollars: the report then says what is saved."""


class WarnConfig(ConfigModel):
    """What a run warns of at its end; changing it is no other run."""

    unknown_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of tokens that the checkpoint's vocabulary does not know; 1: never warn."""

    non_latin_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of letters of scripts other than Latin, which the default checkpoint knows nothing of;
    1, for a multilingual `checkpoint`: never warn."""


class CompressConfig(JobConfig):
    """The main job: read documents, compress them, write them with what was kept."""

    output: OutputConfig
    """What to write, and where."""

    checkpoint: str = "default"
    """`default` (ships with moos), a directory, an fsspec URL of one, or a hub id."""

    selection: SelectionConfig = SelectionConfig()
    """The budget, and what is kept whatever its score."""

    scoring: ScoringConfig = ScoringConfig()
    """Overrides of the checkpoint's scoring."""

    window: WindowConfig = WindowConfig()
    """Overrides of the checkpoint's windows."""

    engine: EngineName = "auto"
    """What runs the model: `torch`; `openvino`, which computes in int8 on a CPU and has to be
    calibrated once per machine; `auto` takes the faster one for the device."""

    stages: Literal["fused", "split"] = "fused"
    """`fused`: a replica reads, compresses and writes. `split`: tasks on CPU nodes read and
    tokenise, replicas only score, tasks on CPU nodes select and write. The output is the same."""

    report: ReportConfig = ReportConfig()
    """The page that a person looks at."""

    warn: WarnConfig = WarnConfig()
    """Texts that the checkpoint may not be made for."""

    @model_validator(mode="after")
    def _stages_have_effect(self) -> "CompressConfig":
        if self.executor == "local" and self.stages == "split":
            raise ValueError(
                "stages=split has no effect with executor=local, which is one process; use "
                "executor=ray"
            )
        return self
