"""Facts are found by plain rules, and a compression keeps those that it still spells out."""

import math

import pytest
from hypothesis import given

from moos.evaluation.retention import (
    FACT_KINDS,
    KeptFacts,
    add_kept_facts,
    count_kept_facts,
    find_facts,
)


@pytest.mark.parametrize(
    ("kind", "text", "facts"),
    [
        ("numbers", "It rose 3.5% to $1,234.50 at 10:30.", ["3.5", "1,234.50", "10:30"]),
        ("numbers", "From -3 to 10-20, 5.", ["-3", "10", "20", "5"]),
        ("numbers", "The 3rd ran 15km in the 1990s.", ["3", "15", "1990"]),
        ("numbers", "8f3a2c B2B x_1 three", []),
        ("negations", "No, I don't; can’t. None do n't nor know.", None),
        ("urls", "See (https://x.org/a_(b)?q=1), www.y.org. or me@z.org.", None),
        ("identifiers", "foo_bar.py os.path camelCase OpenTV GPT-4 8f3a /usr/lib/x.so", None),
        ("identifiers", "McDonald and/or word.Next e.g. mid-1990s https://a.b/c_d L.A.", []),
        ("names", "The Paris of Émile Zola, NASA and I. It rained, Bob said: We go.", None),
        ("names", "Hello. World\nNew line", []),
    ],
)
def test_facts(kind, text, facts):
    expected = {
        "negations": ["No", "don't", "can’t", "None", "n't", "nor"],
        "urls": ["https://x.org/a_(b)?q=1", "www.y.org", "me@z.org"],
        "identifiers": [
            "foo_bar.py",
            "os.path",
            "camelCase",
            "OpenTV",
            "GPT-4",
            "8f3a",
            "/usr/lib/x.so",
        ],
        "names": ["Paris", "Émile", "Zola", "NASA", "Bob"],
    }
    assert find_facts(text)[kind] == (expected[kind] if facts is None else facts)


@pytest.mark.parametrize(
    ("kind", "original", "compressed", "kept"),
    [
        ("numbers", "5 or 3.5 or 5", "5 3.5", (3, 2)),
        ("numbers", "5 or 3.5", "3.5", (2, 1)),  # the 5 of 3.5 is no 5
        ("numbers", "5 or 3.5", "3.5 5", (2, 2)),  # nor does it take its place
        ("numbers", "at 3.5%", "3 . 5", (1, 1)),  # put together anew
        ("numbers", "at 3.5%", "3 5", (1, 0)),
        ("negations", "I don’t, no.", "don ' t", (2, 1)),
        ("negations", "Not now, not then", "not now", (2, 1)),
        ("names", "the Paris of Zola", "paris", (2, 1)),  # uncased
        ("names", "the New York of New", "New York", (3, 2)),
        ("identifiers", "call getName and x_y", "getname x _ y", (2, 1)),  # case belongs to it
        ("urls", "at https://x.org/a?b=1 now", "https://x.org/a?b=2", (1, 0)),
        ("urls", "at https://x.org/a now", "", (1, 0)),
        ("numbers", "none", "7", (0, 0)),
    ],
)
def test_kept_facts(kind, original, compressed, kept):
    counted = count_kept_facts(original, compressed)[kind]
    assert (counted.num_facts, counted.num_kept) == kept


def test_a_text_keeps_all_of_its_own_facts_and_an_empty_one_none(any_text):
    @given(any_text)
    def check(text):
        for counted in count_kept_facts(text, text).values():
            assert counted.num_kept == counted.num_facts
        assert not any(counted.num_kept for counted in count_kept_facts(text, "").values())

    check()


def test_counts_add_up():
    counts = [count_kept_facts("7 of 8 isn't", "7"), count_kept_facts("9", "9")]
    total = add_kept_facts(counts)
    assert tuple(total) == FACT_KINDS
    assert total["numbers"] == KeptFacts(3, 2)
    assert total["numbers"].share == pytest.approx(2 / 3)
    assert total["negations"].share == 0.0
    assert math.isnan(total["urls"].share)
    assert add_kept_facts([])["names"] == KeptFacts(0, 0)
