import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moos import protect
from moos.config import ALL_PROTECTED
from moos.errors import DataError
from moos.joined_texts import join_texts
from moos.protect import PROTECTED_CLASSES, compile_patterns, overlapped_words, protect_words
from moos.words import Words


def protected(text: str, *classes: str, words=(), patterns=()) -> list[str]:
    """The words of `text` that stay."""
    texts = join_texts([text])
    cut = texts.words
    found = protect_words(texts, compile_patterns(classes, words, patterns), lambda: None)
    for error in found.errors.values():
        raise error
    mask = found.mask
    spans = zip(cut.starts, cut.ends, mask, strict=True)
    return [text[start:end] for start, end, stays in spans if stays]


def test_there_is_an_entry_for_every_class_of_the_config():
    assert tuple(PROTECTED_CLASSES) == ALL_PROTECTED


@pytest.mark.parametrize(
    ("class_name", "text"),
    [
        ("numbers", "5"),
        ("numbers", "1,234.5"),
        ("numbers", "-3"),
        ("numbers", "$2.3"),
        ("numbers", "15%"),
        ("numbers", "½"),
        ("numbers", "Ⅷ"),
        ("numbers", "٣"),
        ("numbers", "12:30"),
        ("numbers", "five"),
        ("numbers", "Twenty-five"),
        ("numbers", "million"),
        ("negations", "no"),
        ("negations", "NOT"),
        ("negations", "no-one"),
        ("negations", "non-binding"),
        ("negations", "isn't"),
        ("negations", "isn’t"),
        ("negations", "ISN'T"),
        ("negations", "can't"),
        ("negations", "cannot"),
        ("negations", "never"),
        ("negations", "without"),
        ("negations", "dont"),
        ("urls", "https://example.org/a?b=c"),
        ("urls", "s3://bucket/key"),
        ("urls", "www.example.org"),
        ("urls", "WWW.EXAMPLE.ORG"),
        ("urls", "Www.Example.org"),
        ("urls", "e-mail@x.org"),
        ("identifiers", "x86"),
        ("identifiers", "3D"),
        ("identifiers", "foo_bar"),
        ("identifiers", "camelCase"),
        ("identifiers", "os.path"),
        ("identifiers", "foo_bar.py"),
        ("identifiers", "src/moos/words"),
        ("identifiers", "B2B"),
    ],
)
def test_a_telling_word_is_protected(class_name, text):
    assert protected(f"so {text} then", class_name) == [text]


@pytest.mark.parametrize(
    ("class_name", "text", "words"),
    [
        ("numbers", "15 % of", ["15", "%"]),
        ("numbers", "$ 5 each", ["$", "5"]),
        ("negations", "can not go", ["not"]),
        ("urls", "mailto:a@b.org x", ["mailto:a@b.org"]),
        ("identifiers", "an /absolute path", ["/", "absolute"]),
        ("identifiers", "the T_V_ set", ["T_V", "_"]),
        ("identifiers", "a _private name", ["_", "private"]),
        ("identifiers", "a ~/home path", ["~", "/", "home"]),
        ("identifiers", "C:\\windows\\x y", ["C", ":", "\\", "windows", "\\", "x"]),
        ("identifiers", "a __init__ b", ["_", "_", "init", "_", "_"]),
        ("code", "run `a b` now", ["`", "a", "b", "`"]),
        ("code", "x ```\na\nb\n``` y", ["`", "`", "`", "a", "b", "`", "`", "`"]),
    ],
)
def test_a_match_protects_every_word_it_overlaps(class_name, text, words):
    assert protected(text, class_name) == words


@pytest.mark.parametrize(
    ("class_name", "text"),
    [
        ("numbers", "one and a half"),
        ("numbers", "% and $ alone"),
        ("negations", "know another note innocent knot"),
        ("negations", "the nation noted it"),
        ("urls", "a : // b @ c and www"),
        ("identifiers", "and/or he/she TCP/IP km/h"),  # no path
        ("identifiers", "e.g. this, i.e. that, a.m. or U.S."),
        ("identifiers", "An Ordinary Sentence. Another one."),
        ("identifiers", "ABC NATO"),
        ("identifiers", "24/7 and 3.5"),
        ("identifiers", "____ _ -- // comment"),
        ("code", "one ` alone"),
        ("code", "an `unclosed\nspan`"),
        ("code", "``` never closed"),
    ],
)
def test_an_ordinary_word_is_not_protected(class_name, text):
    assert protected(text, class_name) == []


def test_no_class_protects_nothing():
    assert protected("no 5 https://x.org foo_bar `a`") == []


@pytest.mark.parametrize(
    ("words", "text", "stays"),
    [
        (["acme"], "Acme and ACME, not acmes", ["Acme", "ACME"]),
        (["New York"], "in new york today", ["new", "york"]),
        (["C++"], "in C++ or C", ["C", "+", "+"]),
        (["a", "a b"], "a b c", ["a", "b"]),  # the longest first
        (["x.y"], "xzy x.y", ["x.y"]),  # plain text, no expression
        ([""], "nothing at all", []),
        (["straße"], "die Straße", ["Straße"]),
    ],
)
def test_the_users_words_stay_whatever_their_case(words, text, stays):
    assert protected(text, words=words) == stays


@pytest.mark.parametrize(
    ("pattern", "text", "stays"),
    [
        (r"§\s*\d+", "see § 12 here", ["§", "12"]),
        (r"Section [A-Z]", "see Section B here", ["Section", "B"]),
        (r"(?i)warn", "a Warning", ["Warning"]),  # part of a word protects all of it
        (r"^|$|x*", "no match of no characters", []),
        (r"\b", "a b c", []),
        (r"\s+", "a b c", []),  # white space is in no word
    ],
)
def test_the_users_expressions_protect_what_they_match(pattern, text, stays):
    assert protected(text, patterns=[pattern]) == stays


def test_a_catastrophic_expression_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(protect, "PATTERN_TIMEOUT_S", 0.05)
    pattern = r"(?:(?:a|aa)+)+x"
    with pytest.raises(DataError, match=r"\(\?:\(\?:a\|aa\)\+\)\+x.*protect_patterns"):
        protected("a" * 5000 + "y", patterns=[pattern])


@pytest.mark.parametrize(
    "unit", ["no ", "a.b", "/", "a/", "`", "_", "a_", "1", "@", "a@", "://", "n't", "www.", "$"]
)
def test_the_table_is_fast_on_a_wall_of_one_thing(unit):
    text = unit * (300_000 // len(unit))
    texts = join_texts([text])
    mask = protect_words(texts, compile_patterns(ALL_PROTECTED), lambda: None).mask
    assert len(mask) == len(texts.words)


@given(
    st.lists(st.integers(1, 5), max_size=12),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8),
)
def test_a_word_is_overlapped_when_it_shares_a_character_with_a_span(lengths, spans):
    ends = np.cumsum(np.int32([length + 1 for length in lengths]), dtype=np.int32)
    words = Words(ends - np.int32(lengths), ends)
    wanted = [
        any(start < end and set(range(a, b)) & set(range(start, end)) for start, end in spans)
        for a, b in zip(words.starts, words.ends, strict=True)
    ]
    array = np.array(spans, dtype=np.int64).reshape(-1, 2)
    assert overlapped_words(words, array).tolist() == wanted


@given(data=st.data())
def test_every_class_works_on_any_text(any_text, data):
    text = data.draw(any_text)
    texts = join_texts([text])
    words = texts.words
    mask = protect_words(texts, compile_patterns(ALL_PROTECTED), lambda: None).mask
    for start, end, stays in zip(words.starts, words.ends, mask, strict=True):
        if any(char.isdecimal() for char in text[start:end]):
            assert stays
