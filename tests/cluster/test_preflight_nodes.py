"""What is wrong with the nodes of a cluster, and how it is said; with real nodes in tests/cluster/nodes."""

from __future__ import annotations

import pickle
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import preflight_nodes
from cluster.errors import ClusterError
from cluster.preflight_nodes import Answer, Software, answering, check_nodes, judged, marker_file
from cluster.resources import Resources

OUT = Path("/shared/runs")
HERE = Software(
    {"python": "3.11.9", "torch": "2.13.0+cpu", "ray": "2.60.0", "numpy": "2.4.1"},
    {"altformer": "a" * 64, "my.model:Net": "b"},
)
FINE = Answer("a (10.0.0.1, 1a2b3c4d)", marker="content", software=HERE, gpus=8, gpus_of_ray=8)


def other(**versions):
    return Software({**HERE.versions, **versions}, HERE.sources)


def found(*answers, needs_gpus=False):
    return judged([FINE, *answers], HERE, "content", OUT, needs_gpus)


def two(**changes):
    return replace(FINE, name="b (10.0.0.2, 5e6f7a8b)", **changes)


def test_nodes_that_are_alike_are_not_spoken_of():
    assert found(two(), needs_gpus=True) == ([], [])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            two(marker=None),
            "/shared/runs is not the same folder on b (10.0.0.2, 5e6f7a8b); choose one with --out that all nodes share",
        ),
        (two(marker="another run's"), "/shared/runs is not the same folder on b (10.0.0.2, 5e6f7a8b)"),
        (
            two(marker=None, closed="Permission denied"),
            "/shared/runs cannot be written to on b (10.0.0.2, 5e6f7a8b) (P",
        ),
        (two(closed="Permission denied"), "/shared/runs cannot be written to on b (10.0.0.2, 5e6f7a8b) (Perm"),
        (two(software=other(torch="2.12.0+cpu")), "torch is 2.12.0+cpu on b (10.0.0.2, 5e6f7a8b), 2.13.0+cpu here"),
        (two(software=other(ray="2.60.1")), "ray is 2.60.1 on b (10.0.0.2, 5e6f7a8b), 2.60.0 here; install the same"),
        (two(software=other(python="3.12.1")), "python is 3.12.1 on b (10.0.0.2, 5e6f7a8b), 3.11.9 here; install"),
        (
            two(software=replace(HERE, sources={"altformer": "c", "my.model:Net": "b"})),
            "the sources of altformer on b (10.0.0.2, 5e6f7a8b) are not those here; install the same everywhere",
        ),
        (
            two(software=replace(HERE, sources={"altformer": "a" * 64})),
            "the sources of my.model:Net on b (10.0.0.2, 5e6f7a8b) are not those here",
        ),
        (
            two(software=None, unknown="ModuleNotFoundError: No module named 'altformer'"),
            "b (10.0.0.2, 5e6f7a8b) cannot import what is to run (ModuleNotFoundError: No module named 'altformer'); "
            "install the same package on every node",
        ),
        (
            Answer("b (10.0.0.2, 5e6f7a8b)", silent="does not answer within 120 s"),
            "b (10.0.0.2, 5e6f7a8b) does not answer within 120 s; mend it, or take it out of the cluster",
        ),
        (
            two(gpus=0),
            "torch can use 0 of the 8 GPU that Ray counts on b (10.0.0.2, 5e6f7a8b); install its CUDA build",
        ),
        (two(gpus=7), "torch can use 7 of the 8 GPU"),
    ],
)
def test_what_forbids_a_run_names_the_node_and_the_way_out(answer, said):
    wrong, notices = found(answer, needs_gpus=True)
    assert [text[: len(said)] for text in wrong] == [said]
    assert notices == []


@pytest.mark.parametrize("name", ["numpy", "python", "torch"])
def test_small_differences_of_versions_are_notices(name):
    version = {"numpy": "1.26.4", "python": "3.11.2", "torch": "2.13.0+cu130"}[name]
    wrong, notices = found(two(software=other(**{name: version})))
    assert wrong == []
    assert notices == [
        f"{name} is {version} on b (10.0.0.2, 5e6f7a8b), {HERE.versions[name]} here: numbers may depend on the node in "
        "their last digits."
    ]


def test_a_package_that_a_node_lacks_is_said():
    without = Software(
        {name: one for name, one in HERE.versions.items() if name not in ("numpy", "torch")}, HERE.sources
    )
    wrong, notices = found(two(software=without))
    assert [text.partition(" on ")[0] for text in wrong + notices] == ["torch is missing", "numpy is missing"]


def test_gpus_count_only_where_trials_take_them():
    assert found(two(gpus=0)) == ([], [])


def test_many_nodes_with_one_trouble_are_one_sentence():
    many = [replace(FINE, name=f"n{number}", marker=None, software=other(torch="2.0")) for number in range(124)]
    wrong, _ = found(*many)
    assert wrong == [
        "/shared/runs is not the same folder on n0, n1, n2, n3, n4 and 119 more; choose one with --out that all nodes "
        "share, as NFS does",
        "torch is 2.0 on n0, n1, n2, n3, n4 and 119 more, 2.13.0+cpu here; install the same version everywhere",
    ]


def test_a_silent_node_is_said_once_and_for_nothing_else():
    wrong, _ = found(Answer("two", silent="does not answer within 5 s", gpus_of_ray=8), needs_gpus=True)
    assert len(wrong) == 1


@pytest.fixture
def cluster(monkeypatch):
    """A cluster that is not there: what Ray says of its nodes at each look, what they answer, and who is asked."""
    made = SimpleNamespace(looks=[], answers={}, asked=[])

    def answers(nodes, question, seconds):
        made.asked.append((sorted(nodes), question.gpus, seconds))
        content = Path(question.marker).read_text()
        return {identity: replace(made.answers.get(identity, FINE), marker=content) for identity in nodes}

    monkeypatch.setattr(preflight_nodes, "Nodes", lambda: SimpleNamespace(staying=made.looks.pop(0)))
    monkeypatch.setattr(preflight_nodes, "_answers", answers)
    return made


def resources_of(**given):
    return {identity: {"Resources": found} for identity, found in given.items()}


HEAD, CPUS, GPUS = {"memory": 1e9}, {"CPU": 4.0}, {"CPU": 4.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "resources", "asked", "gpus"),
    [
        ({"head": HEAD, "a": CPUS, "b": CPUS}, {}, ["a", "b"], False),
        ({"head": CPUS, "a": GPUS}, {}, ["a"], True),  # automatic: trials take a GPU
        ({"head": CPUS, "a": GPUS}, {"gpus_per_worker": 0}, ["a", "head"], False),
        ({"a": CPUS, "b": {"CPU": 2.0}}, {"cpus_per_worker": 3}, ["a"], False),
        ({"a": CPUS, "b": {"CPU": 2.0}}, {"cpus_per_worker": 2, "workers": 3}, ["a", "b"], False),
    ],
)
def test_nodes_that_can_hold_a_worker_are_asked(cluster, tmp_path, nodes, resources, asked, gpus):
    cluster.looks = [resources_of(**nodes)] * 2
    assert check_nodes(tmp_path, Resources(**resources), lambda: HERE, seconds=7) == []
    assert cluster.asked == [(asked, gpus, 7)]


def test_a_node_that_was_lost_meanwhile_is_left_out(cluster, tmp_path):
    silent = Answer("b (10.0.0.2, 5e6f7a8b)", silent="does not answer (The node has died)")
    cluster.answers = {"b": silent}
    cluster.looks = [resources_of(a=CPUS, b=CPUS), resources_of(a=CPUS)]
    assert check_nodes(tmp_path, Resources(), lambda: HERE) == []
    cluster.looks = [resources_of(a=CPUS, b=CPUS)] * 2
    with pytest.raises(ClusterError, match="does not answer"):
        check_nodes(tmp_path, Resources(), lambda: HERE)


def test_all_that_is_wrong_is_one_message(cluster, tmp_path):
    cluster.answers = {"b": two(closed="Permission denied", software=other(torch="2.0"))}
    cluster.looks = [resources_of(a=CPUS, b=CPUS)] * 2
    with pytest.raises(ClusterError) as caught:
        check_nodes(tmp_path / "runs", Resources(), lambda: HERE)
    header, *lines = str(caught.value).splitlines()
    assert header == "the nodes are not ready:"
    assert [line.partition(" on ")[0] for line in lines] == [
        f"  {tmp_path}/runs cannot be written to",
        "  torch is 2.0",
    ]
    assert not (tmp_path / "runs").exists()


def test_the_marker_leaves_nothing(tmp_path):
    with marker_file(tmp_path / "deep" / "runs") as (file, content):
        assert file.parent == tmp_path / "deep" / "runs" and file.read_text() == content
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    with marker_file(tmp_path / "kept"):
        (tmp_path / "kept" / "of-another-run").touch()
    assert [one.name for one in (tmp_path / "kept").iterdir()] == ["of-another-run"]
    with pytest.raises(KeyboardInterrupt), marker_file(tmp_path / "new"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


def test_what_another_run_has_put_there_meanwhile_stays(tmp_path):
    with marker_file(tmp_path / "deep" / "runs"):
        (tmp_path / "deep" / "other").touch()
    assert [one.name for one in (tmp_path / "deep").iterdir()] == ["other"]


def software_here(version):
    return Software({"python": version}, {})


def asked_here(marker, function, gpus=False):
    return answering()(str(marker), function, ("3.11",), gpus, 0.2)


def test_a_node_looks_for_the_marker_and_at_its_software(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "looked_at", sys.modules[__name__])
    file = tmp_path / "marker"
    file.write_text("content")
    assert asked_here(file, "looked_at:software_here") == {"marker": "content", "found": ({"python": "3.11"}, {})}
    missing = asked_here(tmp_path / "none", "looked_at:software_here", gpus=True)
    assert "marker" not in missing and isinstance(missing["gpus"], int)
    broken = asked_here(file, "no_such_module:software")
    assert broken == {"marker": "content", "unknown": "ModuleNotFoundError: No module named 'no_such_module'"}


def test_a_node_says_that_it_may_not_write(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "marker"
    file.write_text("content")
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert asked_here(file, "no_such_module:software")["closed"] == "Permission denied"
    monkeypatch.setattr(Path, "is_file", refused)
    said = asked_here(file, "no_such_module:software")
    assert said["closed"] == "Permission denied" and "marker" not in said


def test_the_question_goes_to_a_node_whole(monkeypatch):
    """Without this package being imported there: it may be the very thing that is missing."""
    import ray.cloudpickle

    sent = ray.cloudpickle.dumps(answering())
    monkeypatch.setitem(sys.modules, "cluster.preflight_nodes", None)  # importing it is an error
    assert pickle.loads(sent)("/none", "no_such_module:x", (), False, 0.0)["unknown"].startswith("ModuleNotFoundError")
