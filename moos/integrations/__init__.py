"""The compressor where people already work; each part needs a package that moos does not.

* `MoosDocumentCompressor`: a LangChain document compressor (`pip install 'moos[langchain]'`)
* `MoosNodePostprocessor`: a LlamaIndex node postprocessor (`pip install 'moos[llama-index]'`)
* `MoosBatchCompressor`: a function for `datasets`' `map` (`pip install datasets`)

Nothing is imported before it is asked for. The model is loaded with the first text, once per
process and settings, however many of these there are.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moos.integrations.dataset_map import MoosBatchCompressor as MoosBatchCompressor
    from moos.integrations.langchain import MoosDocumentCompressor as MoosDocumentCompressor
    from moos.integrations.llama_index import MoosNodePostprocessor as MoosNodePostprocessor

_EXPORTS = {
    "MoosBatchCompressor": "moos.integrations.dataset_map",
    "MoosDocumentCompressor": "moos.integrations.langchain",
    "MoosNodePostprocessor": "moos.integrations.llama_index",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'moos.integrations' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_EXPORTS[name]), name)
