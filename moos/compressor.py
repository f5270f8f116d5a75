"""The compressor: model, tokenizer and selection, loaded once and used for many texts."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from moos.checkpoint import Checkpoint, Scoring, read_checkpoint, resolve_scoring
from moos.config import ScoringConfig, SelectionConfig, WindowConfig, describe_errors
from moos.document import CompressedDocument, WordTable
from moos.engines import Engine, TokenScores
from moos.errors import ConfigError, DataError, MoosError
from moos.preparation import PreparedText, prepare_text
from moos.rendering import merge_kept_words, render
from moos.scores import combine_scores, reduce_to_words
from moos.selector import Selector
from moos.tokens import TextTokenizer, check_text
from moos.words import count_tokens

GROUP_CHARS = 1 << 18
"""Characters scored together: enough to fill micro-batches, few enough to bound memory."""


class Compressor:
    """Compresses texts to the words that matter, within a token budget.

    The compressed text is made of slices of the original: case, Unicode and line breaks come
    through as they were, whatever the model's vocabulary.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        scoring: Scoring,
        tokenizer: TextTokenizer,
        engine: Engine,
    ) -> None:
        """Put the loaded parts together; `Compressor.load` is the usual way."""
        self.checkpoint = checkpoint
        self.scoring = scoring
        self.tokenizer = tokenizer
        self.engine = engine
        self._unknown_id = -1 if tokenizer.unknown_id is None else tokenizer.unknown_id

    @classmethod
    def load(
        cls,
        checkpoint: str | Path = "default",
        *,
        scoring: ScoringConfig | None = None,
        window: WindowConfig | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> "Compressor":
        """Load a compressor.

        Args:
            checkpoint: `default`, a directory, an fsspec URL of one, or a hub id.
            scoring: Overrides of the checkpoint's scoring settings.
            window: Overrides of the checkpoint's window settings.
            device: `cpu`, `cuda` or `cuda:N`; None takes CUDA where there is one.
            threads: CPU threads for the model; None leaves the engine's choice.

        Raises:
            ModelError: The checkpoint cannot serve as a compressor; the message says why.
        """
        scoring = scoring or ScoringConfig()
        found = read_checkpoint(str(checkpoint), scoring.preserve_label)
        settings = resolve_scoring(found, scoring, window or WindowConfig())
        tokenizer = TextTokenizer.from_file(found.tokenizer_path)
        # Imported late: reading and checking a checkpoint needs no torch.
        import torch

        from moos.engines.pytorch import TorchEngine

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        engine = TorchEngine(found, settings, device=device, threads=threads)
        return cls(found, settings, tokenizer, engine)

    @overload
    def compress(self, texts: str, **selection: Any) -> CompressedDocument: ...

    @overload
    def compress(self, texts: Sequence[str], **selection: Any) -> list[CompressedDocument]: ...

    def compress(
        self, texts: str | Sequence[str], **selection: Any
    ) -> CompressedDocument | list[CompressedDocument]:
        """Compress one text, or many.

        Args:
            texts: A text, or a sequence of texts that share batches.
            **selection: The keys of `SelectionConfig`: one of `rate` (default 0.5),
                `target_tokens`, `threshold`; `protect`, `protect_words`, `protect_patterns`,
                `budget_tokenizer`.

        Returns:
            A document for one text, a list in the same order for many.

        Raises:
            ConfigError: A key is unknown, a value is out of range, or two budgets are set.
            DataError: A text is not valid Unicode (for many texts, the position is named), or a
                protected pattern takes too long.
        """
        selector = self.selector(**selection)
        if isinstance(texts, str):
            return raise_error(self.compress_each([texts], selector)[0])
        results = self.compress_each(texts, selector)
        for position, result in enumerate(results):
            if isinstance(result, DataError):
                raise DataError(f"text {position} of {len(texts)}: {result}") from result
        return [raise_error(result) for result in results]

    def selector(self, **selection: Any) -> Selector:
        """A selector that this compressor can serve.

        Raises:
            ConfigError: The keys do not validate, or a threshold is set on scores that are not
                comparable across windows.
        """
        try:
            config = SelectionConfig.model_validate(selection)
        except ValidationError as error:
            raise ConfigError(f"selection is not valid:\n{describe_errors(error)}") from error
        check_threshold(config, self.scoring)
        return Selector(config)

    def compress_each(
        self, texts: Sequence[str], selector: Selector
    ) -> list[CompressedDocument | DataError]:
        """Compress many texts; one that cannot be compressed gives its error, the others go on.

        Memory is bounded by `GROUP_CHARS` or the largest text, not by their number.
        """
        results: list[CompressedDocument | DataError] = []
        for group in group_texts(texts):
            results.extend(self._compress_group(group, selector))
        return results

    def _compress_group(
        self, texts: Sequence[str], selector: Selector
    ) -> list[CompressedDocument | DataError]:
        errors = [_text_error(text) for text in texts]
        sound = [text for text, error in zip(texts, errors, strict=True) if error is None]
        tokens = self.tokenizer.tokenize(sound)
        parts = [
            prepare_text(
                *pair,
                self.tokenizer,
                max_length=self.scoring.max_length,
                context_tokens=self.scoring.context_tokens,
            )
            for pair in zip(sound, tokens, strict=True)
        ]
        scores = iter(self.engine.score([item for part in parts for item in part.inputs]))
        selected = iter(
            [self._select(part, [next(scores) for _ in part.inputs], selector) for part in parts]
        )
        return [next(selected) if error is None else error for error in errors]

    def _select(
        self, part: PreparedText, scores: list[TokenScores], selector: Selector
    ) -> CompressedDocument | DataError:
        probability = _concatenate([item.preserve_probability for item in scores])
        outlier = _concatenate([item.outlier_score for item in scores])
        num_words, owners = len(part.words), part.token_words
        how = self.scoring.word_score
        word_scores = reduce_to_words(
            combine_scores(probability, outlier, self.scoring.alpha), owners, num_words, how
        )
        try:
            selection = selector.select(
                part.text,
                part.words,
                word_scores,
                count_tokens(owners, num_words),
                num_tokens=len(part.tokens),
            )
        except DataError as error:
            return error
        spans = merge_kept_words(selection.keep, part.words, len(part.text))
        return CompressedDocument(
            text=render(part.text, spans),
            spans=spans,
            num_tokens=selection.num_tokens,
            num_kept_tokens=selection.num_kept_tokens,
            over_budget=selection.over_budget,
            num_encoder_tokens=len(part.tokens),
            num_unknown_tokens=int((part.tokens.ids == self._unknown_id).sum()),
            num_non_latin_chars=part.num_non_latin_chars,
            word_table=WordTable(
                part.words,
                reduce_to_words(probability, owners, num_words, how),
                reduce_to_words(outlier, owners, num_words, how),
                word_scores,
                selection.protected,
                selection.keep,
            ),
        )

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write the checkpoint in plain Hugging Face form, with `moos.json` beside it."""
        from moos.model import save_plain

        save_plain(self.checkpoint, Path(directory))


def group_texts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Consecutive texts of about `GROUP_CHARS` together; a longer text ends its group."""
    start, held = 0, 0
    for index, text in enumerate(texts):
        held += len(text)
        if held >= GROUP_CHARS:
            yield texts[start : index + 1]
            start, held = index + 1, 0
    if start < len(texts):
        yield texts[start:]


def check_threshold(config: SelectionConfig, scoring: Scoring) -> None:
    """Refuse a threshold on scores that mean something else in every window.

    Raises:
        ConfigError: A threshold is set, alpha is below 1 and statistics come from the window.
    """
    if (
        config.threshold is not None
        and scoring.alpha < 1
        and scoring.outlier_statistics == "window"
    ):
        raise ConfigError(
            f"selection.threshold={config.threshold} needs scores that are comparable across "
            f"windows, but alpha={scoring.alpha} mixes in an outlier score normalised per window; "
            "set scoring.outlier.statistics=checkpoint or scoring.alpha=1"
        )


def raise_error(result: CompressedDocument | MoosError) -> CompressedDocument:
    """The document, or its error raised."""
    if isinstance(result, MoosError):
        raise result
    return result


def _text_error(text: str) -> DataError | None:
    try:
        check_text(text)
    except DataError as error:
        return error
    return None


def _concatenate(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
