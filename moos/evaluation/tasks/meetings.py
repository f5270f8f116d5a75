"""Meetings: QMSum's queries, and MeetingBank's questions and summaries.

QMSum: github.com/Yale-LILY/QMSum (MIT), with LongBench's prompt and ROUGE-L. MeetingBank:
microsoft/MeetingBank-QA-Summary (CC BY-NC-SA 4.0), with the prompts, lengths and scores of
LLMLingua-2's `experiments/llmlingua2/evaluation/eval_meetingbank_qa.py` and `..._summary.py`, which
complete, without a chat. Of the summary's scores (BLEU, ROUGE, BERTScore) this is ROUGE-L.
"""

from collections.abc import Iterator

from moos.evaluation.example import Example, Task
from moos.evaluation.metrics import contains_answer, over_answers, rouge_l
from moos.evaluation.metrics_longbench import rouge_scorer
from moos.evaluation.tasks.longbench import MAX_NEW_TOKENS, split_prompt
from moos.evaluation.tasks.sources import Record, load_records, read_records

MEETINGBANK = "microsoft/MeetingBank-QA-Summary"
QA_BEFORE = (
    "Write a high-quality answer for the given question using the provided meeting transcript "
    "(which may be compressed).\n"
)
QA_AFTER = "\nQuestion:{question}\nAnswer:"
SUMMARY_BEFORE = "Summarize the provided meeting transcript (which may be compressed).\n"
SUMMARY_AFTER = "\nSummary:"
SUMMARY_QUESTION = "Summarize the meeting."


def load_qmsum(name: str, path: str | None) -> Task:
    """Load `qmsum`.

    Args:
        name: The task.
        path: JSONL of `text` and `queries` (a list of `query` and `answer`), or QMSum's own, with
            `meeting_transcripts`, `general_query_list` and `specific_query_list`. None: the
            hub's copy, pszemraj/qmsum-cleaned, validation split.

    Raises:
        ConfigError: The data cannot be loaded, or ROUGE's package is missing.
        DataError: They have another layout.
    """
    score = rouge_scorer()
    if path is None:
        meetings = _iterate_hub(load_records("pszemraj/qmsum-cleaned", split="validation"))
    else:
        meetings = _iterate_meetings(read_records(path))
    return Task(
        name=name,
        group="meetings",
        metric="ROUGE-L",
        score=score,
        examples=tuple(
            _build_query(id_, context, query, answer) for id_, context, query, answer in meetings
        ),
        max_new_tokens=MAX_NEW_TOKENS["qmsum"],
        stop=(),
        chat=True,
        source="LongBench dataset2prompt.json and metrics.py (qmsum)",
    )


def load_meetingbank_qa(name: str, path: str | None) -> Task:
    """Load `meetingbank-qa`: three questions on each of 862 transcripts.

    Args:
        name: The task.
        path: JSON or JSONL of `prompt` (the transcript) and `QA_pairs` (`question`, `answer`), as
            on the hub. None: the hub.

    Raises:
        ConfigError: The data cannot be loaded.
        DataError: They have another layout.
    """
    examples = []
    for number, record in enumerate(_load_meetingbank(path)):
        context = record.text("prompt")
        id_ = record.label("idx", "id", default=str(number))
        for place, pair in enumerate(record.records("QA_pairs")):
            question = pair.text("question")
            examples.append(
                Example(
                    id=f"{id_}/{place}",
                    context=context,
                    before=QA_BEFORE,
                    after=QA_AFTER.format(question=question),
                    question=question,
                    answers=pair.texts("answer"),
                )
            )
    return Task(
        name=name,
        group="meetings",
        metric="contains",
        score=over_answers(contains_answer, first_line=True),
        examples=tuple(examples),
        max_new_tokens=100,
        stop=("\nQuestion:",),
        chat=False,
        source="LLMLingua-2 eval_meetingbank_qa.py (prompt, qa_score of the first line)",
    )


def load_meetingbank_summary(name: str, path: str | None) -> Task:
    """Load `meetingbank-summary`.

    Args:
        name: The task.
        path: JSON or JSONL of `prompt` and `gpt4_summary`, as on the hub, or of `transcript` and
            `summary`, as in huuuyeah/meetingbank. None: the hub's first.

    Raises:
        ConfigError: The data cannot be loaded.
        DataError: They have another layout.
    """
    examples = tuple(
        Example(
            id=record.label("idx", "uid", "id", default=str(number)),
            context=record.text("transcript" if record.has("transcript") else "prompt"),
            before=SUMMARY_BEFORE,
            after=SUMMARY_AFTER,
            question=SUMMARY_QUESTION,
            answers=record.texts("summary" if record.has("transcript") else "gpt4_summary"),
        )
        for number, record in enumerate(_load_meetingbank(path))
    )
    return Task(
        name=name,
        group="meetings",
        metric="ROUGE-L",
        score=over_answers(rouge_l, first_line=True),
        examples=examples,
        max_new_tokens=400,
        stop=(),
        chat=False,
        source="LLMLingua-2 eval_meetingbank_summary.py (prompt, rougeL of the first line)",
    )


def _load_meetingbank(path: str | None) -> list[Record]:
    if path is None:
        return load_records(MEETINGBANK, split="test")
    records = read_records(path)
    first = records[0]
    # LLMLingua-2's own files are one object, from each transcript's number to its record.
    if len(records) == 1 and not first.has("prompt") and not first.has("transcript"):
        return [first.record(name) for name in first.fields]
    return records


def _iterate_meetings(records: list[Record]) -> Iterator[tuple[str, str, str, str]]:
    """Id, transcript, query and answer of each query of a file."""
    for number, record in enumerate(records):
        if record.has("meeting_transcripts"):
            turns = record.records("meeting_transcripts")
            context = "\n".join(f"{turn.text('speaker')}: {turn.text('content')}" for turn in turns)
            queries = record.records("general_query_list") + record.records("specific_query_list")
        else:
            context, queries = record.text("text"), record.records("queries")
        id_ = record.label("id", default=str(number))
        for place, query in enumerate(queries):
            yield f"{id_}/{place}", context, query.text("query"), query.text("answer")


def _iterate_hub(records: list[Record]) -> Iterator[tuple[str, str, str, str]]:
    """The same of the hub's records, whose `input` is the query, a newline and the transcript."""
    for number, record in enumerate(records):
        query, _, context = record.text("input").partition("\n")
        yield str(number), context.lstrip("\n"), query, record.text("output")


def _build_query(id_: str, context: str, query: str, answer: str) -> Example:
    before, after = split_prompt("qmsum", query)
    return Example(id_, context, before, after, query, (answer,))
