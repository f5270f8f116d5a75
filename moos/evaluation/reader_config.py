"""Settings of readers. Imports no torch: reading a config must stay quick."""

from typing import Annotated, Any, Literal

from pydantic import Field

from moos.chat_client import ChatClientConfig
from moos.config import ConfigModel

Name = Annotated[str, Field(min_length=1)]


class LocalReaderConfig(ConfigModel):
    """A causal language model on this machine, through transformers."""

    kind: Literal["local"]
    """A model that is loaded here, and reads what prompts share once."""

    path: Name
    """Directory or hub id of a causal language model; tasks that are a chat need its template."""

    name: Name | None = None
    """What reports call it; null: the last part of `path`."""

    gguf_file: Name | None = None
    """Name of a GGUF file in that directory, where the weights are one."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic. `auto`: bfloat16 on CUDA and on CPUs with matrix units for it, else float32."""

    batch_tokens: Annotated[int, Field(ge=1)] = 16384
    """Most tokens in the cache of a batch, answers and padding included; lower it where memory runs
    out. A prompt that is longer is read alone."""


class EndpointReaderConfig(ChatClientConfig):
    """A language model behind an OpenAI-compatible endpoint."""

    kind: Literal["endpoint"]
    """A model that is served over HTTP."""

    url: str
    """Base URL, such as `http://host:8000/v1`; `/chat/completions` is appended to its path, or
    `/completions` for prompts that are no chat."""

    name: Name | None = None
    """What reports call it; null: `model`. Answers are cached under both: give another name to
    another model that is served under the same."""

    tokenizer: Name
    """Path of the model's `tokenizer.json`, by which budgets are counted."""

    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of a request, in place of moos's own of that name; null leaves a field out,
    such as `{max_tokens: null, max_completion_tokens: 800}`."""


ReaderConfig = Annotated[LocalReaderConfig | EndpointReaderConfig, Field(discriminator="kind")]
