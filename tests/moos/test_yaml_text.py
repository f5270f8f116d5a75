import pytest

from moos.errors import ConfigError
from moos.yaml_text import MAX_DEPTH, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: [1, 2.5, true, null, x]", {"a": [1, 2.5, True, None, "x"]}),
        ("2026-11-26", "2026-11-26"),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_plain_values_are_read(text, value):
    assert parse_yaml(text) == value or value is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: hunter2", r"at line 2, column 2"),
        ("!!python/object/apply:os.system [hunter2]", "could not determine a constructor"),
        ("!!int ''", r"not what its tag says \(IndexError\)"),
        ("!!bool hunter2", r"not what its tag says \(KeyError\)"),
        ("!!binary aGk=", "could not determine a constructor"),
        ("!!timestamp hunter2", "could not determine a constructor"),
        ("!!set {a, b}", "could not determine a constructor"),
        ("a: &a [x]\nb: *a", r"write out what \*aliases stand for at line 2"),
        ("&a [*a]", "write out"),
        ("a: &hunter2 1\nb: *hunter3", "write out"),
        ("? [hunter2]\n: 1", "found unhashable key"),
        ("\x00", "not printable"),
        ("[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("[" * 5000, "nested more than 32 deep"),
        (f"0x{'f' * 9000}", "does not fit 64 bits"),
        (f"{{{2**63}: 1}}", "does not fit 64 bits"),
        ("9" * 9000, "not what its tag says"),
    ],
)
def test_what_no_config_needs_is_refused_without_quoting_it(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_yaml(text)
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
