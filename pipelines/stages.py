"""The stages that need no storage: text in, decision out. What a document can make fail is here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from moos.chunks import Chunker
from moos.compressor import Compressor
from moos.document import CompressedDocument
from moos.errors import DataError, MoosError
from moos.preparation import PreparedText, TextPreparer
from moos.score_table import StoredText, restore_scores
from moos.scored_text import (
    ProtectedText,
    ScoredText,
    compress_protected,
    compress_scored,
    protect_scored,
)
from moos.selector import Selector

PROBE = "A harmless text of two sentences. It must always be possible to compress it."


class Stages(Protocol):
    """What is done to documents, in this process or in a child of it."""

    def prepare(self, texts: Sequence[str]) -> Sequence[PreparedText | DataError]:
        """Tokenise, cut words and windows."""
        ...

    def score(self, parts: Sequence[PreparedText]) -> Sequence[ScoredText | DataError]:
        """Run the model."""
        ...

    def compress(self, texts: Sequence[ScoredText]) -> Sequence[CompressedDocument | DataError]:
        """Select and render."""
        ...

    def protect(self, texts: Sequence[ScoredText]) -> Sequence[ProtectedText | DataError]:
        """Find the protected words."""
        ...

    def select(self, texts: Sequence[StoredText]) -> Sequence[CompressedDocument | DataError]:
        """Select and render from stored scores."""
        ...

    def probe(self) -> None:
        """Do all of it to a harmless text; raises where that fails."""
        ...


@dataclass(slots=True)
class TextStages:
    """The stages in this process, with the parts that its task needs.

    Attributes:
        selector: Decides.
        preparer: Tokenises; None in a process that need not.
        compressor: Holds the model; None in a process that does not score.
        on_progress: Called as work goes on, and before each document that may take seconds.
        chunker: Cuts compressed texts; None where no chunks are written.
        num_scored: Documents given to the model so far.
    """

    selector: Selector
    preparer: TextPreparer | None
    compressor: Compressor | None
    on_progress: Callable[[], None]
    chunker: Chunker | None = None
    num_scored: int = 0

    def __post_init__(self) -> None:
        self.selector.on_progress = self.on_progress

    def prepare(self, texts: Sequence[str]) -> Sequence[PreparedText | DataError]:
        """Tokenise, cut words and windows."""
        assert self.preparer is not None, "a task that prepares has a tokenizer"
        self.on_progress()
        return self.preparer.prepare(texts)

    def score(self, parts: Sequence[PreparedText]) -> Sequence[ScoredText | DataError]:
        """Run the model."""
        return self.begin_score(parts)()

    def begin_score(
        self, parts: Sequence[PreparedText]
    ) -> Callable[[], Sequence[ScoredText | DataError]]:
        """Begin to run the model; what waits for it and gives its scores."""
        assert self.compressor is not None, "a task that scores has a model"
        self.num_scored += len(parts)
        return self.compressor.begin_score(parts)

    def compress(self, texts: Sequence[ScoredText]) -> Sequence[CompressedDocument | DataError]:
        """Select and render."""
        self.on_progress()
        return self._cut(texts, compress_scored(texts, self.selector))

    def protect(self, texts: Sequence[ScoredText]) -> Sequence[ProtectedText | DataError]:
        """Find the protected words."""
        self.on_progress()
        return protect_scored(texts, self.selector)

    def select(self, texts: Sequence[StoredText]) -> Sequence[CompressedDocument | DataError]:
        """Select and render from stored scores."""
        self.on_progress()
        restored = restore_scores(texts)
        if restored is None:
            raise MoosError(
                "stored scores do not fit the words of their text; the input changed, or another "
                "version of moos scored it: compress into another output.path"
            )
        return self._cut(texts, compress_protected(restored, self.selector))

    def _cut(
        self,
        texts: Sequence[ScoredText | StoredText],
        documents: Sequence[CompressedDocument | DataError],
    ) -> Sequence[CompressedDocument | DataError]:
        """The documents with their chunks, where these are written."""
        if self.chunker is None:
            return documents
        cut: list[CompressedDocument | DataError] = []
        for source, document in zip(texts, documents, strict=True):
            self.on_progress()
            if isinstance(document, CompressedDocument):
                chunks = self.chunker.cut(source.text, document.spans)
                document = replace(document, chunks=tuple(chunks))
            cut.append(document)
        return cut

    def probe(self) -> None:
        """Do what this process does to a harmless text; raises where that fails."""
        if self.preparer is None:
            return
        (part,) = self.preparer.prepare([PROBE])
        if isinstance(part, DataError):
            raise part
        if self.compressor is not None:
            protect_scored(self.compressor.score([part]), self.selector)
