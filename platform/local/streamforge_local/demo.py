"""``make demo``: the main job on the embedded stack, from one POST to documents that add up, drawn as it goes.

It is a client like any other: it knows the HTTP API, and reads the stored documents through the wheel's adapter.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamforge_local.failures import StackError
from streamforge_local.paths import Home
from streamforge_local.stack import daemon
from streamforge_local.stack.start import start
from streamforge_utils.arango.client import ArangoClient
from streamforge_utils.errors import StreamForgeError
from streamforge_utils.settings import ArangoSettings, local_env, read_settings

DAYS = 10
CANDLES = DAYS * 1440
RATE = {"process": 4000, "kubernetes": 1000}
"""Candles a second: slow enough to be watched and pinged (pods take seconds to start), fast enough for a demo."""
POLL_S = 0.2
TIMEOUT_S = 120.0
REQUEST: dict[str, Any] = {
    "template": "candles-with-indicators",
    "symbol": "BTCUSDT",
    "type": "api_candles_1m",
    "time_range": f"2024-08-01:2024-08-{1 + DAYS:02}",
}
TERMINAL = ("finished", "failed", "interrupted")
SHOWN = ("close", "ema_50", "rsi_14", "atr_14", "vwap", "macd_hist", "bb_upper")
LATEST = "FOR candle IN @@collection SORT candle.open_time DESC LIMIT @limit RETURN candle"


class DemoError(Exception):
    """What was missed, in a sentence."""


@dataclass(frozen=True, slots=True)
class _Demo:
    console: Console
    client: httpx.AsyncClient
    variables: dict[str, str]
    rate: int

    async def run(self) -> None:
        queue_id = await self._post()
        workflow = await self._watch(queue_id)
        self._sum_up(workflow)
        await self._show_documents(workflow)

    async def _post(self) -> str:
        params = {"source": "simulated", "seed": 7, "rate": self.rate}
        body = {**REQUEST, "steps": [{"name": "loader-candles", "params": params}]}
        answer = await self.client.post("/api/v1/workflows", json=body)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise DemoError(f"POST /api/v1/workflows: {answer.status_code} {answer.text}")
        queue_id = str(answer.json()["queue_id"])
        self.console.print(f"POST /api/v1/workflows -> 202, [bold]{queue_id}[/]")
        return queue_id

    async def _watch(self, queue_id: str) -> dict[str, Any]:
        """Draw the steps until the workflow ends; ping it once while all of them run."""
        is_pinged = False
        deadline = time.monotonic() + TIMEOUT_S
        with Live(console=self.console, refresh_per_second=8) as live:
            while time.monotonic() < deadline:
                workflow = await self._get(f"/api/v1/workflows/{queue_id}")
                live.update(_table(workflow))
                if workflow["state"] in TERMINAL:
                    break
                if not is_pinged and all(step["state"] == "running" for step in workflow["steps"]):
                    is_pinged = True
                    live.console.print(await self._ping(queue_id))
                await asyncio.sleep(POLL_S)
        if not self.console.is_terminal:  # there the drawing ends within its last line
            self.console.print()
        if workflow["state"] != "finished":
            raise DemoError(f"{queue_id} is {workflow['state']}, not finished: {workflow['reason']}")
        if not is_pinged:
            raise DemoError(f"{queue_id} ended before it could be pinged")
        return workflow

    async def _ping(self, queue_id: str) -> str:
        answer = await self.client.post(f"/api/v1/workflows/{queue_id}/ping")
        if not answer.is_success:
            raise DemoError(f"ping: {answer.status_code} {answer.text}")
        trips = {step["name"]: step["round_trip_s"] for step in answer.json()["steps"]}
        if silent := [name for name, trip in trips.items() if trip is None]:
            raise DemoError(f"ping: no pong from {', '.join(silent)}")
        return "ping -> " + ", ".join(f"{name} {trip * 1000:.1f} ms" for name, trip in trips.items())

    def _sum_up(self, workflow: dict[str, Any]) -> None:
        table = Table("step", "read", "=", "stored", "+ dead-lettered", "+ dropped", box=None, pad_edge=False)
        for step in workflow["steps"]:
            parts = [step["stored"], step["dead_lettered"], step["dropped"]]
            table.add_row(step["name"], str(step["records_read"]), "=", *map(str, parts))
            if step["records_read"] != sum(parts) or step["records_read"] != CANDLES:
                raise DemoError(f"{step['name']}: {step['records_read']} read of {CANDLES}, accounted for: {parts}")
        self.console.print(table)

    async def _show_documents(self, workflow: dict[str, Any]) -> None:
        names = ("url", "db", "user", "password")
        settings = read_settings(ArangoSettings, **{name: self.variables[f"ARANGO_{name.upper()}"] for name in names})
        store = ArangoClient(settings, threads=1)
        try:
            await store.open()
            count = await store.count(workflow["collection"])
            latest = await store.query(LATEST, {"@collection": workflow["collection"], "limit": 3})
        finally:
            await store.close()
        if count != CANDLES:
            raise DemoError(f"{workflow['collection']} holds {count} documents, not {CANDLES}")
        self.console.print(f"{workflow['collection']}: {count} documents, the last of them:")
        table = Table("open time (UTC)", *SHOWN, box=None, pad_edge=False)
        for candle in reversed(latest):
            moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(candle["open_time"] / 1000))
            table.add_row(moment, *(f"{candle[name]:,.2f}" for name in SHOWN))
        self.console.print(table)

    async def _get(self, path: str) -> dict[str, Any]:
        answer = await self.client.get(path)
        if not answer.is_success:
            raise DemoError(f"GET {path}: {answer.status_code} {answer.text}")
        found: dict[str, Any] = answer.json()
        return found


def _table(workflow: dict[str, Any]) -> Table:
    table = Table(title=f"{workflow['queue_id']}: {workflow['state']}", title_justify="left", box=None, pad_edge=False)
    for column in ("step", "state"):
        table.add_column(column, min_width=16)
    for column in ("records", "of", "records/s", "lag"):
        table.add_column(column, justify="right", min_width=8)
    for step in workflow["steps"]:
        lag = "" if step["lag"] is None else str(step["lag"])
        cells = (step["records_read"], CANDLES, f"{step['rate']:,.0f}", lag)
        table.add_row(step["name"], step["state"], *map(str, cells))
    return table


async def _demonstrate(console: Console, variables: dict[str, str], rate: int) -> None:
    async with httpx.AsyncClient(base_url=variables["QUEUE_MANAGER_URL"], timeout=15) as client:
        await _Demo(console, client, variables, rate).run()


def main() -> int:
    """Start the stack unless it runs, run the workflow, stop what was started; 1 and the reason for any miss."""
    console = Console(highlight=False)
    home = Home.from_environment()
    began = time.monotonic()
    was_running = daemon.supervisor_pid(home) is not None
    try:
        started = start(home, security="plaintext")
        console.print(
            f"The stack {'runs already' if was_running else f'is ready after {time.monotonic() - began:.1f} s'}"
        )
        for note in started.notes:
            console.print(note)
        variables = local_env(environ={"STREAMFORGE_HOME": str(home.root)})
        try:
            asyncio.run(_demonstrate(console, variables, RATE[started.state.launcher]))
        finally:
            if not was_running:
                daemon.down(home)
                console.print("The stack is stopped; its data is kept (make clean removes it).")
    except (DemoError, StackError, StreamForgeError, httpx.HTTPError, OSError) as error:
        sys.stderr.write(f"demo: {type(error).__name__ if not str(error) else error}\n")
        return 1
    console.print(f"[green]The demo went well[/] in {time.monotonic() - began:.1f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
