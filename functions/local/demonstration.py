"""What a fresh local run shows, made through the HTTP interface like any other: policies, an experiment, requests for a terminal."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from functions.local.http_client import HttpClient
from shared.errors import KnudgeError

POLICY, OTHER_POLICY, EXPERIMENT = "demo", "demo-greedy", "demo-kinds"
ACTIONS = ["headline-question", "headline-number", "headline-quote", "headline-plain"]
WINDOW_S = 60.0
"""Within which what users do counts: nobody who tries this waits for a week."""
DEFINITIONS: Mapping[str, Mapping[str, Any]] = {
    f"/v1/policies/{POLICY}": {"kind": "thompson", "actions": ACTIONS, "reward": {"click": 1.0}},
    f"/v1/policies/{OTHER_POLICY}": {"kind": "epsilon_greedy", "actions": ACTIONS, "reward": {"click": 1.0}},
    f"/v1/experiments/{EXPERIMENT}": {
        "policy": POLICY,
        "variations": [
            {"key": "thompson", "value": {"policy": POLICY}},
            {"key": "greedy", "value": {"policy": OTHER_POLICY}},
        ],
        "analysis": {
            "metrics": [
                {"name": "clicked", "event": "click", "window_s": WINDOW_S},
                {"name": "revenue", "event": "purchase", "kind": "mean", "window_s": WINDOW_S},
            ],
        },
    },
}
"""What is made, in this order, by the path that it is written to and read from."""
TIMEOUT_S = 10.0
POLL_S = 0.02
TAKEN = (HTTPStatus.OK, HTTPStatus.CREATED)


class NotSeeded(KnudgeError):
    """The demonstration was not taken."""

    slug = "not-seeded"


async def seed(url: str, client: HttpClient) -> bool:
    """Make what is not there yet at the address `url`; say whether anything was made."""
    headers = {"content-type": "application/json", "x-client-id": "local-runner"}
    made = False
    for path, definition in DEFINITIONS.items():
        if (await client.request("GET", url + path, timeout_s=TIMEOUT_S)).status == HTTPStatus.OK:
            continue
        answer = await client.request("PUT", url + path, headers, json.dumps(definition).encode(), timeout_s=TIMEOUT_S)
        if answer.status not in TAKEN:
            raise NotSeeded(f"control answered {answer.status}: {answer.body.decode(errors='replace')[:500]}")
        made = True
    return made


async def wait_served(url: str, client: HttpClient) -> None:
    """Return once `recommend` holds the policies' snapshots, so that the first request is answered by one.

    The probe leaves no action to choose: without a snapshot that is 503, with one it is refused, and no decision is made.
    """
    headers = {"content-type": "application/json", "x-client-id": "local-runner"}
    deadline = time.monotonic() + TIMEOUT_S
    for policy in (POLICY, OTHER_POLICY):
        probe = json.dumps({"policy": policy, "exclude": ACTIONS}).encode()
        while time.monotonic() < deadline:
            answer = await client.request("POST", f"{url}/v1/recommend", headers, probe, timeout_s=TIMEOUT_S)
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            await asyncio.sleep(POLL_S)


def requests_to_try(url: str) -> str:
    """Return a few commands that work as they stand, one after the other, in one shell."""
    return f"""\
  # a recommendation; its decision_id is what feedback speaks of
  ANSWER=$(curl -s {url}/v1/recommend -H 'content-type: application/json' \\
    -d '{{"policy": "{POLICY}", "user_id": "ada", "context": {{"device": "phone"}}}}'); echo "$ANSWER"

  # somebody clicked
  ID=$(echo "$ANSWER" | sed 's/.*"decision_id": *"\\([^"]*\\)".*/\\1/')
  curl -s {url}/v1/feedback -H 'content-type: application/json' \\
    -d "{{\\"decision_id\\": \\"$ID\\", \\"kind\\": \\"click\\"}}"

  # another click, as an event through the broker; sent again with the same ce-id it counts as a duplicate
  curl -si {url}/ -H 'content-type: application/json' -H 'ce-specversion: 1.0' -H 'ce-id: 1' \\
    -H 'ce-source: /my/shop' -H 'ce-type: dev.knudge.feedback.given.v1' \\
    -d "{{\\"decision_id\\": \\"$ID\\", \\"kind\\": \\"click\\"}}"

  # what the policy has learned
  curl -s {url}/v1/policies/{POLICY}

  # an experiment splits the policy's calls: grace is decided for by another one, and the answer says so
  curl -s {url}/v1/recommend -H 'content-type: application/json' -d '{{"policy": "{POLICY}", "user_id": "grace"}}'

  # she bought something, wherever that was: it counts for the variation that she saw
  curl -s {url}/v1/feedback -H 'content-type: application/json' \\
    -d '{{"user_id": "grace", "kind": "purchase", "value": 12.5}}'

  # what she gets of all experiments, and of one as OpenFeature asks for it
  curl -s {url}/v1/assignments -H 'content-type: application/json' -d '{{"user_id": "grace"}}'
  curl -s {url}/ofrep/v1/evaluate/flags/{EXPERIMENT} -H 'content-type: application/json' \\
    -d '{{"context": {{"targetingKey": "grace"}}}}'

  # the experiment as it was written, and what it shows: a user counts two minutes after the exposure
  curl -s {url}/v1/experiments/{EXPERIMENT}
  curl -s {url}/v1/experiments/{EXPERIMENT}/results
"""
