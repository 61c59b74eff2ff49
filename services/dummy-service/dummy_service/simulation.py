"""The simulated work: a source that makes records at a rate, fails when told, and can be steered while it runs."""

import asyncio
import time
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dummy_service.params import DummyParams, Failure, Load
from streamforge_utils.errors import FatalError, PermanentError, shown
from streamforge_utils.pipeline import Delivery, EndOfSource

M = TypeVar("M", bound=BaseModel)


class Simulation:
    """A pipeline's source. Its position is the number of records made; without a load it waits for one.

    Load and failure are set from the same event loop that reads it.
    """

    name = "simulation"

    def __init__(self, params: DummyParams) -> None:
        self._params = params
        self._load: Load | None = params if params.simulate_loading else None
        self._fail_at = params.fail_after
        self._made = 0
        self._end = params.records
        self._due = 0.0
        self._is_delayed = params.delay_s > 0
        self._changed = asyncio.Event()

    def obey(self, command: str, payload: dict[str, Any]) -> None:
        """Take ``simulate-loading`` (payload: rate, records, payload_size) or ``fail-after`` (payload: records).

        Raises:
            PermanentError: the payload is not that.
        """
        if command == "simulate-loading":
            self._load = load = _read(Load, payload)
            self._end = None if load.records is None else self._made + load.records
            self._due = time.monotonic()
        else:
            self._fail_at = self._made + _read(Failure, payload).records
        self._changed.set()

    async def open(self, position: Any | None) -> None:
        """Go on behind ``position`` records."""
        self._made = int(position or 0)
        if self._is_delayed:
            await asyncio.sleep(self._params.delay_s)
            self._is_delayed = False
        self._due = time.monotonic()

    async def read(self, max_records: int) -> Delivery:
        """As many records as are due by now, at least one; waits until one is."""
        while True:
            self._changed.clear()
            if self._fail_at is not None and self._made >= self._fail_at:
                raise self._failure()
            if self._load is None:
                await self._changed.wait()
            elif self._end is not None and self._made >= self._end:
                raise EndOfSource
            elif (pause := self._due - time.monotonic()) > 0:
                await self._wait(pause)
            else:
                return self._delivery(self._load, max_records)

    async def close(self) -> None:
        """Takes its time when a slow stop is asked for."""
        await asyncio.sleep(self._params.slow_stop_s)

    def _delivery(self, load: Load, max_records: int) -> Delivery:
        limits = [int((time.monotonic() - self._due) * load.rate) + 1, max_records]
        limits += [bound - self._made for bound in (self._end, self._fail_at) if bound is not None]
        count = min(limits)
        payload = "x" * load.payload_size
        values = [{"_key": str(number), "payload": payload} for number in range(self._made, self._made + count)]
        self._made += count
        self._due += count / load.rate
        return Delivery(values, self._made)

    def _failure(self) -> FatalError:
        failure = FatalError(f"failed after {self._made} records, as it was asked to", code="simulated")
        failure.exit_code = self._params.exit_code
        return failure

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass


def _read(model: type[M], payload: dict[str, Any]) -> M:
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise PermanentError(f"not a payload of this command: {shown(error)}", code="wrong-schema") from error
