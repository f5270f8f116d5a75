"""Settings of `moos bench compress`. Imports pydantic only: a wrong key is told at once."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moos.config import ConfigModel, Share

CorpusName = Literal["meetings", "passages", "mixed", "huge"]
ContestantName = Literal["llmlingua2", "llmlingua2-tuned", "library", "local", "ray"]
GeometryName = Literal["checkpoint", "xlm-roberta-base", "xlm-roberta-large"]


class BenchConfig(ConfigModel):
    """What is measured, against what, and on which texts."""

    corpora: Annotated[tuple[CorpusName, ...], Field(min_length=1)] = (
        "meetings",
        "passages",
        "mixed",
        "huge",
    )
    """Generated from this repository: whole meetings; passages of some 150 tokens; log-normal
    lengths; one document."""

    input: str | None = None
    """A JSONL file (also `.gz`) of your own, in place of `corpora`."""

    text_column: str = "text"
    """Key of the text in `input`."""

    tokens: Annotated[int, Field(ge=100)] = 300_000
    """Size of each corpus, by the compressor's tokenizer; of `input` at most."""

    rounds: Annotated[int, Field(ge=1)] = 3
    """Times that every contestant compresses each corpus, in turn."""

    rate: Share = 0.5
    """Share of tokens to keep."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """Cores for each contestant; null: all."""

    stages: bool = True
    """Time the stages of the library and the jobs, each in one more turn."""

    checkpoint: str = "default"
    """`default` (ships with moos), a directory, an fsspec URL of one, or a hub id."""

    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What runs the model for the library and the jobs."""

    contestants: Annotated[tuple[ContestantName, ...], Field(min_length=1)] = (
        "llmlingua2",
        "llmlingua2-tuned",
        "library",
        "local",
        "ray",
    )
    """`llmlingua2`: the package as its users call it. `llmlingua2-tuned`: all documents in one
    call, the fastest of several batch sizes and data types. `library`: `moos.Compressor`. `local`,
    `ray`: `moos compress` with that executor."""

    geometries: tuple[GeometryName, ...] | None = None
    """Encoders: the checkpoint's own, or larger ones with random weights. null: the checkpoint's;
    with `gpu`, all."""

    seed: int = 0
    """Of the generated corpora and random weights."""

    gpu: bool = False
    """Compute on CUDA, the library in bf16."""

    output: str | None = None
    """Write all figures as JSON to this file."""

    @model_validator(mode="after")
    def _nothing_twice(self) -> "BenchConfig":
        for name in ("corpora", "contestants", "geometries"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise ValueError(f"{name} holds something twice: {', '.join(values)}")
        return self

    @property
    def effective_geometries(self) -> tuple[GeometryName, ...]:
        """The geometries in force."""
        if self.geometries is not None:
            return self.geometries
        return (
            ("checkpoint", "xlm-roberta-base", "xlm-roberta-large") if self.gpu else ("checkpoint",)
        )
