"""What the package asks of others: lower bounds for all of them, and an audit that does not lie."""

import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.audit import EXIT_FOUND, EXIT_UNKNOWN, judge, main

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"]]
OPTIONAL = [Requirement(text) for texts in EXTRAS.values() for text in texts]


def test_every_dependency_has_a_lower_bound():
    # Type stubs run nothing, and the project's own extras have bounds of their own.
    named = [r for r in (*REQUIRED, *OPTIONAL) if r.name not in ("moos", "types-PyYAML")]
    assert len(named) > 20
    unbound = [r.name for r in named if not {s.operator for s in r.specifier} & {">=", "==", "~="}]
    assert unbound == []


def test_no_dependency_is_a_url():
    assert [r.name for r in (*REQUIRED, *OPTIONAL) if r.url is not None] == []


def test_what_is_installed_satisfies_what_is_asked_for():
    installed = {}
    for requirement in REQUIRED:
        try:
            installed[requirement] = version(requirement.name)
        except PackageNotFoundError:
            installed[requirement] = None
    missed = {r.name: v for r, v in installed.items() if v is None or not r.specifier.contains(v)}
    assert missed == {}


KNOWN = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([KNOWN] * 3, 0, "no known weakness; 0 of 3"),
        ([KNOWN] * 20 + [SKIPPED], 0, r"1 of 21 packages could not be looked up \(c\)"),
        ([KNOWN, WEAK, SKIPPED], EXIT_FOUND, "b 2: CVE-1, mended in 3"),
        ([SKIPPED] * 3, EXIT_UNKNOWN, "no network, or an index without advisories: 3 of 3"),
        ([], EXIT_UNKNOWN, "0 of 0"),
    ],
)
def test_what_could_not_be_looked_up_is_not_clean(packages, code, told):
    found, verdict = judge(json.dumps({"dependencies": packages}))
    assert found == code
    assert re.search(told, verdict)


def test_an_audit_says_that_there_is_no_network(capsys):
    failing = (sys.executable, "-c", "raise SystemExit('ConnectionError: Failed to resolve')")
    assert main(failing) == EXIT_UNKNOWN
    assert "nothing was looked up; no network? ConnectionError" in capsys.readouterr().err
