"""What the cells say about the claims of a matrix file, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ablations.cells import CellResult
from ablations.claims import Claim
from ablations.evidence import CONTRADICTED, SUPPORTED, UNDECIDED, Evidence, untestable
from ablations.power import MIN_SEEDS
from ablations.reports.numbers import difference
from ablations.statistics import Comparison, compare_all
from ablations.thresholds import of_threshold

SHARE_TOLERANCE = 0.05  # "about 40 % fewer" is between 35 and 45


@dataclass(frozen=True)
class JudgedClaim:
    """A claim's text, the arm it is about, and the verdict with what was measured."""

    text: str
    arm: str
    verdict: str


def judge(claims: Sequence[Claim], evidence: Evidence) -> tuple[JudgedClaim, ...]:
    """Every claim with its verdict.

    One of: supported, contradicted, no difference shown, not enough seeds, not compared (some seeds diverged or were
    stopped early, so that those left are a selection), not testable here.
    """
    return tuple(
        JudgedClaim(claim.text, claim.arm, "; ".join(filter(None, [_verdict(claim, evidence), claim.note])))
        for claim in claims
    )


def _verdict(claim: Claim, evidence: Evidence) -> str:
    if not {claim.arm, claim.equal_to or claim.arm} <= evidence.cells.keys():
        return untestable("the arm is left out on this data set")
    if claim.parameters_fewer is not None or claim.parameters is not None:
        return _of_parameters(claim, evidence)
    if claim.below is not None:
        return of_threshold(claim, evidence)
    if lost := _lost_seeds(claim, evidence):
        return f"not compared: {lost}"
    if claim.equal_to is not None:
        return _of_equality(claim, evidence)
    return {"best": _of_best, "slower": _of_time}.get(claim.is_ or "", _of_direction)(claim, evidence)


def _lost_seeds(claim: Claim, evidence: Evidence) -> str:
    """Which of the arms that a claim compares have seeds that diverged or were stopped early; empty where none has."""
    others = evidence.arms if claim.is_ == "best" else [claim.equal_to or evidence.baselines.get(claim.arm, claim.arm)]
    notes = []
    for name in dict.fromkeys([claim.arm, *others]):
        cells, whose = evidence.cells.get(name, ()), f" of {name}" if name != claim.arm else ""
        for status, how in (("diverged", "diverged"), ("stopped", "stopped early")):
            if count := sum(cell.status == status for cell in cells):
                notes.append(f"{count} of {len(cells)} seeds{whose} {how}")
    return ", ".join(notes)


def _of_direction(claim: Claim, evidence: Evidence) -> str:
    """Better or worse than the baseline, from the report's own comparison."""
    found, baseline = evidence.comparisons.get(claim.arm), evidence.baselines.get(claim.arm)
    if found is None or found.difference is None or baseline is None:
        return untestable(f"no numbers of both {claim.arm} and {baseline or 'a baseline'}")
    if _identical(claim.arm, baseline, evidence):
        return f"{CONTRADICTED} (equal to {baseline} on every seed)"
    if found.verdict in ("not enough seeds", UNDECIDED):
        return f"{found.verdict} ({_measured(found)})"
    return f"{SUPPORTED if found.verdict == claim.is_ else CONTRADICTED} ({_measured(found)})"


def _of_best(claim: Claim, evidence: Evidence) -> str:
    """Best of all arms: every other one is worse, after Holm's correction over them.

    An arm that is claimed to be the same one (a twin) need not be worse, but may not be better.
    """
    own, twins = evidence.values(claim.arm), evidence.twins.get(claim.arm, frozenset())
    others = {name: values for name in evidence.arms if name != claim.arm and (values := evidence.values(name))}
    equals = {name: others.pop(name) for name in list(others) if name in twins}
    if not own or not others:
        return untestable(f"no numbers of {claim.arm} and another arm")
    found = compare_all(own, others, evidence.alpha, evidence.margin)
    means = {name: sum(values.values()) / len(values) for name, values in {**others, claim.arm: own}.items()}
    rank = sorted(means, key=means.__getitem__).index(claim.arm) + 1
    measured = f"measured: place {rank} of {len(means)} by the mean"
    if equals:
        measured += f", {', '.join(equals)} left out as the same"
    better = [
        name
        for name, one in (found | compare_all(own, equals, evidence.alpha, evidence.margin)).items()
        if one.verdict == "better"
    ]
    if better:
        return f"{CONTRADICTED} (better: {', '.join(better)})"
    if any(one.verdict == "not enough seeds" for one in found.values()):
        return f"not enough seeds ({measured})"
    rest = [name for name, one in found.items() if one.verdict != "worse"]
    return f"{UNDECIDED} (to {', '.join(rest)}; {measured})" if rest else f"{SUPPORTED} ({measured})"


def _of_time(claim: Claim, evidence: Evidence) -> str:
    """Slower than the baseline, by the training seconds of an epoch, paired by seed."""
    baseline = evidence.baselines.get(claim.arm)
    own, base = (_seconds(evidence.cells.get(name, ())) for name in (claim.arm, baseline or ""))
    found = compare_all(base, {claim.arm: own}, evidence.alpha)[claim.arm]
    if found.difference is None:
        return untestable(f"no times of both {claim.arm} and {baseline or 'a baseline'}")
    mean = sum(base[seed] for seed in found.seeds) / len(found.seeds)
    measured = f"measured {100 * found.difference / mean:+.0f} % seconds an epoch"
    if found.verdict in ("not enough seeds", UNDECIDED):
        return f"{found.verdict} ({measured})"
    return f"{SUPPORTED if found.difference > 0 else CONTRADICTED} ({measured})"


def _of_equality(claim: Claim, evidence: Evidence) -> str:
    """The same as another arm: by the same numbers on every seed, or by an equivalence test within the margin.

    A declared claim is a test by itself, without Holm's correction. Two arms may be shown to differ by less than the
    margin: they are equal as far as the matrix cares. A difference that is not shown is no sign of equality.
    """
    other = claim.equal_to or ""
    values = {claim.arm: evidence.values(claim.arm)}
    found = compare_all(evidence.values(other), values, evidence.alpha, evidence.margin)[claim.arm]
    if found.difference is None:
        return untestable(f"no numbers of both {claim.arm} and {other}")
    if _identical(claim.arm, other, evidence):
        return f"{SUPPORTED} (the same numbers as {other} on every seed)"
    if found.p is None:
        return f"not enough seeds ({_measured(found)})"
    within = f"within ±{evidence.margin:g}"
    if found.equivalent:
        return f"{SUPPORTED} (equal {within}; {_measured(found)})"
    if found.verdict == UNDECIDED:
        return f"{UNDECIDED}, nor shown to be equal {within} ({_measured(found)})"
    return f"{CONTRADICTED} ({_measured(found)}, not shown to be {within})"


def _identical(arm: str, other: str, evidence: Evidence) -> bool:
    """Whether two arms have the very same test scores on every seed that both have, of which there are enough."""
    one, two = (
        {cell.seed: cell.record["test"] for cell in evidence.cells[name] if cell.record and cell.status == "done"}
        for name in (arm, other)
    )
    seeds = one.keys() & two.keys()
    return len(seeds) >= MIN_SEEDS and all(one[seed] == two[seed] for seed in seeds)


def _of_parameters(claim: Claim, evidence: Evidence) -> str:
    """The number of parameters at the full profile's sizes, or the share saved against the baseline."""
    own = evidence.params.get(claim.arm)
    base = evidence.params.get(evidence.baselines.get(claim.arm, ""))
    if own is None or (claim.parameters_fewer is not None and not base):
        return untestable("parameters not counted")
    if claim.parameters is not None:
        low, high = claim.parameters
        return f"{SUPPORTED if low <= own <= high else CONTRADICTED} (measured {own:,} in the full profile)"
    assert claim.parameters_fewer is not None and base
    share = 1 - own / base
    verdict = SUPPORTED if abs(share - claim.parameters_fewer) <= SHARE_TOLERANCE else CONTRADICTED
    return f"{verdict} (measured {100 * share:.0f} % fewer in the full profile: {own:,} of {base:,})"


def _measured(found: Comparison) -> str:
    return f"measured {difference(found)}"


def _seconds(cells: Sequence[CellResult]) -> dict[int, float]:
    """Training seconds of an epoch by seed, of the cells that are done."""
    done = [cell for cell in cells if cell.status == "done"]
    pairs = [(cell.seed, cell.value("train_seconds"), cell.value("epochs")) for cell in done]
    return {seed: seconds / epochs for seed, seconds, epochs in pairs if seconds and epochs}
