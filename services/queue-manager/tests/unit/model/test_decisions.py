"""Who may ask what when, and what it changes."""

import pytest

from queue_manager import decisions, view
from queue_manager.decisions import NotAllowed
from queue_manager.model import Reason, WorkflowDocument
from streamforge_utils.contracts.events import Decision, DecisionName, from_json


def test_a_new_workflow_waits_and_its_acceptance_goes_out(tell):
    document = tell().document
    assert document.status.state == "pending"
    assert document.is_waiting
    assert [d.decision for d in document.outbox] == ["accepted"]
    assert document.outbox[0].payload["spec"]["collection"] == "candles"


def test_a_document_survives_its_stored_form(tell):
    story = tell()
    story.launch("loader")
    story.say("loader", "started")
    stored = story.document.to_store()
    assert stored["_key"] == story.document.queue_id
    assert "idempotency_key" not in stored
    assert WorkflowDocument.from_store(stored | {"_rev": "7"}) == story.document.model_copy(update={"rev": "7"})


def test_decisions_applied_again_give_the_same_document(tell):
    story = tell()
    story.launch("loader")
    story.launch("sink")
    story.end("loader", "finished")
    story.drain("sink")
    story.end("sink", "finished")
    document = decisions.ask_delete(story.document, purge=True, now=1001.0)
    replayed = None
    for decision in document.outbox:
        sent = from_json(decision.to_json())
        assert isinstance(sent, Decision)
        replayed = decisions.apply(replayed, sent)
    assert replayed == document.model_copy(update={"outbox": []})
    assert decisions.apply(replayed, decisions.deleted(document, now=1002.0)) is None


def test_states_follow_what_happens(tell):
    story = tell()
    seen = [story.document.status.state]
    story.launch("loader")
    seen.append(story.document.status.state)
    story.launch("sink")
    story.say("loader", "started")
    seen.append(story.document.status.state)
    story.end("loader", "finished")
    seen.append(story.document.status.state)
    story.say("sink", "started")
    story.end("sink", "finished")
    seen.append(story.document.status.state)
    assert seen == ["pending", "starting", "running", "running", "finished"]
    assert not story.document.status.has_place


@pytest.mark.parametrize(
    ("ends", "state", "code"),
    [
        (("finished", "finished"), "finished", None),
        (("failed", "finished"), "failed", "step-failed"),
        (("interrupted", "finished"), "interrupted", "stopped"),
        (("interrupted", "failed"), "failed", "step-failed"),
    ],
)
def test_the_end_of_a_workflow_follows_from_those_of_its_steps(tell, ends, state, code):
    story = tell(on_failure="continue")
    for name, end in zip(("loader", "sink"), ends, strict=True):
        story.launch(name)
        story.end(name, end)
    assert story.document.status.state == state
    assert (story.document.status.reason.code if story.document.status.reason else None) == code


def test_a_failed_step_stops_the_others_in_the_same_change(tell):
    story = tell()
    story.launch("loader")
    story.launch("sink")
    story.end("loader", "failed", reason=Reason(code="bad-input", message="line 7"))
    assert story.document.status.state == "stopping"
    assert story.document.status.stopping.reason.code == "other-step-failed"
    assert [d.decision for d in story.document.outbox[-2:]] == ["ended", "asked"]


def test_stop_is_asked_once_and_a_plain_stop_overrides_a_draining_one(tell):
    story = tell()
    story.launch("loader")
    drains = decisions.ask_stop(story.document, drain=True, now=1.0)
    assert decisions.ask_stop(drains, drain=True, now=2.0) is None
    plain = decisions.ask_stop(drains, drain=False, now=3.0)
    assert plain.status.stopping.drain is False
    assert decisions.ask_stop(plain, drain=True, now=4.0) is None
    assert story.document.status.stopping is None


def test_a_stop_with_drain_ends_finished_and_says_so(tell):
    story = tell()
    story.launch("loader")
    story.launch("sink")
    story.document = decisions.ask_stop(story.document, drain=True, now=1.0)
    assert story.document.step("loader").state == "stopping"
    assert story.document.step("sink").state == "starting"
    story.end("loader", "finished", is_partial=True)
    story.end("sink", "finished")
    assert story.document.status.state == "finished"
    assert story.document.status.reason.code == "stopped-and-drained"


def test_a_retry_launches_what_is_not_done_and_all_downstream(tell, make_step):
    story = tell(
        make_step("a", writes=("x",)),
        make_step("b", reads=("x",), writes=("y",)),
        make_step("c", reads=("y",)),
        make_step("d", writes=("z",)),
        on_failure="continue",
    )
    for name, end in (("a", "finished"), ("b", "failed"), ("c", "finished"), ("d", "finished")):
        story.launch(name)
        story.end(name, end)
    again = decisions.ask_retry(story.document, now=2000.0)
    assert again.status.attempt == again.spec.attempt == 2
    assert [name for name, step in again.status.steps.items() if step.end is None] == ["b", "c"]
    assert again.status.streams["x"].ended
    assert not again.status.streams["y"].ended
    assert again.is_waiting
    assert again.status.ended_at is None


def test_a_retry_may_resolve_anew(tell, make_step):
    story = tell()
    for name in ("loader", "sink"):
        story.launch(name)
        story.end(name, "failed")
    newer = (make_step("loader", writes=("data",)), make_step("sink", reads=("data",)))
    newer = tuple(step.model_copy(update={"version": "2"}) for step in newer)
    again = decisions.ask_retry(story.document, now=2.0, steps=newer)
    assert {step.version for step in again.spec.steps} == {"2"}


def test_a_redrive_waits_for_a_launch_whose_end_is_fixed_and_then_launches_again(tell):
    story = tell()
    story.launch("loader")
    story.launch("sink")
    early = decisions.ask_redrive(story.document, step="sink", records=1, now=1.0)
    assert not early.step("sink").is_due_again
    story.end("loader", "finished")
    story.drain("sink")
    story.document = decisions.ask_redrive(story.document, step="sink", records=1, now=2.0)
    assert story.document.step("sink").is_due_again
    story.end("sink", "finished")
    assert story.document.status.state == "running"
    assert story.document.step("sink").end is None
    story.launch("sink")
    story.end("sink", "finished")
    assert story.document.status.state == "finished"


def test_a_redrive_of_a_finished_workflow_begins_a_new_attempt(tell):
    story = tell()
    for name in ("loader", "sink"):
        story.launch(name)
        story.end(name, "finished")
    again = decisions.ask_redrive(story.document, step="sink", records=1, now=2.0)
    assert again.status.attempt == 2
    assert again.step("loader").end is not None
    assert again.step("sink").end is None


def finished(story, state="finished"):
    for name in ("loader", "sink"):
        story.launch(name)
        story.end(name, state)
    return story.document


@pytest.mark.parametrize(
    "ask",
    [
        lambda d: decisions.ask_delete(d, purge=False, now=1.0),
        lambda d: decisions.ask_retry(d, now=1.0),
    ],
)
def test_only_an_ended_workflow_is_retried_or_deleted(tell, ask):
    with pytest.raises(NotAllowed):
        ask(tell().document)


def test_what_an_ended_workflow_refuses(tell):
    document = finished(tell())
    with pytest.raises(NotAllowed, match="nothing to retry"):
        decisions.ask_retry(document, now=1.0)
    with pytest.raises(NotAllowed, match="has ended"):
        decisions.ask_stop(document, drain=False, now=1.0)
    going = decisions.ask_delete(document, purge=False, now=1.0)
    assert decisions.ask_delete(going, purge=False, now=2.0) is None
    assert decisions.ask_delete(going, purge=True, now=2.0).spec.delete.purge
    with pytest.raises(NotAllowed, match="deleted"):
        decisions.ask_redrive(going, step="sink", records=1, now=1.0)
    with pytest.raises(NotAllowed, match="deleted"):
        decisions.ask_retry(going, now=1.0)


def test_a_failed_workflow_is_retried_before_a_redrive(tell):
    with pytest.raises(NotAllowed, match="retry it first"):
        decisions.ask_redrive(finished(tell(), "failed"), step="sink", records=1, now=1.0)


def test_a_decision_for_an_unknown_workflow_makes_nothing(tell):
    decision = Decision(queue_id="q", decision=DecisionName.ENDED, payload={"step": None})
    assert decisions.apply(None, decision) is None


def test_the_view_has_the_fields_of_the_contract(tell):
    story = tell()
    story.launch("loader")
    story.say("loader", "started")
    story.now = 1001.0
    story.say(
        "loader",
        "loading",
        counters={"read": 10, "stored": 8, "dead_lettered": 1, "dropped": {"late": 1}, "written": 8},
        lag=3,
    )
    shown = view.workflow(story.document)
    assert {
        "queue_id", "state", "reason", "template", "symbol", "type", "time_range", "collection", "attempt",
        "created_at", "started_at", "ended_at", "streams", "steps",
    } <= set(shown)  # fmt: skip
    assert shown["streams"]["data"]["records"] == 8
    assert shown["created_at"] == "1970-01-01T00:16:40.000Z"
    loader = shown["steps"][0]
    assert {
        "name", "target", "version", "state", "reason", "stalled", "job", "launch", "restarts", "last_exit",
        "replicas", "reads", "writes", "records_read", "records_written", "dead_lettered", "dropped", "rate",
        "lag", "last_event_at",
    } <= set(loader)  # fmt: skip
    assert (loader["records_read"], loader["dead_lettered"], loader["dropped"], loader["lag"]) == (10, 1, 1, 3)
    assert loader["rate"] == 10.0
    sink = shown["steps"][1]
    assert (sink["state"], sink["job"], sink["launch"], sink["lag"]) == ("pending", None, 0, None)


def test_a_waiting_workflow_is_shown_with_its_place(tell):
    shown = view.workflow(tell().document, position=3)
    assert shown["reason"]["code"] == "queued"
    assert "number 3" in shown["reason"]["message"]
    assert shown["reason"]["help"] == "docs/errors/queued.md"
    assert view.workflow(tell().document)["reason"]["code"] == "queued"


def test_what_keeps_a_waiting_workflow_is_told_before_its_place(tell):
    document = tell().document
    document.status.steps["loader"].reason = Reason(code="broker-unreachable", message="Kafka does not answer")
    assert view.workflow(document, position=1)["reason"]["code"] == "broker-unreachable"


def test_a_reason_of_the_platform_has_no_page_of_ours():
    assert view.reason(Reason(code="of-the-platform", message="no such image"))["help"] is None
