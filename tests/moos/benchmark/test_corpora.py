import gzip
import json

import pytest

from moos.benchmark.corpora import CORPORA, build_corpus, fill, read_corpus, repeat_texts
from moos.checkpoint import read_checkpoint
from moos.errors import ConfigError
from moos.tokens import TextTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.from_file(read_checkpoint("default").tokenizer_path)


def count(texts, tokenizer):
    return sum(len(tokens) for tokens in tokenizer.tokenize(texts))


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("tokens", [300, 20_000])
def test_a_corpus_has_the_size_that_is_asked_for(name, tokens, tokenizer):
    texts = build_corpus(name, tokens, tokenizer)
    assert all(texts)
    assert count(texts, tokenizer) == pytest.approx(tokens, rel=0.01)


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_a_function_of_its_seed(name, tokenizer):
    first = build_corpus(name, 4000, tokenizer, seed=1)
    assert build_corpus(name, 4000, tokenizer, seed=1) == first
    assert (build_corpus(name, 4000, tokenizer, seed=2) == first) == (name in ("meetings", "huge"))


def test_corpora_differ_in_the_lengths_of_their_documents(tokenizer):
    lengths = {
        name: sorted(
            len(tokens) for tokens in tokenizer.tokenize(build_corpus(name, 20_000, tokenizer))
        )
        for name in CORPORA
    }
    assert len(lengths["huge"]) == 1
    assert max(lengths["meetings"]) > 5000
    assert 100 < lengths["passages"][len(lengths["passages"]) // 2] < 250
    assert max(lengths["mixed"]) > 10 * lengths["mixed"][len(lengths["mixed"]) // 2]


def test_texts_come_again_in_another_order_of_their_lines():
    texts = repeat_texts(["a\nb\nc", "d"])
    assert [next(texts) for _ in range(4)] == ["a\nb\nc", "d", "b\nc\na", "d"]


def test_the_last_text_is_cut_at_a_token_s_end(tokenizer):
    texts = fill(iter(["one two", "three four five"]), 3, tokenizer)
    assert texts == ["one two", "three"]


def test_a_file_of_one_s_own_is_read_up_to_its_size(tmp_path, tokenizer):
    path = tmp_path / "docs.jsonl.gz"
    lines = "".join(json.dumps({"body": f"document number {i}"}) + "\n\n" for i in range(9))
    path.write_bytes(gzip.compress(lines.encode()))
    texts = read_corpus(str(path), "body", 7, tokenizer)
    assert texts == ["document number 0", "document number 1", "document"]
    assert len(read_corpus(str(path), "body", 1000, tokenizer)) == 9


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("", "holds no document"),
        ('{"text": "a"}\n{"body": "b"}\n', "line 2 of .*text_column='text'"),
        ('{"text": 3}\n', "'text' is no string"),
        ("[1]\n", "line 1"),
    ],
)
def test_a_file_that_is_no_corpus_is_refused(tmp_path, tokenizer, content, said):
    path = tmp_path / "docs.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_corpus(str(path), "text", 1000, tokenizer)
