"""A worker for the tests, killed by them: adds up numbers, writes each sum to a stream and a file-backed sink."""

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from streamforge_utils.pipeline import Batch, Batching, Pipeline
from streamforge_utils.worker import WorkerContext, run_worker


class Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path


class Adder:
    name = "adder"

    def __init__(self) -> None:
        self.total = 0

    def process(self, batch: Batch) -> Batch:
        out = []
        for value in batch.values:
            self.total += value["n"]
            out.append({**value, "sum": self.total})
        return batch.derived(out, batch.origins)

    def state(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


class Files:
    """One file a batch, named by its first key: a batch that comes twice overwrites itself."""

    name = "files"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self) -> None:
        self._folder.mkdir(exist_ok=True)

    async def write(self, values: list[Any]) -> None:
        for value in values:
            (self._folder / value["_key"]).write_text(str(value["sum"]))

    async def close(self) -> None:
        pass


def build(context: WorkerContext[Params]) -> Pipeline:
    return Pipeline(
        processors=lambda: [Adder()],
        sink=Files(context.params.folder),
        batching=Batching(max_records=50, linger_s=0.001),
    )


if __name__ == "__main__":
    sys.exit(run_worker(os.environ["TARGET"], Params, build))
