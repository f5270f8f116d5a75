"""Settings of a training run. Imports pydantic only: reading a config must not load torch."""

from typing import Annotated

from pydantic import Field

from moos.config import ConfigModel

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class TrainingConfig(ConfigModel):
    """How a checkpoint is trained from a base encoder and labelled documents."""

    base: str
    """Directory of the encoder to start from: `config.json`, `tokenizer.json`, safetensors."""

    base_name: str
    """What the model card calls the base, with its licence."""

    data: str
    """Labels file, `.jsonl` or `.jsonl.gz` (fields: `moos.labels`); a path or an fsspec URL."""

    labels_note: str
    """How the labels were made, for the model card: by which teacher, under which licence."""

    output: str
    """Checkpoint directory to write. An older checkpoint there is replaced."""

    beta: NotNegative = 0.1
    """Weight of the inter-class similarity term in the loss; 0 trains the plain classifier."""

    learning_rate: Positive = 1e-4
    """Highest learning rate, reached after the warm-up. Lower it if the loss becomes NaN."""

    epochs: Count = 3
    """Passes over the training documents; the one with the best validation AUC is kept."""

    batch_size: Count = 8
    """Windows per step. Lower it if memory runs out."""

    warmup_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the steps in which the learning rate rises from 0; it falls to 0 in the rest."""

    weight_decay: NotNegative = 0.01
    """AdamW's weight decay, on matrices; biases and layer norms have none."""

    clip_norm: Positive = 1.0
    """Largest norm of the gradient."""

    max_length: Annotated[int, Field(ge=8)] = 256
    """Tokens per window, special tokens included, in training and by default in use."""

    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the source documents held out, to choose the epoch and alpha and for the figures."""

    seed: int = 0
    """Seed of the head's weights, dropout and the order of the windows."""

    split_seed: int = 0
    """Seed of the validation split. Apart from `seed`, so that runs can differ in that alone."""

    threads: Count | None = None
    """CPU threads; null leaves torch's choice. Figures repeat exactly for the same number."""
