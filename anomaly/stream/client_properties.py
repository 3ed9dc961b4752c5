"""A Kafka client's `client.properties`, with Java's names; what we do not know is refused by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from anomaly.errors import ConfigError

KNOWN = (
    "bootstrap.servers",
    "client.id",
    "group.id",
    "group.instance.id",
    "sasl.jaas.config",
    "sasl.mechanism",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "ssl.truststore.location",
    "ssl.truststore.type",
)
"""Properties that are understood; `ssl.truststore.location` names a PEM file."""

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_JAAS = re.compile(r'\b(username|password)\s*=\s*"((?:[^"\\]|\\.)*)"')


def read_client_properties(path: Path) -> dict[str, str]:
    """Read `path`; name and password of `sasl.jaas.config` are answered as sasl.username and sasl.password.

    Raises ConfigError with every problem at once. No message holds a value of a secret.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(_logical_lines(text), 1):
        name, separator, value = line.partition("=")
        if not separator:
            problems.append(f"line {number}: no `name=value`")
        else:
            found[name.strip()] = value.strip()
    problems += [_unknown(name) for name in found if name not in KNOWN]
    login = dict(_JAAS.findall(found.pop("sasl.jaas.config", "")))
    found.update({f"sasl.{name}": re.sub(r"\\(.)", r"\1", value) for name, value in login.items()})
    problems += _wrong_values(found)
    if problems:
        raise ConfigError(str(path), problems)
    return found


def _logical_lines(text: str) -> list[str]:
    """Lines that say something, with those that end in a backslash joined to the next."""
    joined = re.sub(r"\\\r?\n[ \t]*", "", text)
    lines = (line.strip() for line in joined.splitlines())
    return [line for line in lines if line and line[0] not in "#!"]


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(KNOWN)}"
    return f"{name}: not a property that is understood; {hint}"


def _wrong_values(found: Mapping[str, str]) -> list[str]:
    problems = []
    protocol = found.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        problems.append(f"security.protocol: `{protocol}` is none of {', '.join(_PROTOCOLS)}")
    if found.get("sasl.mechanism", "PLAIN") not in _MECHANISMS:
        problems.append(f"sasl.mechanism: `{found['sasl.mechanism']}` is none of {', '.join(_MECHANISMS)}")
    if protocol.startswith("SASL") and not {"sasl.username", "sasl.password", "sasl.mechanism"} <= found.keys():
        problems.append(f"security.protocol {protocol} needs sasl.mechanism, sasl.username and sasl.password")
    if found.get("ssl.truststore.type", "PEM").upper() != "PEM":
        problems.append("ssl.truststore.type: only PEM is read; `keytool -exportcert -rfc` makes one from a JKS file")
    truststore = found.get("ssl.truststore.location")
    if truststore is not None and not Path(truststore).is_file():
        problems.append(f"ssl.truststore.location: there is no file {truststore}")
    if not found.get("session.timeout.ms", "1").isdigit():
        problems.append(f"session.timeout.ms: `{found['session.timeout.ms']}` is no whole number")
    return problems
