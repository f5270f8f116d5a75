"""The one way to models in Hugging Face form: nothing that a checkpoint brings is ever run.

Weights are safetensors or GGUF, never pickles, which run code as they are read. Classes are those
of transformers: code beside a checkpoint (`auto_map`) is never imported, whatever it is called for,
and nobody is asked whether it may be. Adapters, which name their model, are not followed.
`tests/test_architecture.py` keeps it the one way.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.utils import find_adapter_config_file

from moos.checkpoint_files import adapter_error, find_pickles
from moos.errors import ModelError

T = TypeVar("T")


def load_config(path: str | Path) -> Any:
    """The config of a checkpoint.

    Raises:
        ModelError: Its architecture is code that it brings.
        OSError, ValueError: There is none, or it is not one.
    """
    return _without_code(path, lambda: AutoConfig.from_pretrained(path, trust_remote_code=False))


def load_tokenizer(path: str, *, gguf_file: str | None = None) -> Any:
    """The tokenizer of a checkpoint.

    Args:
        path: Directory or hub id.
        gguf_file: Name of a GGUF file in the directory, where the tokenizer is in one.

    Raises:
        ModelError: It is code that the checkpoint brings.
        OSError, ValueError, KeyError, ImportError: There is none, or it cannot be read.
    """
    source = {} if gguf_file is None else {"gguf_file": gguf_file}
    return _without_code(
        path, lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=False, **source)
    )


def load_causal_model(path: str, *, gguf_file: str | None = None, **options: Any) -> Any:
    """A causal language model.

    Args:
        path: Directory or hub id.
        gguf_file: Name of a GGUF file in the directory, where the weights are one.
        options: What else transformers is told, such as `dtype`.

    Raises:
        ModelError: Its weights are pickled or come with an adapter, or its architecture is code
            that it brings.
        OSError, ValueError, KeyError, ImportError, RuntimeError: It cannot be loaded.
    """
    _refuse_adapter(path)
    source: dict[str, Any] = {"use_safetensors": True}
    if gguf_file is None:
        _refuse_pickles(Path(path))
    else:
        source = {"gguf_file": gguf_file}
    return _without_code(
        path,
        lambda: AutoModelForCausalLM.from_pretrained(
            path, trust_remote_code=False, **source, **options
        ),
    )


def load_token_classifier(path: str | Path, **options: Any) -> Any:
    """A token classifier, or what else transformers gives with the options.

    Args:
        path: Directory.
        options: What transformers is told, such as `dtype`.

    Raises:
        ModelError: Its weights are pickled or come with an adapter, or its architecture is code
            that it brings.
        OSError, ValueError, KeyError, RuntimeError, SafetensorError: It cannot be loaded.
    """
    _refuse_adapter(path)
    _refuse_pickles(Path(path))
    return _without_code(
        path,
        lambda: AutoModelForTokenClassification.from_pretrained(
            path, trust_remote_code=False, use_safetensors=True, **options
        ),
    )


def _refuse_adapter(path: str | Path) -> None:
    if find_adapter_config_file(str(path)) is not None:
        raise adapter_error(str(path))


def _refuse_pickles(directory: Path) -> None:
    pickles = find_pickles(directory)
    if pickles and not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{directory} has pickled weights ({', '.join(pickles)}), which can run code when "
            "loaded; save it as safetensors (save_pretrained does)"
        )


def _without_code(path: str | Path, load: Callable[[], T]) -> T:
    try:
        return load()
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        # transformers advises to trust it.
        raise ModelError(
            f"{path} brings code of its own (auto_map in its config), which moos does not run; "
            "use a checkpoint of an architecture that transformers has"
        ) from None
