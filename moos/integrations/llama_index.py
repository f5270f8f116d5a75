"""A LlamaIndex node postprocessor: what a retriever found, in fewer tokens, with its relations."""

from typing import Any

from pydantic import ConfigDict

from moos.integrations.passages import PassageSettings, missing_package

try:
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore
except ModuleNotFoundError as error:
    raise missing_package("llama_index", "'moos[llama-index]'", error) from error


class MoosNodePostprocessor(BaseNodePostprocessor, PassageSettings):
    """Compresses retrieved nodes one by one: `MoosNodePostprocessor(rate=0.5)`.

    Goes into `node_postprocessors` of a query engine. Settings are the keys of `PassageSettings`.
    Nodes, their order, scores, ids, relationships and metadata stay; a node without text passes as
    it is. What is noted in the metadata is kept out of what a language or embedding model reads.
    """

    # A query engine sets its own `callback_manager` on a postprocessor that it is given.
    model_config = ConfigDict(frozen=False)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex stores it."""
        return "MoosNodePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: Any = None
    ) -> list[NodeWithScore]:
        """The nodes with compressed text; the given ones stay as they are.

        Args:
            nodes: What was retrieved.
            query_bundle: The query, which nothing here looks at: what matters in a node is decided
                without it.

        Raises:
            DataError: A node was compressed before.
            ConfigError: A threshold is set on scores that are not comparable across windows.
            ModelError: The checkpoint cannot serve as a compressor.
        """
        texts = [found.node.get_content(MetadataMode.NONE) for found in nodes]
        places = [place for place, text in enumerate(texts) if text]
        compressed = self.compress_passages(
            [texts[place] for place in places], [nodes[place].node.metadata for place in places]
        )
        result = list(nodes)
        for place, (text, metadata) in zip(places, compressed, strict=True):
            result[place] = self._replace(nodes[place], text, metadata)
        return result

    def _replace(self, found: NodeWithScore, text: str, metadata: dict[str, Any]) -> NodeWithScore:
        hidden = {
            name: [*getattr(found.node, name), self.metadata_key]
            for name in ("excluded_llm_metadata_keys", "excluded_embed_metadata_keys")
        }
        # An embedding is of the original text, which is what it was found by: it stays.
        node = found.node.model_copy(update={"metadata": metadata, **hidden})
        node.set_content(text)
        return found.model_copy(update={"node": node})
