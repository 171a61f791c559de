"""OpenFeature's own client for remote evaluation, unchanged, against `assignment` in a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from functions.local.servers import LocalServers
from shared.experiments.assigning import Catalogue
from shared.experiments.experiment import ExperimentSpec, Variation
from shared.experiments.flags import FlagSpec, Rule
from tests.hosted import Hosted
from tests.stage import Stage, run

EXPERIMENT = ExperimentSpec(
    "client-button", 1, (Variation("red", "red"), Variation("blue", "blue")), condition={"country": "DE"}
)
FLAGS = (
    FlagSpec("bool", 1, default_value=True),
    FlagSpec("int", 1, 7),
    FlagSpec("float", 1, 0.5),
    FlagSpec("text", 1, "grüß dich"),
    FlagSpec("object", 1, {"sizes": [1, 2, {"deep": None}]}),
    FlagSpec("list", 1, [1, 2]),
    FlagSpec("null", 1, None),
    FlagSpec("ruled", 1, "all", (Rule(id="pros", value="pro", condition={"plan.name": "pro"}),)),
)
GERMAN = EvaluationContext("ada", {"country": "DE", "plan": {"name": "pro"}})


@pytest.fixture
def client(servers: LocalServers) -> Iterator[OpenFeatureClient]:
    """Serve the flags, and give a client for them."""

    async def publish(stage: Stage) -> None:
        await stage.publish(EXPERIMENT, flags=FLAGS)

    run(servers, publish)
    with Hosted("assignment", servers) as hosted:
        provider = OFREPProvider(f"http://127.0.0.1:{hosted.port}")
        api.set_provider(provider)
        try:
            yield api.get_client()
        finally:
            api.clear_providers()
            provider.session.close()


def test_the_client_gets_every_type_of_value(client: OpenFeatureClient, servers: LocalServers) -> None:
    """Values of all types, variants and reasons arrive; the caller's default where there is no value; exposures are journalled."""
    for details, value in (
        (client.get_boolean_details("bool", False, GERMAN), True),
        (client.get_integer_details("int", 0, GERMAN), 7),
        (client.get_float_details("float", 0.0, GERMAN), 0.5),
        (client.get_string_details("text", "", GERMAN), "grüß dich"),
        (client.get_object_details("object", {}, GERMAN), {"sizes": [1, 2, {"deep": None}]}),
        (client.get_object_details("list", [], GERMAN), [1, 2]),
        (client.get_string_details("null", "mine", GERMAN), "mine"),
    ):
        assert (details.value, details.reason, details.variant) == (value, Reason.STATIC, "default"), details
        assert details.error_code is None
    ruled = client.get_string_details("ruled", "", GERMAN)
    assert (ruled.value, ruled.reason, ruled.variant) == ("pro", Reason.TARGETING_MATCH, "pros")
    catalogue = Catalogue(1, [EXPERIMENT])
    seen = set()
    for number in range(30):
        user = f"user-{number}"
        meant = catalogue.assign("client-button", {"user_id": user, "country": "DE"}, lambda _, value: value)
        shown = client.get_string_details("client-button", "", EvaluationContext(user, {"country": "DE"}))
        assert (shown.value, shown.variant, shown.reason) == (meant.value, meant.variation, Reason.SPLIT)
        assert shown.flag_metadata["experiment"] == "client-button"
        seen.add(shown.value)
    assert seen == {"red", "blue"}
    outside = client.get_string_details("client-button", "", EvaluationContext("ada", {"country": "AT"}))
    assert (outside.value, outside.reason) == ("red", Reason.UNKNOWN)

    async def play(stage: Stage) -> None:
        assert len(await stage.exposures("client-button")) == 30

    run(servers, play)


def test_the_client_understands_every_error(client: OpenFeatureClient) -> None:
    """Unknown flags, missing keys and contexts, and values of another type end in the caller's default, each with its code."""
    for details, code in (
        (client.get_string_details("unheard-of", "mine", GERMAN), ErrorCode.FLAG_NOT_FOUND),
        (
            client.get_string_details("text", "mine", EvaluationContext(attributes={"a": 1})),
            ErrorCode.TARGETING_KEY_MISSING,
        ),
        (
            client.get_string_details("text", "mine", EvaluationContext("u", {"user_id": "v"})),
            ErrorCode.INVALID_CONTEXT,
        ),
        (client.get_string_details("int", "mine", GERMAN), ErrorCode.TYPE_MISMATCH),
    ):
        assert (details.value, details.reason, details.error_code) == ("mine", Reason.ERROR, code), details


def test_what_is_not_sent_again_keeps_the_connection(client: OpenFeatureClient) -> None:
    """A 304 has no body and no length, and the next answer on its connection is read as it should be."""
    provider = client.provider
    assert isinstance(provider, OFREPProvider)
    asked = {"context": {"targetingKey": "ada"}}
    with closing(HTTPConnection(urlsplit(provider.base_url).netloc, timeout=10)) as connection:
        tag = ""
        for status in (200, 304, 304, 200):
            held = tag if status == 304 else "other"
            connection.request("POST", "/ofrep/v1/evaluate/flags", json.dumps(asked), {"if-none-match": held})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status
            assert (answer.headers["content-length"] is None) == (status == 304)
            assert bool(body) == (status == 200)
            tag = answer.headers["etag"]


def test_the_client_takes_its_defaults_without_a_catalogue(own_servers: LocalServers) -> None:
    """A provider that is not ready is no unknown flag; the client goes on once there is a catalogue."""
    with Hosted("assignment", own_servers) as hosted:
        provider = OFREPProvider(f"http://127.0.0.1:{hosted.port}")
        api.set_provider(provider)
        try:
            client = api.get_client()
            details = client.get_string_details("text", "mine", GERMAN)
            assert (details.value, details.error_code) == ("mine", ErrorCode.GENERAL)
            assert "PROVIDER_NOT_READY" in str(details.error_message)

            async def publish(stage: Stage) -> None:
                await stage.publish(flags=FLAGS)
                await asyncio.sleep(0.5)

            run(own_servers, publish)
            assert client.get_string_value("text", "mine", GERMAN) == "grüß dich"
        finally:
            api.clear_providers()
            provider.session.close()
