"""The floor of loader -> store: two processes, the same candles, checks, batches, commits; nothing around them."""

import asyncio
import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from arango import ArangoClient as Driver

from arango_candles.validation import ValidateCandle
from loader_candles.series import Series
from loader_candles.simulated_source import SimulatedSource
from streamforge_utils.pipeline import Batch, EndOfSource
from streamforge_utils.settings import ArangoSettings, WorkerSettings

Store = tuple[ArangoSettings, str | None, int]
"""Where, the collection (None: nothing is stored), how many candles."""
BATCH = 5000
HEADERS = [("step", b"loader-candles"), ("schema", b"candle.v1")]


def producer(servers: str, transactional_id: str) -> AIOKafkaProducer:
    """As ours, but bare."""
    return AIOKafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        transactional_id=transactional_id,
        max_batch_size=900_000,
        retry_backoff_ms=20,
    )


async def _load(servers: str, topic: str, settings: WorkerSettings, begin: Barrier) -> None:
    source = SimulatedSource(Series.of(settings), seed=0, is_real_time=False)
    writer = producer(servers, f"bare-load-{topic}")
    await source.open(None)
    await writer.start()
    begin.wait()
    done = False
    while not done:
        values: list[dict[str, Any]] = []
        while len(values) < BATCH and not done:
            try:
                values += (await source.read(BATCH)).values
            except EndOfSource:
                done = True
        await writer.begin_transaction()
        batch, sent = writer.create_batch(), []
        for value in values:
            key, data = value["_key"].encode(), orjson.dumps(value)
            if batch.append(timestamp=None, key=key, value=data, headers=HEADERS) is None:
                sent.append(await writer.send_batch(batch, topic, partition=0))
                batch = writer.create_batch()
                batch.append(timestamp=None, key=key, value=data, headers=HEADERS)
        sent.append(await writer.send_batch(batch, topic, partition=0))
        await asyncio.gather(*sent)
        await writer.commit_transaction()
    await writer.stop()


async def _store(servers: str, topic: str, workflow: WorkerSettings, store: Store, begin: Barrier) -> None:
    arango, collection, count = store
    candles = ValidateCandle(
        queue_id="bench", symbol="BTCUSDT", workflow_type=workflow.type, time_range=workflow.time_range
    )
    tp = TopicPartition(topic, 0)
    reader = AIOKafkaConsumer(
        bootstrap_servers=servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    committer = producer(servers, f"bare-store-{topic}")
    await reader.start()
    await committer.start()
    reader.assign([tp])
    reader.seek(tp, 0)
    documents = None
    if collection is not None:
        driver = Driver(hosts=[arango.url], serializer=lambda v: orjson.dumps(v).decode(), deserializer=orjson.loads)
        database = driver.db(arango.db, username=arango.user, password=arango.password.get_secret_value())
        documents = database.create_collection(collection)
        documents.add_index({"type": "persistent", "fields": ["open_time"]}, formatter=True)
    begin.wait()
    stored = 0
    while stored < count:
        records = (await reader.getmany(tp, timeout_ms=50, max_records=BATCH)).get(tp, [])
        if not records:
            continue
        values = candles.process(Batch.of([orjson.loads(record.value) for record in records])).values
        if documents is not None:
            await asyncio.to_thread(documents.insert_many, values, silent=True, overwrite_mode="update")
        await committer.begin_transaction()
        offset = OffsetAndMetadata(await reader.position(tp), "{}")
        await committer.send_offsets_to_transaction({tp: offset}, f"bare-{topic}")
        await committer.commit_transaction()
        stored += len(values)
    await reader.stop()
    await committer.stop()


def _run_load(*args: Any) -> None:
    uvloop.run(_load(*args))


def _run_store(*args: Any) -> None:
    uvloop.run(_store(*args))


def rate(servers: str, topic: str, workflow: WorkerSettings, store: Store) -> float:
    """Candles per second from the moment when both are connected to the end of both."""
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(3)
    running = [
        context.Process(target=_run_load, args=(servers, topic, workflow, begin)),
        context.Process(target=_run_store, args=(servers, topic, workflow, store, begin)),
    ]
    for process in running:
        process.start()
    begin.wait(60)
    began = time.perf_counter()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise RuntimeError("a bare process failed")
    return store[-1] / (time.perf_counter() - began)
