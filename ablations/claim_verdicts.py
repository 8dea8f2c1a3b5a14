"""What the cells say about the claims of a matrix file, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ablations.cells import CellResult, by_seed
from ablations.claims import Claim
from ablations.statistics import LEVEL, MIN_SEEDS, Comparison, compare, compare_all, summarise

ALPHA = 1 - LEVEL
SHARE_TOLERANCE = 0.05  # "about 40 % fewer" is between 35 and 45
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "no difference shown"


@dataclass(frozen=True)
class JudgedClaim:
    """A claim's text, the arm it is about, and the verdict with what was measured."""

    text: str
    arm: str
    verdict: str


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by.

    ``cells`` and ``comparisons`` (with the baseline, after Holm's correction) by arm or alias; ``baselines`` has the
    arm that each is compared with; ``column`` is the metric compared, ``params`` the parameters in the full profile.
    """

    cells: Mapping[str, Sequence[CellResult]]
    comparisons: Mapping[str, Comparison]
    baselines: Mapping[str, str]
    arms: Sequence[str]
    column: str
    profile: str
    params: Mapping[str, int]

    def values(self, arm: str) -> dict[int, float]:
        """The compared metric of an arm by seed."""
        return by_seed(self.cells[arm], self.column)


def judge(claims: Sequence[Claim], evidence: Evidence) -> tuple[JudgedClaim, ...]:
    """Every claim with its verdict: supported, contradicted, no difference shown, not enough seeds, not testable."""
    return tuple(JudgedClaim(claim.text, claim.arm, _verdict(claim, evidence)) for claim in claims)


def _verdict(claim: Claim, evidence: Evidence) -> str:
    if not {claim.arm, claim.equal_to or claim.arm} <= evidence.cells.keys():
        return _untestable("the arm is left out on this data set")
    if claim.parameters_fewer is not None or claim.parameters is not None:
        return _of_parameters(claim, evidence)
    if claim.below is not None:
        return _of_threshold(claim, evidence)
    if claim.equal_to is not None:
        return _of_equality(claim, evidence)
    return {"best": _of_best, "slower": _of_time}.get(claim.is_ or "", _of_direction)(claim, evidence)


def _of_direction(claim: Claim, evidence: Evidence) -> str:
    """Better or worse than the baseline, from the report's own comparison."""
    found = evidence.comparisons.get(claim.arm)
    if found is None or found.difference is None:
        return _untestable(f"no numbers of both {claim.arm} and {evidence.baselines.get(claim.arm, 'a baseline')}")
    if found.verdict in ("not enough seeds", UNDECIDED):
        return f"{found.verdict} ({_measured(found)})"
    return f"{SUPPORTED if found.verdict == claim.is_ else CONTRADICTED} ({_measured(found)})"


def _of_best(claim: Claim, evidence: Evidence) -> str:
    """Best of all arms: every other one is worse, after Holm's correction over them."""
    own = evidence.values(claim.arm)
    others = {name: values for name in evidence.arms if name != claim.arm and (values := evidence.values(name))}
    if not own or not others:
        return _untestable(f"no numbers of {claim.arm} and another arm")
    found = compare_all(own, others)
    means = {name: sum(values.values()) / len(values) for name, values in {**others, claim.arm: own}.items()}
    rank = sorted(means, key=means.__getitem__).index(claim.arm) + 1
    measured = f"measured: place {rank} of {len(means)} by the mean"
    better = [name for name, one in found.items() if one.verdict == "better"]
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
    found = compare(base, own)
    if found.difference is None:
        return _untestable(f"no times of both {claim.arm} and {baseline or 'a baseline'}")
    mean = sum(base[seed] for seed in found.seeds) / len(found.seeds)
    measured = f"measured {100 * found.difference / mean:+.0f} % seconds an epoch"
    return _decided(found, measured, lambda difference: difference > 0)


def _of_equality(claim: Claim, evidence: Evidence) -> str:
    """No difference to another arm; a test can only contradict that."""
    found = compare(evidence.values(claim.equal_to or ""), evidence.values(claim.arm))
    if found.difference is None:
        return _untestable(f"no numbers of both {claim.arm} and {claim.equal_to}")
    return _decided(found, _measured(found), lambda difference: False)


def _of_threshold(claim: Claim, evidence: Evidence) -> str:
    """A metric below a number, for runs that are comparable with the guide's: full profile, its own scoring."""
    assert claim.metric is not None and claim.below is not None
    if evidence.profile == "quick":
        return _untestable("quick profile; the guide's numbers are of full training")
    cells = [cell for cell in evidence.cells[claim.arm] if cell.record]
    losses = {str(_loss(cell)) for cell in cells}
    if claim.metric == "val_mae_unmasked" and losses != {"mae_unmasked"}:
        trained = ", ".join(sorted(losses)) or "nothing yet"
        return _untestable(f"trained with {trained}; the guide's scoring needs loss: mae_unmasked")
    found = [value for cell in cells if (value := _at_epoch(cell, claim.metric, claim.epoch)) is not None]
    if not found:
        return _untestable(f"no cell has {claim.metric}" + (f" at epoch {claim.epoch}" if claim.epoch else ""))
    summary = summarise(found)
    if summary.n < MIN_SEEDS or summary.low is None or summary.high is None:
        return f"not enough seeds (measured {summary.mean:.3f})"
    measured = f"measured {summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}]"
    if summary.high < claim.below:
        return f"{SUPPORTED} ({measured})"
    return f"{CONTRADICTED if summary.low >= claim.below else UNDECIDED} ({measured})"


def _of_parameters(claim: Claim, evidence: Evidence) -> str:
    """The number of parameters at the full profile's sizes, or the share saved against the baseline."""
    own = evidence.params.get(claim.arm)
    base = evidence.params.get(evidence.baselines.get(claim.arm, ""))
    if own is None or (claim.parameters_fewer is not None and not base):
        return _untestable("parameters not counted")
    if claim.parameters is not None:
        low, high = claim.parameters
        return f"{SUPPORTED if low <= own <= high else CONTRADICTED} (measured {own:,} in the full profile)"
    assert claim.parameters_fewer is not None and base
    share = 1 - own / base
    verdict = SUPPORTED if abs(share - claim.parameters_fewer) <= SHARE_TOLERANCE else CONTRADICTED
    return f"{verdict} (measured {100 * share:.0f} % fewer in the full profile: {own:,} of {base:,})"


def _decided(found: Comparison, measured: str, claimed: Callable[[float], bool]) -> str:
    """The verdict of one test by itself: p < 0.05 decides, in favour where the difference is as claimed."""
    if found.p is None or found.difference is None:
        return f"not enough seeds ({measured})"
    if found.p >= ALPHA:
        return f"{UNDECIDED} ({measured})"
    return f"{SUPPORTED if claimed(found.difference) else CONTRADICTED} ({measured})"


def _measured(found: Comparison) -> str:
    bounds = "" if found.low is None or found.high is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"measured {found.difference:+.3f}{bounds}"


def _untestable(reason: str) -> str:
    return f"not testable here ({reason})"


def _loss(cell: CellResult) -> object:
    config = (cell.record or {}).get("config") or {}
    return (config.get("training") or {}).get("loss", "masked_mae")


def _at_epoch(cell: CellResult, metric: str, epoch: int | None) -> float | None:
    """A validation metric after an epoch (from 1), or at the best one."""
    if epoch is None:
        return cell.value(metric)
    curve = (cell.record or {}).get("curve") or []
    value = next((one.get(metric) for one in curve if one.get("epoch") == epoch), None)
    return None if value is None else float(value)


def _seconds(cells: Sequence[CellResult]) -> dict[int, float]:
    """Training seconds of an epoch by seed, of the cells that are done."""
    done = [cell for cell in cells if cell.status == "done"]
    pairs = [(cell.seed, cell.value("train_seconds"), cell.value("epochs")) for cell in done]
    return {seed: seconds / epochs for seed, seconds, epochs in pairs if seconds and epochs}
