"""The selection: the budget is kept, protected words stay, a larger budget keeps a superset.

A case: a byte for the number of texts, two for each of two budgets, two for a level and a share,
then two for each word: its score on a coarse grid, so that many tie, and tokens, protection, and
whether its text ends with it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.scores import GRID
from moos.selection import (
    budgets_of_rate,
    select_by_budget,
    select_by_count,
    select_by_level,
    select_by_threshold,
)
from tests.fuzz.choices import Choices

SEEDS = (
    b"\x00\x05\x00\x09\x80\x01\x10\x01\x20\x02\x30\x83\x40\x04\x50\x01",
    b"\x00\x02\x00\x03\x40\x03" + bytes(range(60)),
    b"\x00\x01\x01\x00\x00\x00" + bytes(range(255, 100, -3)),
    b"\x00\xff\x00\xfe\xff\xff" + b"\x10\x00\x10\x08\x10\x40" * 6,
    b"",
)
DICTIONARY = (b"\x10\x01", b"\x10\x81", b"\x10\x00", b"\xff\x07", b"\x00\x40", b"\x10\x08")


@dataclass(frozen=True, slots=True)
class Case:
    """Words of some texts, end to end, as `moos.selection` takes them."""

    scores: NDArray[np.float32]
    token_counts: NDArray[np.int32]
    protected: NDArray[np.bool_]
    bounds: NDArray[np.int64]

    def part(self, text: int) -> "Case":
        """One text alone."""
        own = slice(self.bounds[text], self.bounds[text + 1])
        size = np.array([0, own.stop - own.start])
        return Case(self.scores[own], self.token_counts[own], self.protected[own], size)

    def columns(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """The first four arguments of a selection."""
        return self.scores, self.token_counts, self.protected, self.bounds


def check(data: bytes) -> None:
    """One case; raises where a selection breaks a promise."""
    choices = Choices(data)
    first, second = choices.number(0, 300), choices.number(0, 300)
    level, share = choices.byte() * GRID // 255, choices.byte()
    case = _draw(choices)
    num_texts = len(case.bounds) - 1
    small, large = min(first, second), max(first, second)
    by_budget = {
        budget: select_by_budget(*case.columns(), np.full(num_texts, budget))
        for budget in (small, large)
    }
    _check_superset(case, by_budget[small], by_budget[large])
    tied = (share, 255)
    by_level = select_by_level(*case.columns(), level, tied)
    _check_superset(case, by_level, select_by_level(*case.columns(), max(0, level - 1), tied))
    by_threshold = select_by_threshold(*case.columns(), level / GRID)
    _check_superset(case, by_threshold, select_by_threshold(*case.columns(), level / GRID / 2))
    for text in range(num_texts):
        own, part = slice(case.bounds[text], case.bounds[text + 1]), case.part(text)
        for budget, keep in by_budget.items():
            _check_budget(part, keep[own], budget)
            _check_count(part, keep[own], budget)
        alone = select_by_level(*part.columns(), level, tied)
        assert np.array_equal(alone, by_level[own]), "a text sees no other"
        costed = part.token_counts > 0
        expected = part.protected | (np.rint(part.scores * GRID) >= level)
        assert np.array_equal(by_threshold[own][costed], expected[costed])
    _check_rates(small, large)


def _draw(choices: Choices) -> Case:
    scores, counts, protected, bounds = [], [], [], [0]
    while choices.is_left():
        score, rest = choices.byte(), choices.byte()
        scores.append(score // 8 * 8 * (GRID // 256) / GRID)
        counts.append(rest & 7)
        protected.append(bool(rest & 128))
        if rest & 64:
            bounds.append(len(scores))
            bounds += [len(scores)] * (rest >> 3 & 1)  # a text without words
    bounds.append(len(scores))
    return Case(
        np.array(scores, dtype=np.float32),
        np.array(counts, dtype=np.int32),
        np.array(protected, dtype=np.bool_),
        np.array(bounds, dtype=np.int64),
    )


def _check_superset(case: Case, less: NDArray[np.bool_], more: NDArray[np.bool_]) -> None:
    assert (case.protected <= less).all(), "protected words stay"
    assert (less <= more).all(), "a larger budget keeps a superset"


def _check_budget(part: Case, keep: NDArray[np.bool_], budget: int) -> None:
    """Against a loop over the ranking, word by word."""
    expected = part.protected.tolist()
    left = budget - int(part.token_counts[part.protected].sum())
    order = sorted(range(len(keep)), key=lambda word: (-float(part.scores[word]), word))
    for word in order:
        cost = int(part.token_counts[word])
        if expected[word] or cost == 0:
            continue
        if cost > left:
            break
        expected[word], left = True, left - cost
    costed = part.token_counts > 0
    assert keep[costed].tolist() == [k for k, c in zip(expected, costed, strict=True) if c]
    spent = int(part.token_counts[keep].sum())
    assert spent <= max(budget, int(part.token_counts[part.protected].sum()))
    for word in np.flatnonzero(~costed & ~part.protected).tolist():
        before = np.flatnonzero(costed[:word])
        after = np.flatnonzero(costed[word:]) + word
        if len(before) or len(after):
            assert keep[word] == keep[before[-1] if len(before) else after[0]]
        else:
            assert keep[word], "where nothing can be saved, all stays"


def _check_count(part: Case, keep: NDArray[np.bool_], budget: int) -> None:
    """A count that is the sum of tokens gives what the budget gives."""
    counted, cost = select_by_count(
        part.scores,
        part.token_counts,
        part.protected,
        budget,
        lambda mask: int(part.token_counts[mask].sum()),
    )
    assert np.array_equal(counted, keep)
    assert cost == int(part.token_counts[keep].sum())


def _check_rates(small: int, large: int) -> None:
    if large:
        rate = round(small / large, 4)
        if 0 < rate <= 1:
            (budget,) = budgets_of_rate(rate, [large])
            assert budget <= rate * large + 1e-9 < budget + 1 + 1e-9
