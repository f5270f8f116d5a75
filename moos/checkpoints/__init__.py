"""Checkpoints that ship with the package; `default` is loaded when none is named."""
