"""LLMLingua-2 by its authors' package, as its users call it and as fast as it can be made to go."""

import copy
import importlib.util
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moos.benchmark.contestants import Turn, warm_up_texts
from moos.benchmark.memory import peak_memory
from moos.checkpoint import Checkpoint, read_checkpoint
from moos.errors import ModelError
from moos.tokens import TextTokenizer

FAMILIES = {"bert": "bert-base-multilingual-cased", "xlm-roberta": "xlm-roberta-large"}
"""What must stand in the path of a checkpoint of each kind: the package tells tokenizers by it."""

BATCH_SIZES = (4, 16, 50, 200)
"""Windows in a forward pass to try."""

DEFAULT = ("float32", 50)
"""Data type and windows in a forward pass where nothing is chosen."""

WARM_UP_CHARS = 2000
TRIAL_SHARE = 0.1
TRIAL_CHARS = {"cpu": (1 << 14, 1 << 17), "cuda": (1 << 16, 1 << 20)}
"""Least and most characters of a corpus to try settings on, and below, its share."""


def is_installed() -> bool:
    """True where the package can be imported."""
    return importlib.util.find_spec("llmlingua") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMLingua2Spec:
    """The package `llmlingua` with a checkpoint of moos.

    Attributes:
        checkpoint: As `Compressor.load` takes it.
        device: `cpu` or `cuda`.
        threads: CPU threads of torch.
        rate: Share of tokens to keep.
        is_tuned: False: a call for each document with the package's defaults, as its users do.
            True: one call for all documents, with the fastest of several batch sizes and data types
            on each corpus, the package's code as it is.
    """

    checkpoint: str
    device: str
    threads: int
    rate: float
    is_tuned: bool

    def load(self) -> "LLMLingua2Contestant":
        """Write the checkpoint in plain form, where the package finds it, and load it.

        Raises:
            ModelError: The package knows no such tokenizer, or cannot load the file of its own.
        """
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"
        warnings.simplefilter("ignore")
        import torch

        torch.set_num_threads(self.threads)
        checkpoint = read_checkpoint(self.checkpoint)
        with tempfile.TemporaryDirectory(prefix="moos-bench-") as directory:
            path = _write_plain(checkpoint, Path(directory))
            package = _load_package(path, self.device)
        logging.getLogger("transformers").setLevel(logging.ERROR)
        tokenizer = TextTokenizer.from_file(checkpoint.tokenizer_path)
        return LLMLingua2Contestant(package, tokenizer, self)


def _write_plain(checkpoint: Checkpoint, directory: Path) -> Path:
    kind = checkpoint.config.get("model_type", "")
    if kind not in FAMILIES:
        raise ModelError(
            f"llmlingua reads tokenizers of BERT's and XLM-RoBERTa's kind only, not {kind!r}"
        )
    from moos.model import save_plain

    path = directory / FAMILIES[kind]
    save_plain(checkpoint, path)
    return path


def _load_package(path: Path, device: str) -> Any:
    import llmlingua

    try:
        return llmlingua.PromptCompressor(
            str(path),
            device_map=device,
            model_config={"trust_remote_code": False, "use_safetensors": True},
            use_llmlingua2=True,
        )
    except Exception as error:  # tiktoken and transformers raise what they like
        raise ModelError(
            f"llmlingua cannot load: {type(error).__name__}: {error}; without a network, set "
            "TIKTOKEN_CACHE_DIR to a directory with tiktoken's file cl100k_base"
        ) from error


class LLMLingua2Contestant:
    """The package's compressor and the corpus at hand."""

    def __init__(self, package: Any, tokenizer: TextTokenizer, spec: LLMLingua2Spec) -> None:
        self._package = package
        self._tokenizer = tokenizer
        self._spec = spec
        self._models = {"float32": package.model}
        self._is_together = spec.is_tuned
        self._texts: list[str] = []

    def prepare(self, texts: Sequence[str]) -> dict[str, Any]:
        """Take a corpus and warm up on it; where tuned, take the fastest of all settings."""
        self._texts = list(texts)
        self._compress(warm_up_texts(texts, self._spec.device))
        if not self._spec.is_tuned:
            return {"max_batch_size": self._package.max_batch_size, "dtype": "float32"}
        return self._tune()

    def run(self) -> Turn:
        """Compress all texts; tokens are counted outside the time."""
        cpu_began, began = time.process_time(), time.perf_counter()
        compressed = self._compress(self._texts)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        pairs = zip(self._texts, compressed, strict=True)
        found = [(text, short) for text, short in pairs if short is not None]
        if not found:
            raise ModelError(f"llmlingua gave nothing for any of {len(compressed)} documents")
        return Turn(
            seconds=seconds,
            cpu_s=cpu_s,
            tokens=self._count([text for text, _ in found]),
            kept_tokens=self._count([short for _, short in found]),
            failed_documents=len(compressed) - len(found),
        )

    def time_stages(self) -> None:
        """The package's stages are not looked into."""

    def peak_memory(self) -> int:
        """Most bytes that this process has held."""
        return peak_memory()

    def _count(self, texts: Sequence[str]) -> int:
        return sum(len(tokens) for tokens in self._tokenizer.tokenize(texts))

    def _compress(self, texts: Sequence[str]) -> list[str | None]:
        if self._is_together:
            try:
                return self._compress_together(texts)
            except Exception as error:  # noqa: BLE001  one bad document fails them all
                logging.getLogger(__name__).warning("documents go singly from now on: %s", error)
                self._is_together = False
        return [self._compress_one(text) for text in texts]

    def _compress_together(self, texts: Sequence[str]) -> list[str | None]:
        """All texts in one call; a blank one, which would fail them all, gives None."""
        filled = [text for text in texts if text.strip()]
        if not filled:
            return [None for _ in texts]
        # Without the filter of whole contexts, which would run the model twice.
        result = self._package.compress_prompt(
            filled, rate=self._spec.rate, use_context_level_filter=False
        )
        compressed = iter(result["compressed_prompt_list"])
        return [str(next(compressed)) if text.strip() else None for text in texts]

    def _compress_one(self, text: str) -> str | None:
        try:
            return str(
                self._package.compress_prompt(text, rate=self._spec.rate)["compressed_prompt"]
            )
        except Exception as error:  # it raises many kinds on short or odd texts
            logging.getLogger(__name__).debug("a document failed", exc_info=error)
            return None

    def _tune(self) -> dict[str, Any]:
        """Try all settings on a sample and leave the fastest in force; it, and tokens/s of each."""
        sample = self._sample()
        tokens = self._count(sample)
        trials: dict[tuple[str, int], float] = {}
        for setting in self._settings(len(sample), tokens):
            try:
                self._set(*setting)
                self._compress_together([sample[0][:WARM_UP_CHARS]])
                began = time.perf_counter()
                self._compress_together(sample)
            except Exception as error:  # noqa: BLE001  such as out of memory
                logging.getLogger(__name__).warning("with %s: %s", setting, error)
                continue
            trials[setting] = tokens / (time.perf_counter() - began)
        self._is_together = bool(trials)
        dtype, size = max(trials, key=lambda setting: trials[setting], default=DEFAULT)
        self._set(dtype, size)
        tried = {f"{dtype}/{size}": round(rate) for (dtype, size), rate in trials.items()}
        return {"max_batch_size": size, "dtype": dtype, "tried": tried}

    def _settings(self, num_texts: int, tokens: int) -> list[tuple[str, int]]:
        """Data types and batch sizes; of sizes that the sample does not fill, the first alone."""
        windows = max(num_texts, tokens // 500 + 1)
        smaller = (0, *BATCH_SIZES)
        sizes = [size for size, below in zip(BATCH_SIZES, smaller, strict=False) if below < windows]
        return [(dtype, size) for dtype in _data_types(self._spec.device) for size in sizes]

    def _set(self, dtype: str, size: int) -> None:
        self._package.max_batch_size = size
        if dtype not in self._models:
            import torch

            model = copy.deepcopy(self._models["float32"]).to(getattr(torch, dtype))
            # What the package makes of logits goes through numpy, which has no bf16.
            model.classifier.register_forward_hook(lambda module, args, logits: logits.float())
            self._models[dtype] = model
        self._package.model = self._models[dtype]

    def _sample(self) -> list[str]:
        """The head of the corpus: a tenth of it, within bounds."""
        least, most = TRIAL_CHARS[self._spec.device]
        room = min(max(int(TRIAL_SHARE * sum(map(len, self._texts))), least), most)
        sample: list[str] = []
        for text in self._texts:
            sample.append(text[:room])
            room -= len(text)
            if room <= 0:
                break
        return sample


def _data_types(device: str) -> list[str]:
    """What to try: fp32 first, and what the device has instructions for."""
    import torch

    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        return ["float32", "bfloat16", "float16"]
    # Without such instructions bf16 is emulated, and a trial of it takes minutes.
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return ["float32", "bfloat16"] if has_bf16 else ["float32"]
