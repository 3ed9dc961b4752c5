"""The tutorial, typed by a test from its first line to its last."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_every_block_of_the_tutorial_works(tmp_path: Path) -> None:
    """In an empty folder, in order, the loop closes: alerts come, the rollout is looked at, nothing differs."""
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = "set -eo pipefail\n" + "".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "vehicle v" in done.stdout
    assert "new (treatment): sample/2, 50%" in done.stdout
    assert " 0 differ from what was logged" in done.stdout


def test_the_readme_leads_to_the_tutorial() -> None:
    """Who has read the README finds the next page."""
    assert "(docs/tutorial.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
