"""What decided about a run's documents, as its output holds it."""

from collections.abc import Mapping
from typing import Any

from moos.config import SelectionConfig
from moos.corpus import CorpusThreshold
from moos.selector import Selector
from moos.storage import Storage
from moos.tokens import TextTokenizer
from pipelines.run_state import BUDGET_TOKENIZER

_PREFIX = "selection."


def read_tokenizer(output: Storage, name: str) -> TextTokenizer:
    """A tokenizer that a run keeps in its output, under `TOKENIZER` or `BUDGET_TOKENIZER`."""
    return TextTokenizer(output.get(name).decode("utf-8"))


def read_selector(output: Storage, manifest: Mapping[str, Any]) -> Selector:
    """The run's selector, with its reader's tokenizer and the corpus's threshold if it has them."""
    signature = manifest["signature"]
    settings = {k.removeprefix(_PREFIX): v for k, v in signature.items() if k.startswith(_PREFIX)}
    reader = None
    if settings["budget_tokenizer"] is not None:  # a hash: where the file lay tells nobody
        settings["budget_tokenizer"] = BUDGET_TOKENIZER
        reader = read_tokenizer(output, BUDGET_TOKENIZER)
    corpus = manifest.get("corpus_threshold")
    return Selector(
        SelectionConfig.model_validate(settings),
        reader,
        corpus=None if corpus is None else CorpusThreshold.from_json(corpus),
    )
