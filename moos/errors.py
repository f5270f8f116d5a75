"""Every error moos raises on purpose.

* MoosError
  x ConfigError          the run cannot start as configured
  x DataError            a document or a file breaks the data contract
  x ModelError           a checkpoint cannot serve as a compressor

Each takes one message string, so that it survives pickling between processes. A message says what
is wrong, the value seen, and the key to change.
"""


class MoosError(Exception):
    """Base of every error that moos raises on purpose."""


class ConfigError(MoosError):
    """The run cannot start as configured; nothing was done yet."""


class DataError(MoosError):
    """A document, record or file breaks the data contract."""


class ModelError(MoosError):
    """A checkpoint cannot serve as a compressor."""
