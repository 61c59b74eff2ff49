"""Warning events in words, and rights as the cluster is asked for them."""

from queue_manager.launcher.kubernetes.complaints import LONGEST, MOST, _words
from queue_manager.launcher.kubernetes.rights import NEEDED, Right


def event(number, message="again", **more):
    return {"reason": "BackOff", "message": message, "lastTimestamp": f"2026-08-01T00:00:{number:02}Z", **more}


def test_the_latest_are_kept_oldest_first_and_each_once():
    events = [event(number, f"no {number % 15}") for number in range(30)]
    assert _words(list(reversed(events))) == tuple(f"BackOff: no {number}" for number in range(5, 15))
    assert len(_words(events)) == MOST


def test_a_long_one_is_cut_and_one_without_words_has_its_reason():
    assert len(_words([event(1, "x" * 5000)])[0]) == LONGEST
    assert _words([{"eventTime": None}]) == ("Warning: ",)
    assert _words([]) == ()


def test_a_right_is_asked_for_with_its_part_and_in_its_namespace():
    asked = Right("get", "pods/log").review("stf")["spec"]["resourceAttributes"]
    assert asked == {"verb": "get", "group": "", "resource": "pods", "subresource": "log", "namespace": "stf"}
    asked = Right("get", "nodes", is_of_namespace=False).review("stf")["spec"]["resourceAttributes"]
    assert "namespace" not in asked


def test_a_right_is_named_as_a_role_has_it():
    assert str(Right("create", "jobs", "batch")) == '"create" "jobs" (batch)'
    assert len({str(right) for right in NEEDED}) == len(NEEDED)
