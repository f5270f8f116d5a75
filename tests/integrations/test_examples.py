"""The blocks of configs/examples/README.md do what they say, run as they stand there."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from moos import render

for package in ("datasets", "duckdb", "langchain_core", "llama_index.core", "pandas", "polars"):
    pytest.importorskip(package, reason="needs the extra `test-integrations`")

EXAMPLES = Path(__file__).resolve().parents[2] / "configs" / "examples"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
TELLING = {
    "duckdb": "ORDER BY rate",
    "pandas": 'frame = pd.read_parquet("out/docs/data")\n',
    "polars": "table = pl.read_parquet",
    "datasets": 'load_dataset("parquet"',
    "jsonl": 'load_dataset("json"',
    "duckdb chunks": "unnest(chunks",
    "polars chunks": '.unnest("chunks")',
    "pandas chunks": "ignore_index=True",
    "chunker": "Chunker(",
    "langchain": "MoosDocumentCompressor(",
    "llama-index": "MoosNodePostprocessor(",
    "dataset map": "MoosBatchCompressor(",
}
"""What tells each block from the others; each is run by a test of its own."""

TEXT = (
    "The committee met on Tuesday and decided that no further action was needed before the next "
    "report. Prices rose by 3.5 percent, and the model keeps the words that matter most for the "
    "reader.\n\nThis is not a test of memory; it is a test of what can be left out without harm."
)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with `out/docs` and `out/docs-jsonl`: 40 documents, one empty, with chunks."""
    from moos.config import load_config
    from pipelines.compress import run_compress
    from pipelines.config import CompressConfig

    root = tmp_path_factory.mktemp("examples")
    lines = [json.dumps({"id": f"d{i}", "text": f"{i}. {TEXT}" if i else ""}) for i in range(40)]
    (root / "docs.jsonl").write_text("\n".join(lines) + "\n")
    (command,) = re.findall(r"`moos compress (input.path=docs[^`]*)`", README)
    overrides = command.replace("docs.jsonl", f"{root}/docs.jsonl").replace(
        "out/docs", f"{root}/out/docs"
    )
    settings = ["executor=local", "engine=torch", "output.chunks.tokens=16", "selection.rate=0.5"]
    run_compress(load_config(CompressConfig, None, [*overrides.split(), *settings]))
    as_jsonl = [f"output.path={root}/out/docs-jsonl", "output.format=jsonl"]
    run_compress(load_config(CompressConfig, None, [*overrides.split(), *settings, *as_jsonl]))
    return root


@pytest.fixture
def run_block(workplace, tmp_path, monkeypatch):
    """`run_block("pandas")`: what that block of the page leaves behind, by name."""
    import datasets
    from langchain_core.runnables import RunnableLambda

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(workplace)

    def run(name: str, **given):
        (block,) = [block for block in BLOCKS if TELLING[name] in block]
        given = {"text": TEXT, "RunnableLambda": RunnableLambda, **given}
        exec(compile(block, str(EXAMPLES / "README.md"), "exec"), given)
        return given

    return run


def test_every_block_is_run_by_a_test_below():
    found = {name: [block for block in BLOCKS if text in block] for name, text in TELLING.items()}
    assert {len(blocks) for blocks in found.values()} == {1}
    assert sorted(block for (block,) in found.values()) == sorted(BLOCKS)


def test_duckdb_reads_an_output(run_block):
    rows = run_block("duckdb")["rows"]
    assert len(rows) == 40
    assert [rate for _, rate, _ in rows] == sorted(rate for _, rate, _ in rows)


def test_pandas_reads_an_output(run_block):
    frame = run_block("pandas")["frame"]
    row = frame[frame["id"] == "d7"].iloc[0]
    spans = [(span["start"], span["end"]) for span in row["kept_spans"]]
    assert render(row["text"], spans) == row["compressed_text"]


def test_polars_reads_an_output(run_block):
    table = run_block("polars")["table"]
    assert len(table) == 40
    assert table.row(7, named=True)["kept_spans"][0].keys() == {"start", "end"}


def test_datasets_reads_an_output(run_block):
    dataset = run_block("datasets")["dataset"]
    assert dataset.num_rows == 40
    assert dataset[7]["id"] == "d7"


def test_each_way_to_read_jsonl_gives_the_same(run_block):
    found = run_block("jsonl")
    names = ("id", "rate", "compressed_text")
    by_polars = [tuple(row[name] for name in names) for row in found["by_polars"].to_dicts()]
    by_datasets = [tuple(row[name] for name in names) for row in found["by_datasets"]]
    assert sorted(found["by_duckdb"]) == sorted(by_polars) == sorted(by_datasets)
    assert len(by_polars) == 40


def as_rows(chunks):
    return [{name: row[name] for name in ("id", "index", "text", "start", "end")} for row in chunks]


def test_each_way_to_one_row_per_chunk_gives_the_same(run_block):
    by_duckdb = as_rows(run_block("duckdb chunks")["chunks"].to_dicts())
    by_polars = as_rows(run_block("polars chunks")["chunks"].to_dicts())
    by_pandas = as_rows(run_block("pandas chunks")["chunks"].to_dict("records"))
    assert by_duckdb == by_polars == by_pandas
    assert len(by_polars) > 39
    assert {row["id"] for row in by_polars} == {f"d{i}" for i in range(1, 40)}


@pytest.mark.slow  # calibrates the default checkpoint's int8 model
def test_chunks_of_a_text_of_one_s_own(run_block, capsys):
    run_block("chunker")
    assert "'committee met on Tuesday" in capsys.readouterr().out


@pytest.mark.slow
def test_behind_a_langchain_retriever(run_block, capsys):
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableLambda

    retriever = RunnableLambda(lambda query: [Document(page_content=TEXT)])
    found = run_block("langchain", retriever=retriever)
    assert found["document"].metadata["moos"]["rate"] <= 0.5
    assert found["document"].page_content in capsys.readouterr().out


@pytest.mark.slow
def test_behind_a_llama_index_retriever(run_block, capsys):
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, TextNode

    class One(BaseRetriever):
        def _retrieve(self, query_bundle):
            return [NodeWithScore(node=TextNode(text=TEXT), score=0.5)]

    found = run_block("llama-index", node_retriever=One())["found"]
    assert found.node.metadata["moos"]["rate"] <= 0.5
    assert found.node.text in capsys.readouterr().out


@pytest.mark.slow
def test_over_a_dataset(run_block):
    mapped = run_block("dataset map")["mapped"]
    assert len(mapped[0]["compressed_text"]) < len(TEXT)


@pytest.mark.slow
def test_a_question_finds_the_passage_and_its_place(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("ask", EXAMPLES / "ask.py")
    ask = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ask)
    question = "Why was outgoing mail delayed?"
    settings = [f"output.path={tmp_path}/ask", "engine=torch"]
    for _ in range(2):  # the second time, the run and the index are there
        assert ask.main([question, *settings]) == 0
        shown = capsys.readouterr().out
        (first,) = re.findall(r"\[1\] (\S+), characters (\d+) to (\d+)", shown)
        assert first[0] == "technical-02-incident-report-queue"
    lines = (EXAMPLES.parent / "demo" / "articles.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    assert f">>>{texts[first[0]][int(first[1]) : int(first[2])]}<<<" in shown
