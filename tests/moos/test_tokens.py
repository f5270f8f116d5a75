import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from moos.errors import DataError, ModelError
from moos.tokens import PIECE_CHARS, TextTokenizer, check_text
from moos.words import count_tokens, cut_words, map_tokens

KINDS = ("bert", "xlm-r", "modernbert", "deberta-v2")


@pytest.fixture(scope="module")
def tokenizers(make_checkpoint):
    return {
        kind: TextTokenizer.from_file(make_checkpoint(kind) / "tokenizer.json") for kind in KINDS
    }


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("bert", "[CLS]", "[SEP]"),
        ("xlm-r", "<s>", "</s>"),
        ("modernbert", "[CLS]", "[SEP]"),
        ("deberta-v2", "[CLS]", "[SEP]"),
    ],
)
def test_the_special_tokens_around_an_input_are_found(make_checkpoint, kind, first, last):
    path = make_checkpoint(kind) / "tokenizer.json"
    tokenizer, raw = TextTokenizer.from_file(path), Tokenizer.from_file(str(path))
    assert tokenizer.prefix_ids == [raw.token_to_id(first)]
    assert tokenizer.suffix_ids == [raw.token_to_id(last)]
    assert tokenizer.unknown_id in (raw.token_to_id("[UNK]"), raw.token_to_id("<unk>"))


def test_a_tokenizer_without_special_tokens_puts_nothing_around_an_input(make_checkpoint):
    content = json.loads((make_checkpoint("modernbert") / "tokenizer.json").read_text())
    content["post_processor"] = None
    content["added_tokens"] = []
    tokenizer = TextTokenizer(json.dumps(content))
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids, tokenizer.unknown_id) == ([], [], None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("literal", ["[SEP]", "<s>", "a </s> b", "[CLS][PAD]", "<pad>", "x<mask>y"])
def test_a_literal_special_token_is_text(tokenizers, make_checkpoint, kind, literal):
    raw = Tokenizer.from_file(str(make_checkpoint(kind) / "tokenizer.json"))
    named = {id_ for id_, token in raw.get_added_tokens_decoder().items() if token.special}
    special = named - {tokenizers[kind].unknown_id}
    (tokens,) = tokenizers[kind].tokenize([literal])
    assert special.isdisjoint(tokens.ids.tolist())


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_tokens_lie_inside_the_text_in_order_and_belong_to_one_word_each(
    tokenizers, any_text, kind, data
):
    text = data.draw(any_text)
    (tokens,) = tokenizers[kind].tokenize([text])
    assert len(tokens.ids) == len(tokens.starts) == len(tokens.ends)
    assert (tokens.starts >= 0).all()
    assert (tokens.starts <= tokens.ends).all()
    assert (tokens.ends <= len(text)).all()
    assert (np.diff(tokens.starts) >= 0).all()
    words = cut_words(text)
    owners = map_tokens(tokens, words)
    assert len(owners) == len(tokens)
    if len(words):
        assert (np.diff(owners) >= 0).all()
        assert count_tokens(owners, len(words)).sum() == len(tokens)
        for start, end, owner in zip(tokens.starts, tokens.ends, owners, strict=True):
            overlapped = np.flatnonzero((words.starts < end) & (words.ends > start))
            assert len(overlapped) == 0 or owner == overlapped[0]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_batch_gives_the_tokens_of_each_text_alone(tokenizers, any_text, kind, data):
    texts = data.draw(st.lists(any_text, max_size=4))
    tokenizer = tokenizers[kind]
    for text, tokens in zip(texts, tokenizer.tokenize(texts), strict=True):
        (alone,) = tokenizer.tokenize([text])
        assert tokens.ids.tolist() == alone.ids.tolist()
        assert tokens.starts.tolist() == alone.starts.tolist()
        assert tokenizer.count(text) == len(alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", ["The committee met. ", "a   \n\n b", "word\r\n", "的 一。 "])
def test_a_text_encoded_in_pieces_has_the_tokens_of_the_whole(
    tokenizers, make_checkpoint, kind, unit
):
    text = unit * (3 * PIECE_CHARS // len(unit))
    whole = Tokenizer.from_file(str(make_checkpoint(kind) / "tokenizer.json")).encode(
        text, add_special_tokens=False
    )
    (tokens,) = tokenizers[kind].tokenize([text])
    assert tokens.ids.tolist() == whole.ids
    assert list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)) == whole.offsets


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_white_space_is_encoded_in_pieces_too(tokenizers, kind):
    text = "的一是" * PIECE_CHARS
    (tokens,) = tokenizers[kind].tokenize([text])
    assert (np.diff(tokens.starts) >= 0).all()
    assert tokens.ends.max() == len(text)


def test_an_empty_text_and_an_empty_batch_have_no_tokens(tokenizers):
    assert [len(tokens) for tokens in tokenizers["bert"].tokenize(["", "a"])] == [0, 1]
    assert tokenizers["bert"].tokenize([]) == []


def test_a_lone_surrogate_is_refused_with_its_position(tokenizers):
    with pytest.raises(DataError, match="lone surrogate"):
        tokenizers["bert"].tokenize(["fine", "broken \ud83d"])
    with pytest.raises(DataError, match=r"U\+D83D at character 7"):
        check_text("broken \ud83d")
    check_text("😀 is a whole pair")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": {"type": "Nope"}}'])
def test_a_file_that_is_no_fast_tokenizer_is_refused(content):
    with pytest.raises(ModelError, match="not a fast tokenizer"):
        TextTokenizer(content)


def test_a_missing_or_binary_tokenizer_file_is_named(tmp_path):
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.json", tmp_path, binary):
        with pytest.raises(ModelError, match=path.name):
            TextTokenizer.from_file(path)


def test_truncation_and_padding_of_the_file_are_turned_off(make_checkpoint):
    raw = Tokenizer.from_file(str(make_checkpoint("bert") / "tokenizer.json"))
    raw.enable_truncation(4)
    raw.enable_padding(length=16)
    tokenizer = TextTokenizer(raw.to_str())
    assert [len(tokens) for tokens in tokenizer.tokenize(["a b c d e f g h", "a"])] == [8, 1]
