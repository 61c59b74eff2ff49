"""What survives the node's death, and what must not be left in its file."""

import sqlite3

import pytest

from streamforge_local.node.job import Job, JobSpec, RestartPolicy
from streamforge_local.node.journal import Journal, JournalError

POLICY = RestartPolicy()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path):
    journal = Journal(path)
    yield journal
    journal.close()


def a_job(name="job-a"):
    spec = JobSpec.model_validate(
        {"name": name, "command": ["x", "y"], "env": {"A": "1"}, "secret_env": {"P": "hunter2"}, "replicas": 2}
    )
    return Job(spec, POLICY, created_at=17.0)


def test_jobs_come_back_with_their_state_and_secrets_in_order(journal, path):
    jobs = [a_job("job-b"), a_job("job-a")]
    for job in jobs:
        journal.add(job)
    jobs[0].step(20.0)
    journal.save(jobs[0])
    journal.close()
    back = list(Journal(path).load(POLICY))
    assert [job.status() for job in back] == [job.status() for job in jobs]
    assert back[0].spec == jobs[0].spec
    assert back[0].spec.secret_env["P"].get_secret_value() == "hunter2"


def test_the_file_is_the_owners_alone(journal, path):
    assert path.stat().st_mode & 0o777 == 0o600


def test_secrets_leave_the_file_when_their_job_has_ended(journal, path):
    job = a_job()
    journal.add(job)
    job.step(1.0)
    job.exited(0, 78, 2.0)
    journal.save(job)
    assert next(journal.load(POLICY)).spec.secret_env == {}
    journal.close()
    assert b"hunter2" not in path.read_bytes()


def test_a_removed_job_is_forgotten(journal):
    journal.add(a_job())
    journal.remove("job-a")
    assert list(journal.load(POLICY)) == []


def test_a_file_that_is_no_journal_is_refused_with_its_name(path):
    path.write_text("not a database, and long enough to be read as one" * 100)
    with pytest.raises(JournalError, match=r"journal\.sqlite.*remove it"):
        Journal(path)


def test_a_journal_of_another_version_is_refused(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="another version"):
        Journal(path)


def test_a_damaged_row_is_told(journal, path):
    journal.add(a_job())
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE jobs SET state = '{}'")
    db.close()
    with pytest.raises(JournalError, match="damaged"):
        list(journal.load(POLICY))


def test_a_full_disk_is_told(journal):
    journal._db.execute("PRAGMA max_page_count = 1")
    big = Job(JobSpec(name="job", command=("x" * 100_000,)), POLICY, created_at=0.0)
    with pytest.raises(JournalError, match="full"):
        journal.add(big)
