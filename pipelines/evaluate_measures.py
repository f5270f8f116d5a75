"""The figures that need no reader: lost facts, human deletions, over-smoothing."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moos.evaluation.deletions import DeletionExample, measure_deletions, read_deletions
from moos.evaluation.method_config import (
    LLMLingua2Config,
    MethodConfig,
    MoosMethodConfig,
    PlainMethodConfig,
    RandomMethodConfig,
    SelectiveContextConfig,
)
from moos.evaluation.methods.baselines import ScoreWords, random_scores, score_lead
from moos.evaluation.methods.word_statistics import fit_content_words, fit_tf_idf
from moos.evaluation.retention import add_kept_facts, count_kept_facts
from moos.evaluation.tasks.sources import read_records
from moos.labels import LabelledDocument, read_labelled
from moos.tokens import TextTokenizer
from moos.words import cut_words
from pipelines.evaluate_compress import Compressions
from pipelines.evaluate_config import DeletionsConfig, RetentionConfig, SmoothingConfig
from pipelines.evaluate_contexts import ContextSet, gather_texts
from pipelines.evaluate_figures import (
    DeletionFigure,
    FactFigure,
    RetentionFigure,
    SmoothingFigure,
)
from pipelines.evaluate_methods import Cell
from pipelines.evaluate_scores import divide

logger = logging.getLogger(__name__)

RETENTION = "(retention)"
"""The set of documents that retention is measured on, among the contexts of tasks."""

SHOWN_CHARS = 160
"""Of the text whose tokens' similarities are shown, at most."""


def read_documents(config: RetentionConfig, tokenizer: TextTokenizer) -> ContextSet:
    """The documents that facts are looked for in, each once.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: It is damaged, or a record has no such text.
    """
    records = read_records(config.path)[: config.limit]
    texts = [record.text(config.text_column) for record in records]
    return gather_texts(RETENTION, texts, tokenizer)


def read_sentences(config: DeletionsConfig) -> list[DeletionExample]:
    """The sentences with what people left of them.

    Raises:
        ConfigError: The file cannot be opened.
        DataError: It is damaged, or a record lacks a field.
    """
    return read_deletions(config.path)[: config.limit]


def read_labelled_texts(config: SmoothingConfig) -> list[LabelledDocument]:
    """The texts whose words have classes.

    Raises:
        ConfigError: The labels are not there.
        DataError: They are faulty.
    """
    return read_labelled(config.labels)[: config.limit]


def measure_retention(
    documents: ContextSet, cells: Sequence[Cell], compressions: Compressions
) -> list[RetentionFigure]:
    """Facts that each method keeps at each rate."""
    figures = []
    for cell in cells:
        compressed = compressions[documents.name, *cell.key]
        counts = add_kept_facts(
            count_kept_facts(text, each.text)
            for text, each in zip(documents.texts, compressed, strict=True)
        )
        figures.append(
            RetentionFigure(
                method=cell.method.display_name,
                rate=cell.rate,
                achieved_rate=divide(
                    sum(each.num_tokens for each in compressed), sum(documents.num_tokens)
                ),
                num_documents=len(documents.texts),
                kinds={
                    kind: FactFigure(
                        num_facts=kept.num_facts,
                        num_kept=kept.num_kept,
                        share=_finite(kept.share),
                    )
                    for kind, kept in counts.items()
                },
            )
        )
        logger.info("retention: %s", cell.name)
    return figures


def measure_all_deletions(
    examples: Sequence[DeletionExample], methods: Sequence[MethodConfig], device: str | None
) -> list[DeletionFigure]:
    """Agreement with human deletions of each method that scores words.

    Methods with the same scores, such as `moos` with and without protection, are told once, by the
    first one's name.

    Raises:
        ModelError: A method's model cannot be loaded.
    """
    texts = [example.text for example in examples]
    figures, seen = [], set()
    for method in methods:
        if (scoring := _name_scoring(method)) is None or scoring in seen:
            continue
        seen.add(scoring)
        found = measure_deletions(examples, score_words(method, texts, device))
        figures.append(
            DeletionFigure(
                method=method.display_name,
                auc=_finite(found.auc),
                sentence_auc=_finite(found.sentence_auc),
                num_sentences=found.num_sentences,
                num_tokens=found.num_tokens,
                kept_share=_finite(found.kept_share),
            )
        )
        logger.info("deletions: %s has AUC %.3f", method.display_name, found.auc)
    return figures


def score_words(
    method: MethodConfig, texts: Sequence[str], device: str | None
) -> list[NDArray[np.float32]]:
    """A method's score of each word of each text.

    Raises:
        ModelError: Its model cannot be loaded.
    """
    if isinstance(method, MoosMethodConfig):
        from moos.compressor import Compressor
        from moos.evaluation.methods.moos_method import score_texts

        compressor = Compressor.load(method.checkpoint, scoring=method.scoring, device=device)
        return [scored.score for scored in score_texts(compressor, texts)]
    score = _load_scorer(method, device)(texts)
    return [score(text, cut_words(text)) for text in texts]


def _load_scorer(method: MethodConfig, device: str | None) -> Callable[[Sequence[str]], ScoreWords]:
    """What makes a scorer of all texts."""
    if isinstance(method, SelectiveContextConfig):
        from moos.evaluation.methods.selective_context import SurprisalScorer

        scorer = SurprisalScorer.load(
            method.path,
            gguf_file=method.gguf_file,
            device=device,
            dtype=method.dtype,
            window_tokens=method.window_tokens,
        )
        return lambda texts: scorer
    if isinstance(method, RandomMethodConfig):
        draw = random_scores(method.seed)
        return lambda texts: draw
    fits = {"tf-idf": fit_tf_idf, "stop-words": fit_content_words}
    return fits.get(method.kind, lambda texts: score_lead)


def _name_scoring(method: MethodConfig) -> str | None:
    """Equal for methods with the same scores; None for those without."""
    if isinstance(method, LLMLingua2Config):
        return None
    if isinstance(method, PlainMethodConfig):
        return None if method.kind in ("full", "none") else method.kind
    return method.model_dump_json(exclude={"name", "protect", "budget_per"})


def measure_encoders(
    checkpoints: Mapping[str, str], documents: Sequence[LabelledDocument]
) -> list[SmoothingFigure]:
    """Over-smoothing of each encoder, on the same labelled texts.

    Args:
        checkpoints: Names and places of the encoders.
        documents: The texts.

    Raises:
        DataError: No window holds both classes.
        ModelError: An encoder cannot be loaded.
    """
    from moos.evaluation.smoothing import (  # loads torch
        load_encoder,
        measure_smoothing,
        measure_token_similarity,
    )

    shown = _shorten(documents[0].text)
    figures = []
    for name, location in checkpoints.items():
        encoder = load_encoder(location)
        found = measure_smoothing(encoder, documents)
        similarity = measure_token_similarity(encoder, shown)
        figures.append(
            SmoothingFigure(
                name=name,
                path=location,
                layers=list(found.layer_similarity),
                num_windows=found.num_windows,
                tokens=list(similarity.tokens),
                cosine=np.round(similarity.cosine.astype(np.float64), 4).tolist(),
            )
        )
        logger.info("over-smoothing: %s has S %.3f", name, found.layer_similarity[-1])
    return figures


def _shorten(text: str) -> str:
    """The beginning of a text, up to a space."""
    if len(text) <= SHOWN_CHARS:
        return text
    start = text[:SHOWN_CHARS]
    return start.rpartition(" ")[0] or start


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
