"""Tells a training run's board which states are stored. Imported late, since it imports Ray."""

from typing import Any

from ray.train import UserCallback


class StoredStates(UserCallback):
    """Called by Ray Train's controller once a state is uploaded."""

    def __init__(self, board: Any) -> None:
        """Tell this board."""
        self._board = board

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Tell that the state of a step is stored."""
        if checkpoint is not None:
            self._board.note_stored.remote(metrics[0]["step"])
