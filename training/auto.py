"""`family = "auto"`: the family that costs least on the validation vehicles, and why."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from anomaly.engine.frame import Frame
from anomaly.errors import ConfigError, DataError, GateError
from anomaly.fleet import Fleet
from training.families import FAMILIES
from training.fit import Choice, Trained, Tried, fit
from training.history import History, Split


def train(fleet: Fleet, history: History, split: Split, seed: int, frame: Frame | None = None) -> Trained:
    """`fit`; with `auto`, of every family that can have the frame's features, and the one that costs least is kept.

    Costs are those of the headline figures of the validation vehicles at the fleet's budget; of two that cost the same,
    the one with the longer lead, then the earlier in the table of families. Without a fault among those vehicles there
    is nothing to choose by, and with a single signal each vehicle's own past says more: nothing is tried then. Raises
    what `fit` raises where no family can be used.
    """

    def attempt(name: str, kept: Frame | None) -> Trained:
        return fit(with_family(fleet, name), history, split, seed, kept)

    if fleet.model.family != "auto":
        return attempt(fleet.model.family, frame)
    if fleet.frame_features == "conformal":
        why = "conformal, as vehicles have one signal: each is judged by its own past"
        return attempt("conformal", frame)._replace(choice=Choice(why, []))
    names = [name for name in FAMILIES if name != "conformal" and (name, fleet.model.features) != ("distance", "wide")]
    if not history.of(split.validation).faults:
        why = f"{names[0]}, no other tried: no validation vehicle has a confirmed fault to tell them apart by"
        return attempt(names[0], frame)._replace(choice=Choice(why, []))
    return _cheapest(attempt, names, frame)


def with_family(fleet: Fleet, name: str) -> Fleet:
    """The same fleet file with another family."""
    return msgspec.structs.replace(fleet, model=msgspec.structs.replace(fleet.model, family=name))


def _cheapest(attempt: Callable[[str, Frame | None], Trained], names: list[str], frame: Frame | None) -> Trained:
    made: list[Trained] = []
    tried: list[Tried] = []
    for name in names:
        try:
            one = attempt(name, made[0].frame if made else frame)
        except (ConfigError, DataError, GateError) as error:
            tried.append(Tried(name, None, str(error)))
            refused = error
        else:
            made.append(one)
            tried.append(Tried(name, one.figures))
    if not made:
        raise refused
    best = min(made, key=lambda one: (one.figures.cost, -(one.figures.lead or 0.0)))
    return best._replace(choice=Choice(_why(best, made), tried))


def _why(best: Trained, made: list[Trained]) -> str:
    rest = [one for one in made if one is not best]
    tied = any(one.figures.cost == best.figures.cost for one in rest)
    more = ", and has the longest lead of those that cost the same" if tied else ""
    others = ", ".join(f"{one.family} {one.figures.cost:,.0f}" for one in rest) or "no other could be had"
    cost = f"{best.figures.cost:,.0f}{more}; {others}"
    return f"{best.family}: on {best.figures.faults} faults of validation vehicles it costs {cost}"
