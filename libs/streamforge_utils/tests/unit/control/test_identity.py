import pytest

from streamforge_utils.control import Identity
from streamforge_utils.settings import WorkerSettings


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.setenv("PARAMS", "{}")

    def make(**env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return WorkerSettings()

    return make


def test_the_environment_says_who_a_worker_is(settings):
    found = Identity.of(
        settings(
            QUEUE_ID="wf-btcusdt-api_candles_1m-20240801-abc123",
            STEP="load",
            LAUNCH="3",
            ORDINAL="1",
            REPLICAS="2",
            SYMBOL="BTCUSDT",
            TYPE="api_candles_1m",
            INSTALLATION="i1",
        ),
        "loader-candles",
    )
    assert found == Identity(
        queue_id="wf-btcusdt-api_candles_1m-20240801-abc123",
        producer="load__abc123-1",
        target="loader-candles",
        step="load",
        launch=3,
        ordinal=1,
        symbol="BTCUSDT",
        type="api_candles_1m",
        installation="i1",
    )


def test_a_step_is_its_target_unless_it_is_named_and_a_given_producer_holds(settings):
    found = Identity.of(settings(QUEUE_ID="wf-x-abc123", TELEMETRY_PRODUCER_ID="me"), "dummy-service")
    assert (found.step, found.producer, found.installation, found.type) == ("dummy-service", "me", None, "")
