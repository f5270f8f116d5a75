"""A LangChain document compressor: what a retriever found, in fewer tokens, with its metadata."""

from collections.abc import Sequence
from typing import Any

from moos.integrations.passages import PassageSettings, missing_package

try:
    from langchain_core.documents import BaseDocumentCompressor, Document
except ModuleNotFoundError as error:
    raise missing_package("langchain_core", "'moos[langchain]'", error) from error


class MoosDocumentCompressor(BaseDocumentCompressor, PassageSettings):
    """Compresses retrieved documents one by one: `MoosDocumentCompressor(rate=0.5)`.

    Goes where LangChain takes a document compressor: `ContextualCompressionRetriever`,
    `DocumentCompressorPipeline`. Settings are the keys of `PassageSettings`. Documents, their
    order, ids and metadata stay; none is dropped. `acompress_documents` does the same in a thread
    of its own, so that an event loop goes on meanwhile.
    """

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        """The documents with compressed content; the given ones stay as they are.

        Args:
            documents: What was retrieved.
            query: Taken because LangChain gives it. What matters in a document is decided without
                it, so that a document compressed once serves every query.
            callbacks: LangChain's; nothing here reports to them.

        Raises:
            DataError: A document was compressed before.
            ConfigError: A threshold is set on scores that are not comparable across windows.
            ModelError: The checkpoint cannot serve as a compressor.
        """
        compressed = self.compress_passages(
            [document.page_content for document in documents],
            [document.metadata for document in documents],
        )
        return [
            document.model_copy(update={"page_content": text, "metadata": metadata})
            for document, (text, metadata) in zip(documents, compressed, strict=True)
        ]
