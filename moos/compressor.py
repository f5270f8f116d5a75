"""The compressor: model, tokenizer and selection, loaded once and used for many texts."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from moos.checkpoint import Checkpoint, Scoring, read_checkpoint, resolve_scoring
from moos.config import EngineName, ScoringConfig, SelectionConfig, WindowConfig
from moos.config_errors import describe_errors
from moos.corpus import find_threshold, merge_histograms
from moos.devices import has_cuda
from moos.document import CompressedDocument
from moos.engines import Engine
from moos.engines.loading import load_engine
from moos.errors import ConfigError, DataError
from moos.joined_texts import group_by_chars
from moos.preparation import PreparedText, TextPreparer
from moos.scored_text import (
    ProtectedText,
    ScoredText,
    compress_protected,
    compress_scored,
    count_scores,
    protect_scored,
    score_words,
)
from moos.selector import Selector
from moos.tokens import TextTokenizer

T = TypeVar("T")
U = TypeVar("U")


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
        self.preparer = TextPreparer(tokenizer, scoring.max_length, scoring.context_tokens)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path = "default",
        *,
        scoring: ScoringConfig | None = None,
        window: WindowConfig | None = None,
        engine: EngineName = "auto",
        device: str | None = None,
        threads: int | None = None,
    ) -> "Compressor":
        """Load a compressor.

        Args:
            checkpoint: `default`, a directory, an fsspec URL of one, or a hub id.
            scoring: Overrides of the checkpoint's scoring settings.
            window: Overrides of the checkpoint's window settings.
            engine: `torch`; `openvino`, which computes in int8 on a CPU; or `auto`, which takes
                the faster one for the device.
            device: `cpu`, `cuda` or `cuda:N`; None takes CUDA where there is one.
            threads: CPU threads for the model; None leaves the engine's choice.

        Raises:
            ModelError: The checkpoint cannot serve as a compressor, or not on this engine and
                device; the message says why.
        """
        scoring = scoring or ScoringConfig()
        found = read_checkpoint(str(checkpoint), scoring.preserve_label)
        settings = resolve_scoring(found, scoring, window or WindowConfig())
        tokenizer = TextTokenizer.from_file(found.tokenizer_path)
        device = device or ("cuda" if has_cuda() else "cpu")
        return cls(
            found,
            settings,
            tokenizer,
            load_engine(found, settings, name=engine, device=device, threads=threads),
        )

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
                `target_tokens`, `threshold`, `corpus_rate` (over all the texts given);
                `protect`, `protect_words`, `protect_patterns`, `budget_tokenizer`.

        Returns:
            A document for one text, a list in the same order for many.

        Raises:
            ConfigError: A key is unknown, a value is out of range, or two budgets are set.
            DataError: A text is not valid Unicode (for many texts, the position is named), or a
                protected pattern takes too long.
            TypeError: A text is no string.
        """
        _check_strings(texts)
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

        Memory for scoring is bounded by `GROUP_CHARS` or the largest text, not by their number;
        a corpus rate holds the word scores of all texts until it has seen the last.
        """
        rate = selector.config.corpus_rate
        if rate is not None and selector.corpus is None:
            return self._compress_corpus(texts, selector, rate)
        return [
            result
            for group in self._score_groups(texts)
            for result in _pass_errors(group, lambda scored: compress_scored(scored, selector))
        ]

    def _score_groups(self, texts: Sequence[str]) -> Iterator[list[ScoredText | DataError]]:
        """Groups of texts with their scores; the model has the next group while one is out."""
        behind: Callable[[], list[ScoredText | DataError]] | None = None
        for group in group_by_chars(texts, [len(text) for text in texts]):
            begun = self._begin_group(group)
            if behind is not None:
                yield behind()
            behind = begun
        if behind is not None:
            yield behind()

    def _begin_group(self, texts: Sequence[str]) -> Callable[[], list[ScoredText | DataError]]:
        prepared = self.preparer.prepare(texts)
        end = self.begin_score([part for part in prepared if not isinstance(part, DataError)])
        return lambda: _pass_errors(prepared, lambda parts: end())

    def score(self, parts: Sequence[PreparedText]) -> list[ScoredText]:
        """Run the model over prepared texts; their word scores, in order.

        Micro-batches are a function of the texts given, and of nothing else.
        """
        return self.begin_score(parts)()

    def begin_score(self, parts: Sequence[PreparedText]) -> Callable[[], list[ScoredText]]:
        """Begin to score prepared texts; what comes between goes on beside the model.

        Returns:
            What waits for the scores and gives them as `score` does; to be called once at most.
        """
        groups = list(group_by_chars(parts, [len(part.text) for part in parts]))
        begun = [
            self.engine.begin([item for part in group for item in part.inputs]) for group in groups
        ]
        return lambda: [
            text
            for group, end in zip(groups, begun, strict=True)
            for text in score_words(group, end(), self.scoring)
        ]

    def _compress_corpus(
        self, texts: Sequence[str], selector: Selector, rate: float
    ) -> list[CompressedDocument | DataError]:
        groups = [
            _pass_errors(group, lambda scored: protect_scored(scored, selector))
            for group in self._score_groups(texts)
        ]
        histogram = merge_histograms(
            count_scores([found for found in group if isinstance(found, ProtectedText)])
            for group in groups
        )
        decided = Selector(selector.config, corpus=find_threshold(histogram, rate))
        return [
            result
            for group in groups
            for result in _pass_errors(group, lambda found: compress_protected(found, decided))
        ]

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write the checkpoint in plain Hugging Face form, with `moos.json` beside it."""
        from moos.model import save_plain

        save_plain(self.checkpoint, Path(directory))


def check_threshold(config: SelectionConfig, scoring: Scoring) -> None:
    """Refuse a threshold on scores that mean something else in every window.

    Raises:
        ConfigError: A threshold or a corpus rate is set, alpha is below 1 and statistics come
            from the window.
    """
    for name in ("threshold", "corpus_rate"):
        value = getattr(config, name)
        if value is not None and scoring.alpha < 1 and scoring.outlier_statistics == "window":
            raise ConfigError(
                f"selection.{name}={value} needs scores that are comparable across windows, but "
                f"alpha={scoring.alpha} mixes in an outlier score normalised per window; set "
                "scoring.outlier.statistics=checkpoint or scoring.alpha=1"
            )


def _check_strings(texts: Any) -> None:
    """Refuse what is neither a string nor a sequence of strings."""
    if isinstance(texts, str):
        return
    if not hasattr(texts, "__getitem__"):  # as None, a set and a generator
        raise TypeError(f"texts is {_name_type(texts)}; give a string or a list of strings")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{position}] is {_name_type(text)}; give strings")


def _name_type(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _pass_errors(
    items: Sequence[T | DataError], step: Callable[[list[T]], Sequence[U | DataError]]
) -> list[U | DataError]:
    """What a step makes of the items that are no errors, with the errors in their places."""
    results = iter(step([item for item in items if not isinstance(item, DataError)]))
    return [item if isinstance(item, DataError) else next(results) for item in items]


def raise_error(result: CompressedDocument | DataError) -> CompressedDocument:
    """The document, or its error raised."""
    if isinstance(result, DataError):
        raise result
    return result
