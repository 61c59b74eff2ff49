"""AQL through python-arango's cursors."""

import time
from typing import Any

import pytest
from arango import exceptions as errors
from arango.database import StandardDatabase
from arango.request import Request

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def numbers(db: StandardDatabase) -> None:
    db.create_collection("numbers").import_bulk([{"_key": str(n), "n": n} for n in range(25)])


def test_a_result_comes_in_batches(db: StandardDatabase) -> None:
    cursor = db.aql.execute("FOR d IN numbers SORT d.n RETURN d.n", batch_size=10, count=True)
    assert cursor.count() == 25
    assert cursor.has_more()
    assert list(cursor) == list(range(25))
    assert not cursor.has_more()


def test_whole_documents_come_as_they_are_stored(db: StandardDatabase) -> None:
    rows = list(db.aql.execute("FOR d IN numbers FILTER d._key == '7' RETURN d"))
    assert rows == [db.collection("numbers").get("7")]


def test_counts_statistics_and_warnings(db: StandardDatabase) -> None:
    cursor = db.aql.execute("FOR d IN numbers FILTER d.n > 4 LIMIT 3 RETURN 1 / 0", full_count=True)
    assert cursor.statistics()["fullCount"] == 20
    assert cursor.statistics()["filtered"] == 5
    assert cursor.warnings()[0]["code"] == 1562
    changed = db.aql.execute("FOR d IN numbers FILTER d.n < 3 UPDATE d WITH {m: 1} IN numbers")
    assert changed.statistics()["modified"] == 3


def test_a_cursor_can_be_closed_and_is_then_gone(db: StandardDatabase) -> None:
    cursor = db.aql.execute("FOR d IN numbers RETURN d", batch_size=5)
    assert cursor.close()
    with pytest.raises(errors.CursorNextError) as raised:
        cursor.fetch()
    assert (raised.value.http_code, raised.value.error_code) == (404, 1600)


def test_a_cursor_that_nobody_asks_for_is_forgotten(db: StandardDatabase) -> None:
    cursor = db.aql.execute("FOR d IN numbers RETURN d", batch_size=5, ttl=0.2)
    time.sleep(0.5)
    with pytest.raises(errors.CursorNextError) as raised:
        cursor.fetch()
    assert raised.value.error_code == 1600


def test_a_batch_whose_answer_was_lost_can_be_asked_for_again(db: StandardDatabase) -> None:
    cursor = db.aql.execute("FOR d IN numbers SORT d.n RETURN d.n", batch_size=10, allow_retry=True)

    def fetch(batch: int) -> Any:
        return db.conn.send_request(Request("post", f"/_api/cursor/{cursor.id}/{batch}")).body

    assert fetch(2)["result"] == fetch(2)["result"] == list(range(10, 20))
    assert fetch(9)["errorNum"] == 400
    assert fetch(3)["result"] == fetch(3)["result"] == list(range(20, 25))
    assert cursor.close()


def test_collection_methods_that_use_cursors(db: StandardDatabase) -> None:
    numbers = db.collection("numbers")
    assert [each["n"] for each in numbers.find({"n": 3})] == [3]
    assert len(list(numbers.all())) == 25


@pytest.mark.parametrize(
    ("text", "binds", "status", "number"),
    [
        ("", {}, 400, 1502),
        ("RETURN", {}, 400, 1501),
        ("RETURN @x", {}, 400, 1551),
        ("FOR d IN absent RETURN d", {}, 404, 1203),
        ("INSERT {_key: '1'} INTO numbers", {}, 409, 1210),
        ("FOR v IN OUTBOUND 'a/b' e RETURN v", {}, 501, 9),
    ],
)
def test_a_wrong_query_is_refused(
    db: StandardDatabase, text: str, binds: dict[str, Any], status: int, number: int
) -> None:
    with pytest.raises(errors.AQLQueryExecuteError) as raised:
        db.aql.execute(text, bind_vars=binds)
    assert (raised.value.http_code, raised.value.error_code) == (status, number)


def test_a_query_is_validated_without_running(db: StandardDatabase) -> None:
    assert db.aql.validate("FOR d IN numbers RETURN @x")["bind_vars"] == ["x"]
    with pytest.raises(errors.AQLQueryValidateError):
        db.aql.validate("FOR d IN")


def test_bulk_upserts_keep_the_fields_that_they_do_not_carry(db: StandardDatabase) -> None:
    text = "FOR d IN @docs UPSERT {_key: d._key} INSERT d UPDATE d IN @@c RETURN IS_NULL(OLD)"
    docs = [{"_key": "1", "m": 1}, {"_key": "99", "m": 2}]
    assert list(db.aql.execute(text, bind_vars={"docs": docs, "@c": "numbers"})) == [False, True]
    assert db.collection("numbers").get("1")["n"] == 1
