"""Where an evaluation is: a line every few seconds, with done, total, tokens/s and time left."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LOG_EVERY_S = 5.0


class EvaluateProgress:
    """Logs how far a step is.

    What was done before, in an earlier run, counts as done, but not for the speed.
    """

    def __init__(
        self, what: str, num_planned: int, work: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare a report; nothing is logged yet.

        Args:
            what: What is done, such as `answers`.
            num_planned: How many there are, those done before included.
            work: What all of them take, in any unit that time is about proportional to.
            clock: Seconds.
        """
        self._what = what
        self._num_planned = num_planned
        self._work_left = work
        self._clock = clock
        self._num_done = self._tokens = self._work_done = 0
        self._began = self._shown = clock()

    def add(self, *, num_done: int, tokens: int, work: int, is_new: bool = True) -> None:
        """Count what was done, and log if it is time to.

        Args:
            num_done: How many.
            tokens: Their tokens.
            work: Their part of the work.
            is_new: False for what an earlier run did.
        """
        self._num_done += num_done
        self._work_left -= work
        if not is_new:
            return
        self._tokens += tokens
        self._work_done += work
        if self._clock() - self._shown >= LOG_EVERY_S:
            self._shown = self._clock()
            logger.info("%s", self.describe())

    def describe(self) -> str:
        """One line about it."""
        elapsed = max(self._clock() - self._began, 1e-9)
        counts = f"{self._what}: {self._num_done:,} of {self._num_planned:,}"
        if not self._work_done:
            return counts
        left_s = self._work_left * elapsed / self._work_done
        speed = f"{self._tokens:,} tokens, {self._tokens / elapsed:,.0f} tokens/s"
        return f"{counts}, {speed}, {left_s:,.0f} s left"
