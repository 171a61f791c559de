"""A small server that keeps the HTTP contract, so that the console can be tried without the functions.

It counts instead of learning: a snapshot's propensities are uniform mixed with what was clicked. It holds
what it was sent, for the tests to look at.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

Json = dict[str, Any]


class FakeFunctions:
    """The state behind the server. `refusals`: answers to give first, as (status, headers, body)."""

    def __init__(self) -> None:
        """Start empty and unbound; use as a context manager to serve."""
        self.policies: dict[str, Json] = {}
        self.decisions: dict[str, Json] = {}
        self.clicks: dict[str, Json] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.refusals: list[tuple[int, dict[str, str], bytes]] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Serve in a thread."""
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: Json) -> tuple[int, Json]:
        """Do what a function would do and return status and answer."""
        if path.startswith("/v1/policies/"):
            return self._policy(method, unquote(path.removeprefix("/v1/policies/")), body)
        known = {
            "/v1/decisions": self._decide,
            "/v1/feedback": self._feed_back,
            "/v1/recommend": self._recommend,
        }.get(path)
        if known is None:
            return 404, {"type": "unknown-route", "title": "There is nothing at this path", "status": 404}
        return known(body)

    def _policy(self, method: str, name: str, body: Json) -> tuple[int, Json]:
        if method == "PUT":
            self.policies[name] = body | {"version": self.policies.get(name, {}).get("version", 0) + 1}
            return 201, {"name": name, "version": self.policies[name]["version"], "learning": "new"}
        if name not in self.policies:
            return 404, {"type": "unknown-policy", "title": "No such policy", "status": 404, "detail": name}
        return 200, self.policies[name] | {"name": name, "snapshot": self._snapshot(name)}

    def _snapshot(self, name: str) -> Json:
        items = self.policies[name]["actions"]
        shown = dict.fromkeys(items, 0)
        clicked = dict.fromkeys(items, 0)
        for decision_id, decision in self.decisions.items():
            if decision["policy"] == name:
                shown[decision["action"]] += 1
                clicked[decision["action"]] += decision_id in self.clicks
        total = sum(clicked.values()) + len(items)
        actions = [
            {
                "action": item,
                "weight": shown[item],
                "mean": clicked[item] / shown[item] if shown[item] else None,
                "propensity": (clicked[item] + 1) / total,
            }
            for item in items
        ]
        return {"snapshot_version": len(self.clicks), "policy_version": 1, "as_of": 0.0, "actions": actions}

    def _decide(self, body: Json) -> tuple[int, Json]:
        ids = []
        new = 0
        for decision in body["decisions"]:
            identity = f"{decision['policy']} {decision['decision_id']} {decision['occurred_at']}"
            ids.append(hashlib.sha256(identity.encode()).hexdigest())
            new += ids[-1] not in self.decisions
            self.decisions[ids[-1]] = decision
        return 200, {"accepted": new, "duplicates": len(ids) - new, "decision_ids": ids}

    def _feed_back(self, body: Json) -> tuple[int, Json]:
        events = body.get("events", [body])
        for event in events:
            if event["decision_id"] not in self.decisions:
                return 400, {
                    "title": "The input is not valid",
                    "detail": "no such decision",
                    "field": "decision_id",
                }
        new = sum(event["decision_id"] not in self.clicks for event in events)
        self.clicks |= {event["decision_id"]: event for event in events}
        return 200, {"accepted": new, "duplicates": len(events) - new}

    def _recommend(self, body: Json) -> tuple[int, Json]:
        items = self.policies[body["policy"]]["actions"]
        number = len(self.decisions)
        decision_id = f"decision-{number}"
        if not body.get("defer_activation"):
            self.decisions[decision_id] = body | {"action": items[number % len(items)]}
        item = {"action": items[number % len(items)], "propensity": 1 / len(items), "score": None}
        return 200, {"decision_id": decision_id, "items": [item], "degraded": False}


def _handler_for(functions: FakeFunctions) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            with functions.lock:
                functions.requests.append((self.command, self.path, dict(self.headers)))
                if functions.refusals:
                    self._send(*functions.refusals.pop(0))
                    return
                status, answer = functions.answer(self.command, self.path, json.loads(body or b"{}"))
            self._send(status, {"Content-Type": "application/json"}, json.dumps(answer).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if status == 0:  # break the connection without an answer
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Handler
