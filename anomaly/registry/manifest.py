"""What is known of a model: the manifest beside it, and the digest that machines know it by."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from anomaly.engine import model as engine
from anomaly.engine.model import ThresholdPolicy
from anomaly.errors import ModelError

VERSION = 1
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z", max_length=120)]
Digest = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
Positive = Annotated[float, Meta(gt=0.0)]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The threshold policy as it is written: null where there is no bound or no gate."""

    bound: float | None
    rate: float
    gate: float | None
    quantile: float

    @classmethod
    def of(cls, policy: ThresholdPolicy) -> Policy:
        """`policy` in the form that JSON can hold."""
        bound, rate, gate, quantile = policy
        return cls(bound=_finite(bound), rate=rate, gate=_finite(gate), quantile=quantile)

    def threshold_policy(self) -> ThresholdPolicy:
        """The policy as the engine takes it."""
        bound = math.inf if self.bound is None else self.bound
        gate = math.inf if self.gate is None else self.gate
        return ThresholdPolicy(bound, self.rate, gate, self.quantile)


class Checks(msgspec.Struct, frozen=True, kw_only=True):
    """The thresholds of kinds of alarm beside faults, as they are written: null where a kind is off."""

    abrupt: float | None = None
    born_ill: float | None = None
    silence: float | None = None
    cohort: Positive | None = None
    cohort_spread: tuple[Positive, ...] = ()

    @classmethod
    def of(cls, checks: engine.Checks) -> Checks:
        """`checks` in the form that JSON can hold."""
        limits = [_finite(value) for value in (checks.abrupt, checks.born_ill, checks.silence, checks.cohort)]
        abrupt, born_ill, silence, cohort = limits
        spread = checks.cohort_spread
        return cls(abrupt=abrupt, born_ill=born_ill, silence=silence, cohort=cohort, cohort_spread=spread)

    def engine_checks(self) -> engine.Checks:
        """The thresholds as the engine takes them."""
        abrupt, born_ill, silence, cohort = (
            math.inf if value is None else value for value in (self.abrupt, self.born_ill, self.silence, self.cohort)
        )
        return engine.Checks(abrupt, born_ill, silence, cohort, self.cohort_spread)


class Deciding(NamedTuple):
    """The numbers of a manifest that decide."""

    k: float
    q_fleet: float
    policy: ThresholdPolicy
    checks: engine.Checks = engine.Checks()


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The data a model was fitted on: times `start` to `end`, both included, in the fleet's `time_unit`."""

    start: int
    end: int
    time_unit: str
    readings: int
    vehicles: int
    sha256: str = ""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the model's gate with its 95 % interval, where one can be given."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`. `Registry.publish` fills in number, frame, files, digest and seal.

    `features` and `signals` are in the order of the matrix, `width` is padded; `k` and `q_fleet` are in nats,
    `budget` in false-alarm episodes per 1,000 healthy vehicle-days; `parent` is the number of the champion that it
    was to replace; `seal` is over all else in the manifest.
    """

    name: FileName
    family: str
    features: tuple[str, ...]
    signals: tuple[str, ...]
    width: Annotated[int, Meta(ge=1)]
    k: Positive
    q_fleet: Positive
    policy: Policy
    budget: float
    window: Window
    metrics: dict[str, Metric]
    opset: int
    libraries: dict[str, str]
    seed: int
    fleet_digest: Digest
    checks: Checks = Checks()
    parent: int | None = None
    number: int = 0
    frame: Digest = ""
    files: dict[FileName, Digest] = {}
    digest: Digest = ""
    seal: Digest = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        spread = len(self.checks.cohort_spread)
        if self.checks.cohort is not None and spread != len(self.signals):
            raise ValueError(f"checks.cohort_spread has {spread} numbers for {len(self.signals)} signals")

    @property
    def deciding(self) -> Deciding:
        """What of it decides, as the engine takes it."""
        return Deciding(self.k, self.q_fleet, self.policy.threshold_policy(), self.checks.engine_checks())

    @property
    def reference(self) -> str:
        """The model's name for people: "fleet/3"."""
        return f"{self.name}/{self.number}"

    def to_json(self) -> bytes:
        """The manifest as it is written, sealed."""
        tree: dict[str, Any] = msgspec.to_builtins(self, order="deterministic")
        return msgspec.json.format(msgspec.json.encode({**tree, "seal": _seal(tree)}), indent=2) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, path: str) -> Manifest:
        """Read a manifest; ModelError if it is none, is newer than this program, or was changed."""
        try:
            tree = msgspec.json.decode(data, type=dict[str, Any])
            if isinstance(tree.get("version"), int) and tree["version"] > VERSION:
                raise ModelError(f"{path}: version {tree['version']} is newer than this program reads; update it")
            manifest = msgspec.convert(tree, cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ModelError(f"{path} is no manifest: {error}") from error
        if manifest.seal != _seal(tree):
            raise ModelError(f"{path} was changed: its seal is {manifest.seal}, its contents say {_seal(tree)}")
        return manifest


def model_digest(model: bytes, frame: str, decides: Deciding) -> str:
    """Hex SHA-256 of all that decides: the ONNX bytes, the frame's digest, k, q_fleet, the threshold policy and the
    thresholds of the other kinds of alarm."""
    numbers = (decides.k, decides.q_fleet, *decides.policy, *decides.checks.numbers)
    parts = [sha256(model), frame, *(float(value).hex() for value in numbers)]
    return sha256("\n".join(parts).encode())


def sha256(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def _seal(tree: dict[str, Any]) -> str:
    rest = {key: value for key, value in tree.items() if key != "seal"}
    return sha256(msgspec.json.encode(rest, order="deterministic"))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
