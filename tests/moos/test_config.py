import pytest
from pydantic import ValidationError

from moos.config import (
    ConfigModel,
    ScoringConfig,
    SelectionConfig,
    WindowConfig,
    apply_override,
    load_config,
    read_yaml,
)
from moos.errors import ConfigError


class RunConfig(ConfigModel):
    """A config like a job's."""

    name: str = "run"
    selection: SelectionConfig = SelectionConfig()
    scoring: ScoringConfig = ScoringConfig()
    window: WindowConfig = WindowConfig()


@pytest.fixture
def write_yaml(tmp_path):
    def write(text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_file_and_overrides_become_one_config(write_yaml):
    path = write_yaml("selection: {rate: 0.4}\nscoring: {alpha: 0.8}\n")
    config = load_config(RunConfig, path, ["selection.rate=0.3", "selection.rate=0.25", "name=x"])
    assert config.selection.rate == 0.25  # the later override wins
    assert (config.scoring.alpha, config.name) == (0.8, "x")


def test_no_file_is_needed():
    assert load_config(RunConfig, None, ["window.max_length=128"]).window.max_length == 128
    assert load_config(RunConfig) == RunConfig()


def test_an_empty_file_is_the_defaults(write_yaml):
    assert load_config(RunConfig, write_yaml("")) == RunConfig()
    assert load_config(RunConfig, write_yaml("# nothing\n")) == RunConfig()


def test_a_misspelt_key_is_named_with_its_value(write_yaml):
    path = write_yaml("selection: {rato: 0.4}\n")
    with pytest.raises(ConfigError, match=r"selection\.rato: Extra inputs.*\(got 0\.4\)") as caught:
        load_config(RunConfig, path)
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match=r"scoring\.outlier\.kind: Extra.*\(got 'l2'\)"):
        load_config(RunConfig, None, ["scoring.outlier.kind=l2"])


def test_every_problem_is_listed():
    with pytest.raises(ConfigError) as caught:
        load_config(RunConfig, None, ["selection.rate=2", "window.max_length=3", "nmae=x"])
    for part in ("selection.rate", "(got 2)", "window.max_length", "(got 3)", "nmae", "(got 'x')"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "selection.rate=0",
        "selection.rate=1.01",
        "selection.rate=.nan",
        "selection.rate=half",
        "selection.target_tokens=-1",
        "selection.target_tokens=2.5",
        "selection.threshold=1.5",
        "selection.corpus_rate=0",
        "selection.corpus_rate=1.01",
        "selection.corpus_rate=half",
        "selection.protect=[numbers, dates]",
        "selection.protect=numbers",
        "selection.protect_patterns=['(unclosed']",
        "scoring.alpha=-0.1",
        "scoring.word_score=median",
        "scoring.outlier.statistics=corpus",
        "window.max_length=7",
        "window.context_tokens=-1",
        "selection=0.5",
    ],
)
def test_a_value_out_of_range_is_named(override):
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load_config(RunConfig, None, [override])


@pytest.mark.parametrize(
    "budgets",
    [
        {"rate": 0.5, "target_tokens": 10},
        {"rate": 0.5, "threshold": 0.5},
        {"target_tokens": 0, "threshold": 0.0},
        {"rate": 1, "target_tokens": 1, "threshold": 1},
        {"rate": 0.5, "corpus_rate": 0.5},
        {"threshold": 0.0, "corpus_rate": 1},
        {"rate": 1, "target_tokens": 1, "threshold": 1, "corpus_rate": 1},
    ],
)
def test_two_budgets_are_refused_with_both_values(budgets):
    with pytest.raises(ValidationError, match="set one budget") as caught:
        SelectionConfig(**budgets)
    for name in budgets:
        assert f"{name}=" in str(caught.value)


@pytest.mark.parametrize("name", ["threshold", "corpus_rate"])
def test_a_reader_s_tokenizer_is_refused_where_it_has_no_effect(name):
    with pytest.raises(ValidationError, match=f"no effect on {name}"):
        SelectionConfig(**{name: 0.5}, budget_tokenizer="tokenizer.json")


def test_no_budget_means_half():
    assert SelectionConfig().effective_rate == 0.5
    assert SelectionConfig(rate=0.2).effective_rate == 0.2
    assert SelectionConfig(target_tokens=0).effective_rate is None
    assert SelectionConfig(threshold=0.0).effective_rate is None
    assert SelectionConfig(corpus_rate=0.4).effective_rate is None


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("selection.rate=3e-1", 0.3),  # a string to YAML 1.1
        ("selection.rate=1e-05", 1e-05),
        ("selection.rate=1", 1.0),
        ("selection.rate=", None),
        ("selection.rate=null", None),
        ("selection.protect=[]", ()),
        ("selection.protect_words=['no', on, 12:30]", None),
        ("selection.protect_words=[no]", None),
        ("selection.protect_patterns=['a=b', '\\d+']", ("a=b", r"\d+")),
        ("selection.budget_tokenizer=no", None),
        ("name=yes", None),
        ("name='yes'", "yes"),
        ("name=a=b", "a=b"),
    ],
)
def test_values_are_read_as_yaml_and_never_guessed(override, value):
    key = override.partition("=")[0]
    refused = override in (
        "selection.protect_words=['no', on, 12:30]",
        "selection.protect_words=[no]",  # False, not a word
        "selection.budget_tokenizer=no",
        "name=yes",
    )
    if refused:
        with pytest.raises(ConfigError, match=key):
            load_config(RunConfig, None, [override])
        return
    node = load_config(RunConfig, None, [override])
    for part in key.split("."):
        node = getattr(node, part)
    assert node == value


@pytest.mark.parametrize(
    "override",
    [
        "selection.target_tokens=no",
        "selection.rate=yes",
        "selection.threshold=off",
        "selection.corpus_rate=on",
    ],
)
def test_yes_and_no_are_not_numbers(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        load_config(RunConfig, None, [override])


@pytest.mark.parametrize("override", ["rate", "=0.5", "", "name=[unclosed", "name=: :"])
def test_a_malformed_override_is_shown(override):
    with pytest.raises(ConfigError, match="override"):
        load_config(RunConfig, None, [override])


@pytest.mark.parametrize("value", ["2026-11-26", "2026-13-45"])
def test_a_date_is_text(write_yaml, value):
    assert load_config(RunConfig, None, [f"name={value}"]).name == value
    assert load_config(RunConfig, write_yaml(f"name: {value}\n")).name == value


def test_an_override_below_a_plain_value_is_refused():
    tree = {"name": "run"}
    with pytest.raises(ConfigError, match="name holds a value"):
        apply_override(tree, "name.first=x")


def test_an_override_makes_the_parents_it_needs():
    tree: dict = {"scoring": None}
    apply_override(tree, "scoring.outlier.reduction=max")
    assert tree == {"scoring": {"outlier": {"reduction": "max"}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"- 1\n- 2\n", "must be a mapping of keys, not list"),
        (b"just text", "must be a mapping of keys, not str"),
        (b"a: \xff\xfe", "not valid YAML"),
        (b"!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_config(RunConfig, tmp_path / "nowhere.yaml")


def test_a_config_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().selection.rate = 0.3


@pytest.mark.parametrize("model", [SelectionConfig, ScoringConfig, WindowConfig])
def test_every_key_says_what_it_is(model):
    assert all(field.description for field in model.model_fields.values())


def test_a_misspelt_key_is_answered_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match=r"rat: Extra inputs .*did you mean 'rate'"):
        load_config(SelectionConfig, overrides=["rat=0.5"])
