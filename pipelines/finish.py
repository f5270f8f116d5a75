"""The end of a run: the manifest names the files that count, and what it does not name goes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moos import __version__
from moos.errors import MoosError
from moos.splits import InputSplit
from moos.storage import TEMPORARY
from pipelines.lease import Lease
from pipelines.phase_watch import PhaseWatch
from pipelines.run_state import (
    CONTRACT_VERSION,
    MANIFEST,
    OBJECT_DIRECTORIES,
    SCORES,
    SUCCESS,
    RunState,
    dump_json,
    named_objects,
)

CONFIRM = "confirm the lease"


def build_manifest(
    state: RunState,
    splits: Sequence[InputSplit],
    done: Mapping[str, dict[str, Any]],
    sums: Mapping[str, Any],
) -> dict[str, Any]:
    """What an output holds, from its done records: no times, no host names, no etags.

    The same input and settings give the same manifest, byte for byte.

    Args:
        state: The run's state.
        splits: All splits, in order.
        done: Their done records.
        sums: What the job says of all of them together.
    """
    entries = []
    numerics: dict[str, dict[str, Any]] = {}
    for split in splits:
        record = done[split.id]
        numerics[json.dumps(record["numerics"], sort_keys=True)] = record["numerics"]
        source = {key: value for key, value in record["source"].items() if key != "etag"}
        entries.append(
            {
                "split": split.id,
                "source": source,
                "documents": record["counts"]["documents"],
                "quarantined": record["counts"]["quarantined"],
                "data": record["data"],
                "quarantine": record["quarantine"],
                **({"ids": record["ids"]} if record.get("ids") else {}),
            }
        )
    return {
        "contract_version": CONTRACT_VERSION,
        "moos_version": __version__,
        "signature": state.signature,
        "numerics": [numerics[key] for key in sorted(numerics)],
        "splits": entries,
        **sums,
    }


def finish_run(
    state: RunState, manifest: Mapping[str, Any], lease: Lease, watch: PhaseWatch
) -> None:
    """Write the manifest, remove what it does not name, and say `_SUCCESS` last.

    `_SUCCESS` holds the manifest's hash, so one left over from an earlier run counts for nothing.

    Args:
        state: The run's state.
        manifest: What to publish.
        lease: The run's, on its output.
        watch: Told what goes on.

    Raises:
        MoosError: Another run took the output over, or removed what this one wrote.
    """
    output = state.output
    data = dump_json(manifest)
    digest = hashlib.sha256(data).hexdigest()
    with watch.call(CONFIRM):
        lease.confirm()
    output.put(MANIFEST, data)
    counted = {name for entry in manifest["splits"] for name in named_objects(entry)}
    present = {
        f"{directory}/{name}" for directory in OBJECT_DIRECTORIES for name in output.list(directory)
    }
    if lost := sorted(counted - present):
        raise MoosError(
            f"{len(lost)} objects of this run are gone, {lost[0]} first: another run, or somebody, "
            "removed them; run again to write them anew"
        )
    leftovers = [
        f"{directory}/{name}".lstrip("/")
        for directory in ("", "_run", state.done_directory)
        for name in output.list(directory)
        if name.endswith(TEMPORARY) and not name.startswith("lease.")  # a heartbeat's, right now
    ]
    spent = [
        f"{directory}/{name}"
        for directory in (SCORES, state.scored_directory, state.attempts_directory)
        for name in output.list(directory)
    ]
    with watch.call(CONFIRM):
        lease.confirm()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(output.remove, [*sorted(present - counted), *leftovers, *spent]))
    output.put(SUCCESS, f"{digest}\n".encode())
