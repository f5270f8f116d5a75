"""One run of a target under atheris: `python -m tests.fuzz.one TARGET [libFuzzer's options]`.

A process of its own, since libFuzzer ends the one that it runs in, by a finding or by the clock.
"""

import sys

import atheris


def main() -> None:
    """Fuzz until libFuzzer has enough."""
    with atheris.instrument_imports(include=["moos", "jobs", "pipelines", "tests.fuzz", "yaml"]):
        from tests.fuzz.targets import TARGETS
    name = sys.argv.pop(1)
    target = TARGETS[name]
    for seed in target.seeds:  # the product's caches are filled before anything is measured
        target.check(seed)
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
