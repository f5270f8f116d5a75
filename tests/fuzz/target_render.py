"""The renderer: a compressed text is made of slices of the original, and can be rebuilt from spans.

A case: a byte that draws which words stay, one that draws spans without words, then text; NUL parts
it into several.
"""

import random
import re

import numpy as np

from moos.errors import DataError
from moos.joined_texts import join_texts
from moos.rendering import merge_kept_words, render, render_texts, split_kept
from moos.words import cut_words
from tests.fuzz.choices import Choices
from tests.fuzz.target_words import DICTIONARY as WORDS
from tests.fuzz.target_words import SEEDS as TEXTS

SEEDS = tuple(bytes([keep, keep]) + seed[2:] for seed in TEXTS for keep in (0, 7, 255))
DICTIONARY = WORDS
LINE_BREAK = re.compile("[\n\r\u2028\u2029]")


def check(data: bytes) -> None:
    """One case; raises where rendering breaks a promise."""
    choices = Choices(data)
    draw, any_draw = random.Random(choices.byte()), random.Random(choices.byte())
    texts = choices.rest_text().split("\x00")
    joined = join_texts(texts)
    share = draw.random()
    keep = np.array([draw.random() < share for _ in range(len(joined.words))], dtype=np.bool_)
    for place, (shown, spans) in enumerate(render_texts(joined, keep)):
        text = texts[place]
        words = cut_words(text)
        own = keep[joined.bounds[place] : joined.bounds[place + 1]]
        assert spans == merge_kept_words(own, words, len(text)), "a text sees no other"
        assert shown == render(text, spans), "what is stored can be rebuilt"
        _check_slices(text, spans, shown)
        for start, end, kept in zip(words.starts, words.ends, own, strict=True):
            inside = any(low <= start and end <= high for low, high in spans)
            assert inside == bool(kept), "a word is in a span just where it is kept"
        everything = np.ones(len(words), dtype=np.bool_)
        whole = merge_kept_words(everything, words, len(text))
        assert render(text, whole) == text, "nothing dropped is the text itself"
        _check_any_spans(text, any_draw)


def _check_slices(text: str, spans: list[tuple[int, int]], shown: str) -> None:
    assert "".join(part for _, part in split_kept(text, spans)) == text
    assert [part for is_kept, part in split_kept(text, spans) if is_kept] == [
        text[start:end] for start, end in spans
    ]
    at, previous = 0, None
    for start, end in spans:
        if previous is not None:
            assert previous < start, "touching spans are merged"
            gap, separator = text[previous:start], shown[at : at + 1]
            if LINE_BREAK.search(gap):
                assert separator == "\n"
                at += 1
            elif separator == " ":  # no word begins with one
                at += 1
        assert shown[at : at + end - start] == text[start:end], "only slices of the original"
        at += end - start
        previous = end
    assert at == len(shown)


def _check_any_spans(text: str, draw: random.Random) -> None:
    """Spans that nobody promises anything of are rendered or refused, by `DataError` alone."""
    places = [draw.randint(-1, len(text) + 1) for _ in range(draw.randint(0, 6))]
    if draw.random() < 0.7:
        places = sorted(max(0, min(place, len(text))) for place in places)
    spans = list(zip(places[::2], places[1::2], strict=False))
    flat = [place for span in spans for place in span]
    is_valid = (
        flat == sorted(flat)
        and all(start < end for start, end in spans)
        and all(0 <= place <= len(text) for place in flat)
    )
    try:
        shown = render(text, spans)
    except DataError:
        assert not is_valid, "spans that are in order were refused"
    else:
        assert is_valid, "spans that are not in order were rendered"
        assert len(shown) <= sum(end - start for start, end in spans) + max(0, len(spans) - 1)
