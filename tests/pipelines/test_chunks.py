"""Chunks beside the rows of a run."""

import pytest

from moos import render
from moos.errors import ConfigError
from pipelines.config import ChunksConfig
from pipelines.verify import verify_output


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("budget", ["rate=0.7", "corpus_rate=0.7"])
def test_a_row_has_its_chunks(compress, write_jsonl, documents, tmp_path, read_rows, form, budget):
    source = write_jsonl("docs.jsonl", [*documents(9), {"text": ""}, {"text": None}])
    compress(
        source,
        tmp_path / "out",
        f"output.format={form}",
        "output.chunks.tokens=16",
        f"selection.{budget}",
        "scoring.alpha=1",
        "max_quarantined=1",
    )
    rows = read_rows(tmp_path / "out")
    assert rows[-1]["chunks"] == []
    for row in rows[:-1]:
        assert len(row["chunks"]) > 1
        assert [chunk["index"] for chunk in row["chunks"]] == list(range(len(row["chunks"])))
        for chunk in row["chunks"]:
            spans = [(span["start"], span["end"]) for span in chunk["kept_spans"]]
            assert chunk["text"] == render(row["text"], spans)
            assert chunk["num_tokens"] <= 16 or " " not in chunk["text"]  # a URL
            assert (chunk["start"], chunk["end"]) == (spans[0][0], spans[-1][1])
    assert verify_output(str(tmp_path / "out")).broken == []


def test_other_chunks_are_another_run(compress, config, write_jsonl, documents, tmp_path):
    source, out = write_jsonl("docs.jsonl", documents(3)), tmp_path / "out"
    compress(source, out)
    with pytest.raises(ConfigError, match=r"output.chunks.tokens: was None, now 16"):
        compress(source, out, "output.chunks.tokens=16")


def test_an_input_column_named_chunks_is_refused_only_where_it_would_be_ours(
    compress, write_parquet, tmp_path, read_rows
):
    source = write_parquet("docs.parquet", {"text": ["a b"], "chunks": [7]})
    with pytest.raises(ConfigError, match="'chunks' is named like one that moos adds"):
        compress(source, tmp_path / "refused", "output.chunks.tokens=16")
    compress(source, tmp_path / "out")
    assert read_rows(tmp_path / "out")[0]["chunks"] == 7
    assert verify_output(str(tmp_path / "out")).broken == []


@pytest.mark.parametrize("values", [{"overlap": 4}, {"tokens": 16, "overlap": 9}, {"tokens": 8}])
def test_settings_without_effect_or_sense_are_refused(values):
    with pytest.raises(ValueError, match=r"overlap|tokens"):
        ChunksConfig(**values)
