"""TensorBoard events of a training run, written anew at every validation while it trains."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moos.storage import Storage

Rows = Sequence[Mapping[str, Any]]


def write_events(output: Storage, run: str, history: Rows, curve: Rows) -> bool:
    """Write all events so far, in the order of steps, as one file; False without TensorBoard.

    An object store cannot append. Events have the same length each time, so a TensorBoard that
    reads on from where it was finds what is new.

    Args:
        output: The run's.
        run: Its name.
        history: Figures of each validation, with their `step`.
        curve: Means of the training loss, likewise.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    rows = [("training", row) for row in curve] + [("validation", row) for row in history]
    rows.sort(key=lambda item: item[1]["step"])
    with tempfile.TemporaryDirectory() as directory:
        with SummaryWriter(directory) as writer:
            for kind, row in rows:
                for name, value in row.items():
                    if name not in ("step", "epoch") and not isinstance(value, list):
                        tag = f"{kind}/{name.removeprefix('train_')}"
                        writer.add_scalar(tag, value, row["step"])
                for layer, value in enumerate(row.get("layer_similarity", ())):
                    writer.add_scalar(f"{kind}/similarity_of_layer/{layer}", value, row["step"])
        for path in Path(directory).iterdir():
            output.put(f"tensorboard/{run}/events.out.tfevents.moos", path.read_bytes())
    return True
