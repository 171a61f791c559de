"""Settings: one frozen record, every fault reported together."""

from __future__ import annotations

import msgspec
import pytest

from shared.errors import Misconfigured
from shared.settings import Settings, variable

NEEDS = ("redis_url", "database_url", "server_key")
ENVIRONMENT = {
    "KNUDGE_REDIS_URL": "redis://localhost:6379/0",
    "KNUDGE_DATABASE_URL": "postgresql://localhost/knudge",
    "KNUDGE_SERVER_KEY": "0123456789abcdef",
}
NUMBERS = [field.name for field in msgspec.structs.fields(Settings) if field.type is int]


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing is needed but what the caller says is; the defaults are those that are documented."""
    settings = Settings.load({})
    assert settings == Settings()
    assert (settings.port, settings.metrics_port) == (8080, 9095)
    assert (settings.k_sink, settings.k_revision, settings.log_level) == ("", "local", "info")
    assert (settings.body_limit, settings.batch_limit, settings.slate_limit) == (1_048_576, 1_000, 50)
    assert (settings.string_limit, settings.action_limit, settings.feature_limit) == (256, 1_000, 256)
    assert (settings.retention_days, settings.journal_wait_ms, settings.wake_up_ms) == (400, 20, 250)


def test_metrics_keep_off_the_ports_that_knative_takes() -> None:
    """The queue sidecar has 9090 and 9091 for itself."""
    assert Settings().metrics_port not in {9090, 9091}


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_read_from_its_variable(field: msgspec.structs.FieldInfo) -> None:
    """A setting comes from the variable that is named like it, with spaces around it dropped, and alone."""
    given = {int: " 4321 ", str: " warning "}[field.type]
    if field.name == "server_key":
        given = "a key of 16 characters and more"
    settings = Settings.load({variable(field.name): given})
    expected = 4321 if field.type is int else given.strip()
    assert settings == msgspec.structs.replace(Settings(), **{field.name: expected})


def test_variables_are_named_for_their_settings() -> None:
    """Knative's variables keep their names, all others begin with KNUDGE_."""
    names = {field.name: variable(field.name) for field in msgspec.structs.fields(Settings)}
    knative = {name: names.pop(name) for name in ("port", "k_sink", "k_revision")}
    assert knative == {"port": "PORT", "k_sink": "K_SINK", "k_revision": "K_REVISION"}
    assert names == {name: f"KNUDGE_{name.upper()}" for name in names}
    assert names["server_key"] == "KNUDGE_SERVER_KEY"


def test_everything_wrong_is_reported_together() -> None:
    """One error names all that is missing and malformed, so that a deployment is mended once."""
    environment = {"KNUDGE_REDIS_URL": "  ", "PORT": "http", "KNUDGE_BODY_LIMIT": "-1", "KNUDGE_LOG_LEVEL": "loud"}
    with pytest.raises(Misconfigured) as refused:
        Settings.load(environment, needs=NEEDS)
    faults = refused.value.detail.split("; ")
    assert faults == [
        "PORT must be a whole number of at least 0",
        "KNUDGE_BODY_LIMIT must be a whole number of at least 0",
        "KNUDGE_REDIS_URL is missing",
        "KNUDGE_DATABASE_URL is missing",
        "KNUDGE_SERVER_KEY is missing",
        "KNUDGE_LOG_LEVEL must be one of debug, info, warning, error",
    ]


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_each_need_is_missed(missing: str) -> None:
    """What a function needs must be there and not be empty."""
    assert Settings.load(ENVIRONMENT, needs=NEEDS).server_key == "0123456789abcdef"
    for given in ({}, {missing: ""}):
        environment = {name: value for name, value in ENVIRONMENT.items() if name != missing} | given
        with pytest.raises(Misconfigured, match=f"^{missing} is missing$"):
            Settings.load(environment, needs=NEEDS)


@pytest.mark.parametrize("text", ["-1", "+1", "1.5", "1e3", "0x10", "1_000", "ten", "١٢", "²", "1 0", "true"])
@pytest.mark.parametrize("name", NUMBERS)
def test_malformed_numbers_are_refused(name: str, text: str) -> None:
    """A number is written in plain digits."""
    with pytest.raises(Misconfigured, match=f"^{variable(name)} must be a whole number of at least 0$"):
        Settings.load({variable(name): text})


def test_the_server_key_has_16_characters_or_more() -> None:
    """A short key is refused even where none is needed."""
    assert Settings.load({"KNUDGE_SERVER_KEY": "x" * 16}).server_key == "x" * 16
    with pytest.raises(Misconfigured, match=r"^KNUDGE_SERVER_KEY must have at least 16 characters$") as refused:
        Settings.load({"KNUDGE_SERVER_KEY": "secret-15-chars"})
    assert "secret-15-chars" not in str(refused.value)


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning", "error"])
def test_log_levels_are_known_in_any_case(level: str) -> None:
    """The four levels, however they are written."""
    assert Settings.load({"KNUDGE_LOG_LEVEL": level}).log_level == level


def test_other_variables_are_left_alone() -> None:
    """What is not a setting does not matter."""
    assert Settings.load({"PATH": "/bin", "REDIS_URL": "x", "KNUDGE_OTHER": "x", "KNUDGE_PORT": "1"}) == Settings()


def test_settings_are_frozen() -> None:
    """They are built once."""
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]
