"""The manifest: what it keeps, what its seal covers, and what the model's digest covers."""

from __future__ import annotations

import json

import msgspec
import pytest

from anomaly.engine.model import Checks, ThresholdPolicy
from anomaly.errors import ModelError
from anomaly.registry.manifest import Deciding, Manifest, Policy, model_digest
from tests.registry.stock import UNBOUND, manifest

POLICY = ThresholdPolicy.from_adaptation(0.2)


@pytest.mark.parametrize("adaptation", [0.0, 0.2, 1.0])
def test_a_policy_survives_the_file(adaptation: float) -> None:
    """Every policy, the unbounded one too, comes back from JSON to the last bit."""
    policy = ThresholdPolicy.from_adaptation(adaptation)
    written = manifest(policy=Policy.of(policy), k=0.1 + 0.2).to_json()
    read = Manifest.from_json(written, "manifest.json")
    assert read.policy.threshold_policy() == policy
    assert read.policy == Policy.of(policy)
    assert read.k == 0.1 + 0.2
    assert read.to_json() == written


def test_any_change_breaks_the_seal() -> None:
    """Whatever value of a manifest is changed, it is refused, and both seals are named."""
    tree = json.loads(manifest(policy=UNBOUND).to_json())
    changes = {"k": 7.26, "family": "pca", "seed": 1, "metrics": {}, "libraries": {"numpy": "1"}, "extra": 1}
    for name, value in changes.items():
        changed = msgspec.json.encode({**tree, name: value})
        with pytest.raises(
            ModelError, match=rf"m\.json was changed: its seal is {tree['seal']}, .* say [0-9a-f]{{64}}"
        ):
            Manifest.from_json(changed, "m.json")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no manifest"),
        (b"[]", "no manifest"),
        (b"\xff\xfe", "no manifest"),
        (b'{"a":' * 100_000, "no manifest"),
        (b'{"version": 2}', "newer than this program"),
        (b'{"version": 1}', "no manifest: .*missing required field"),
        (manifest().to_json().replace(b'"k": 7.25', b'"k": -7.25'), "no manifest: .*k"),
        (manifest(files={"a": ""}).to_json().replace(b'"a":', b'"../a":'), "no manifest: .*files"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, said: str) -> None:
    """Broken, newer, impossible and outward-pointing manifests are refused with the reason."""
    with pytest.raises(ModelError, match=said):
        Manifest.from_json(data, "manifest.json")


def test_the_digest_covers_all_that_decides_and_nothing_else() -> None:
    """Each thing that decides changes the digest; the digest itself is pinned, so that it stays the same."""
    told = Deciding(7.25, 1.5, POLICY)
    honest = model_digest(b"onnx", "frame", told)
    others = [
        model_digest(b"onnX", "frame", told),
        model_digest(b"onnx", "framE", told),
        model_digest(b"onnx", "frame", told._replace(k=7.250000000000001)),
        model_digest(b"onnx", "frame", told._replace(q_fleet=1.6)),
        *(
            model_digest(b"onnx", "frame", told._replace(policy=POLICY._replace(**{field: 0.5})))
            for field in POLICY._fields
        ),
        *(
            model_digest(b"onnx", "frame", told._replace(checks=Checks()._replace(**{field: 3.0})))
            for field in Checks._fields[:-1]
        ),
        model_digest(b"onnx", "frame", told._replace(checks=Checks(cohort=3.0, cohort_spread=(0.1,)))),
    ]
    assert len({honest, *others}) == 1 + len(others)
    assert honest == "c6e2258ec45526f56e11824d67cd779861723669b30c45c4527fb1e2e9e01630"
