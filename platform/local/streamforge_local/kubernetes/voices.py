"""Voices in the place of workers: what the pods that kwok plays would say on ``queue-events``. For tests alone.

Nothing runs in a played pod, so its workflow would wait for ever. A voice says ``started`` when the pod runs and, if
its annotations (``stages.yaml``) let it end with 0, ``finished`` half-way through its run: a worker speaks before it
ends, and one that ended without a word has failed. A pod that is deleted before that says nothing more. Commands are
not obeyed.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict
from typing import Any

import httpx

from streamforge_local.kubernetes.api import tls_context
from streamforge_local.kubernetes.cluster import INDEX
from streamforge_local.kubernetes.kubeconfig import Access
from streamforge_utils.contracts import names
from streamforge_utils.contracts.events import Counters, Event, EventName
from streamforge_utils.control.identity import Identity
from streamforge_utils.errors import TransientError
from streamforge_utils.kafka.log import TopicWriter
from streamforge_utils.settings import KafkaSettings

Json = Mapping[str, Any]

SELECTORS = {"labelSelector": "app=streamforge", "fieldSelector": "status.phase!=Pending"}
PLAY = "streamforge.test/"
WATCH_S = 300
SILENCE_S = 30.0
RETRY_S = 0.3
PAGE = 500

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"([0-9.]+)(ms|s|m)")


class Voices:
    """Speaks for the pods of one namespace while ``run`` runs; Kafka or an API server that is away is waited out."""

    def __init__(
        self,
        kafka: KafkaSettings,
        access: Access,
        namespace: str,
        *,
        events_topic: str = "queue-events",
        records: int = 0,
    ) -> None:
        """Voices.

        Args:
            kafka: Where the events go.
            access: A log-in that may list and watch pods.
            namespace: Whose pods speak.
            events_topic: The topic, complete.
            records: How many records each ordinal says it has read and stored when it has finished.
        """
        self.said = dict.fromkeys((EventName.STARTED, EventName.FINISHED), 0)
        """How often each was written."""
        self._writer = TopicWriter(kafka)
        self._access = access
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._topic = events_topic
        self._counters = Counters(read=records, stored=records)
        self._ends: dict[str, asyncio.TimerHandle | None] = {}
        """Uid of a pod that has said ``started`` -> when it says ``finished``."""
        self._words: asyncio.Queue[Event] = asyncio.Queue()

    async def run(self) -> None:
        """Until cancelled."""
        login = {"Authorization": f"Bearer {self._access.token}"} if self._access.token else {}
        client = httpx.AsyncClient(
            base_url=self._access.url,
            headers=login,
            verify=tls_context(self._access),
            timeout=httpx.Timeout(10.0, read=SILENCE_S),
            trust_env=False,
        )
        try:
            async with client, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(client), name="voices-follow")
                tasks.create_task(self._write(), name="voices-write")
        finally:
            for end in self._ends.values():
                if end is not None:
                    end.cancel()
            await self._writer.close()

    async def _follow(self, client: httpx.AsyncClient) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                async with contextlib.aclosing(self._events(client)) as events:
                    async for kind, pod in events:
                        self._hear(kind, pod)
            await asyncio.sleep(RETRY_S)

    async def _events(self, client: httpx.AsyncClient) -> AsyncGenerator[tuple[str, Json]]:
        """All that there are, then what comes, until the connection or its time is over."""
        page: dict[str, Any] = {}
        while not page or page["metadata"].get("continue"):
            more = {"continue": page["metadata"]["continue"]} if page else {}
            answer = await client.get(self._path, params={**SELECTORS, "limit": PAGE, **more})
            page = answer.raise_for_status().json()
            for pod in page["items"]:
                yield "ADDED", pod
        since = {"watch": 1, "resourceVersion": page["metadata"]["resourceVersion"], "timeoutSeconds": WATCH_S}
        bookmarks = {"allowWatchBookmarks": "true"}
        async with client.stream("GET", self._path, params={**SELECTORS, **since, **bookmarks}) as stream:
            stream.raise_for_status()
            async for line in stream.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return  # its version is too old: the list comes again
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]

    def _hear(self, kind: str, pod: Json) -> None:
        meta = pod["metadata"]
        uid = meta["uid"]
        if kind == "DELETED" or "deletionTimestamp" in meta:
            end = self._ends.pop(uid, None) if kind == "DELETED" else self._ends.get(uid)
            if end is not None:
                end.cancel()
            return
        if uid not in self._ends:
            self._words.put_nowait(event_of(pod, EventName.STARTED))
            self._ends[uid] = None
        ends_well = meta.get("annotations", {}).get(f"{PLAY}exit") == "0"
        end = self._ends[uid]
        if ends_well and end is None:
            last = event_of(pod, EventName.FINISHED, counters=self._counters.model_dump())
            loop = asyncio.get_running_loop()
            self._ends[uid] = loop.call_later(run_s(pod) / 2, self._words.put_nowait, last)
        elif not ends_well and end is not None:
            end.cancel()
            self._ends[uid] = None

    async def _write(self) -> None:
        """All that waits at once; the order of each workflow's events stays, and a double is harmless."""
        waiting: list[Event] = []
        with contextlib.suppress(TransientError):
            await self._writer.open()  # the first pod's words must not wait for it
        while True:
            waiting.append(await self._words.get())
            while not self._words.empty():
                waiting.append(self._words.get_nowait())
            while waiting:
                try:
                    await self._writer.write(self._topic, [(event.queue_id, event.to_json()) for event in waiting])
                except TransientError:
                    await asyncio.sleep(RETRY_S)
                    continue
                for event in waiting:
                    self.said[event.event] += 1
                waiting = []


def event_of(pod: Json, name: EventName, **payload: Any) -> Event:
    """What the worker of a pod would say: who it is comes from the pod's environment, as a worker's does."""
    meta = pod["metadata"]
    env = {entry["name"]: entry.get("value", "") for entry in pod["spec"]["containers"][0]["env"]}
    ordinal = int(meta.get("annotations", {}).get(INDEX) or 0)
    step, replicas = env["STEP"], int(env["REPLICAS"])
    identity = Identity(
        queue_id=env["QUEUE_ID"],
        producer=names.producer(step, names.short_of(env["QUEUE_ID"]), ordinal, replicas),
        target=meta["labels"]["target"],
        step=step,
        launch=int(env["LAUNCH"]),
        ordinal=ordinal,
        symbol=env.get("SYMBOL", ""),
        type=env.get("TYPE", ""),
        installation=env.get("INSTALLATION") or None,
    )
    seq = 0 if name is EventName.STARTED else 1
    return Event(**asdict(identity), run=meta["uid"], seq=seq, event=name, message=name.capitalize(), payload=payload)


def run_s(pod: Json) -> float:
    """For how many seconds the pod runs, as its annotation says."""
    text = pod["metadata"].get("annotations", {}).get(f"{PLAY}run", "")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
