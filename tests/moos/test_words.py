import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from moos.tokens import Tokens
from moos.words import MAX_URL_CHARS, MAX_WORD_CHARS, URL, count_tokens, cut_words, map_tokens


def cut(text: str) -> list[str]:
    words = cut_words(text)
    return [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t\u2028\u3000", []),
        ("one  two\nthree", ["one", "two", "three"]),
        ("1,234.5", ["1,234.5"]),
        ("e-mail@x.org", ["e-mail@x.org"]),
        ("don't", ["don't"]),
        ("don’t", ["don’t"]),
        ("rock'n'roll", ["rock'n'roll"]),
        ("foo_bar.py", ["foo_bar.py"]),
        ("12:30 and 5/6", ["12:30", "and", "5/6"]),
        ("the end.", ["the", "end", "."]),  # a joiner joins only where both sides are letters
        ("'tis a-", ["'", "tis", "a", "-"]),
        ("a--b", ["a", "-", "-", "b"]),
        ("U.S.", ["U.S", "."]),
        ("-3", ["-3"]),
        ("±3 −5 +7", ["±3", "−5", "+7"]),
        ("x=-3", ["x", "=", "-3"]),
        ("5-3", ["5-3"]),  # no sign: it joins two numbers
        ("$2.3", ["$2.3"]),
        ("-$2.3", ["-$2.3"]),
        ("$.5 -.5", ["$.5", "-.5"]),
        ("15%", ["15%"]),
        ("20°C 3‰", ["20°", "C", "3‰"]),
        ("15 %", ["15", "%"]),
        ("C++ #1 AT&T", ["C", "+", "+", "#", "1", "AT", "&", "T"]),
        ("(see https://x.org/a?b=c,d.)", ["(", "see", "https://x.org/a?b=c,d", ".", ")"]),
        ("www.x.org, ok", ["www.x.org", ",", "ok"]),
        ("s3://bucket/key_1", ["s3://bucket/key_1"]),
        ("的一是abc", ["的", "一", "是", "abc"]),
        ("カタカナとひ", ["カタカナ", "と", "ひ"]),
        ("コーヒー", ["コーヒー"]),
        ("ab中cd", ["ab", "中", "cd"]),
        ("السلام عليكم،", ["السلام", "عليكم", "،"]),
        ("e\u0301te\u0301!", ["e\u0301te\u0301", "!"]),
        ("soft\u00adhyphen", ["soft\u00adhyphen"]),
        ("👩🏽‍🚀👨‍👩‍👧‍👦", ["👩🏽‍🚀", "👨‍👩‍👧‍👦"]),
        ("👩‍❤️‍👨x", ["👩‍❤️‍👨", "x"]),
        ("👍🏿👍", ["👍🏿", "👍"]),
        ("🇩🇪🇫🇷🇮", ["🇩🇪", "🇫🇷", "🇮"]),
        ("🏴󠁧󠁢󠁥󠁮󠁧󠁿!", ["🏴󠁧󠁢󠁥󠁮󠁧󠁿", "!"]),
        ("1️⃣ ", ["1️⃣"]),
        ("[SEP]", ["[", "SEP", "]"]),
        ("<s>", ["<", "s", ">"]),
        ("<|endoftext|>", ["<", "|", "endoftext", "|", ">"]),
        ("a\x00b", ["a", "\x00", "b"]),
        ("\ud800a", ["\ud800", "a"]),  # a lone surrogate is a character of no class
    ],
)
def test_words_are_cut_as_people_write_them(text, words):
    assert cut(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("⚠️Warning", ["⚠️", "Warning"]),
        ("❤️love", ["❤️", "love"]),
        ("か\u3099abc", ["か\u3099", "abc"]),  # decomposed
        ("!\u0301a", ["!\u0301", "a"]),
    ],
)
def test_a_mark_behind_a_symbol_does_not_glue_the_next_letter_to_it(text, words):
    assert cut(text) == words


@pytest.mark.parametrize("text", ["😀,😀", "👍-👎", "©.®", "👍🏽/👎🏽", "❤️:❤️"])
def test_only_a_zero_width_joiner_joins_two_emoji(text):
    assert len(cut(text)) == 3


def test_a_word_over_64_characters_is_cut():
    assert [len(word) for word in cut("a " + "x" * 130)] == [1, 64, 64, 2]
    assert [len(word) for word in cut("x" * MAX_WORD_CHARS)] == [MAX_WORD_CHARS]


def test_a_url_is_one_word_however_long_it_is():
    url = "https://example.org/" + "a/" * 200 + "end"
    assert cut(f"see {url}.") == ["see", url, "."]


def test_a_url_ends_somewhere():
    words = cut("https://" + "x" * 5000)
    assert max(map(len, words)) <= MAX_URL_CHARS + len("https://") + 1


def test_a_word_of_five_million_characters_is_cut():
    words = cut_words("x" * 5_000_000)
    assert (words.starts[0], words.ends[-1]) == (0, 5_000_000)


@pytest.mark.parametrize("character", ["的", "!", "👍", "\u0301", "1", ".", "-", "/", "\u200d"])
def test_a_wall_of_one_character_is_cut_in_linear_time(character):
    words = cut_words(character * 500_000)
    assert (words.starts[0], words.ends[-1]) == (0, 500_000)


def test_a_wall_of_urls_is_cut_in_linear_time():
    words = cut_words("http://www." * 100_000)
    assert words.ends[-1] == 1_100_000


@given(data=st.data())
def test_words_are_disjoint_and_hold_every_character_that_is_not_white_space_once(any_text, data):
    text = data.draw(any_text)
    words = cut_words(text)
    assert (words.ends > words.starts).all()
    assert (words.starts[1:] >= words.ends[:-1]).all()
    held = np.zeros(len(text), dtype=int)
    for start, end in zip(words.starts, words.ends, strict=True):
        held[start:end] += 1
    assert held.tolist() == [int(regex.match(r"\s", char) is None) for char in text]


@given(data=st.data())
def test_only_urls_are_longer_than_64_characters(any_text, data):
    text = data.draw(any_text)
    assert all(len(word) <= MAX_WORD_CHARS or URL.match(word) for word in cut(text))


@given(data=st.data())
def test_words_do_not_depend_on_text_beyond_white_space(any_text, data):
    first, second = data.draw(any_text), data.draw(any_text)
    assert cut(first + "\n" + second) == cut(first) + cut(second)


@given(text=st.text(alphabet=st.characters(categories=["Cs", "L", "P"]), max_size=40))
def test_lone_surrogates_do_not_disturb_the_words(text):
    assert "".join(cut(text)) == regex.sub(r"\s", "", text)


@pytest.mark.parametrize(
    ("offsets", "owners"),
    [
        ([(0, 3), (3, 5)], [0, 0]),
        ([(0, 1), (2, 4), (4, 8)], [0, 0, 0]),  # over two words: the first that it overlaps
        ([(0, 5), (5, 6), (6, 9)], [0, 1, 1]),  # white space alone: the next word
        ([(6, 9), (9, 11)], [1, 1]),  # behind the last word: that one
        ([(0, 0), (5, 5), (7, 7)], [0, 1, 1]),  # tokens of no width
        ([], []),
    ],
)
def test_a_token_belongs_to_one_word(offsets, owners):
    words = cut_words("alpha beta  ")
    pairs = np.array(offsets, dtype=np.int32).reshape(-1, 2)
    tokens = Tokens(np.zeros(len(pairs), dtype=np.int32), pairs[:, 0], pairs[:, 1])
    assert map_tokens(tokens, words).tolist() == owners


def test_tokens_of_a_text_without_words_belong_to_none():
    tokens = Tokens(*(np.zeros(2, dtype=np.int32) for _ in range(3)))
    assert map_tokens(tokens, cut_words("  ")).tolist() == [-1, -1]
    assert len(count_tokens(np.int32([-1, -1]), 0)) == 0


def test_every_word_is_counted_also_one_without_a_token():
    assert count_tokens(np.int32([0, 0, 2]), 4).tolist() == [2, 0, 1, 0]
