"""Compress texts so that language models read them faster and cheaper.

from moos import Compressor, render
compressor = Compressor.load("default")
document = compressor.compress(text, rate=0.5)
assert render(text, document.spans) == document.text
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from moos.chunks import Chunk as Chunk
    from moos.chunks import Chunker as Chunker
    from moos.compressor import Compressor as Compressor
    from moos.document import CompressedDocument as CompressedDocument
    from moos.document import Word as Word
    from moos.errors import ConfigError as ConfigError
    from moos.errors import DataError as DataError
    from moos.errors import ModelError as ModelError
    from moos.errors import MoosError as MoosError
    from moos.rendering import render as render

_EXPORTS = {
    "Chunk": "moos.chunks",
    "Chunker": "moos.chunks",
    "Compressor": "moos.compressor",
    "CompressedDocument": "moos.document",
    "Word": "moos.document",
    "ConfigError": "moos.errors",
    "DataError": "moos.errors",
    "ModelError": "moos.errors",
    "MoosError": "moos.errors",
    "render": "moos.rendering",
}
__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import moos.config` costs no numpy, tokenizers or torch.
    if name not in _EXPORTS:
        raise AttributeError(f"module 'moos' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_EXPORTS[name]), name)
