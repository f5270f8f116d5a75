"""Train a compressor's classifier and write its checkpoint directory.

    python -m jobs.train configs/train.default.yaml base=DIRECTORY output=DIRECTORY [key=value ...]

One process of plain torch; the distributed job on Ray Train comes later. Progress goes to stderr,
one JSON line with the figures to stdout. Exit code 0: the checkpoint is written; 2: it is not, as
the config, the base or the labels are faulty, or the loss stopped being a number.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from moos.config import load_config
from moos.errors import MoosError
from moos.training_config import TrainingConfig


def run(config: TrainingConfig) -> dict[str, Any]:
    """Train. Imported late: a config error needs no torch."""
    from moos.training import train

    return train(config, lambda line: print(line, file=sys.stderr, flush=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    path = arguments.pop(0) if arguments and "=" not in arguments[0] else None
    try:
        config = load_config(TrainingConfig, path, arguments)
        metrics = run(config)
    except MoosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"output": config.output, **metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
