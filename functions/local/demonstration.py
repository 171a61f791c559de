"""What a fresh local run shows: a policy to try, made through the HTTP interface like any other, and requests for a terminal."""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus

from functions.local.http_client import HttpClient
from shared.errors import KnudgeError

POLICY = "demo"
DEFINITION = {
    "kind": "thompson",
    "actions": ["headline-question", "headline-number", "headline-quote", "headline-plain"],
    "reward": {"click": 1.0},
}
TIMEOUT_S = 10.0
POLL_S = 0.02
TAKEN = (HTTPStatus.OK, HTTPStatus.CREATED)


class NotSeeded(KnudgeError):
    """The demonstration policy was not taken."""

    slug = "not-seeded"


async def seed(url: str, client: HttpClient) -> bool:
    """Make the policy at the address `url` if there is none yet; say whether it was made."""
    path = f"{url}/v1/policies/{POLICY}"
    headers = {"content-type": "application/json", "x-client-id": "local-runner"}
    if (await client.request("GET", path, timeout_s=TIMEOUT_S)).status == HTTPStatus.OK:
        return False
    answer = await client.request("PUT", path, headers, json.dumps(DEFINITION).encode(), timeout_s=TIMEOUT_S)
    if answer.status not in TAKEN:
        raise NotSeeded(f"control answered {answer.status}: {answer.body.decode(errors='replace')[:500]}")
    return True


async def wait_served(url: str, client: HttpClient) -> None:
    """Return once `recommend` holds the policy's snapshot, so that the first request is answered by it.

    The probe leaves no action to choose: without a snapshot that is 503, with one it is refused, and no decision is made.
    """
    probe = json.dumps({"policy": POLICY, "exclude": DEFINITION["actions"]}).encode()
    headers = {"content-type": "application/json", "x-client-id": "local-runner"}
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        answer = await client.request("POST", f"{url}/v1/recommend", headers, probe, timeout_s=TIMEOUT_S)
        if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
            return
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
"""
