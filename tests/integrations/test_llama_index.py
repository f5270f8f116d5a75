import asyncio

import pytest

from moos import render

pytest.importorskip("llama_index.core", reason="needs the extra `test-integrations`")

from llama_index.core import QueryBundle
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import (
    ImageNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from moos.integrations import MoosNodePostprocessor

TEXT = "The committee met on Tuesday and decided that no further action was needed."


@pytest.fixture
def nodes():
    source = RelatedNodeInfo(node_id="report")
    node = TextNode(
        id_="n1",
        text=TEXT,
        metadata={"page": 4},
        relationships={NodeRelationship.SOURCE: source},
        start_char_idx=100,
        end_char_idx=100 + len(TEXT),
        embedding=[0.5, 0.5],
    )
    return [NodeWithScore(node=node, score=0.75), NodeWithScore(node=ImageNode(id_="n2"))]


@pytest.fixture
def postprocessor(tiny_checkpoint):
    return MoosNodePostprocessor(checkpoint=str(tiny_checkpoint), device="cpu", rate=0.5)


def test_nodes_come_back_shorter_with_all_that_was_known_of_them(postprocessor, nodes):
    before = nodes[0].node.model_copy(deep=True)
    found = postprocessor.postprocess_nodes(nodes, QueryBundle("When did they meet?"))
    node = found[0].node
    spans = node.metadata["moos"]["kept_spans"]
    assert node.text == render(TEXT, spans)
    assert len(node.text) < len(TEXT)
    assert (found[0].score, node.node_id, node.metadata["page"]) == (0.75, "n1", 4)
    assert (node.relationships, node.embedding) == (before.relationships, before.embedding)
    assert (node.start_char_idx, node.end_char_idx) == (100, 100 + len(TEXT))
    assert nodes[0].node == before
    assert found[1] is nodes[1]


def test_a_language_model_does_not_read_the_spans(postprocessor, nodes):
    node = postprocessor.postprocess_nodes(nodes)[0].node
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        shown = node.get_content(mode)
        assert "kept_spans" not in shown
        assert "page: 4" in shown


def test_async_and_plain_queries_give_the_same(postprocessor, nodes):
    found = postprocessor.postprocess_nodes(nodes, query_str="query")
    assert asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str="query")) == found


def test_a_query_engine_may_give_it_a_callback_manager(postprocessor):
    postprocessor.callback_manager = CallbackManager([])


def test_it_is_stored_and_read_back_as_llama_index_does(postprocessor, nodes):
    again = MoosNodePostprocessor.from_dict(postprocessor.to_dict())
    assert again.postprocess_nodes(nodes) == postprocessor.postprocess_nodes(nodes)
