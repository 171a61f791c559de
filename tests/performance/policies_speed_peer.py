"""What Vowpal Wabbit's Python `predict` takes for one request, in microseconds; runs in the peers' environment.

`python -m tests.performance.policies_speed_peer N_ACTIONS N_FEATURES REQUESTS` prints the mean over the requests. The text of a request
is made before the clock starts; parsing it is part of `predict`.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from vowpalwabbit import Workspace

from tests.performance.policies_peers import text_of


def main() -> None:
    """Learn a little, then measure."""
    n_actions, n_features, requests = map(int, sys.argv[1:])
    random = np.random.default_rng(3)
    workspace = Workspace("--cb_explore_adf --squarecb -q ca --quiet")
    actions = [f"|a a{action}" for action in range(n_actions)]
    texts = [[text_of(row), *actions] for row in random.normal(size=(requests, n_features)).tolist()]
    for lines in texts[:200]:
        chosen = int(random.integers(n_actions))
        labelled = list(lines)
        labelled[1 + chosen] = f"0:{random.random():.3g}:{1 / n_actions:.3g} {actions[chosen]}"
        workspace.learn(labelled)
    begin = time.perf_counter()
    for lines in texts:
        workspace.predict(lines)
    print(json.dumps((time.perf_counter() - begin) / requests * 1e6))
    workspace.finish()


if __name__ == "__main__":
    main()
