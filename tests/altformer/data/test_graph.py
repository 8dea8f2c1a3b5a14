import pickle
import pickletools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from altformer.data.graph import graph_sensor_ids, read_graph, read_sensor_ids
from altformer.errors import UserError

IDS = ("a", "b", "c")
MATRIX = np.array([[1, 0.5, 0], [0.25, 1, 0], [0, 0.75, 1]], dtype=np.float32)


def save(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("matrix", [MATRIX, np.asfortranarray(MATRIX), MATRIX.astype(">f8"), MATRIX.astype("f2")])
def test_every_pickle_protocol(protocol, matrix, tmp_path):
    index = {name: np.int64(k) for k, name in enumerate(IDS)}
    path = save(tmp_path / "adj_mx.pkl", [np.array(IDS), index, matrix], protocol)
    np.testing.assert_array_equal(read_graph(path, IDS), MATRIX)
    assert graph_sensor_ids(path) == IDS


def test_rows_and_columns_follow_the_readings(tmp_path):
    path = save(tmp_path / "adj_mx.pkl", [list(IDS), {}, MATRIX])
    graph = read_graph(path, ("c", "a", "b"))
    assert graph[0, 2] == MATRIX[2, 1]
    assert graph[1, 2] == MATRIX[0, 1]
    assert not graph.flags.writeable


def test_a_bare_matrix_or_numbered_sensors_keep_their_order(tmp_path):
    np.testing.assert_array_equal(read_graph(save(tmp_path / "m.pkl", MATRIX), IDS), MATRIX)
    path = save(tmp_path / "n.pkl", [list(IDS), {}, MATRIX])
    np.testing.assert_array_equal(read_graph(path, ("0", "1", "2")), MATRIX)


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(marker: Path):
    text = f"open({str(marker)!r}, 'w')"
    return {
        "a call to exec": Evil(exec, text),
        "a call to eval, inside the list": [list(IDS), {}, Evil(eval, text)],
        "a shell command": Evil(__import__("os").system, f"touch {marker}"),
        "a method of pathlib": [Evil(Path.touch, marker), {}, MATRIX],
        "numpy's own loader": Evil(np.load, str(marker)),
        "a decoder that runs code": Evil(__import__("codecs").encode, "x", "zip"),
        "an import": Evil(__import__, "this"),
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_a_hostile_pickle_runs_nothing(name, tmp_path):
    marker = tmp_path / "it ran"
    path = save(tmp_path / "adj_mx.pkl", attacks(marker)[name])
    with pytest.raises(UserError, match=r"adj_mx\.pkl: not a pickled graph"):
        read_graph(path, IDS)
    assert not marker.exists()


def test_the_attacks_would_work_on_a_plain_unpickler(tmp_path):
    marker = tmp_path / "it ran"
    path = save(tmp_path / "adj_mx.pkl", attacks(marker)["a call to exec"])
    with path.open("rb") as file:
        pickle.load(file)
    assert marker.exists()


@pytest.mark.parametrize("name", ["numpy.load", "builtins.eval", "numpy.core.multiarray.fromfile", "os.system"])
def test_no_other_name_is_known(name, tmp_path):
    module, function = name.rsplit(".", 1)
    program = pickle.PROTO + b"\x02" + f"c{module}\n{function}\n".encode() + pickle.STOP
    pickletools.dis(program, out=(tmp_path / "dis").open("w"))  # it is a valid pickle
    (tmp_path / "adj_mx.pkl").write_bytes(program)
    with pytest.raises(UserError, match=f"names {name}"):
        read_graph(tmp_path / "adj_mx.pkl", IDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a text", "found str"),
        ([list(IDS), {}, MATRIX[:2]], r"shape \(2, 3\), the readings have 3 sensors"),
        ([["a", "b"], {}, MATRIX], "names 2 sensors, 2 of them different, for a graph of 3"),
        ([["a", "b", "c", "d"], {}, MATRIX], "names 4 sensors, 4 of them different, for a graph of 3"),
        ([["a", "b", "b"], {}, MATRIX], "names 3 sensors, 2 of them different, for a graph of 3"),
        ([["a", "b", "x"], {}, MATRIX], "sensor 'c' of the readings is not in the graph"),
        ([list(IDS), {}, np.where(MATRIX == 0.5, np.nan, MATRIX)], r"holds nan at \(0, 1\)"),
        ([list(IDS), {}, np.array([[{}]], dtype=object)], "type 'O"),
        ([list(IDS), {}, np.array([["x"]])], "an array of <U1"),
    ],
)
def test_bad_pickle(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_graph(save(tmp_path / "adj_mx.pkl", content), IDS)


@pytest.mark.parametrize(
    "program",
    [
        pickle.PROTO + b"\x02]" + pickle.LONG_BINPUT + b"\xff\xff\xff\xff" + pickle.STOP,
        pickle.PROTO + b"\x04" + pickle.BINBYTES8 + b"\xff\xff\xff\xff\xff\xff\xff\x0fabc" + pickle.STOP,
        pickle.PROTO + b"\x04" + pickle.FRAME + b"\xff\xff\xff\xff\xff\xff\xff\x0f" + pickle.STOP,
    ],
)
def test_a_pickle_cannot_ask_for_more_memory_than_it_is_long(program, tmp_path):
    (tmp_path / "adj_mx.pkl").write_bytes(program)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"adj_mx\.pkl: \w+"):
        read_graph(tmp_path / "adj_mx.pkl", IDS)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_truncated_pickle(tmp_path):
    path = save(tmp_path / "adj_mx.pkl", [list(IDS), {}, MATRIX])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="not a pickled graph"):
        read_graph(path, IDS)


def test_edges_by_id_with_the_diagonal(tmp_path):
    (tmp_path / "g.csv").write_text("from,to,cost\na,b,310.6\nc,a,12\n")
    graph = read_graph(tmp_path / "g.csv", IDS)
    np.testing.assert_array_equal(graph, [[1, 1, 0], [0, 1, 0], [1, 0, 1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,1\n", "expected the columns from,to,cost, found a,b,1"),
        ("from,to,cost\na,b,1\na,z,1\n", "line 3: sensor 'z' is not one of the 3 sensors"),
        ("", "not a readable CSV"),
    ],
)
def test_bad_edges(text, message, tmp_path):
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_graph(tmp_path / "g.csv", IDS)


def test_unknown_form_and_absent_file(tmp_path):
    with pytest.raises(UserError, match=r"unknown graph file extension '\.npz'"):
        read_graph(tmp_path / "g.npz", IDS)
    with pytest.raises(UserError, match="no such file"):
        read_graph(tmp_path / "g.csv", IDS)
    (tmp_path / "g.csv").mkdir()
    with pytest.raises(UserError, match="a folder, not a file"):
        read_graph(tmp_path / "g.csv", IDS)


def test_sensor_ids_by_line_or_comma(tmp_path):
    (tmp_path / "ids.txt").write_text("311903\n311930\n")
    assert read_sensor_ids(tmp_path / "ids.txt") == ("311903", "311930")
    (tmp_path / "ids.txt").write_text("773869,767541")
    assert read_sensor_ids(tmp_path / "ids.txt") == ("773869", "767541")


def test_the_graph_of_metr_la(metr_la_dir):
    listed = read_sensor_ids(metr_la_dir / "METR-LA" / "graph_sensor_ids.txt")
    assert graph_sensor_ids(metr_la_dir / "METR-LA" / "adj_mx.pkl") == listed
    graph = read_graph(metr_la_dir / "METR-LA" / "adj_mx.pkl", listed)
    assert (graph.shape, np.count_nonzero(graph), (graph == graph.T).all()) == ((207, 207), 1722, False)
    with (metr_la_dir / "METR-LA" / "adj_mx.pkl").open("rb") as file:
        np.testing.assert_array_equal(graph, pickle.load(file, encoding="latin1")[2])
