"""The closed list of reasons: why a workflow, step or record is where it is. The API shows code, message and help."""

from typing import Final

DOCS = "docs/errors"
"""Where the help of a code lies, relative to the repository (or to the documentation's address)."""

REASONS: Final[dict[str, str]] = {
    # pending
    "queued": "waits for a place: as many workflows run as `max_running` allows",
    "broker-unreachable": "Kafka does not answer",
    "store-unreachable": "ArangoDB does not answer",
    "launcher-unreachable": "the launcher (local node or Kubernetes) does not answer",
    "unschedulable": "no node of the cluster takes the pod",
    "image-pull": "the image cannot be pulled",
    "missing-secret": "a Secret, or a key of it, is not in the namespace",
    "missing-config": "a ConfigMap, or a key of it, is not in the namespace",
    "container-error": "the container cannot be started",
    "not-started": "the pod has not started",
    "pod-refused": "the cluster cannot make the pod of the Job",
    "quota-exceeded": "the namespace's quota is used up",
    "node-lost": "the pod's node does not answer or is gone",
    "sidecar-running": "the worker has ended, another container of its pod goes on",
    "start-deadline": "a step did not say `started` within its target's start deadline",
    # a step's or workflow's end
    "stopped": "stopped by a request",
    "stopped-and-drained": "stopped by a request, and everything written was read before",
    "forced": "did not stop within its grace and was ended",
    "max-run": "ran longer than its target's `max_run_s`",
    "step-failed": "a step of the workflow failed",
    "other-step-failed": "stopped because another step failed",
    "backoff-limit-exceeded": "ended with a fault more often than its Job allows, without progress",
    "no-progress": "left five times in a row without a commit although the broker was there",
    "ended-without-a-word": "ended with exit code 0 but said neither `finished` nor `interrupted`",
    "job-refused": "the launcher refused the Job",
    "oom-killed": "needed more memory than its limit",
    "exit-78": "its configuration or input can never work",
    # a worker's errors
    "error": "an error without a better name",
    "configuration": "settings that can never work",
    "unauthenticated": "the broker or the store refused the user or password",
    "not-authorized": "a right is missing at the broker, the store or the cluster",
    "unavailable": "the other side is away",
    "records-expired": "records were deleted by the topic's retention before they were read",
    "too-many-dead-letters": "more records were refused than `max_dead_letters` allows",
    "state-too-large": "the state of a step's processors is larger than a commit's 4,096 bytes",
    "bad-input": "the input (file, archive, answer) is not what it should be",
    "fenced": "a successor took over",
    "fatal": "a fault inside the worker",
    "simulated": "a failure that was asked for",
    # a record's way to the dead letters
    "rejected": "refused by a processor or by the store",
    "not-json": "not JSON",
    "not-encodable": "a value that JSON does not have",
    "too-large": "larger than the broker takes",
    "wrong-schema": "not the fields and types of its schema",
    "wrong-symbol": "of another symbol than the workflow's",
    "out-of-range": "outside of the workflow's time range",
    "inconsistent": "its fields contradict each other",
}
"""Code -> what it means, in one clause."""


def help_of(code: str) -> str:
    """Where the page of a reason lies.

    Raises:
        KeyError: not a reason of the list.
    """
    if code not in REASONS:
        raise KeyError(code)
    return f"{DOCS}/{code}.md"
