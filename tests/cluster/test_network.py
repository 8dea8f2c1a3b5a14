"""Which interface gloo is told to use, and when."""

from __future__ import annotations

import os

import pytest

from cluster.network import interface_of, name_interface, torch_config

GLOO = "GLOO_SOCKET_IFNAME"


def test_the_interface_of_an_address():
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.77") is None  # for documentation: nobody's


@pytest.mark.parametrize(
    ("own", "address", "told"),
    [
        (None, "127.0.0.1", "lo"),
        (None, "203.0.113.77", None),  # gloo's own choice is no worse then
        ("eth7", "127.0.0.1", "eth7"),  # the user's own
    ],
)
def test_gloo_is_told_the_interface_that_ray_uses(monkeypatch, own, address, told):
    import ray

    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: address)
    monkeypatch.delenv(GLOO, raising=False)
    if own:
        monkeypatch.setenv(GLOO, own)
    name_interface()
    found = os.environ.pop(GLOO, None)
    assert found == told


def test_every_rank_is_told_before_its_process_group_is_made():
    asked = []

    class Group:
        """As much of Train's worker group as its torch backend uses."""

        def __len__(self):
            return 2

        def get_resources_per_worker(self):
            return {"CPU": 1.0}

        def execute_single(self, rank, function):
            return "127.0.0.1", 1234

        def execute(self, function, **arguments):
            asked.append(function.__name__)

        def execute_single_async(self, rank, function, **arguments):
            asked.append(f"{function.__name__} {rank} {arguments['backend']}")

    import ray

    config = torch_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", lambda futures: futures)
        config.backend_cls().on_start(Group(), config)
    made = [f"_setup_torch_process_group {rank} gloo" for rank in (0, 1)]
    assert asked[0] == "name_interface"
    assert asked[-2:] == made
