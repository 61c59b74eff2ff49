"""The floor of a start: a warm process forks, the child connects a producer, one event is acknowledged."""

import asyncio
import gc
import os
import sys
import time

import orjson
import uvloop
from aiokafka import AIOKafkaProducer

# What the workers import too, so that the fork copies as much.
import streamforge_utils.worker  # noqa: F401


async def _say(servers: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    await producer.send_and_wait(topic, b"started")
    await producer.stop()


def _fork(servers: str, topic: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            uvloop.run(_say(servers, topic))
        finally:
            os._exit(0)
    return pid


def main() -> None:
    """``SERVERS TOPIC ONE_BY_ONE AT_ONCE``: prints seconds of each single start, and of the burst, as JSON."""
    servers, topic, singles, burst = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    gc.collect()
    gc.freeze()
    one_by_one = []
    for _ in range(singles):
        began = time.perf_counter()
        os.waitpid(_fork(servers, topic), 0)
        one_by_one.append(time.perf_counter() - began)
    began = time.perf_counter()
    for pid in [_fork(servers, topic) for _ in range(burst)]:
        os.waitpid(pid, 0)
    at_once = time.perf_counter() - began
    sys.stdout.buffer.write(orjson.dumps({"singles": one_by_one, "burst": at_once}))


if __name__ == "__main__":
    asyncio.set_event_loop(None)
    main()
