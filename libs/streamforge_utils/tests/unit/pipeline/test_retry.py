import asyncio

import pytest
import stamina

from streamforge_utils.errors import ConfigurationError, NotConnected, TransientError
from streamforge_utils.pipeline import retry
from streamforge_utils.pipeline.retry import told_when_slow, until_done
from streamforge_utils.testing import RecordingObserver


@pytest.fixture
def observer():
    return RecordingObserver()


def failing(*errors):
    left = list(errors)

    async def call():
        if left:
            raise left.pop(0)
        return "done"

    return call


async def test_a_call_is_tried_until_it_is_done_and_the_wait_is_told(observer):
    with stamina.set_testing(True, attempts=5):
        call = failing(NotConnected("away"), TransientError("still away"))
        assert await until_done(call, part="sink", observer=observer) == "done"
    assert observer.waits == [("sink", "away"), ("sink", "still away"), ("sink", None)]


async def test_an_error_that_stays_passes_at_once(observer):
    with pytest.raises(ConfigurationError):
        await until_done(failing(ConfigurationError("wrong")), part="sink", observer=observer)
    assert observer.waits == []


@pytest.mark.parametrize(("asked", "waited"), [(0.3, 0.3), (0.0, retry.FIRST_WAIT_SECONDS)])
async def test_what_the_other_side_asks_to_wait_is_waited_but_never_nothing(observer, asked, waited):
    call = failing(TransientError("busy", retry_after=asked))
    began = asyncio.get_running_loop().time()
    assert await until_done(call, part="source", observer=observer) == "done"
    assert asyncio.get_running_loop().time() - began == pytest.approx(waited, abs=0.05)


async def test_a_slow_call_is_told_and_its_end_too(observer, monkeypatch):
    monkeypatch.setattr(retry, "SLOW_SECONDS", 0.01)
    with told_when_slow("a transaction", part="kafka", observer=observer):
        await asyncio.sleep(0.05)
    assert observer.waits == [("kafka", "a transaction is not done after 0.01 s"), ("kafka", None)]


async def test_a_quick_call_is_not_told_nor_is_the_end_of_one_that_failed(observer, monkeypatch):
    with told_when_slow("a transaction", part="kafka", observer=observer):
        await asyncio.sleep(0)
    assert observer.waits == []
    monkeypatch.setattr(retry, "SLOW_SECONDS", 0.01)
    call = failing(NotConnected("away"))
    with pytest.raises(NotConnected):
        await _slowly(call, observer)
    assert len(observer.waits) == 1


async def _slowly(call, observer):
    with told_when_slow("a transaction", part="kafka", observer=observer):
        await asyncio.sleep(0.05)
        await call()
