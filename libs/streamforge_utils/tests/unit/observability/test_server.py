import asyncio
import json
import time

import pytest
from prometheus_client import CollectorRegistry

from streamforge_utils.errors import ConfigurationError
from streamforge_utils.observability import Health, ObservabilityServer, WorkerMetrics, server


@pytest.fixture
async def shown():
    """Registry, health and port of a running server."""
    registry, health = CollectorRegistry(), Health()
    running = ObservabilityServer(registry, health)
    yield registry, health, await running.start(port=0)
    await running.close()
    await running.close()


async def ask(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


async def get(port, path, *headers):
    return await ask(port, "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode())


async def test_metrics_are_served_as_text_and_as_openmetrics(shown):
    registry, _, port = shown
    metrics = WorkerMetrics(registry)
    metrics.records.labels("stored").inc(3)
    head, body = await get(port, "/metrics?name[]=x")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "Content-Type: text/plain" in head
    assert b'streamforge_records_total{result="stored"} 3.0' in body
    assert b"process_resident_memory_bytes" in body
    assert f"Content-Length: {len(body)}" in head
    head, body = await get(port, "/metrics", "Accept: application/openmetrics-text; version=1.0.0")
    assert "Content-Type: application/openmetrics-text" in head
    assert body.endswith(b"# EOF\n")


async def test_no_series_of_a_worker_carries_a_queue_id(shown):
    registry, _, port = shown
    WorkerMetrics(registry)
    _, body = await get(port, "/metrics")
    assert b"queue_id" not in body


async def test_ready_answers_503_and_says_why(shown):
    _, health, port = shown
    health.set("store", ok=False, reason="ArangoDB does not answer")
    head, body = await get(port, "/health/ready")
    assert head.startswith("HTTP/1.1 503 ")
    assert json.loads(body)["conditions"]["store"]["reason"] == "ArangoDB does not answer"
    health.set("store", ok=True)
    head, body = await get(port, "/health/ready")
    assert head.startswith("HTTP/1.1 200 ")
    assert json.loads(body)["status"] == "ok"


async def test_live_answers_503_when_progress_is_overdue(shown):
    _, health, port = shown
    assert (await get(port, "/health/live"))[0].startswith("HTTP/1.1 200 ")
    health.beat("pipeline", within_s=-1)
    assert (await get(port, "/health/live"))[0].startswith("HTTP/1.1 503 ")


async def test_head_has_no_body(shown):
    _, _, port = shown
    head, body = await ask(port, b"HEAD /health/live HTTP/1.1\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    assert body == b""


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST /metrics HTTP/1.1", "405"),
        (b"GET /health HTTP/1.1", "404"),
        (b"GET / HTTP/1.1", "404"),
        (b"nonsense", "405"),
        (b"\xff\xfe\x00", "405"),
    ],
)
async def test_a_request_that_is_none_of_ours_is_answered(shown, request_line, status):
    _, _, port = shown
    head, body = await ask(port, request_line + b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "detail" in json.loads(body)


async def test_a_head_without_an_end_is_cut_off(shown):
    _, _, port = shown
    assert await ask(port, b"x" * (2 * server.MAX_REQUEST_BYTES)) == ("", b"")


async def test_a_client_that_says_nothing_is_left(shown, monkeypatch):
    _, _, port = shown
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.05)
    assert await ask(port, b"GET /metrics") == ("", b"")


async def test_a_port_in_use_is_told_with_its_number(shown):
    _, _, port = shown
    with pytest.raises(ConfigurationError, match=f"METRICS_PORT: port {port} of 127.0.0.1 is in use"):
        await ObservabilityServer(CollectorRegistry(), Health()).start(port=port)


async def test_an_address_that_is_not_ours_is_told():
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        await ObservabilityServer(CollectorRegistry(), Health()).start(port=0, host="192.0.2.1")


async def test_it_is_up_in_a_few_milliseconds():
    took = []
    for _ in range(5):
        running = ObservabilityServer(CollectorRegistry(), Health())
        start = time.perf_counter()
        await running.start(port=0)
        took.append(time.perf_counter() - start)
        await running.close()
    assert min(took) < 0.01
