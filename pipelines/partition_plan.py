"""Which columns of a run's input stand in the paths of its files."""

import logging
from collections.abc import Collection, Sequence

import pyarrow as pa

from moos.errors import ConfigError
from moos.listing import SourceFile
from moos.partitions import find_partition_columns, partition_columns
from moos.schema import check_columns
from pipelines.config import InputConfig

logger = logging.getLogger(__name__)


def settle_partition_columns(
    settings: InputConfig,
    sources: Sequence[SourceFile],
    fixed: pa.Schema | None,
    reserved: Collection[str],
) -> list[str]:
    """The columns that stand in the files' paths.

    Raises:
        ConfigError: Not all files name the same, the setting wants some and there are none, one is
            named like the text column or one of ours, or an earlier run settled on others.
    """
    if settings.partitioning == "none":
        return []
    names = find_partition_columns([source.relative for source in sources])
    if settings.partitioning == "hive" and not names:
        raise ConfigError(
            "input.partitioning=hive, but no file lies in a directory named like key=value below "
            f"input.path={settings.path!r}; give the directory above them"
        )
    check_columns(names, reserved)
    if settings.text_column in names:
        raise ConfigError(
            f"input.text_column={settings.text_column!r} is named by directories too; set "
            "input.partitioning=none"
        )
    if fixed is None:
        if names:
            logger.info("columns of the files' paths: %s", ", ".join(names))
        return names
    known = partition_columns(fixed)
    if sorted(names) != sorted(known) and (known or settings.partitioning == "hive"):
        raise ConfigError(
            f"the input's directories name the columns {names or 'none'}, but this output has "
            f"{list(known) or 'none'} of them; compress it into another output.path"
        )
    return names


def check_doubled(schemas: Sequence[tuple[str, pa.Schema]], names: Sequence[str]) -> None:
    """Refuse a column of the path that some Parquet files hold and others do not.

    Raises:
        ConfigError: As said.
    """
    for column in names:
        holding = [name for name, schema in schemas if column in schema.names]
        lacking = [name for name, schema in schemas if column not in schema.names]
        if holding and lacking:
            raise ConfigError(
                f"the partition column {column!r} is in {holding[0]} itself, but not in "
                f"{lacking[0]}; compress the two kinds of file in two runs"
            )
