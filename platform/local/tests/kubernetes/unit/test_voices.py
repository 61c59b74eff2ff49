"""Who a played pod says it is, and when it ends."""

import asyncio

import pytest

from streamforge_local.kubernetes.kubeconfig import Access
from streamforge_local.kubernetes.voices import Voices, event_of, run_s
from streamforge_utils.contracts.events import EventName, from_json
from streamforge_utils.settings import KafkaSettings


def pod(*, replicas=1, annotations=None):
    env = {
        "QUEUE_ID": "wf-btcusdt-api_candles_1m-20240801-abc123",
        "STEP": "store",
        "LAUNCH": "2",
        "REPLICAS": str(replicas),
        "SYMBOL": "BTCUSDT",
        "TYPE": "api_candles_1m",
        "INSTALLATION": "i1",
    }
    listed = [{"name": name, "value": value} for name, value in env.items()]
    ordinal = {"name": "ORDINAL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['x']"}}}
    return {
        "metadata": {"uid": "u-1", "labels": {"target": "arango-candles"}, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "arango-candles", "env": [*listed, ordinal]}]},
    }


def test_a_pod_speaks_as_the_worker_in_it_would():
    event = event_of(pod(), EventName.STARTED)
    assert (event.producer, event.target, event.step) == ("store__abc123", "arango-candles", "store")
    assert (event.launch, event.ordinal, event.run, event.installation) == (2, 0, "u-1", "i1")
    assert from_json(event.to_json()).event is EventName.STARTED


def test_an_index_of_a_job_is_an_ordinal():
    event = event_of(pod(replicas=3, annotations={"batch.kubernetes.io/job-completion-index": "2"}), EventName.STARTED)
    assert (event.ordinal, event.producer) == (2, "store__abc123-2")


def test_last_words_come_behind_the_first_and_carry_the_counters():
    made = [
        event_of(pod(), name, counters={"read": 7, "stored": 7}) for name in (EventName.STARTED, EventName.FINISHED)
    ]
    assert made[0].seq < made[1].seq
    assert made[1].finished
    assert made[1].counters.stored == 7


@pytest.mark.parametrize(("told", "seconds"), [("2s", 2), ("1500ms", 1.5), ("1m30s", 90), ("", 0)])
def test_how_long_a_pod_runs_is_in_its_annotation(told, seconds):
    assert run_s(pod(annotations={"streamforge.test/run": told})) == seconds


ENDS_WELL = {"streamforge.test/exit": "0", "streamforge.test/run": "20ms"}


@pytest.fixture
def voices():
    access = Access("https://127.0.0.1:1", "", "admin")
    return Voices(KafkaSettings(), access, "stf", records=7)


async def said(voices, seconds=0.1):
    await asyncio.sleep(seconds)
    return [voices._words.get_nowait().event for _ in range(voices._words.qsize())]


async def test_a_pod_that_runs_is_heard_once_and_speaks_again_before_it_ends(voices):
    for _ in range(3):
        voices._hear("MODIFIED", pod(annotations=ENDS_WELL))
    assert await said(voices) == ["started", "finished"]


@pytest.mark.parametrize("play", [{}, {"streamforge.test/exit": "3"}])
async def test_a_pod_that_will_not_end_well_says_no_last_word_until_it_will(voices, play):
    voices._hear("ADDED", pod(annotations=play))
    assert await said(voices) == ["started"]
    voices._hear("MODIFIED", pod(annotations=ENDS_WELL))
    assert await said(voices) == ["finished"]


async def test_a_pod_that_is_told_to_go_on_takes_its_last_word_back(voices):
    voices._hear("ADDED", pod(annotations=ENDS_WELL))
    voices._hear("MODIFIED", pod(annotations={}))
    assert await said(voices) == ["started"]


@pytest.mark.parametrize("kind", ["MODIFIED", "DELETED"])
async def test_a_pod_that_is_deleted_says_nothing_more(voices, kind):
    voices._hear("ADDED", pod(annotations=ENDS_WELL))
    gone = pod(annotations=ENDS_WELL)
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    voices._hear(kind, gone)
    assert await said(voices) == ["started"]
