"""Secrets, which only a file or the environment holds: settings say where, and no message shows one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from anomaly.errors import ConfigError

REFERENCE = r"^(file|env):.+$"
"""How a setting refers to a secret: "file:PATH" or "env:NAME"."""


def read_secret(reference: str, what: str, environment: Mapping[str, str] = os.environ) -> bytes:
    """The secret that `reference` points to. Raises ConfigError, which begins with `what`, if the file or the variable
    is not there or empty."""
    kind, _, name = reference.partition(":")
    try:
        secret = Path(name).read_bytes().strip() if kind == "file" else environment.get(name, "").encode()
    except OSError as error:
        raise ConfigError(f"{what} {reference}: {error.strerror}") from error
    if not secret:
        raise ConfigError(f"{what} {reference} is empty or not set")
    return secret
