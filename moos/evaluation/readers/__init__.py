"""Language models that answer prompts: local ones, endpoints, and a cache before either."""

from moos.evaluation.example import Reader
from moos.evaluation.reader_config import EndpointReaderConfig, LocalReaderConfig


def load_reader(
    config: LocalReaderConfig | EndpointReaderConfig, *, device: str | None = None
) -> Reader:
    """The reader of a config, ready to answer.

    Args:
        config: The reader.
        device: Device of a local one; None: CUDA where there is one, else the CPU.

    Raises:
        ConfigError: The environment variable of an endpoint's key holds none.
        ModelError: The model or the tokenizer cannot be loaded.
    """
    if isinstance(config, EndpointReaderConfig):
        from moos.evaluation.readers.endpoint import EndpointReader

        return EndpointReader(config)
    from moos.evaluation.readers.local import LocalReader  # loads torch

    return LocalReader.load(
        config.path,
        name=config.name,
        gguf_file=config.gguf_file,
        device=device,
        dtype=config.dtype,
        batch_tokens=config.batch_tokens,
    )
