"""Settings of methods that shorten contexts. Imports no torch: reading a config must stay quick."""

from typing import Annotated, Literal

from pydantic import Field

from moos.config import ALL_PROTECTED, ConfigModel, ProtectedClass, ScoringConfig

Name = Annotated[str, Field(min_length=1)]


class _MethodConfig(ConfigModel):
    """What methods have in common."""

    kind: str

    name: Name | None = None
    """What reports call it, different from the other methods' names; null: its kind and what it
    sets, such as `moos alpha=1`."""

    @property
    def display_name(self) -> str:
        """What reports call it."""
        return self.name or " ".join([self.kind, *self._details()])

    def _details(self) -> list[str]:
        """What tells it from others of its kind."""
        return []


class PlainMethodConfig(_MethodConfig):
    """A baseline without model and settings."""

    kind: Literal["full", "none", "lead", "stop-words", "tf-idf"]
    """`full`: the whole context, whatever the budget. `none`: an empty one. `lead`: its first
    words. `stop-words`: without stop words and punctuation, and then without the most common of the
    other words. `tf-idf`: the words that are frequent in the context and rare in others."""


class RandomMethodConfig(_MethodConfig):
    """Words drawn at random."""

    kind: Literal["random"]
    """Every word is as likely to stay."""

    seed: int = 0
    """Another seed draws others; the same seed draws the same from the same context."""

    def _details(self) -> list[str]:
        return [f"seed={self.seed}"] if self.seed else []


class SelectiveContextConfig(_MethodConfig):
    """The words that surprise a causal language model (Selective-Context, arXiv 2310.06201)."""

    kind: Literal["selective-context"]
    """Words are ranked by their self-information, the mean of their tokens'."""

    path: Name
    """Directory or hub id of a causal language model; the authors use `gpt2`."""

    gguf_file: Name | None = None
    """Name of a GGUF file in that directory, where the weights are one."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic. `auto`: bfloat16 on CUDA and on CPUs with matrix units for it, else float32."""

    window_tokens: Annotated[int, Field(ge=2)] = 512
    """Tokens that the model reads at once; of every window but a context's first, the first half
    only is what the second follows. Lower it where memory runs out."""


class LLMLingua2Config(_MethodConfig):
    """LLMLingua-2 by its authors' package, `pip install llmlingua==0.2.2`, with its defects."""

    kind: Literal["llmlingua-2"]
    """The rate that meets the budget is searched for: the package keeps none exactly."""

    path: Name
    """Directory or hub id of a checkpoint. The package tells the tokenizer by it, so it must hold
    `bert-base-multilingual-cased` or `xlm-roberta-large`."""

    force_tokens: tuple[str, ...] = ("\n", "?", "!", ".")
    """Tokens that stay; the default is what the authors evaluate with, as are the next two."""

    force_reserve_digit: bool = False
    """Tokens with a digit stay."""

    drop_consecutive: bool = True
    """Of forced tokens in a row, one stays."""


class MoosMethodConfig(_MethodConfig):
    """This library, as `Compressor` has it."""

    kind: Literal["moos"]
    """A checkpoint's word scores, protection and selection."""

    checkpoint: Name = "default"
    """`default`, a directory, an fsspec URL of one, or a hub id."""

    scoring: ScoringConfig = ScoringConfig()
    """Overrides of the checkpoint's scoring settings, such as `{alpha: 1}`."""

    protect: tuple[ProtectedClass, ...] = ALL_PROTECTED
    """Classes of words that stay whatever their score. `[]` turns protection off."""

    budget_per: Literal["context", "corpus"] = "context"
    """`context`: each context meets its own budget. `corpus`: all contexts of a task together meet
    the sum of theirs, by one threshold: dense ones keep more, padded ones less."""

    def _details(self) -> list[str]:
        alpha, last_part = self.scoring.alpha, self.checkpoint.rstrip("/").rpartition("/")[2]
        details = [] if self.checkpoint == "default" else [last_part]
        details += [] if alpha is None else [f"alpha={alpha:g}"]
        details += ["corpus rate"] if self.budget_per == "corpus" else []
        if self.protect != ALL_PROTECTED:
            details.append(f"protect={'+'.join(self.protect) or 'none'}")
        return details


MethodConfig = Annotated[
    PlainMethodConfig
    | RandomMethodConfig
    | SelectiveContextConfig
    | LLMLingua2Config
    | MoosMethodConfig,
    Field(discriminator="kind"),
]
