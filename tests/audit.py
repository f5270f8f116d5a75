"""Known weaknesses of what is installed: `make audit`. Exit code 0 none, 1 some, 2 not looked up.

pip-audit asks PyPI's advisories, so it needs a network. Where an index answers that it knows no
such package, as one without advisories does, pip-audit skips the package and ends with 0: here that
counts as not looked up, which is not the same as nothing found.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

EXIT_FOUND, EXIT_UNKNOWN = 1, 2
MOST_SKIPPED = 0.1
"""Share of packages that may be unknown to PyPI, such as builds of one's own."""

COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off"),
    *("--format", "json"),
)


def judge(told: str, complaint: str = "") -> tuple[int, str]:
    """The exit code and the findings of an audit, in words.

    Args:
        told: The JSON that pip-audit wrote; nothing where it failed.
        complaint: What it wrote to stderr.
    """
    try:
        packages = json.loads(told)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = complaint.strip().splitlines() or ["pip-audit said nothing"]
        return EXIT_UNKNOWN, f"nothing was looked up; no network? {lines[-1]}"
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    unknown = f"{len(skipped)} of {len(packages)} packages could not be looked up"
    weak = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    if weak:
        return EXIT_FOUND, "\n".join([*weak, "raise the lower bounds in pyproject.toml", unknown])
    if not packages or len(skipped) > MOST_SKIPPED * len(packages):
        return EXIT_UNKNOWN, f"no network, or an index without advisories: {unknown}"
    shown = f" ({', '.join(skipped)})" if skipped else ""
    return 0, f"no known weakness; {unknown}{shown}"


def main(command: Sequence[str] = COMMAND) -> int:
    """Audit, and return the exit code."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, verdict = judge(done.stdout, done.stderr)
    sys.stderr.write(f"{verdict}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
