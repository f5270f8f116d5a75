"""Settings of the labelling job. Imports pydantic only: reading a config must load no Ray."""

from typing import Annotated

from pydantic import ByteSize, Field, model_validator

from moos.chat_client import LONGEST_WAIT_S
from moos.config import ConfigModel
from moos.label_config import (
    EndpointTeacherConfig,
    FilterConfig,
    LocalTeacherConfig,
    SplitConfig,
    TeacherConfig,
)
from pipelines.config import InputConfig, JobConfig, PoolConfig, RunOutputConfig


class DatasetConfig(ConfigModel):
    """A dataset of the hub, or of any kind that `datasets` loads."""

    name: Annotated[str, Field(min_length=1)]
    """Hub id, such as `microsoft/MeetingBank-LLMCompressed`, or a directory."""

    config: str | None = None
    """Name of the dataset's configuration, where it has several."""

    split: str = "train"
    """Which of its splits."""

    revision: str | None = None
    """Branch, tag or commit; null: the latest."""


class LabelInputConfig(InputConfig):
    """What to label."""

    split_bytes: Annotated[ByteSize, Field(ge=1024)] = ByteSize(1 << 20)
    """Text per input split, the unit of work and of resume. A teacher is slow: 64 KiB suits a local
    model on CPUs."""

    dataset: DatasetConfig | None = None
    """Load this with `datasets` and keep it as Parquet in `input.path`, once. A text column of
    lists gives a record per element."""

    document_column: str | None = None
    """Column or key that names the source document, where several records are cut from one: they
    never part in the split. null: each record is a document."""

    domain_column: str | None = None
    """Column or key with the kind of text."""

    domain: str = "text"
    """Kind of text, where no column says."""

    source_column: str | None = None
    """Column or key that says where a text is from."""

    source: str = "not stated"
    """Where the texts are from, where no column says."""

    licence_column: str | None = None
    """Column or key with a text's licence."""

    licence: str = "not stated"
    """The texts' licence, where no column says."""


class LabelConfig(JobConfig):
    """The labelling job: documents in, a label per word out."""

    input: LabelInputConfig
    """What to label."""

    output: RunOutputConfig
    """Where labelled Parquet goes."""

    teacher: TeacherConfig
    """Who says which words stay."""

    filters: FilterConfig = FilterConfig()
    """Which documents are not learnt from."""

    split: SplitConfig = SplitConfig()
    """Which documents are held out."""

    @model_validator(mode="after")
    def _fits_together(self) -> "LabelConfig":
        if isinstance(self.teacher, EndpointTeacherConfig):
            longest = max(self.teacher.timeout_s, LONGEST_WAIT_S)
            if self.document_limits.timeout_s <= longest:
                raise ValueError(
                    f"document_limits.timeout_s={self.document_limits.timeout_s:g} must exceed "
                    f"{longest:g} s, the longest that a request or a wait may take"
                )
        if isinstance(self.teacher, LocalTeacherConfig) and self.filters.needs_corpus:
            raise ValueError(
                "filters.variation_percentile and gap_percentile have no effect on a local "
                "teacher, which can only delete words"
            )
        return self

    @property
    def sized_pool(self) -> PoolConfig:
        """The pool with what `auto` means for a teacher that is no model in the replica."""
        if isinstance(self.teacher, LocalTeacherConfig):
            return self.pool
        auto = {"cpus_per_replica": 1.0, "gpus_per_replica": 0.0}
        if isinstance(self.teacher, EndpointTeacherConfig):
            auto["replicas"] = 1  # its requests are what is concurrent
        unset = {name: value for name, value in auto.items() if getattr(self.pool, name) == "auto"}
        return self.pool.model_copy(update=unset)

    @property
    def columns(self) -> dict[str, str]:
        """The input's columns that are read, by the setting that names each."""
        settings = {
            "input.text_column": self.input.text_column,
            "input.id_column": self.input.id_column,
            "input.document_column": self.input.document_column,
            "input.domain_column": self.input.domain_column,
            "input.source_column": self.input.source_column,
            "input.licence_column": self.input.licence_column,
            "teacher.compressed_column": getattr(self.teacher, "compressed_column", None),
        }
        return {key: column for key, column in settings.items() if column is not None}
