"""The model card of a checkpoint: its README, made from `moos.json` alone."""

from pathlib import Path
from typing import Any

from moos.checkpoint import MoosJson

_TEMPLATE = """\
---
license: {licence}
{language}library_name: moos
pipeline_tag: token-classification
---

# A token classifier for text compression

Says of each word of a text how much it is worth keeping. `moos` reads it with
`Compressor.load`; `Compressor.save_pretrained` writes it as plain Hugging Face safetensors.

- Architecture: {architecture}, labels `discard` and `preserve`. Matrices are stored as int8 with
  one scale per row and computed with in fp32.
- Base: {base}.
- Method: cross entropy on soft labels plus {beta:g} times the mean cosine between preserve and
  discard tokens in the last layer (MOOSComp, arXiv 2504.16786).
- Score of a token: {alpha:g} x preserve probability + {one_minus_alpha:g} x outlier score
  (statistics: {statistics}). The outlier score is our reading of that paper.{phrases}
- Windows of {max_length} tokens.

## Training data

Labels: {labels}.

The texts are not part of the checkpoint. Their sources and licences:

| domain | source | licence | records | words |
|---|---|---|---|---|
{sources}

{num_training} records ({num_training_words:,} words) were trained on. {num_validation} records
({num_validation_words:,} words) were held out, split by source document.

## Figures

On the held-out records: the chance that a word the teacher keeps (label at least 0.5) scores above
one that it drops (AUC over words). The epoch and alpha were chosen on these same records, so the
figures are slightly too good. Alpha is the smallest whose AUC is within 0.002 of the best.

**AUC {auc:.3f}** with the shipped settings, {auc_alpha_1:.3f} with alpha 1.

| statistics | {alphas} |
|---|{rules}
{by_alpha}

By domain, with alpha 1: {by_domain}.

Mean cosine between preserve and discard tokens in the last layer: {class_similarity:.3f}.

By validation (before the weights became int8; step {best_step} was chosen). S: mean cosine between
preserve and discard tokens, of the embeddings and of each layer.

| step | training loss | cross entropy | AUC | F1 | S by layer |
|---|---|---|---|---|---|
{validations}

Settings of the run: {config}.

## Limits

- It imitates its teacher. Agreement with that does not show that a reader can still answer
  questions on the compressed text.
- Other kinds of text than those above, and other languages, were not among what it learnt from.
{limits}"""


_PHRASES = """ Words that say
  something only together share one: those of a name, a number and what it counts."""


def write_card(path: Path, moos: MoosJson, *, architecture: str) -> None:
    """Write the card; every figure in it stands in `moos.json`, which the training run filled."""
    training, metrics = moos.training, moos.metrics
    by_alpha: dict[str, dict[str, float]] = metrics["auc_by_alpha"]
    alphas = list(next(iter(by_alpha.values())))
    about = training.get("card", {})
    language = about.get("language")
    card = _TEMPLATE.format(
        licence=about.get("licence", "other"),
        language=f"language: {language}\n" if language else "",
        limits="".join(f"- {limit}\n" for limit in about.get("limits", ())),
        architecture=architecture,
        base=training["base"],
        beta=moos.beta,
        alpha=moos.alpha,
        one_minus_alpha=round(1.0 - moos.alpha, 4),
        statistics=moos.outlier_statistics,
        phrases=_PHRASES if moos.phrases else "",
        max_length=moos.max_length,
        labels=training["labels"],
        sources=_rows(
            [s["domain"], s["source"], s["licence"], f"{s['documents']:,}", f"{s['words']:,}"]
            for s in training["sources"]
        ),
        num_training=training["num_training_documents"],
        num_training_words=training["num_training_words"],
        num_validation=training["num_validation_documents"],
        num_validation_words=training["num_validation_words"],
        auc=metrics["auc"],
        auc_alpha_1=metrics["auc_alpha_1"],
        alphas=" | ".join(f"alpha {alpha}" for alpha in alphas),
        rules="---|" * len(alphas),
        by_alpha=_rows(
            [name, *(f"{row[alpha]:.4f}" for alpha in alphas)] for name, row in by_alpha.items()
        ),
        by_domain=", ".join(f"{k} {v:.3f}" for k, v in metrics["auc_by_domain_alpha_1"].items()),
        class_similarity=metrics["class_similarity"],
        best_step=metrics["best_step"],
        validations=_rows(_validation_cells(row) for row in metrics["validations"]),
        config=", ".join(f"{name} {value}" for name, value in training["config"].items()),
    )
    path.write_text(card, encoding="utf-8")


def _validation_cells(row: dict[str, Any]) -> list[str]:
    figures = (f"{row[name]:.4f}" for name in ("train_loss", "cross_entropy", "auc", "f1"))
    return [f"{row['step']:g}", *figures, " ".join(f"{s:.2f}" for s in row["layer_similarity"])]


def _rows(cells: Any) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
