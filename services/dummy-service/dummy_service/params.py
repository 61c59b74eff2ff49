"""What a dummy-service can be asked for, by PARAMS, by flags and by commands while it runs.

Descriptions stand in the fields: to read them from docstrings costs every start some ten milliseconds.
"""

from pydantic import BaseModel, ConfigDict, Field


class Load(BaseModel):
    """How records are simulated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float = Field(default=10.0, ge=0.01, le=1_000_000, description="Records per second.")
    records: int | None = Field(
        default=None, ge=0, description="Finish after so many records; unset: go on until stopped."
    )
    payload_size: int = Field(default=100, ge=0, le=1_000_000, description="Characters that each record carries.")


class Failure(BaseModel):
    """When the next failure comes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    records: int = Field(default=0, ge=0, description="Fail after so many more records; 0: at once.")


class DummyParams(Load):
    """All that can be asked for at the start."""

    simulate_loading: bool = Field(
        default=False, description="Make records; otherwise it only answers pings and waits to be stopped."
    )
    fail_after: int | None = Field(
        default=None, ge=0, description="Say `error` and exit after so many records; 0: at once."
    )
    exit_code: int = Field(
        default=1,
        ge=1,
        le=255,
        description=(
            "Exit code of that failure: 1 is a fault that is tried again, 75 an end that is not counted, 78 final."
        ),
    )
    delay_s: float = Field(
        default=0.0, ge=0, le=3600, description="Seconds before the first record, as a slow input has them."
    )
    slow_stop_s: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="Seconds that a stop takes; longer than the grace and the process is ended by force.",
    )
