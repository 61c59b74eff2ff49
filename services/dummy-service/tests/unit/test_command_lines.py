import pytest

from dummy_service import debug_producer, main
from dummy_service.params import DummyParams


def test_each_param_has_a_flag_with_its_text(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name, field in DummyParams.model_fields.items():
        assert "--" + name.replace("_", "-") in text
        assert field.description


@pytest.mark.parametrize("argv", [["--no-such-flag"], ["--rate"], ["stray"]])
def test_a_wrong_flag_is_refused(argv):
    with pytest.raises(SystemExit) as caught:
        main.main(argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(("flag", "value"), [("--rate", "fast"), ("--exit-code", "0"), ("--records", "-1")])
def test_a_wrong_value_is_told_by_name_and_exits_78(flag, value, capsys, monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with pytest.raises(SystemExit) as caught:
        main.main([flag, value])
    assert caught.value.code == 78
    assert flag[2:].replace("-", "_").upper() in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--queue-id", "wf"],
        ["--command", "ping"],
        ["--queue-id", "wf", "--command", "drain"],
        ["--queue-id", "wf", "--command", "explode"],
        ["--queue-id", "wf", "--command", "ping", "--payload", "[]"],
        ["--queue-id", "wf", "--command", "ping", "--payload", "{"],
        ["--queue-id", "wf", "--command", "ping", "--timeout", "soon"],
        ["--queue-id", "wf", "--command", "ping", "--count", "0"],
    ],
)
def test_the_producer_refuses_a_wrong_command_line(argv):
    with pytest.raises(SystemExit) as caught:
        debug_producer.main(argv)
    assert caught.value.code == 2
