import pickle

import pyarrow as pa
import pytest
from pydantic import ValidationError

from moos.errors import ConfigError
from moos.schema import annotation_schema

pytest.importorskip("datasets", reason="needs the extra `test-integrations`")

import datasets

from moos.integrations import MoosBatchCompressor

TEXTS = [
    "The committee met on Tuesday and decided that no further action was needed.",
    None,
    "Prices rose by 3.5 percent, and the model keeps the words that matter most.",
    "",
]


@pytest.fixture
def compress(tiny_checkpoint):
    return MoosBatchCompressor(checkpoint=str(tiny_checkpoint), device="cpu", rate=0.5)


@pytest.fixture
def dataset():
    return datasets.Dataset.from_dict({"id": list("abcd"), "text": TEXTS})


def test_rows_get_the_columns_of_a_run(compress, dataset, tiny_compressor):
    mapped = dataset.map(compress, batched=True, features=compress.features(dataset.features))
    assert mapped["id"] == dataset["id"]
    assert mapped["text"] == TEXTS
    expected = tiny_compressor.compress(TEXTS[0], rate=0.5)
    assert mapped[0]["compressed_text"] == expected.text
    spans = [{"start": start, "end": end} for start, end in expected.spans]
    assert mapped[0]["kept_spans"] == spans
    assert mapped[1]["compressed_text"] is None
    assert mapped["compression_error"] == ["", "'text' is null", "", ""]
    added = mapped.data.table.select(annotation_schema("none").names).schema.remove_metadata()
    assert added == annotation_schema("none")


def test_arrow_batches_and_streams_give_the_same_rows(compress, dataset):
    rows = dataset.map(compress, batched=True, batch_size=2).to_list()
    arrow = dataset.with_format("arrow").map(compress, batched=True, batch_size=1)
    assert arrow.with_format(None).to_list() == rows
    stream = dataset.to_iterable_dataset().map(compress, batched=True, batch_size=3)
    assert list(stream) == rows


def test_processes_give_the_same_rows_though_the_parent_has_a_model_loaded(compress, dataset):
    compress({"text": TEXTS})
    many = datasets.concatenate_datasets([dataset] * 3)
    alone = many.map(compress, batched=True, load_from_cache_file=False)
    shared = many.map(compress, batched=True, num_proc=2, load_from_cache_file=False)
    assert shared.to_list() == alone.to_list()


def test_it_is_pickled_as_its_settings(compress):
    assert len(pickle.dumps(compress)) < 2000
    again = pickle.loads(pickle.dumps(compress))
    assert again({"text": TEXTS}) == compress({"text": TEXTS})


def test_the_cache_notices_another_checkpoint_under_the_same_name(copy_checkpoint, tmp_path):
    from datasets.fingerprint import Hasher

    path = copy_checkpoint("bert")
    before = Hasher.hash(MoosBatchCompressor(checkpoint=str(path)))
    assert Hasher.hash(MoosBatchCompressor(checkpoint=str(path))) == before
    (path / "moos.json").write_text('{"alpha": 0.5}')
    assert Hasher.hash(MoosBatchCompressor(checkpoint=str(path))) != before


def test_a_batch_of_nothing_but_nulls_has_the_same_types(compress):
    batch = compress(pa.table({"text": pa.array([None, None], pa.string())}))
    assert batch.select(annotation_schema("none").names).schema == annotation_schema("none")
    assert batch["compressed_text"].null_count == 2


def test_words_are_listed_when_asked_for(tiny_checkpoint):
    compress = MoosBatchCompressor(checkpoint=str(tiny_checkpoint), annotations="all")
    (words,) = compress({"text": TEXTS[:1]})["kept_words"]
    assert [TEXTS[0][word["start"] : word["end"]] for word in words][:3] == [
        "The",
        "committee",
        "met",
    ]


def test_what_cannot_work_is_refused(compress):
    with pytest.raises(ConfigError, match="no column 'text', only body; set text_column"):
        compress({"body": TEXTS})
    with pytest.raises(ConfigError, match="'rate' is named like one"):
        compress({"text": TEXTS, "rate": [1, 2, 3, 4]})
    with pytest.raises(ValidationError, match="a map function sees a batch"):
        MoosBatchCompressor(corpus_rate=0.5)
