"""Settings of labelling: teachers, filters, the split. Imports neither torch nor Ray."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moos.alignment import PairFilters
from moos.config import ConfigModel, UnitInterval
from moos.teachers.endpoint import EndpointConfig
from moos.teachers.prompts import FACTS, Prompt

Percentile = Annotated[float, Field(ge=0.0, le=100.0)]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class PromptConfig(ConfigModel):
    """What a teacher is told, in place of the prompt that moos ships."""

    name: Annotated[str, Field(min_length=1)]
    """Its name, for the labels' provenance."""

    instruction: str
    """The system message."""

    examples: tuple[tuple[str, str], ...] = ()
    """Earlier turns: (original, compressed) pairs."""


class PairsConfig(ConfigModel):
    """Compressions that are there already, beside their originals."""

    kind: Literal["pairs"]
    """Compressions that some teacher made before."""

    name: Annotated[str, Field(min_length=1)]
    """What made them, for the column `teacher`."""

    compressed_column: str = "compressed"
    """Column or key that holds the compression; `input.text_column` holds the original."""

    aligner: Literal["lcs", "greedy"] = "lcs"
    """`lcs`: longest common subsequence of words. `greedy`: LLMLingua-2's window search, which also
    finds words that moved a little."""


class EndpointTeacherConfig(EndpointConfig):
    """A model behind an OpenAI-compatible chat endpoint that compresses the texts."""

    kind: Literal["endpoint"]
    """A model that is served over HTTP; its answers are aligned like pairs."""

    aligner: Literal["lcs", "greedy"] = "lcs"
    """As with `pairs`."""

    prompt: PromptConfig | None = None
    """What it is told; null takes the prompt that moos ships."""

    cache_path: str | None = None
    """Where answers are kept, a directory or URL that several runs may share; null: within the
    output. No answer is paid for twice."""


class RulesConfig(ConfigModel):
    """What holds a local teacher to its task."""

    skip: Count = 14
    """Most words dropped in a row."""

    rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Share of kept words that the teacher is drawn towards."""

    gain: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.1
    """How strongly: log odds that a kept word adds to what the next must have; 0: not at all."""

    lowest: Finite = -1.0
    """Least log odds that a word must have to be kept."""

    highest: Finite = 4.0
    """Most."""

    @model_validator(mode="after")
    def _in_order(self) -> "RulesConfig":
        if self.lowest > self.highest:
            raise ValueError(f"lowest={self.lowest:g} exceeds highest={self.highest:g}")
        return self


class LocalTeacherConfig(ConfigModel):
    """A causal language model in the replicas, which can only delete words."""

    kind: Literal["local"]
    """A model that replicas load: extractive constrained decoding, with soft labels."""

    path: Annotated[str, Field(min_length=1)]
    """Directory or hub id of an instruction-tuned causal language model; every node needs it."""

    name: str | None = None
    """What the column `teacher` calls it; null: the last part of `path`."""

    gguf_file: str | None = None
    """Name of a GGUF file in that directory, where the weights are one."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic. `auto`: bfloat16 on CUDA and on CPUs with matrix units for it, else float32."""

    batch_size: Count = 32
    """Chunks decoded together."""

    max_words: Count = 140
    """Most words in a chunk; chunks end with a sentence where they can."""

    prompt: PromptConfig | None = None
    """What it is told; null takes the prompt that moos ships."""

    rules: RulesConfig = RulesConfig()
    """What holds it to its task."""


TeacherConfig = Annotated[
    PairsConfig | EndpointTeacherConfig | LocalTeacherConfig, Field(discriminator="kind")
]


class FilterConfig(ConfigModel):
    """Which documents are too badly labelled to learn from.

    They stay in the output, with the filters that they failed; `moos train` passes over them.
    """

    max_variation_rate: UnitInterval | None = 0.3
    """Largest share of the compression's words that the original lacks; null: any."""

    max_alignment_gap: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = 0.2
    """Largest alignment gap: words that were there to be found but not labelled, per word of the
    original; null: any."""

    variation_percentile: Percentile | None = None
    """Percentile of the corpus's variation rates that still passes; LLMLingua-2 takes 95. The first
    run on an output settles the bound."""

    gap_percentile: Percentile | None = None
    """The same for alignment gaps; LLMLingua-2 takes 90."""

    min_keep_rate: UnitInterval | None = 0.05
    """Smallest share of kept words that passes; null: any."""

    max_keep_rate: UnitInterval | None = None
    """Largest share of kept words that passes; null: any."""

    @property
    def needs_corpus(self) -> bool:
        """A filter can only be told once the whole corpus is labelled."""
        return self.variation_percentile is not None or self.gap_percentile is not None

    def to_filters(self) -> PairFilters:
        """As the library takes them."""
        return PairFilters(**self.model_dump())


class SplitConfig(ConfigModel):
    """Which documents are held out for validation."""

    validation_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Share of the source documents, on average: which ones depends on their names alone."""

    seed: int = 0
    """Another seed holds out others."""


def to_prompt(config: PromptConfig | None) -> Prompt:
    """The prompt that a config names."""
    if config is None:
        return FACTS
    return Prompt(config.name, config.instruction, config.examples)
