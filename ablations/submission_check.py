"""What of a matrix can be known to be wrong before it is sent to a cluster, whose machines and data are not known."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.arms import expand
from ablations.matrix import Matrix
from ablations.planning import configurations
from ablations.surroundings import given_budget, given_seeds, with_options
from altformer.data.config import DatasetConfig
from experiments.compose import PROFILES, parse_setting
from experiments.dataset_choice import AT_HAND, choose_datasets

AUTO = "auto"  # like at-hand, a data set that only the cluster knows


@dataclass(frozen=True)
class Checked:
    """The name of the data set, for people, and the user's own data files."""

    dataset: str
    files: tuple[Path, ...]


def check(matrices: Sequence[Matrix], args: argparse.Namespace) -> Checked:
    """Resolve every arm with the options of ``args``.

    UserError as ``altformer ablate`` raises it. With the profile ``auto`` the arms must be right in every profile.
    """
    given_budget(args)
    given_seeds(args)
    settings = dict(map(parse_setting, args.set))
    datasets = _datasets(args.dataset)
    found: list[DatasetConfig] = []
    for written in matrices:
        matrix = with_options(written, args)
        for profile in PROFILES if args.profile == "auto" else [args.profile]:
            settled = matrix.of(profile)
            for dataset in datasets:
                configs = configurations(settled, expand(settled), dataset, profile, settings)
                found.append(next(iter(configs.values())).dataset)  # no arm has one of its own
    names = {one.name or "own-data" for one in found} if args.dataset not in (AUTO, AT_HAND) else {args.dataset}
    files = dict.fromkeys(path for one in found for path in (one.path, one.graph) if path is not None)
    return Checked(names.pop() if len(names) == 1 else "several", tuple(files))


def _datasets(text: str | None) -> list[str | None]:
    """The data sets that can be named here; None stands for the base experiment's own."""
    if text is None:
        return [None]
    names = [name.strip() for name in text.split(",")]
    known = [name for name in names if name not in (AUTO, AT_HAND)]
    chosen: list[str | None] = [name for name, _ in choose_datasets(",".join(known))] if known else []
    return chosen if len(known) == len(names) else [None, *chosen]
