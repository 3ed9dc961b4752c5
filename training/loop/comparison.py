"""All policies on the same worlds: what each cost, its distance from the others by seed, and a page to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from training.loop.policies import POLICIES, Policy
from training.loop.world import WorldFile, build_year
from training.loop.year import Year, first_champion, run_year

Job = tuple[WorldFile, int, Path, tuple[Policy, ...]]
STEADY = ("frozen", "loop")
"""Policies that are also run without the firmware's step."""


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """The loop's cost over another policy's, less 1: the median over seeds, with its 95 % bootstrap interval."""

    policy: str
    median: float
    low: float
    high: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Every year that was run, with the step and without, and the loop against each other policy."""

    seeds: list[int]
    years: list[Year]
    steady: list[Year]
    against: list[Against]
    against_steady: Against


def run_seeds(
    file: WorldFile, seeds: Sequence[int], folder: Path, said: Callable[[Year], None], workers: int = 1
) -> Comparison:
    """Run all policies over the worlds of `seeds`, in as many processes as asked for; `said` hears of each year."""
    calm = msgspec.structs.replace(file, step=msgspec.structs.replace(file.step, sigma=0.0))
    steady_policies = tuple(policy for policy in POLICIES if policy.name in STEADY)
    jobs: list[Job] = [(file, seed, folder, POLICIES) for seed in seeds]
    jobs += [(calm, seed, folder, steady_policies) for seed in seeds]
    years: list[Year] = []
    steady: list[Year] = []
    with ProcessPoolExecutor(workers) as pool:
        for job, found in zip(jobs, pool.map(_run_seed, jobs), strict=True):
            for year in found:
                said(year)
            (years if job[0] is file else steady).extend(found)
    against = [_against(years, policy.name) for policy in POLICIES if policy.name != "loop"]
    return Comparison(
        seeds=list(seeds), years=years, steady=steady, against=against, against_steady=_against(steady, "frozen")
    )


def _run_seed(job: Job) -> list[Year]:
    file, seed, folder, policies = job
    world = build_year(file, seed, folder / f"fleet-{seed}-{file.step.sigma:g}.toml")
    champion = first_champion(world)
    return [run_year(world, policy, champion) for policy in policies]


def costs(years: Sequence[Year], policy: str) -> dict[int, float]:
    """What a policy cost, by seed."""
    return {year.seed: year.cost for year in years if year.policy == policy}


def _against(years: Sequence[Year], policy: str) -> Against:
    loop, other = costs(years, "loop"), costs(years, policy)
    ratio = np.array([loop[seed] / other[seed] - 1.0 for seed in loop])
    drawn = np.median(np.random.default_rng(0).choice(ratio, (2_000, len(ratio))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Against(policy=policy, median=float(np.median(ratio)), low=float(low), high=float(high))
