"""A document with the decision about each of its words, ready to be shown.

Where it comes from (a run's output, a model asked just now, labels) is no concern of what shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moos.config import SelectionConfig
from moos.document import CompressedDocument
from moos.joined_texts import join_texts
from moos.protect import ProtectedPattern, compile_patterns, protect_words
from moos.scored_text import ScoredText
from moos.selector import Selector
from moos.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class WordFigures:
    """What the words were ranked by; columns have the shape (W,).

    Attributes:
        preserve_probability: In [0, 1] on the grid of 1/4096; NaN where it is not known.
        outlier_score: The same.
        score: The same.
        token_counts: The compressor's tokens of each word; None where they were not counted.
        num_tokens: The compressor's tokens of the whole text.
    """

    preserve_probability: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    score: NDArray[np.float32]
    token_counts: NDArray[np.int32] | None = None
    num_tokens: int = 0

    @property
    def can_select(self) -> bool:
        """Whether another selection can be made from them."""
        return self.token_counts is not None and not np.isnan(self.score).any()


@dataclass(frozen=True, slots=True)
class Protection:
    """What keeps some words whatever their score.

    Attributes:
        name: A class of `selection.protect`, or the user's own words or expression.
        mask: The words that it keeps, shape (W,).
    """

    name: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentView:
    """A document to be shown.

    Attributes:
        title: Which one it is.
        text: The original.
        words: Its words, W of them.
        keep: True for each word that stays, shape (W,).
        num_tokens: Tokens of the original, in `unit`.
        num_kept_tokens: Those kept.
        budget: What was asked for, such as `rate 0.4`.
        unit: What is counted.
        over_budget: What must stay alone exceeds the budget.
        protections: Why words stay anyway; a word may have several reasons.
        figures: What the words were ranked by, where that is known.
        notes: What a reader should know of how this came about, as sentences.
        selector: What decided, where another selection can be asked of it.
    """

    title: str
    text: str
    words: Words
    keep: NDArray[np.bool_]
    num_tokens: int
    num_kept_tokens: int
    budget: str
    unit: str = "tokens"
    over_budget: bool = False
    protections: tuple[Protection, ...] = ()
    figures: WordFigures | None = None
    notes: tuple[str, ...] = ()
    selector: Selector | None = None

    @property
    def protected(self) -> NDArray[np.bool_]:
        """True for each word that stays whatever its score, shape (W,)."""
        mask = np.zeros(len(self.words), dtype=np.bool_)
        for protection in self.protections:
            mask |= protection.mask
        return mask

    @property
    def rate(self) -> float:
        """Kept / all tokens; 1 for a document without tokens."""
        return self.num_kept_tokens / self.num_tokens if self.num_tokens else 1.0

    def headline(self) -> str:
        """One line: which document, what was asked for, what came of it."""
        over = ", over budget: what is protected alone exceeds it" if self.over_budget else ""
        return (
            f"{self.title}: {self.num_kept_tokens:,} of {self.num_tokens:,} {self.unit} kept, "
            f"rate {self.rate:.3f} ({self.budget}{over})"
        )


def find_protections(text: str, words: Words, selection: SelectionConfig) -> tuple[Protection, ...]:
    """What keeps words of a text, each reason that keeps any by itself.

    Args:
        text: The text.
        words: Its words.
        selection: Whose `protect`, `protect_words` and `protect_patterns` count.

    Raises:
        DataError: A pattern takes too long on this text.
    """
    named: list[tuple[str, list[ProtectedPattern]]] = [
        (name, compile_patterns([name])) for name in selection.protect
    ]
    if selection.protect_words:
        named.append(("protect_words", compile_patterns([], selection.protect_words)))
    for pattern in selection.protect_patterns:
        named.append((f"protect_patterns {pattern}", compile_patterns([], (), [pattern])))
    joined = join_texts([text], [words])
    found = []
    for name, patterns in named:
        protection = protect_words(joined, patterns, _do_nothing)
        for error in protection.errors.values():
            raise error
        if protection.mask.any():
            found.append(Protection(name, protection.mask))
    return tuple(found)


def view_document(
    title: str,
    scored: ScoredText,
    document: CompressedDocument,
    selector: Selector,
    *,
    notes: Sequence[str] = (),
) -> DocumentView:
    """A view of a text that was compressed in this process.

    Args:
        title: Which document it is.
        scored: Its words with their scores.
        document: What was selected.
        selector: What selected it.
        notes: What a reader should know of it.
    """
    return DocumentView(
        title=title,
        text=scored.text,
        words=scored.words,
        keep=document.word_table.kept,
        num_tokens=document.num_tokens,
        num_kept_tokens=document.num_kept_tokens,
        budget=describe_budget(selector.config),
        unit=unit_of(selector.config),
        over_budget=document.over_budget,
        protections=find_protections(scored.text, scored.words, selector.config),
        figures=WordFigures(
            preserve_probability=scored.preserve_probability,
            outlier_score=scored.outlier_score,
            score=scored.score,
            token_counts=scored.token_counts,
            num_tokens=scored.num_tokens,
        ),
        notes=tuple(notes),
        selector=selector,
    )


def reselect(view: DocumentView, selector: Selector, *, notes: Sequence[str] = ()) -> DocumentView:
    """The same document by another selection; its figures must be complete (`can_select`).

    Args:
        view: The document.
        selector: What decides now.
        notes: What a reader should know of it, in place of the view's notes.

    Raises:
        DataError: A protected pattern takes too long on this text.
    """
    figures = view.figures
    assert figures is not None, "only a document with figures is selected from"
    assert figures.token_counts is not None, "only one whose tokens were counted"
    protections = find_protections(view.text, view.words, selector.config)
    changed = replace(view, protections=protections, notes=tuple(notes))
    selection = selector.select(
        join_texts([view.text], [view.words]),
        figures.score,
        figures.token_counts,
        num_tokens=[figures.num_tokens],
        protected=changed.protected,
    )
    return replace(
        changed,
        keep=selection.keep,
        num_tokens=selection.num_tokens[0],
        num_kept_tokens=selection.num_kept_tokens[0],
        over_budget=selection.over_budget[0],
        budget=describe_budget(selector.config),
        unit=unit_of(selector.config),
        selector=selector,
    )


def head_of(view: DocumentView, max_chars: int) -> DocumentView:
    """A document, or where it is longer than `max_chars` its beginning, which offers no slider.

    The counts stay those of the whole.
    """
    if len(view.text) <= max_chars:
        return view
    count = int(np.searchsorted(view.words.ends, max_chars, side="right"))
    words = Words(view.words.starts[:count], view.words.ends[:count])
    figures = view.figures
    if figures is not None:
        figures = WordFigures(
            preserve_probability=figures.preserve_probability[:count],
            outlier_score=figures.outlier_score[:count],
            score=figures.score[:count],
        )
    return replace(
        view,
        text=view.text[: words.ends[-1]] if count else view.text[:max_chars],
        words=words,
        keep=view.keep[:count],
        protections=tuple(Protection(one.name, one.mask[:count]) for one in view.protections),
        figures=figures,
        notes=(*view.notes, "Only its beginning is shown here: moos show has the whole."),
    )


def describe_budget(selection: SelectionConfig) -> str:
    """The one budget in force, in the words of the config."""
    if (rate := selection.effective_rate) is not None:
        return f"rate {rate:g}"
    if selection.target_tokens is not None:
        return f"target_tokens {selection.target_tokens}"
    if selection.threshold is not None:
        return f"threshold {selection.threshold:g}"
    return f"corpus_rate {selection.corpus_rate:g}"


def unit_of(selection: SelectionConfig) -> str:
    """What the budget is counted in."""
    return "tokens" if selection.budget_tokenizer is None else "reader's tokens"


def _do_nothing() -> None:
    """Nobody waits."""
