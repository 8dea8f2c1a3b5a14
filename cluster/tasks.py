"""A function called for several inputs on the cluster, as many at once as there is room, within a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster.resources import Resources


def call_on_cluster(
    function: Callable[[Any, Any], Any], inputs: Sequence[Any], shared: Any, resources: Resources, seconds: float
) -> list[Any]:
    """``function(input, shared)`` for each input in a task that holds what one worker of a trial holds.

    Returns the results in order, None for what was not there after ``seconds`` or has failed. Needs a connected Ray.
    """
    import ray

    task = ray.remote(num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker or 0, max_retries=0)(
        function
    )
    data = ray.put(shared)
    started = [task.remote(one, data) for one in inputs]
    ready, late = ray.wait(started, num_returns=len(started), timeout=seconds)
    for one in late:
        ray.cancel(one)  # without force, so that it can tidy up
    results: dict[Any, Any] = {}
    for one in ready:
        try:
            results[one] = ray.get(one)
        except ray.exceptions.RayError:
            results[one] = None
    return [results.get(one) for one in started]
