"""Ways to make contexts shorter, all within the same budgets of the reader's tokens."""

from moos.evaluation.example import Method
from moos.evaluation.method_config import (
    LLMLingua2Config,
    MoosMethodConfig,
    PlainMethodConfig,
    RandomMethodConfig,
    SelectiveContextConfig,
)
from moos.evaluation.methods.baselines import (
    FixedMethod,
    WordMethod,
    fit_nothing,
    random_scores,
    score_lead,
)
from moos.evaluation.methods.word_statistics import fit_content_words, fit_tf_idf
from moos.tokens import TextTokenizer


def load_method(
    config: PlainMethodConfig
    | RandomMethodConfig
    | SelectiveContextConfig
    | LLMLingua2Config
    | MoosMethodConfig,
    budget_tokenizer: TextTokenizer,
    *,
    device: str | None = None,
) -> Method:
    """The method of a config, its model loaded if it has one.

    Args:
        config: The method.
        budget_tokenizer: The reader's, by which budgets are counted.
        device: Device of its model; None: CUDA where there is one, else the CPU.

    Raises:
        ConfigError: A package is missing, or settings do not go together.
        ModelError: A model cannot be loaded.
    """
    name = config.display_name
    if isinstance(config, PlainMethodConfig):
        return _load_plain(config, budget_tokenizer)
    if isinstance(config, RandomMethodConfig):
        return WordMethod(name, budget_tokenizer, fit_nothing(random_scores(config.seed)))
    if isinstance(config, SelectiveContextConfig):
        from moos.evaluation.methods.selective_context import SurprisalScorer  # loads torch

        scorer = SurprisalScorer.load(
            config.path,
            gguf_file=config.gguf_file,
            device=device,
            dtype=config.dtype,
            window_tokens=config.window_tokens,
        )
        return WordMethod(name, budget_tokenizer, fit_nothing(scorer))
    if isinstance(config, LLMLingua2Config):
        from moos.evaluation.methods.llmlingua2 import load_llmlingua2

        return load_llmlingua2(config, budget_tokenizer, device=device)
    from moos.compressor import Compressor
    from moos.evaluation.methods.moos_method import MoosMethod

    compressor = Compressor.load(config.checkpoint, scoring=config.scoring, device=device)
    return MoosMethod(
        name, compressor, budget_tokenizer, protect=config.protect, budget_per=config.budget_per
    )


def _load_plain(config: PlainMethodConfig, budget_tokenizer: TextTokenizer) -> Method:
    name = config.display_name
    match config.kind:
        case "full":
            return FixedMethod(name, is_empty=False)
        case "none":
            return FixedMethod(name, is_empty=True)
        case "lead":
            return WordMethod(name, budget_tokenizer, fit_nothing(score_lead))
        case "stop-words":
            return WordMethod(name, budget_tokenizer, fit_content_words)
        case "tf-idf":
            return WordMethod(name, budget_tokenizer, fit_tf_idf)
