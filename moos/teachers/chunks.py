"""From a document to the chunks that a teacher compresses one at a time."""

import re

_WORD = re.compile(r"\S+")
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "।")
_CLOSERS = "\"'”’»›)]}」』】）"
_NEWLINES = frozenset("\n\r\u2028\u2029")


def cut_chunks(text: str, max_words: int) -> list[tuple[int, int]]:
    """Cut a text into chunks of whole sentences where it can.

    The chunks are disjoint and in order; what lies outside of them is white space, and none begins
    or ends with it. Each takes the most sentences that fit; a sentence longer than a chunk is cut
    at a word end. A sentence ends at `.`, `!`, `?` and their like before white space, closing
    quotes and brackets between them or not, and at every line break. Text without words has none.

    A word is a run of characters that are not white space, so that a script written without spaces
    has words as long as its sentences.

    Args:
        text: Any string.
        max_words: Most words in a chunk, at least 1.

    Returns:
        Half-open character ranges.
    """
    if max_words < 1:
        raise ValueError(f"max_words must be at least 1, not {max_words}")
    words = [match.span() for match in _WORD.finditer(text)]
    chunks = []
    first = 0
    while first < len(words):
        stop = min(first + max_words, len(words))
        if stop < len(words):
            ends = (last + 1 for last in range(stop - 1, first - 1, -1) if _ends(text, words, last))
            stop = next(ends, stop)
        chunks.append((words[first][0], words[stop - 1][1]))
        first = stop
    return chunks


def _ends(text: str, words: list[tuple[int, int]], index: int) -> bool:
    """True if a sentence or line ends with a word that is not the last."""
    start, stop = words[index]
    if text[start:stop].rstrip(_CLOSERS).endswith(_SENTENCE_ENDS):
        return True
    return not _NEWLINES.isdisjoint(text[stop : words[index + 1][0]])
