from streamforge_utils.observability import Health


def test_without_conditions_a_process_is_ready_and_live():
    health = Health()
    assert health.ready() == (True, {"status": "ok", "conditions": {}})
    assert health.live() == (True, {"status": "ok", "overdue": []})


def test_an_awaited_condition_keeps_a_process_from_being_ready_until_it_is_set():
    health = Health(["kafka"])
    is_ready, body = health.ready()
    assert not is_ready
    assert body["conditions"]["kafka"]["reason"] == "starting"
    assert health.set("kafka", ok=True)
    assert health.is_ready


def test_ready_names_each_condition_and_why_it_does_not_hold():
    health = Health()
    health.set("kafka", ok=True, reason="not shown")
    health.set("store", ok=False, reason="ArangoDB does not answer")
    is_ready, body = health.ready()
    assert not is_ready
    assert body["status"] == "unavailable"
    assert body["conditions"]["kafka"]["reason"] == ""
    assert body["conditions"]["store"]["reason"] == "ArangoDB does not answer"


def test_a_change_is_told_once_and_dated_by_its_first_sign():
    health = Health()
    assert health.set("store", ok=False, reason="away")
    since = health.ready()[1]["conditions"]["store"]["since"]
    assert not health.set("store", ok=False, reason="still away")
    condition = health.ready()[1]["conditions"]["store"]
    assert condition["since"] == since
    assert condition["reason"] == "still away"
    assert health.set("store", ok=True)


def test_who_breaks_its_promise_of_progress_is_not_live():
    now = [0.0]
    health = Health(monotonic=lambda: now[0])
    health.beat("pipeline", within_s=60)
    now[0] = 60.0
    assert health.live()[0]
    now[0] = 60.1
    assert health.live() == (False, {"status": "stalled", "overdue": ["pipeline"]})
    health.beat("pipeline", within_s=60)
    assert health.live()[0]


def test_who_rests_promises_nothing():
    now = [0.0]
    health = Health(monotonic=lambda: now[0])
    health.beat("pipeline", within_s=1)
    health.rest("pipeline")
    health.rest("never heard of")
    now[0] = 1e9
    assert health.live()[0]
