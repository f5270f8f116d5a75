"""The files of an input that a run reads, and what it refuses to take for an input."""

import logging
from collections.abc import Collection

from moos.errors import ConfigError
from moos.listing import SourceFile, list_sources
from moos.splits import file_kind
from moos.storage import Storage
from pipelines.config import InputConfig
from pipelines.phase_watch import PhaseWatch
from pipelines.run_state import is_output

logger = logging.getLogger(__name__)


def list_input(settings: InputConfig, output: Storage, watch: PhaseWatch) -> list[SourceFile]:
    """The files of an input whose kind moos reads; of others there is a warning.

    Args:
        settings: The input.
        output: The run's output, whose files are no input.
        watch: Told what goes on.

    Raises:
        ConfigError: The input names no file, none that moos reads, or the output of a run.
    """
    sources = list_sources(
        settings.paths,
        settings.storage_options,
        excluded=output.root,
        retries=settings.retries,
        watch=watch.call,
    )
    _refuse_outputs(settings, sources, watch)
    readable = [source for source in sources if file_kind(source.relative) is not None]
    ignored = [source.relative for source in sources if file_kind(source.relative) is None]
    if ignored:
        logger.warning(
            "%d files are not read, by their extension: %s", len(ignored), ", ".join(ignored[:5])
        )
    if not readable:
        raise ConfigError(
            f"input.path={settings.path!r} holds no .parquet, .jsonl, .ndjson or .json file "
            f"(also .gz, .zst); {len(ignored)} other files are there"
        )
    return readable


def _refuse_outputs(
    settings: InputConfig, sources: Collection[SourceFile], watch: PhaseWatch
) -> None:
    files = {source.path for source in sources}
    for path in settings.paths:
        place = Storage(path, settings.storage_options, retries=settings.retries, watch=watch.call)
        if place.root not in files and is_output(place):
            raise ConfigError(
                f"input.path={path!r} is the output of a run; its rows are in "
                f"{path.rstrip('/')}/data/"
            )
