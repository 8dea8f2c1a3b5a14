"""What the work of a connection still takes of its cluster, and how that is given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray

# Detached actors without resources that Ray Train keeps as long as the cluster lives.
_RAYS_OWN = ("TrainStateActor", "_AutoscalingCoordinatorActor")


def leftovers() -> list[str]:
    """What this connection's work still holds: live actors, placement groups; in words, empty when all is free."""
    from ray._private.state import state  # the public list_actors needs the dashboard

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    held = []
    for actor in state.actor_table(None, job).values():
        if actor["State"] != "DEAD" and actor["ActorClassName"] not in _RAYS_OWN:
            held.append(f"actor {actor['ActorClassName']} {actor['Name']} {actor['State']}".replace("  ", " "))
    for group in _groups():
        bundles = [dict(bundle.unit_resources) for bundle in group.bundles]
        held.append(f"placement group {group.placement_group_id.hex()} {bundles}")
    return held


def release_groups() -> None:
    """Remove all placement groups that processes of this connection have left behind."""
    for group in _groups():
        _remove(group)


def release_orphaned_groups() -> None:
    """Remove the placement groups whose creating actor has died: Ray keeps them until the driver ends.

    A Train run makes one for its workers. Where its trial's process dies, whoever would give it back dies as well; one
    that waits for room would take it, for nobody, as soon as there is any.
    """
    for group in _groups():
        if group.creator_actor_id.strip(b"\xff") and group.creator_actor_dead:
            _remove(group)


def _groups() -> Iterator[Any]:
    """The placement groups of this connection that are not removed, as the cluster's own table has them."""
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    for row in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(row)
        if group.creator_job_id == job and group.state != PlacementGroupTableData.REMOVED:
            yield group


def _remove(group: Any) -> None:
    from ray._raylet import PlacementGroupID
    from ray.util import remove_placement_group
    from ray.util.placement_group import PlacementGroup

    remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
