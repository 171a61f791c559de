"""Checks the numbers that are kept of GrowthBook's JavaScript and of `RegExp`: `make oracles-javascript`, which needs Node.js and npm.

The inputs stand in the fixtures; Node.js computes the results anew, by GrowthBook's own package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "unit/experiments/fixtures"
SCRIPT = """
const [folder, fixtures] = JSON.parse(require("fs").readFileSync(0));
const { hash } = require(folder + "/dist/cjs/util.js");
const { evalCondition } = require(folder + "/dist/cjs/mongrule.js");
console.error = () => {}; // it tells of every unknown operator
const matched = (pattern, insensitive, texts) => {
  try {
    const compiled = new RegExp(pattern, insensitive ? "i" : "");
    return texts.map((text) => (compiled.test(text) ? "1" : "0")).join("");
  } catch (error) {
    return null;
  }
};
const { javascript_hashes: hashes, javascript_conditions: conditions, javascript_patterns: patterns } = fixtures;
console.log(JSON.stringify({
  javascript_hashes: hashes.rows.map(([seed, value]) => [seed, value, hash(seed, value, 1), hash(seed, value, 2)]),
  javascript_conditions: conditions.rows.map(([condition, attributes]) =>
    [condition, attributes, evalCondition(attributes, condition, conditions.groups)]),
  javascript_patterns: patterns.rows.map(([pattern, insensitive]) =>
    [pattern, insensitive, matched(pattern, insensitive, patterns.texts)]),
}));
"""


def main(folder: str) -> int:
    """Compare every fixture with what the package in `folder` computes; return how many differ."""
    kept: dict[str, Any] = {
        path.stem: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("javascript_*.json"))
    }
    asked = json.dumps([str(Path(folder).resolve()), kept])
    answer = subprocess.run(
        ["node", "-e", SCRIPT], input=asked, capture_output=True, text=True, check=True, timeout=120
    )
    now = json.loads(answer.stdout)
    wrong = 0
    for name, fixture in kept.items():
        differing = [row for row, other in zip(fixture["rows"], now[name], strict=True) if row != other]
        wrong += bool(differing)
        print(
            f"{name}: {len(fixture['rows'])} rows, "
            + (f"{len(differing)} differ, first {differing[0]}" if differing else "as kept")
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
