"""Settings of the training loop. Imports pydantic only: reading a config must not load torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moos.config import ConfigModel

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Metric = Literal["auc", "f1", "loss"]


class CardConfig(ConfigModel):
    """What a model card says that no run can know."""

    licence: str = "other"
    """Licence of the checkpoint, as the hub names it: base and labels decide."""

    language: str | None = None
    """Language of the texts, as an ISO 639-1 code; null: not stated."""

    limits: tuple[str, ...] = ()
    """What the checkpoint is not good for, one sentence or two each."""


class TrainingConfig(ConfigModel):
    """How a checkpoint is trained from a base encoder and labelled documents."""

    base: str
    """Directory of the encoder to start from: `config.json`, `tokenizer.json`, safetensors; every
    node needs it."""

    base_name: str
    """What the model card calls the base, with its licence."""

    labels_note: str | None = None
    """How the labels were made, for the model card; null: what their column `teacher` says."""

    card: CardConfig = CardConfig()
    """What else the model card says."""

    beta: NotNegative = 0.1
    """Weight of the inter-class similarity term in the loss; 0 trains the plain classifier."""

    similarity_layer: int = -1
    """Layer whose hidden states that term is of: -1 the last, -2 the one before, 0 the embeddings.
    """

    learning_rate: Positive = 1e-4
    """Highest learning rate, reached after the warm-up. Lower it if the loss becomes NaN."""

    epochs: Count = 3
    """Passes over the training documents."""

    batch_size: Count = 8
    """Windows per step, over all workers: the same steps whatever their number."""

    micro_batch_size: Count = 8
    """Windows per forward pass of one worker; the gradients of a step's micro-batches add up.
    Lower it if memory runs out, or to give more workers a part."""

    warmup_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the steps in which the learning rate rises from 0; it falls to 0 in the rest."""

    weight_decay: NotNegative = 0.01
    """AdamW's weight decay, on matrices; biases and layer norms have none."""

    clip_norm: Positive = 1.0
    """Largest norm of the gradient."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the encoder; weights, loss and optimizer are fp32. `auto`: bf16 on CUDA, else
    fp32."""

    max_length: Annotated[int, Field(ge=8)] = 256
    """Tokens per window, special tokens included, in training and by default in use."""

    phrases: bool = True
    """Whether the checkpoint has the words of a phrase share one score; see `scoring.phrases`."""

    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of the source documents held out, to choose the step and alpha and for the figures.
    null: as the labels' column `split` says, or 0.2 where they have none."""

    validate_every: Count | None = None
    """Steps between validations, each of which also saves the state to resume from; null: once an
    epoch. The last step always validates."""

    best_metric: Metric = "auc"
    """Validation figure by which the checkpoint to ship is chosen: word AUC, word F1 of class
    preserve (higher is better), or the loss (lower is)."""

    seed: int = 0
    """Seed of the head's weights, dropout and the order of the windows."""

    split_seed: int = 0
    """Seed of the validation split. Apart from `seed`, so that runs can differ in that alone."""

    threads: Count | None = None
    """CPU threads per worker; null leaves torch's choice. Figures repeat exactly for the same
    number."""

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> "TrainingConfig":
        if self.micro_batch_size > self.batch_size:
            raise ValueError(
                f"micro_batch_size={self.micro_batch_size} exceeds batch_size={self.batch_size}"
            )
        return self

    @property
    def micro_batches_per_step(self) -> int:
        """Parts that a full step can be dealt out in."""
        return -(-self.batch_size // self.micro_batch_size)
