"""Tests of reading a client.properties file."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.errors import ConfigError
from anomaly.stream.client_properties import KNOWN, read_client_properties

JAAS = (
    "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n"
    '    username="fleet" password="a=b \\"c\\"";'
)


def written(folder: Path, text: str) -> Path:
    """A client.properties with `text`."""
    file = folder / "client.properties"
    file.write_text(text)
    return file


def test_known_properties_are_read(tmp_path: Path) -> None:
    """Comments, blanks around names, joined lines and the login of a JAAS entry are understood."""
    (tmp_path / "ca.pem").write_text("")
    text = f"# ours\n bootstrap.servers = a:1,b:2\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n{JAAS}\n"
    found = read_client_properties(written(tmp_path, f"{text}ssl.truststore.location={tmp_path}/ca.pem\n"))
    assert found == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "fleet",
        "sasl.password": 'a=b "c"',
        "ssl.truststore.location": f"{tmp_path}/ca.pem",
    }


def test_all_that_is_wrong_is_said_at_once_without_secrets(tmp_path: Path) -> None:
    """Unknown names with the nearest known one, wrong values and missing files together; no password in it."""
    text = """group.idd=g
acks=all
security.protocol=SASL_PLAIN
sasl.mechanism=GSSAPI
sasl.password=hunter2
ssl.truststore.location=/nowhere/ca.jks
ssl.truststore.type=JKS
session.timeout.ms=6s
just words
"""
    with pytest.raises(ConfigError) as refused:
        read_client_properties(written(tmp_path, text))
    message = str(refused.value)
    assert "group.idd: not a property that is understood; did you mean `group.id`?" in message
    for word in ("acks:", "SASL_PLAIN`", "GSSAPI", "no file /nowhere/ca.jks", "only PEM", "6s", "no `name=value`"):
        assert word in message
    assert "hunter2" not in message
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("name", ["sasl.username", "sasl.password", "sasl.mechanism"])
def test_a_login_needs_all_its_parts(tmp_path: Path, name: str) -> None:
    """A SASL protocol without mechanism, user or password is refused before anything is tried."""
    parts = {"sasl.username": "u", "sasl.password": "p", "sasl.mechanism": "PLAIN"}
    del parts[name]
    lines = [f"{key}={value}" for key, value in parts.items()]
    with pytest.raises(ConfigError, match=r"needs sasl\.mechanism, sasl\.username and sasl\.password"):
        read_client_properties(written(tmp_path, "\n".join(["security.protocol=SASL_SSL", *lines])))


def test_known_names_are_sorted() -> None:
    """The list that a message shows is in order."""
    assert list(KNOWN) == sorted(KNOWN)
