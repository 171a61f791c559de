"""`python -m knative.checks [--schemas DIR] FILE...`: one line a fault; exit 1 if there is one.

A FILE is a rendered environment, whose references are followed; of a folder of sources each object is checked by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from knative.checks.checker import check, check_sources, unchecked
from knative.checks.documents import Fault, read

CONFORMANCE = "KNUDGE_CONFORMANCE"
DEFAULT = Path("../shared/conformance")


def schemas_folder() -> Path:
    """Return the folder with Knative's schemas: below `$KNUDGE_CONFORMANCE`, else where a checkout finds it."""
    return Path(os.environ.get(CONFORMANCE) or DEFAULT) / "knative"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m knative.checks", description="Check manifests without a cluster.")
    parser.add_argument("--schemas", type=Path, default=schemas_folder(), help="folder with Knative's own schemas")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="rendered YAML, or a folder of sources")
    given = parser.parse_args(arguments)
    schemas: Path | None = given.schemas
    if not given.schemas.is_dir():
        print(f"skipped: Knative's schemas are not in {given.schemas}; its kinds meet the rules alone", file=sys.stderr)
        schemas = None
    faults: list[Fault] = []
    checked = 0
    for path in given.files:
        documents, unreadable = read([path])
        faults += unreadable
        checked += len(documents)
        for document in unchecked(documents):
            print(
                f"unchecked: {document.file}: {document.kind}/{document.name}: its schema is not here", file=sys.stderr
            )
        faults += check_sources(documents, schemas) if path.is_dir() else check(documents, schemas)
    for fault in faults:
        print(fault)
    print(f"{checked} objects, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
