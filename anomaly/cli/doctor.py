"""`anomaly doctor`."""

from __future__ import annotations

from pathlib import Path

import typer

from anomaly.cli.topics import AS_JSON, CONFIG, LOG, PROPERTIES, SERVER
from anomaly.errors import GateError
from anomaly.stream.open import open_log


def doctor(
    config: Path = CONFIG,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    folder: Path | None = typer.Option(None, "--dir", help="The run's folder; default run/<fleet name>."),
    models: Path = typer.Option(Path("models"), "--models", help="The registry."),
    as_json: bool = AS_JSON,
) -> None:
    """Check this machine, the fleet file, the model, the run's folder and the log; exit 1 if anything is wrong."""
    import msgspec

    from anomaly.service.doctor import Place, examine

    named = bootstrap_server or log or command_config
    opened = (lambda: open_log(bootstrap_server, log, command_config)) if named else None
    checks = []
    for check in examine(Place(config, models, folder, opened)):
        checks.append(check)
        if not as_json:
            print(f"{'ok   ' if check.ok else 'WRONG'} {check.name}: {check.detail}")
    if as_json:
        print(msgspec.json.encode(checks).decode())
    wrong = [check.name for check in checks if not check.ok]
    if wrong:
        raise GateError(f"not in order: {', '.join(wrong)}")
