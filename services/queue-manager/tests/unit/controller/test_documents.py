"""Documents that rest, and that are woken."""

import pytest

from queue_manager.controller.documents import Documents
from queue_manager.fold import STALL_S
from queue_manager.model import Ordinal, StepStatus, WorkflowDocument, WorkflowSpec, WorkflowStatus


def make(queue_id="wf-a", rev="1", **status):
    spec = WorkflowSpec(
        installation="i", type="t", collection="c", created_at=1.5, steps=(), dead_letter_topic="d", request={"é": None}
    )
    return WorkflowDocument(queue_id=queue_id, rev=rev, spec=spec, status=WorkflowStatus(**status))


@pytest.fixture
def documents():
    return Documents()


def test_one_that_is_known_is_the_same_until_it_rests_and_equal_afterwards(documents):
    document = make(offsets={0: 7}, attempt=3)
    documents.put(document)
    assert documents.get("wf-a") is document
    documents.rest("wf-a")
    woken = documents.get("wf-a")
    assert woken is not document
    assert woken == document
    assert documents.get("wf-a") is woken


def test_what_was_put_last_is_what_wakes(documents):
    documents.put(make(rev="1"))
    documents.rest("wf-a")
    changed = documents.get("wf-a").copied()
    changed.rev = "2"
    documents.put(changed)
    documents.rest("wf-a")
    assert (documents.rev("wf-a"), documents.get("wf-a").rev) == ("2", "2")


def test_one_that_was_only_looked_at_rests_as_it_was(documents):
    documents.put(make())
    documents.rest("wf-a")
    documents.get("wf-a").rev = "altered by nobody who put it"
    documents.rest("wf-a")
    assert documents.get("wf-a").rev == "1"


@pytest.mark.parametrize("rests", [True, False])
def test_what_is_asked_of_it_is_the_same_whether_it_rests_or_not(documents, rests):
    documents.put(make("wf-a", rev="5", state="finished"))
    documents.put(make("wf-b", rev="6", state="running"))
    if rests:
        documents.rest("wf-a")
        documents.rest("wf-b")
        documents.get("wf-b")
    assert sorted(documents) == ["wf-a", "wf-b"]
    assert "wf-a" in documents
    assert [documents.rev(name) for name in ("wf-a", "wf-b", "wf-c")] == ["5", "6", None]
    assert [documents.is_ended(name) for name in ("wf-a", "wf-b", "wf-c")] == [True, False, False]
    documents.drop("wf-a")
    assert "wf-a" not in documents
    assert documents.get("wf-a") is None
    assert list(documents) == ["wf-b"]


def test_what_is_not_known_has_nothing_to_rest_or_to_be_dropped(documents):
    documents.rest("wf-a")
    documents.drop("wf-a")
    assert documents.get("wf-a") is None
    assert list(documents) == []


def test_those_that_become_stalled_are_told_without_being_woken(documents):
    ordinal = Ordinal(lag=5, progress_at=100.0)
    documents.put(make(steps={"load": StepStatus(state="running", ordinals={0: ordinal})}))
    documents.rest("wf-a")
    assert documents.stalling(100.0 + STALL_S) == []
    assert documents.stalling(100.1 + STALL_S) == ["wf-a"]
