"""LLMLingua-2 as its authors' package has it, with a rate that meets the budget.

The package's rate is a percentile of each chunk's words, counted in other tokens than the reader's;
what it keeps is off by a few points. So the rate is searched for, over all rates that it tells
apart. The model runs once per context: the package's own calls of it are remembered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from moos.errors import ConfigError, DataError, ModelError
from moos.evaluation.method_config import LLMLingua2Config
from moos.evaluation.methods.budgets import make_largest
from moos.tokens import TextTokenizer

FAMILIES = ("bert-base-multilingual-cased", "xlm-roberta-large")
"""What the package tells tokenizers by, in the path of the checkpoint."""

NUM_RATES = 100
"""The package turns a rate into a whole percentile: rate (k + 0.5) % for k = 0 to 99 tries each."""


class LLMLingua2Method:
    """Compresses each context by the package, to the highest rate that is within its budget."""

    def __init__(
        self,
        name: str,
        compressor: Any,
        tokenizer: TextTokenizer,
        options: Mapping[str, Any],
    ) -> None:
        """Take the package's compressor.

        Args:
            name: What reports call it.
            compressor: A `llmlingua.PromptCompressor` with `use_llmlingua2`. Its model is wrapped.
            tokenizer: What budgets are counted by.
            options: Further arguments of its `compress_prompt_llmlingua2`.
        """
        self.name = name
        self._compressor = compressor
        self._compressor.model = _RememberedModel(compressor.model)
        self._tokenizer = tokenizer
        self._options = options

    def compress(self, contexts: Sequence[str], budgets: Sequence[int]) -> list[str]:
        """The contexts' compressions; forced tokens alone may exceed a budget.

        Raises:
            DataError: The package fails on a context.
        """
        return [
            context
            if self._tokenizer.count(context) <= budget
            else self._compress_to(context, budget)
            for context, budget in zip(contexts, budgets, strict=True)
        ]

    def _compress_to(self, context: str, budget: int) -> str:
        return make_largest(
            lambda setting: self._compress_at(context, (setting + 0.5) / NUM_RATES),
            lambda compressed: self._tokenizer.count(compressed) <= budget,
            NUM_RATES,
        )

    def _compress_at(self, context: str, rate: float) -> str:
        try:
            result = self._compressor.compress_prompt_llmlingua2(
                [context], rate=rate, **self._options
            )
        except (IndexError, ValueError, ZeroDivisionError, TypeError) as error:
            raise DataError(
                f"the package llmlingua fails at rate {rate} on the context {context!r:.80}: "
                f"{type(error).__name__}: {error}; leave out method {self.name!r} or the context"
            ) from error
        return str(result["compressed_prompt"])


class _RememberedModel:
    """A model whose outputs are kept, by what it is given."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._outputs: dict[tuple[bytes, bytes], Any] = {}

    def __call__(self, *, input_ids: Any, attention_mask: Any) -> Any:
        key = (input_ids.cpu().numpy().tobytes(), attention_mask.cpu().numpy().tobytes())
        if key not in self._outputs:
            output = self._model(input_ids=input_ids, attention_mask=attention_mask)
            self._outputs[key] = output
        return self._outputs[key]


def load_llmlingua2(
    config: LLMLingua2Config, budget_tokenizer: TextTokenizer, *, device: str | None = None
) -> LLMLingua2Method:
    """Load a checkpoint by the package.

    Raises:
        ConfigError: The package is missing, or the path tells it no tokenizer.
        ModelError: It cannot load the checkpoint, or the file of its own token counter.
    """
    if not any(family in config.path for family in FAMILIES):
        raise ConfigError(
            f"method {config.display_name!r}: llmlingua tells the tokenizer by the path, and "
            f"{config.path!r} holds neither {' nor '.join(FAMILIES)}; rename the directory"
        )
    try:
        import llmlingua
    except ImportError as error:
        raise ConfigError(
            f"method {config.display_name!r} needs the package llmlingua: pip install "
            f"llmlingua==0.2.2 ({error})"
        ) from error
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        compressor = llmlingua.PromptCompressor(
            config.path,
            device_map=device,
            model_config={"trust_remote_code": False, "use_safetensors": True},
            use_llmlingua2=True,
        )
    except Exception as error:  # tiktoken and transformers raise what they like
        raise ModelError(
            f"method {config.display_name!r}: llmlingua cannot load {config.path!r}: "
            f"{type(error).__name__}: {error}; without a network, set TIKTOKEN_CACHE_DIR to a "
            "directory with tiktoken's file cl100k_base"
        ) from error
    options = {
        "force_tokens": list(config.force_tokens),
        "force_reserve_digit": config.force_reserve_digit,
        "drop_consecutive": config.drop_consecutive,
    }
    return LLMLingua2Method(config.display_name, compressor, budget_tokenizer, options)
