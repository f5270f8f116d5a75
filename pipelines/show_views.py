"""From what a person names to views: of an output as it stands, or of texts compressed now."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moos.compressor import Compressor, check_threshold
from moos.errors import ConfigError, DataError, ModelError
from moos.scored_text import compress_scored
from moos.selector import Selector
from moos.show.document_view import DocumentView, reselect, view_document
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.run_state import is_output
from pipelines.show_choice import Choice, Found
from pipelines.show_config import compared_override, config_of_input, config_of_run
from pipelines.show_input import STDIN, find_inputs
from pipelines.show_output import ShownOutput

logger = logging.getLogger(__name__)

Shown = tuple[DocumentView, DocumentView | None]
"""A document, and another selection of it where two are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowRequest:
    """What a person wants to see.

    Attributes:
        source: `output.path` of a run; a file or directory of documents; a text file; `-`.
        choice: Which documents.
        storage_options: Options of the source's filesystem.
        overrides: `key=value` settings other than the run's, or the defaults.
        compare: A rate or a checkpoint to show beside it, or None.
        with_figures: What words were ranked by is wanted too, of the dropped ones as well.
    """

    source: str
    choice: Choice
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    compare: str | None = None
    with_figures: bool = False


def build_views(request: ShowRequest) -> list[Shown]:
    """The views wanted.

    Raises:
        ConfigError: The source or the choice names nothing that can be shown, or a setting is
            wrong.
        ModelError: The checkpoint cannot serve as a compressor.
        DataError: A text cannot be compressed, or a file is damaged.
    """
    if request.source == STDIN:
        return _view_texts(request)
    storage = Storage(request.source, dict(request.storage_options))
    if not is_output(storage):
        return _view_texts(request)
    output = ShownOutput.open(storage)
    return (_view_labels if output.is_labelled else _view_output)(output, request)


def _view_labels(output: ShownOutput, request: ShowRequest) -> list[Shown]:
    if request.overrides or request.compare is not None:
        raise ConfigError(
            f"{request.source} holds labels: there is no rate or checkpoint to show them by; give "
            "the labelled texts' file to compress them"
        )
    return [(output.view(found), None) for found in output.find(request.choice)]


def _view_texts(request: ShowRequest) -> list[Shown]:
    source, options = request.source, request.storage_options
    config = config_of_input(source, options, request.overrides)
    scorer = Scorer()
    selector = _selector_of_texts(config)
    found = find_inputs(config.input, request.choice)
    views = [scorer.view(config, selector, each) for each in found]
    if request.compare is None:
        return [(view, None) for view in views]
    override = compared_override(request.compare)
    other = config_of_input(source, options, (*request.overrides, override))
    return _compare(scorer, (config, other), _selector_of_texts(other), found, views)


def _selector_of_texts(config: CompressConfig) -> Selector:
    if config.selection.corpus_rate is not None:
        raise ConfigError(
            "selection.corpus_rate takes a whole corpus: run moos compress and show its output, or "
            "show by selection.rate or selection.threshold"
        )
    try:
        return Selector(config.selection)
    except ModelError as error:
        raise ConfigError(f"selection.budget_tokenizer: {error}") from error


def _view_output(output: ShownOutput, request: ShowRequest) -> list[Shown]:
    base = config_of_run(output.storage, ())
    config = config_of_run(output.storage, request.overrides)
    found = output.find(request.choice)
    views = [output.view(each) for each in found]
    scorer = Scorer()
    if config != base or request.with_figures or request.compare is not None:
        views = [
            _complete(scorer, base, output, view, each)
            for view, each in zip(views, found, strict=True)
        ]
    if config != base:
        selector = _selector_of_run(output, base, config)
        views = [
            _again(scorer, (base, config), selector, view, each)
            for view, each in zip(views, found, strict=True)
        ]
    if request.compare is None:
        return [(view, None) for view in views]
    override = compared_override(request.compare)
    other = config_of_run(output.storage, (*request.overrides, override))
    return _compare(scorer, (config, other), _selector_of_run(output, base, other), found, views)


def _selector_of_run(output: ShownOutput, base: CompressConfig, config: CompressConfig) -> Selector:
    """The selector of a run's config with overrides."""
    selection = config.selection
    if selection == base.selection:
        return output.selector
    if selection.corpus_rate is not None and selection.corpus_rate != base.selection.corpus_rate:
        raise ConfigError(
            f"selection.corpus_rate={selection.corpus_rate:g} takes a whole corpus: run moos "
            "compress at it and show that output"
        )
    if selection.budget_tokenizer != base.selection.budget_tokenizer:
        return _selector_of_texts(config)
    decided = output.selector
    now = selection.model_copy(update={"budget_tokenizer": decided.config.budget_tokenizer})
    return Selector(now, decided.budget_tokenizer, corpus=decided.corpus)


def _complete(
    scorer: "Scorer", base: CompressConfig, output: ShownOutput, view: DocumentView, found: Found
) -> DocumentView:
    """The output's decision with the scores of all words, from the model where it holds none."""
    if view.figures is not None and view.figures.can_select:
        return view
    fresh = scorer.view(base, output.selector, found)
    notes = [
        f"Scored afresh with checkpoint {base.checkpoint}: the output holds "
        f"{'only the scores of kept words' if view.figures is not None else 'no scores'} "
        f"(output.annotations: {base.output.annotations})."
    ]
    sha256 = output.manifest["signature"]["checkpoint_sha256"]
    if scorer.compressor(base).checkpoint.sha256 != sha256:
        notes.append("That checkpoint has changed since the run: its scores are not the run's.")
    differing = int((fresh.keep != view.keep).sum())
    if differing:
        notes.append(
            f"By these scores {differing:,} of {len(view.words):,} words would be decided "
            "otherwise than in the output (another machine or engine, or torch in another batch)."
        )
    return replace(view, figures=fresh.figures, notes=tuple(notes))


def _again(
    scorer: "Scorer",
    configs: tuple[CompressConfig, CompressConfig],
    selector: Selector,
    view: DocumentView,
    found: Found,
) -> DocumentView:
    """A document by a second config: from the first one's scores where those still hold."""
    before, now = configs
    if _scoring_of(before) == _scoring_of(now):
        return reselect(view, selector, notes=view.notes)
    return scorer.view(now, selector, found)


def _compare(
    scorer: "Scorer",
    configs: tuple[CompressConfig, CompressConfig],
    selector: Selector,
    found: Sequence[Found],
    views: Iterable[DocumentView],
) -> list[Shown]:
    """The views, each beside that by the second config."""
    names = [config.checkpoint for config in configs]
    shown: list[Shown] = []
    for view, each in zip(views, found, strict=True):
        first, second = view, _again(scorer, configs, selector, view, each)
        if names[0] != names[1]:
            first, second = (
                replace(one, notes=(f"Checkpoint {name}.", *one.notes))
                for one, name in zip((first, second), names, strict=True)
            )
        shown.append((first, second))
    return shown


def _scoring_of(config: CompressConfig) -> tuple[object, ...]:
    """What decides the scores."""
    return config.checkpoint, config.scoring, config.window, config.engine


@dataclass(slots=True)
class Scorer:
    """Compresses single texts; a compressor is loaded once for all that share its settings."""

    _loaded: dict[str, Compressor] = field(default_factory=dict)

    def compressor(self, config: CompressConfig) -> Compressor:
        """The compressor of a config.

        Raises:
            ModelError: It cannot be loaded.
        """
        key = repr(_scoring_of(config))
        if key not in self._loaded:
            self._loaded[key] = Compressor.load(
                config.checkpoint,
                scoring=config.scoring,
                window=config.window,
                engine=config.engine,
            )
        return self._loaded[key]

    def view(self, config: CompressConfig, selector: Selector, found: Found) -> DocumentView:
        """A document as it is compressed now.

        Raises:
            ConfigError: The selection does not go with the scoring.
            DataError: The text cannot be compressed.
        """
        compressor = self.compressor(config)
        check_threshold(config.selection, compressor.scoring)
        prepared = compressor.preparer.prepare([found.text])[0]
        if isinstance(prepared, DataError):
            raise DataError(f"{found.title}: {prepared}") from prepared
        scored = compressor.score([prepared])[0]
        document = compress_scored([scored], selector)[0]
        if isinstance(document, DataError):
            raise DataError(f"{found.title}: {document}") from document
        return view_document(found.title, scored, document, selector)
