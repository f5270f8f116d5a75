"""Sums over documents: of a split, of what is done of it, of a run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from moos.document import CompressedDocument
from moos.records import RecordGroup
from moos.scored_text import ScoredText


@dataclass(slots=True)
class SplitCounts:
    """Sums over a split, or over what is done of it."""

    documents: int = 0
    quarantined: int = 0
    damaged_files: int = 0
    chars: int = 0
    tokens: int = 0
    kept_tokens: int = 0
    encoder_tokens: int = 0
    unknown_tokens: int = 0
    letters: int = 0
    non_latin_letters: int = 0
    over_budget: int = 0
    null_ids: int = 0
    input_bytes: int = 0

    @property
    def unknown_share(self) -> float:
        """Share of the encoder's tokens that its vocabulary does not know; 0 of none."""
        return self.unknown_tokens / max(1, self.encoder_tokens)

    @property
    def non_latin_share(self) -> float:
        """Share of the letters that are of scripts other than Latin; 0 of none."""
        return self.non_latin_letters / max(1, self.letters)

    def add(self, other: "SplitCounts") -> None:
        """Add another's sums to these."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def add_counts(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of counts, whatever they count, by name."""
    total: dict[str, int] = {}
    for counts in parts:
        for name, value in counts.items():
            total[name] = total.get(name, 0) + value
    return total


ProgressCallback = Callable[[str, dict[str, int]], None]
"""Called with a split's id and its counts so far."""


def count_documents(
    records: RecordGroup, rows: list[int], documents: Sequence[CompressedDocument], num_bad: int
) -> SplitCounts:
    """The sums of a group that was compressed."""
    return SplitCounts(
        documents=len(documents),
        quarantined=num_bad,
        chars=sum(len(records.texts[row]) for row in rows),
        tokens=sum(d.num_tokens for d in documents),
        kept_tokens=sum(d.num_kept_tokens for d in documents),
        encoder_tokens=sum(d.num_encoder_tokens for d in documents),
        unknown_tokens=sum(d.num_unknown_tokens for d in documents),
        letters=sum(d.num_letters for d in documents),
        non_latin_letters=sum(d.num_non_latin_letters for d in documents),
        over_budget=sum(d.over_budget for d in documents),
        input_bytes=records.num_bytes,
    )


def count_scored(records: RecordGroup, texts: Sequence[ScoredText], num_bad: int) -> SplitCounts:
    """The sums of a group that was scored; nothing is kept yet."""
    return SplitCounts(
        documents=len(texts),
        quarantined=num_bad,
        chars=sum(len(text.text) for text in texts),
        tokens=sum(text.num_tokens for text in texts),
        encoder_tokens=sum(text.num_tokens for text in texts),
        input_bytes=records.num_bytes,
    )
