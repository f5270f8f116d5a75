import asyncio
import json

import pytest

from moos import render
from moos.errors import DataError

pytest.importorskip("langchain_core", reason="needs the extra `test-integrations`")

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from moos.integrations import MoosDocumentCompressor

TEXTS = (
    "The committee met on Tuesday and decided that no further action was needed.",
    "Prices rose by 3.5 percent, and the model keeps the words that matter most.",
    "",
)


@pytest.fixture
def documents():
    return [
        Document(page_content=text, metadata={"source": f"{place}.txt", "rate": 7}, id=str(place))
        for place, text in enumerate(TEXTS)
    ]


@pytest.fixture
def compressor(tiny_checkpoint):
    return MoosDocumentCompressor(checkpoint=str(tiny_checkpoint), device="cpu", rate=0.5)


def test_documents_come_back_shorter_with_their_metadata_and_the_spans(compressor, documents):
    found = compressor.compress_documents(documents, "When did they meet?")
    assert [document.id for document in found] == ["0", "1", "2"]
    for text, before, after in zip(TEXTS, documents, found, strict=True):
        assert {k: v for k, v in after.metadata.items() if k != "moos"} == before.metadata
        noted = after.metadata["moos"]
        assert after.page_content == render(text, noted["kept_spans"])
        assert noted["rate"] <= 0.5 or not text
        assert json.loads(json.dumps(noted)) == noted
    assert len(found[0].page_content) < len(TEXTS[0])
    assert [document.page_content for document in documents] == list(TEXTS)
    assert "moos" not in documents[0].metadata


def test_the_result_is_what_the_library_gives(compressor, documents, tiny_compressor):
    found = compressor.compress_documents(documents, "")
    expected = tiny_compressor.compress(list(TEXTS), rate=0.5)
    assert [document.page_content for document in found] == [one.text for one in expected]


def test_async_gives_the_same(compressor, documents):
    found = asyncio.run(compressor.acompress_documents(documents, "query"))
    assert found == compressor.compress_documents(documents, "query")


def test_it_stands_behind_a_retriever(compressor, documents):
    class Everything(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return documents

    def compress(found):
        return compressor.compress_documents(found, "query")

    chain = Everything() | compress
    assert chain.invoke("query") == compressor.compress_documents(documents, "query")


def test_nothing_found_is_nothing_and_loads_nothing():
    assert MoosDocumentCompressor(checkpoint="/nowhere").compress_documents([], "query") == []


def test_the_original_can_be_kept_for_the_citation(tiny_checkpoint, documents):
    compressor = MoosDocumentCompressor(
        checkpoint=str(tiny_checkpoint), device="cpu", rate=0.5, keep_original=True
    )
    found = compressor.compress_documents(documents, "query")
    assert [document.metadata["moos"]["original"] for document in found] == list(TEXTS)


def test_a_budget_may_be_in_tokens(tiny_checkpoint, documents):
    compressor = MoosDocumentCompressor(
        checkpoint=str(tiny_checkpoint), device="cpu", target_tokens=4, protect=()
    )
    found = compressor.compress_documents(documents, "query")
    assert all(document.metadata["moos"]["num_kept_tokens"] <= 4 for document in found)


def test_a_second_compression_is_refused(compressor, documents):
    once = compressor.compress_documents(documents, "query")
    with pytest.raises(DataError, match="passage 0 has metadata 'moos' already"):
        compressor.compress_documents(once, "query")


def test_a_document_that_cannot_be_compressed_comes_back_whole(compressor, caplog):
    broken = Document(page_content="half a pair \ud800 of surrogates")
    sound = Document(page_content=TEXTS[0])
    found = compressor.compress_documents([broken, sound], "query")
    assert found[0].page_content == broken.page_content
    assert "surrogate" in found[0].metadata["moos"]["error"]
    assert "uncompressed" in caplog.text
    assert found[1] == compressor.compress_documents([sound], "query")[0]


def test_a_misspelt_setting_is_an_error():
    with pytest.raises(ValueError, match="raet"):
        MoosDocumentCompressor(raet=0.5)
