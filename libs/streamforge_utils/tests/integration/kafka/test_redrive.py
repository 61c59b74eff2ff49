"""What can never go back to its stream is left out, and holds up no other dead letter."""

from uuid import uuid4

import pytest

from streamforge_utils.contracts.dead_letters import DeadLetter
from streamforge_utils.kafka.admin import KafkaAdmin, TopicSpec
from streamforge_utils.kafka.dead_letters import KafkaDeadLetters
from streamforge_utils.kafka.transactor import Transactor
from streamforge_utils.pipeline.letters import TRUNCATED
from streamforge_utils.pipeline.ports import Output
from streamforge_utils.settings import KafkaSettings

pytestmark = pytest.mark.integration

GOOD, CUT, EMPTY, TOMBSTONE = range(4)


def letter(queue, offset, **fields):
    given = {"key": b"k", "value": b"v", **fields}
    return DeadLetter(step="s", code="c", reason="r", topic=f"{queue}-data", partition=0, offset=offset, **given)


@pytest.fixture
async def queue_id(kafka):
    """A workflow with a whole dead letter, one that was cut, one of a record that has nothing, one of a tombstone."""
    queue, settings = f"wf-x-{uuid4().hex[:8]}", KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    admin = KafkaAdmin(settings)
    await admin.create_topics([TopicSpec(f"{queue}-data"), TopicSpec(f"{queue}-dead-letter")])
    writer = Transactor(settings, transactional_id=f"{queue}-writer", former=(), group=queue, admin=admin)
    await writer.start()
    kept = [
        letter(queue, GOOD),
        letter(queue, CUT, original_headers=(TRUNCATED,)),
        letter(queue, EMPTY, key=None, value=None),
        letter(queue, TOMBSTONE, value=None),
    ]
    await writer.commit([Output(f"{queue}-dead-letter", x.key, x.value, x.headers(), 0) for x in kept], {})
    await writer.close()
    await admin.close()
    return queue


@pytest.fixture
async def letters(kafka):
    made = KafkaDeadLetters(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers))
    yield made
    await made.close()


async def test_all_that_can_go_back_do(letters, queue_id):
    topic = f"{queue_id}-dead-letter"
    kept = await letters.read(topic, after=-1, limit=10)
    done = await letters.redrive(queue_id, topic, None)
    assert set(done.sent) == {kept[GOOD].offset, kept[TOMBSTONE].offset}
    assert (await letters.redrive(queue_id, topic, None)).sent == {}


async def test_it_is_told_why_the_named_ones_cannot_go_back(letters, queue_id):
    topic = f"{queue_id}-dead-letter"
    kept = await letters.read(topic, after=-1, limit=10)
    done = await letters.redrive(queue_id, topic, [one.offset for one in kept])
    assert done.skipped == {
        kept[CUT].offset: "was truncated: what is left of it is not the record",
        kept[EMPTY].offset: "has neither key nor value",
    }
    assert len(done.sent) == 2
