"""Reads flags or PARAMS and runs the simulation as a worker."""

import argparse
from collections.abc import Sequence
from typing import Any

from dummy_service.params import DummyParams
from dummy_service.simulation import Simulation
from streamforge_utils.errors import PermanentError
from streamforge_utils.pipeline import Pipeline
from streamforge_utils.worker import WorkerContext, run_worker


class Dummy:
    """Hands the commands of the control loop to the simulation that the pipeline reads."""

    def __init__(self) -> None:
        self._simulation: Simulation | None = None

    def build(self, context: WorkerContext[DummyParams]) -> Pipeline:
        """The simulation as a source; its records are counted and go nowhere."""
        self._simulation = Simulation(context.params)
        return Pipeline(source=self._simulation)

    def obey(self, command: str, payload: dict[str, Any]) -> None:
        """Steer the simulation.

        Raises:
            PermanentError: the payload is not this command's, or the worker has not come so far.
        """
        if self._simulation is None:
            raise PermanentError(f"{command} came before the worker was ready; send it again")
        self._simulation.obey(command, payload)


def _flags() -> argparse.ArgumentParser:
    """A flag for each param: their texts, defaults and checks have one home."""
    parser = argparse.ArgumentParser(prog="dummy-service", description=DummyParams.__doc__)
    parser.add_argument("--debug", action="store_true", help="log everything, in lines for people")
    for name, field in DummyParams.model_fields.items():
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(flag, action="store_true", default=None, help=field.description)
        else:
            text = field.description if field.default is None else f"{field.description} Default: {field.default}."
            parser.add_argument(flag, metavar="N", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the worker to its end. Without flags it is told by PARAMS, as the queue-manager starts it."""
    flags = vars(_flags().parse_args(argv))
    debug = flags.pop("debug")
    given = {name: value for name, value in flags.items() if value is not None}
    dummy = Dummy()
    code = run_worker(
        "dummy-service", DummyParams, dummy.build, given=given or None, debug=debug, on_command=dummy.obey
    )
    raise SystemExit(code)
