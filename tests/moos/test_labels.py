import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from moos.errors import ConfigError, DataError
from moos.labelled_inputs import label_words, prepare_inputs
from moos.labels import draw_records, read_labelled, split_documents
from moos.tokens import TextTokenizer
from moos.words import cut_words

RECORD = {"id": "a", "domain": "news", "text": "It ends.", "soft": [0.25, 1]}


@pytest.fixture(scope="module")
def tokenizer():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "it", "end", "##s", ".", "$", "2", ".", "##3"]
    tokenizer = Tokenizer(
        models.WordPiece({n: i for i, n in enumerate(dict.fromkeys(names))}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return TextTokenizer(tokenizer.to_str())


@pytest.fixture
def write(tmp_path):
    def write(*records):
        path = tmp_path / "labels.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(path)

    return write


def test_a_compressed_file_reads_like_a_plain_one(write, tmp_path):
    plain = write(RECORD)
    packed = tmp_path / "labels.jsonl.gz"
    with gzip.open(packed, "wt") as stream:
        stream.write(json.dumps(RECORD) + "\n\n")
    first, second = read_labelled(plain)[0], read_labelled(str(packed))[0]
    assert first.id == second.id
    assert first.labels.tolist() == second.labels.tolist() == [0.25, 1.0]


def test_words_are_what_white_space_parts_with_offsets_into_the_text(write):
    text = " é…\u00a0(a)\n\tlast"
    document = read_labelled(write({**RECORD, "text": text, "soft": [0, None, 1]}))[0]
    spans = zip(document.starts, document.ends, strict=True)
    assert [text[start:end] for start, end in spans] == text.split()
    assert np.isnan(document.labels[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"soft": [0.5]}, "1 labels for 2 words"),
        ({"soft": [0.5, 1.5]}, "label 1 is 1.5"),
        ({"soft": [-0.1, 1]}, "label 0 is -0.1"),
        ({"soft": [float("nan"), 1]}, "label 0 is nan"),
        ({"soft": [True, 1]}, "label 0 is True"),
        ({"soft": ["1", 1]}, "label 0 is '1'"),
        ({"soft": None}, "soft must be a list"),
        ({"text": 3}, "text must be a string"),
        ({"id": None}, "id must be a string"),
    ],
)
def test_bad_labels_are_refused_with_their_line(write, change, message):
    path = write({**RECORD, "id": "other"}, {**RECORD, **change})
    with pytest.raises(DataError, match=message) as caught:
        read_labelled(path)
    assert "line 2" in str(caught.value)


def test_a_file_without_any_labels_is_an_error_of_the_config(write, tmp_path):
    bare = {"id": "a", "text": "It ends."}
    told = r"^data\.path: no labels in .*labels\.jsonl \(no 'soft'\); give what moos label wrote$"
    with pytest.raises(ConfigError, match=told):
        read_labelled(write(bare, bare))
    with pytest.raises(DataError, match="line 1, id 'a': soft must be a list"):
        read_labelled(write({**bare, "domain": "news"}, RECORD))
    pq.write_table(pa.Table.from_pylist([bare]), tmp_path / "docs.parquet")
    with pytest.raises(ConfigError, match=r"docs\.parquet \(no 'words'\); give what moos label"):
        read_labelled(str(tmp_path / "docs.parquet"))


def test_a_repeated_id_is_refused(write):
    with pytest.raises(DataError, match="id 'a' was there before"):
        read_labelled(write(RECORD, RECORD))


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b"\xff\n"])
def test_a_file_that_holds_no_records_is_refused(tmp_path, content):
    path = tmp_path / "labels.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.jsonl"):
        read_labelled(str(path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.path: .* names no file"):
        read_labelled(str(tmp_path / "none.jsonl.gz"))


def test_the_parts_of_a_punctuated_word_share_its_label(write):
    text = "(It) ends, it costs $2.3."
    document = read_labelled(write({**RECORD, "text": text, "soft": [0.1, 0.2, None, 0.4, 0.5]}))[0]
    words = cut_words(text)
    labels = label_words(document, words)
    pairs = [
        (text[start:end], round(float(label), 3))
        for start, end, label in zip(words.starts, words.ends, labels, strict=True)
        if not np.isnan(label)
    ]
    assert pairs == [
        ("(", 0.1),
        ("It", 0.1),
        (")", 0.1),
        ("ends", 0.2),
        (",", 0.2),
        ("costs", 0.4),
        ("$2.3", 0.5),
        (".", 0.5),
    ]


def test_a_token_has_the_label_of_its_word(write, tokenizer):
    documents = read_labelled(write({**RECORD, "text": "It ends.", "soft": [0.25, 1]}))
    prepared = prepare_inputs(documents, tokenizer, 16)[0]
    assert prepared.token_labels.tolist() == [0.25, 1.0, 1.0, 1.0]
    assert len(prepared.inputs) == 1
    assert (prepared.inputs[0].own_start, prepared.inputs[0].own_end) == (1, 5)


def test_windows_hold_at_most_the_given_length_and_own_each_token_once(write, tokenizer):
    text = "It ends. " * 20
    documents = read_labelled(write({**RECORD, "text": text, "soft": [1, 0] * 20}))
    prepared = prepare_inputs(documents, tokenizer, 10)[0]
    assert max(len(item.ids) for item in prepared.inputs) <= 10
    owned = sum(item.own_end - item.own_start for item in prepared.inputs)
    assert owned == len(prepared.token_words) == 80


def test_an_empty_text_gives_no_window(write, tokenizer):
    documents = read_labelled(write({**RECORD, "text": " ", "soft": []}))
    prepared = prepare_inputs(documents, tokenizer, 10)[0]
    assert prepared.inputs == []
    assert prepared.token_labels.tolist() == []


def test_the_split_of_a_document_depends_on_nothing_but_its_name_and_the_seed(write):
    records = [
        {**RECORD, "id": f"{name}/{part}", "document": f"{name}"}
        for name in range(200)
        for part in range(2)
    ]
    documents = read_labelled(write(*records))
    _, held_out = split_documents(documents, validation_share=0.25, seed=0)
    _, of_reversed = split_documents(documents[::-1][:300], validation_share=0.25, seed=0)
    _, other_seed = split_documents(documents, validation_share=0.25, seed=1)
    names = {document.document for document in held_out}
    assert {document.id for document in of_reversed} == {
        document.id for document in documents[100:] if document.document in names
    }
    assert names != {document.document for document in other_seed}
    assert 0.15 < len(held_out) / len(documents) < 0.35
    assert all(sum(d.document == name for d in held_out) == 2 for name in names)


def test_records_are_drawn_by_whole_documents_and_by_their_names_alone(write):
    records = [
        {**RECORD, "id": f"{name}/{part}", "document": f"{name}"}
        for name in range(60)
        for part in range(1 + name % 4)
    ]
    documents = read_labelled(write(*records))
    drawn = draw_records(documents, 40)
    assert 36 < len(drawn) <= 40
    names = {document.document for document in drawn}
    assert drawn == [document for document in documents if document.document in names]
    assert draw_records(documents[::-1], 40) == drawn[::-1]
    assert draw_records(documents, 10_000) == documents
    assert len(names & {d.document for d in draw_records(documents, 80)}) == len(names)
