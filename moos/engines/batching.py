"""Windows grouped and padded into micro-batches, and their scores cut out again.

Shapes: B windows in the micro-batch, T positions of each, padding included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moos.engines import EncoderInput, TokenScores

MAX_PADDING = 16
"""One position in so many, of a full micro-batch, may be padding."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Padded windows, as a forward pass takes them.

    Attributes:
        ids: Token ids, int64, shape (B, T).
        attention: 1 for tokens, 0 for padding, int64, shape (B, T).
        owned: True for the tokens that a window owns, shape (B, T).
    """

    ids: NDArray[np.int64]
    attention: NDArray[np.int64]
    owned: NDArray[np.bool_]

    @property
    def is_padded(self) -> bool:
        """True where some position is padding."""
        return not self.attention.all()


def pad_length(length: int, limit: int) -> int:
    """Positions for a window that is not to know which others are in its micro-batch.

    Kernels may sum in another order where T is another, so T follows from the window's own length:
    rounded up by less than a sixteenth of it, to few different ones.

    Args:
        length: Positions of the window itself.
        limit: Most positions that the encoder reads; no shorter window gets more.
    """
    step = 1 << max(0, (length // MAX_PADDING).bit_length() - 1)
    return max(length, min(-(-length // step) * step, limit))


def plan_micro_batches(
    lengths: Sequence[int], max_positions: int, *, max_padding: int | None = None
) -> list[list[int]]:
    """Group windows of similar length so that each padded batch holds at most `max_positions`.

    Longest first, ties by position; a window longer than the limit gets a batch of its own.

    Args:
        lengths: Positions of each window.
        max_positions: Most positions of a batch.
        max_padding: Most positions of a batch that are padding, however lengths are skewed; None is
            `max_positions // MAX_PADDING`.
    """
    if max_padding is None:
        max_padding = max_positions // MAX_PADDING
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    padding = 0
    for index in order:
        longest = lengths[batches[-1][0]] if batches else 0
        padding += longest - lengths[index]
        if batches and longest * (len(batches[-1]) + 1) <= max_positions and padding <= max_padding:
            batches[-1].append(index)
        else:
            batches.append([index])
            padding = 0
    return batches


def pad_windows(
    windows: Sequence[EncoderInput], pad_id: int, *, length: int | None = None
) -> MicroBatch:
    """Windows of one micro-batch, padded to the longest, or to a given length."""
    length = length or max(len(window.ids) for window in windows)
    ids = np.full((len(windows), length), pad_id, dtype=np.int64)
    attention = np.zeros((len(windows), length), dtype=np.int64)
    owned = np.zeros((len(windows), length), dtype=np.bool_)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = window.ids
        attention[row, : len(window.ids)] = 1
        owned[row, window.own_start : window.own_end] = True
    return MicroBatch(ids, attention, owned)


def cut_scores(scores: NDArray[np.float32], windows: Sequence[EncoderInput]) -> list[TokenScores]:
    """Each window's scores of the tokens it owns, copied.

    Args:
        scores: Preserve probability and outlier score, shape (B, T, 2).
        windows: The windows of the micro-batch, in order.
    """
    return [
        TokenScores(
            scores[row, window.own_start : window.own_end, 0].copy(),
            scores[row, window.own_start : window.own_end, 1].copy(),
        )
        for row, window in enumerate(windows)
    ]
