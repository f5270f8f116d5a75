"""How a run ended: its summary, its exit code, and what its texts were like."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from moos.corpus import CorpusThreshold
from moos.storage import Storage
from pipelines.config import CompressConfig, JobConfig
from pipelines.counts import SplitCounts
from pipelines.reasons import add_kinds
from pipelines.sinks import RATE_BINS

logger = logging.getLogger(__name__)

EXIT_COMPLETE = 0
EXIT_QUARANTINED = 3

MULTILINGUAL = "LLMLingua-2's microsoft/llmlingua-2-xlm-roberta-large-meetingbank"
"""A public checkpoint that knows a hundred languages."""

CORPUS_RATE_MISSED = 0.005
"""Share of the corpus rate by which a run may miss it without a warning."""


def summarise(
    config: CompressConfig,
    output: Storage,
    manifest: Mapping[str, Any],
    *,
    worked: Iterable[Mapping[str, Any]],
    splits_resumed: int,
    documents_scored: int,
    seconds: float,
) -> dict[str, Any]:
    """What the job prints, its exit code in it; warnings are logged.

    Args:
        config: The run's config.
        output: Its output.
        manifest: What it published.
        worked: The records of the splits that this run worked.
        splits_resumed: Splits that were done before.
        documents_scored: Documents that the model scored in this run.
        seconds: How long the run took.
    """
    totals = {key: value for key, value in manifest["totals"].items() if key != "rate"}
    counts = SplitCounts(**totals)
    in_this_run = SplitCounts()
    for record in worked:
        in_this_run.add(SplitCounts(**record["counts"]))
    exit_code = judge(config, output, manifest)
    _warn_about_text(config, counts)
    _warn_about_rate(manifest)
    ids = manifest.get("ids")
    if ids is not None:
        warn_about_ids(config.input.id_column, ids, counts.documents)
    return {
        "status": "complete" if exit_code == EXIT_COMPLETE else "quarantined",
        "exit_code": exit_code,
        "output": config.output.path,
        **asdict(counts),
        "repeated_ids": 0 if ids is None else ids["repeated_ids"],
        "quarantined_by_reason": manifest["quarantined_by_reason"],
        "rate": round(achieved_rate(counts), 6),
        "splits": len(manifest["splits"]),
        "splits_resumed": splits_resumed,
        "documents_scored": documents_scored,
        "seconds": round(seconds, 1),
        "tokens_per_s": round(in_this_run.tokens / seconds),
    }


def sum_documents(
    done: Mapping[str, Mapping[str, Any]], corpus: CorpusThreshold | None
) -> dict[str, Any]:
    """What the manifest says of all splits together, from their done records."""
    totals = SplitCounts()
    rates = [0] * RATE_BINS
    for record in done.values():
        totals.add(SplitCounts(**record["counts"]))
        rates = [a + b for a, b in zip(rates, record["rate_histogram"], strict=True)]
    by_reason = add_kinds(record.get("quarantined_by_reason", {}) for record in done.values())
    sums = {
        "totals": {**asdict(totals), "rate": achieved_rate(totals)},
        "quarantined_by_reason": by_reason,
        "rate_histogram": rates,
    }
    return sums if corpus is None else {**sums, "corpus_threshold": corpus.to_json()}


def achieved_rate(counts: SplitCounts) -> float:
    """Kept tokens / all tokens over a run; 1 where there are none."""
    return counts.kept_tokens / counts.tokens if counts.tokens else 1.0


def judge(config: JobConfig, output: Storage, manifest: Mapping[str, Any]) -> int:
    """The exit code of a finished run by what was quarantined; what led to it is logged."""
    totals = manifest["totals"]
    documents, quarantined = totals["documents"], totals["quarantined"]
    records = documents + quarantined
    if records == 0:
        logger.warning("input.path=%r holds no record; the output is empty", config.input.path)
    if quarantined == 0:
        return EXIT_COMPLETE
    share = quarantined / records
    limit = config.max_quarantined
    first = _first_quarantined(output, manifest)
    where = f"See {config.output.path}/quarantine/"
    if totals["damaged_files"]:
        logger.error("%d damaged file(s). First: %s. %s", totals["damaged_files"], first, where)
        return EXIT_QUARANTINED
    if share > limit:
        logger.error(
            "%.3g %% of %d records quarantined, over max_quarantined=%g. First: %s. %s. "
            "Raise max_quarantined if this is expected",
            100 * share,
            records,
            limit,
            first,
            where,
        )
        return EXIT_QUARANTINED
    logger.warning(
        "%d of %d records quarantined. First: %s. %s", quarantined, records, first, where
    )
    return EXIT_COMPLETE


def _first_quarantined(output: Storage, manifest: Mapping[str, Any]) -> str:
    for entry in manifest["splits"]:
        if entry["quarantine"] is not None:
            record = json.loads(output.get(entry["quarantine"]["name"]).split(b"\n", 1)[0])
            name = f", id {record['id']!r}" if record["id"] else ""
            return f"{record['path']} at {record['position']}{name}: {record['reason']}"
    return "none"


def _warn_about_text(config: CompressConfig, counts: SplitCounts) -> None:
    limits, is_default = config.warn, config.checkpoint == "default"
    about = "which is English and uncased" if is_default else "unless it was trained on such text"
    advice = (
        f"give checkpoint= of a multilingual model, such as {MULTILINGUAL}, or of one of your own"
    )
    if counts.unknown_share > limits.unknown_share:
        logger.warning(
            "%.1f %% of tokens are unknown to the vocabulary of checkpoint=%s, over "
            "warn.unknown_share=%g: it decides about them blindly; %s",
            *(100 * counts.unknown_share, config.checkpoint, limits.unknown_share, advice),
        )
    if counts.non_latin_share > limits.non_latin_share:
        logger.warning(
            "%.1f %% of letters are of non-Latin scripts, over warn.non_latin_share=%g, and "
            "checkpoint=%s, %s, decides about them by chance; %s",
            *(100 * counts.non_latin_share, limits.non_latin_share, config.checkpoint, about),
            advice,
        )


def warn_about_ids(column: str | None, ids: Mapping[str, Any], num_documents: int) -> None:
    """Warn of ids that several documents have, and of documents that have none.

    Args:
        column: `input.id_column`.
        ids: What the manifest says of them.
        num_documents: Documents of the run.
    """
    if ids["repeated_ids"]:
        logger.warning(
            "%d ids are those of several documents, %d in all. First: %s. If they should be of one "
            "each, look for input that was read twice, or set input.id_column (now %s)",
            ids["repeated_ids"],
            ids["documents_with_repeated_ids"],
            "; ".join(
                f"{example['id']} of {example['documents']}, in {example['first']}"
                for example in ids["examples"]
            ),
            column,
        )
    if ids["documents_without_id"]:
        logger.warning(
            "%d of %d documents have no id (input.id_column=%s)",
            ids["documents_without_id"],
            num_documents,
            column,
        )


def _warn_about_rate(manifest: Mapping[str, Any]) -> None:
    corpus = manifest.get("corpus_threshold")
    if corpus is None:
        return
    achieved = manifest["totals"]["rate"]
    if corpus["over_budget"]:
        logger.warning(
            "protected tokens alone are %.4g of the corpus, over selection.corpus_rate=%g; "
            "protect less, or raise the rate",
            corpus["protected_tokens"] / max(1, corpus["num_tokens"]),
            corpus["rate"],
        )
    elif abs(achieved - corpus["rate"]) > CORPUS_RATE_MISSED * corpus["rate"]:
        logger.warning(
            "the corpus was compressed to %.4f, not selection.corpus_rate=%g: its threshold was "
            "found on %d tokens, and it holds %d now (or few enough that one score decides much)",
            achieved,
            corpus["rate"],
            corpus["num_tokens"],
            manifest["totals"]["tokens"],
        )
