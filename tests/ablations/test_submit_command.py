"""What a submission refuses before anything is sent, and what is sent."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations import command, submit_command
from ablations.matrix import PACKAGE
from ablations.tuning import command as tuning_command
from ablations.tuning import submit_command as tuning_submit_command
from cluster.jobs import ENVIRONMENT, Jobs
from experiments.cli import main
from experiments.provenance import SUBMITTED_COMMIT, commit_text, git_state
from tests.cluster.fake_jobs import FakeClient, details

MATRIX = "name: rates\nbase: {base}\narms:\n  low: {{lr: 0.001}}\n  high: {{lr: 0.003}}\nbaseline: low\n"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "ALTFORMER_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a matrix of its own and an experiment beside it; the current folder."""
    folder = tmp_path / "project"
    (folder / "matrices").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "matrices" / "mine.yaml").write_text("base: simulated.yaml\nlr: 0.002\n")
    (folder / "matrices" / "rates.yaml").write_text(MATRIX.format(base="mine.yaml"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The cluster; its jobs succeed at once."""
    fake = FakeClient(tails=[["epoch 1\n"]])
    fake.whole_log = "epoch 1\n"

    def submit(**given: Any) -> None:
        FakeClient.submit_job(fake, **given)
        fake.ends = details(given["submission_id"], "FAILED", driver_exit_code=3)

    monkeypatch.setattr(fake, "submit_job", submit)
    monkeypatch.setattr("ablations.submit_command.find_jobs", lambda address: Jobs(fake, address or "http://head:8265"))
    return fake


@pytest.fixture
def plan(project: Path) -> str:
    """A tuning plan of the project's own, by its path in it."""
    stages = "stages:\n  first: {type: arms, arms: {low: {lr: 0.001}, high: {lr: 0.003}}}\n"
    (project / "matrices" / "plan.yaml").write_text("name: mine\nbase: mine.yaml\n" + stages)
    return "matrices/plan.yaml"


def submit(*arguments: str) -> int:
    return main(["submit", *arguments])


def test_a_matrix_is_sent_with_its_project_and_followed_to_its_exit_code(project, client, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("GIVEN_HERE", "from here")
    environment = ["--env", "OMP_NUM_THREADS=2", "--env", "GIVEN_HERE"]
    assert submit("matrices/rates.yaml", "--out", "/shared/runs", "--seeds", "2", *environment) == 3
    [sent] = client.submitted
    assert re.fullmatch(r"rates-simulated-\d{8}-\d{6}", sent["submission_id"])
    assert sent["entrypoint"] == (
        "exec python -m experiments.cli ablate ./matrices/rates.yaml --address=auto --out=/shared/runs --seeds=2"
    )
    assert sent["runtime_env"]["working_dir"] == str(project)
    assert sent["runtime_env"]["env_vars"] == {
        **ENVIRONMENT,
        "RAY_AUTH_MODE": "token",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "OMP_NUM_THREADS": "2",
        "GIVEN_HERE": "from here",
    }
    assert sent["metadata"] == {"matrix": "rates", "out": "/shared/runs"}
    printed = capsys.readouterr().out
    assert f"Uploading {project} (3 files, 0.0 MB); altformer itself is the one that is installed" in printed
    assert "epoch 1\n" in printed and printed.endswith(f"{sent['submission_id']}: FAILED with exit code 3\n")


def test_the_environment_says_what_it_must():
    assert ENVIRONMENT["RAY_JOB_STOP_SIGNAL"] == "SIGINT" and int(ENVIRONMENT["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60
    assert ENVIRONMENT["RAY_USAGE_STATS_ENABLED"] == "0" and ENVIRONMENT["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert ENVIRONMENT["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_without_following_the_commands_are_said_and_nothing_is_waited_for(project, client, capsys):
    assert submit("matrices/rates.yaml", "--out", "/shared/runs", "--no-follow", "--address", "http://head:1") == 0
    job_id = client.submitted[0]["submission_id"]
    printed = capsys.readouterr().out
    assert f"altformer logs {job_id} --address http://head:1 --follow" in printed
    assert f"altformer stop {job_id} --address http://head:1" in printed


@pytest.mark.parametrize(
    ("matrices", "name", "there"),
    [
        (["depth"], "depth-METR-LA", "depth"),
        (["ablations/depth.yaml"], "depth-METR-LA", "depth"),
        (["depth", "matrices/rates.yaml"], "several-several", "depth ./matrices/rates.yaml"),
        (["all"], "all-METR-LA", "all"),
    ],
)
def test_shipped_matrices_go_by_their_name(matrices, name, there, project, client):
    assert submit(*matrices, "--out", "/shared/runs", "--profile", "quick", "--no-follow") == 0
    [sent] = client.submitted
    assert sent["submission_id"].startswith(f"{name}-20")
    assert f" ablate {there} --address" in sent["entrypoint"]
    own = len(matrices) > 1
    commit = None if own else commit_text(git_state())
    assert sent["metadata"].get("commit") == sent["runtime_env"]["env_vars"].get(SUBMITTED_COMMIT) == commit
    assert sent["runtime_env"]["working_dir"] == str(project if own else PACKAGE.parent), "with the sources beside it"


def test_the_project_around_an_installed_altformer_is_not_taken_for_its_checkout(project, client, monkeypatch):
    installed = project / ".venv" / "lib" / "site-packages" / "ablations"
    shutil.copytree(PACKAGE, installed, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("matrix", "job_project", "submit_command"):
        monkeypatch.setattr(f"ablations.{module}.PACKAGE", installed)
    assert submit("depth", "--out", "/shared/runs", "--no-follow") == 0
    assert submit("depth", "matrices/rates.yaml", "--out", "/shared/runs", "--no-follow") == 0
    shipped, both = client.submitted
    assert "working_dir" not in shipped["runtime_env"]
    assert both["runtime_env"]["working_dir"] == str(project)
    assert " ablate depth ./matrices/rates.yaml " in both["entrypoint"]


def test_where_altformer_is_installed_without_a_checkout_nothing_is_uploaded(project, client, capsys, monkeypatch):
    monkeypatch.setattr("ablations.job_project.MARK", "no-such-mark")
    assert submit("depth", "--out", "/shared/runs", "--no-follow") == 0
    assert "working_dir" not in client.submitted[0]["runtime_env"]
    assert "Sources: those that are installed on the cluster" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dept", "--out", "/s"], "unknown matrix 'dept'; did you mean 'depth'?"),
        (["matrices/rates.yaml"], "--out must be an absolute path .*, got 'runs'"),
        (["matrices/rates.yaml", "--out", "runs/x"], "--out must be an absolute path .*, got 'runs/x'"),
        (["matrices/rates.yaml", "--out", "/s", "--set", "dropuot=1"], "dropout"),
        (["matrices/rates.yaml", "--out", "/s", "--set", "lr=1"], "arm 'low' sets this field itself"),
        (["matrices/rates.yaml", "--out", "/s", "--seeds", "0"], "--seeds must be at least 1"),
        (["matrices/rates.yaml", "--out", "/s", "--workers", "0"], "workers"),
        (["matrices/rates.yaml", "--out", "/s", "--retries", "-1"], "--retries must be 0 or more"),
        (["matrices/rates.yaml", "--out", "/s", "--dataset", "METR-AL"], "did you mean 'METR-LA'"),
        (["matrices/rates.yaml", "--out", "/s", "--dataset", "auto,METR-AL"], "did you mean 'METR-LA'"),
        (["matrices/rates.yaml", "--out", "/s", "--profile", "fast"], "unknown profile 'fast'"),
        (["matrices/rates.yaml", "--out", "/s", "--max-hours", "-1"], "--max-hours takes a number of hours above 0"),
        (["matrices/rates.yaml", "--out", "/s", "--sedes", "2"], "unknown option '--sedes'.*did you mean '--seeds'"),
        (["matrices/rates.yaml", "--out", "/s", "--env", "A B=1"], "--env takes NAME=VALUE or NAME, got 'A B=1'"),
        (["matrices/rates.yaml", "--out", "/s", "--env", "UNSET_HERE"], "--env UNSET_HERE: the variable is not set"),
        (
            ["matrices/rates.yaml", "--out", "/s", "--env", "MY_TOKEN=planted-secret"],
            "--env MY_TOKEN looks like a secret, and",
        ),
        (
            ["matrices/rates.yaml", "--out", "/s", "--env", "DB=pg://me:planted-secret@h/d"],
            "--env DB looks like a secret, and",
        ),
    ],
)
def test_mistakes_are_said_before_the_cluster_is_asked(arguments, said, project, capsys, monkeypatch):
    monkeypatch.setattr("ablations.submit_command.find_jobs", lambda address: pytest.fail("was asked"))
    assert submit(*arguments) == 2
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert error.count("\n") == 1 and "planted-secret" not in error


def test_a_password_for_mlflow_is_never_sent(project, client, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:planted-secret@db/mlflow")
    assert submit("matrices/rates.yaml", "--out", "/shared/runs", "--no-follow") == 2
    said = capsys.readouterr().err
    assert "MLFLOW_TRACKING_URI=postgresql://***@db/mlflow" in said and "Ray writes" in said
    assert submit("matrices/rates.yaml", "--out", "/shared/runs", "--no-mlflow", "--no-follow") == 0
    [sent] = client.submitted
    assert "planted-secret" not in str(sent)


def test_files_that_are_needed_must_go_along(project, client, capsys):
    (project / ".gitignore").write_text("mine.yaml\n")
    assert submit("matrices/rates.yaml", "--out", "/shared/runs") == 2
    assert "matrices/mine.yaml is needed, and does not go along with" in capsys.readouterr().err
    (project / ".gitignore").unlink()
    (project.parent / "outside.yaml").write_text("base: simulated.yaml\n")
    (project / "matrices" / "rates.yaml").write_text(MATRIX.format(base="../../outside.yaml"))
    assert submit("matrices/rates.yaml", "--out", "/shared/runs") == 2
    assert "outside.yaml is needed" in capsys.readouterr().err and not client.submitted


def test_own_data_go_along_or_lie_where_the_cluster_sees_them(project, client, capsys):
    experiment = project / "matrices" / "mine.yaml"
    (project / "matrices" / "my.csv").write_text("time,a\n")
    for path, code in (("my.csv", 0), ("/shared/my.csv", 0), ("../data/my.csv", 2)):
        experiment.write_text(f"base: alternating.yaml\ndataset: {{path: {path}}}\n")
        assert submit("matrices/rates.yaml", "--out", "/s", "--no-follow") == code, path
    assert "data/my.csv is needed, and does not go along" in capsys.readouterr().err
    assert [sent["submission_id"].split("-2")[0] for sent in client.submitted] == ["rates-own-data"] * 2


def test_what_an_experiment_is_based_on_must_go_along_too(project, client, capsys):
    (project / "matrices" / "mine.yaml").write_text("base: far.yaml\n")
    (project / "matrices" / "far.yaml").write_text("base: simulated.yaml\n")
    (project / ".rayignore").write_text("far.yaml\n")
    assert submit("matrices/rates.yaml", "--out", "/shared/runs") == 2
    assert "matrices/far.yaml is needed" in capsys.readouterr().err and not client.submitted


def test_data_and_results_below_the_project_stay_where_they_are(project, client, monkeypatch):
    monkeypatch.setenv("ALTFORMER_DATA", str(project / "traffic"))
    for name in ("traffic/METR-LA/metr-la.h5", "results/mlflow.db"):
        (project / name).parent.mkdir(parents=True)
        (project / name).touch()
    assert submit("matrices/rates.yaml", "--out", str(project / "results"), "--no-follow") == 0
    excluded = client.submitted[0]["runtime_env"]["excludes"]
    assert {"/traffic", "/results"} <= set(excluded)


def test_a_matrix_of_no_project_takes_the_current_folder_along_but_never_a_home(tmp_path, client, capsys, monkeypatch):
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "rates.yaml").write_text(MATRIX.format(base="simulated.yaml"))
    monkeypatch.chdir(paper)
    assert submit("rates.yaml", "--out", "/shared/runs", "--no-follow") == 0
    assert client.submitted[0]["runtime_env"]["working_dir"] == str(paper)
    assert "ablate ./rates.yaml " in client.submitted[0]["entrypoint"]
    for home in (paper, paper / "me"):
        monkeypatch.setenv("HOME", str(home))
        assert submit("rates.yaml", "--out", "/shared/runs") == 2
        assert f"{paper} would be taken along as a whole" in capsys.readouterr().err
    monkeypatch.chdir("/usr")
    assert submit(str(paper / "rates.yaml"), "--out", "/shared/runs") == 2
    assert "it is not below the current one" in capsys.readouterr().err


def test_matrices_of_two_projects_are_refused(project, tmp_path, client, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").touch()
    (other / "more.yaml").write_text(MATRIX.format(base="simulated.yaml").replace("rates", "more"))
    assert submit("matrices/rates.yaml", str(other / "more.yaml"), "--out", "/s") == 2
    assert "the files are of 2 projects" in capsys.readouterr().err and not client.submitted


def test_an_interruption_while_it_is_sent_says_how_to_find_out(project, client, capsys, monkeypatch):
    def interrupt(**given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "submit_job", interrupt)
    assert submit("matrices/rates.yaml", "--out", "/s") == 130
    assert re.search(r"`altformer status rates-\S+ --address http://head:8265` says whether", capsys.readouterr().err)


def test_a_tuning_plan_of_ones_own_is_sent_with_its_project(plan, project, client, capsys):
    given = ["--seeds", "2", "--sampler", "grid", "--profile", "quick", "--env", "OMP_NUM_THREADS=2"]
    assert submit("tune", plan, "--out", "/shared/runs", *given) == 3
    [sent] = client.submitted
    assert re.fullmatch(r"mine-simulated-\d{8}-\d{6}", sent["submission_id"])
    assert sent["entrypoint"].startswith("exec python -m experiments.cli tune ./matrices/plan.yaml --address=auto ")
    assert {"--out=/shared/runs", "--seeds=2", "--sampler=grid", "--profile=quick"} < set(sent["entrypoint"].split())
    assert sent["runtime_env"]["working_dir"] == str(project)
    assert sent["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2"
    assert sent["metadata"] == {"plan": "mine", "out": "/shared/runs"}
    assert capsys.readouterr().out.endswith(f"{sent['submission_id']}: FAILED with exit code 3\n")


@pytest.mark.parametrize("given", [[], ["tuning"], [str(PACKAGE.parent / "experiments" / "tuning.yaml")]])
def test_the_shipped_plan_goes_by_its_name(given, project, client):
    assert submit("tune", *given, "--out", "/shared/runs", "--dataset", "auto", "--no-follow") == 0
    [sent] = client.submitted
    assert sent["submission_id"].startswith("tuning-auto-20")
    assert " tune tuning --address=auto " in sent["entrypoint"] and sent["entrypoint"].endswith(" --dataset=auto")
    assert sent["runtime_env"]["working_dir"] == str(PACKAGE.parent)
    assert sent["metadata"].get("commit") == commit_text(git_state())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tunning", "--out", "/s"], "unknown experiment file 'tunning'; did you mean 'tuning.yaml'"),
        (["--out", "runs"], "--out must be an absolute path .*, got 'runs'"),
        (["--out", "/s", "--sampler", "random"], "--sampler.*random"),
        (["--out", "/s", "--seeds", "0"], "--seeds must be at least 1"),
        (["--out", "/s", "--profile", "fast"], "unknown profile 'fast'"),
        (["--out", "/s", "--workers", "0"], "resources.workers: must be .*, got 0"),
        (["--out", "/s", "--retries", "-1"], "--retries must be 0 or more"),
        (["--out", "/s", "--dataset", "METR-AL"], "did you mean 'METR-LA'"),
        (["--out", "/s", "--set", "dropuot=1"], "dropout"),
        (["--out", "/s", "--max-cells", "3"], "submit tune: unknown option '--max-cells'"),
        (["--out", "/s", "--env", "MY_TOKEN=planted-secret"], "--env MY_TOKEN looks like a secret, and"),
    ],
)
def test_mistakes_in_a_plans_submission_are_said_before_the_cluster_is_asked(
    arguments, said, project, capsys, monkeypatch
):
    monkeypatch.setattr("ablations.submit_command.find_jobs", lambda address: pytest.fail("was asked"))
    assert submit("tune", *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert error.count("\n") == 1 and "planted-secret" not in error


def test_what_a_plan_needs_must_go_along(plan, project, client, capsys):
    (project / ".gitignore").write_text("mine.yaml\n")
    assert submit("tune", plan, "--out", "/shared/runs") == 2
    assert "matrices/mine.yaml is needed, and does not go along with" in capsys.readouterr().err
    assert not client.submitted


def parsed(module: Any, arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    return parser.parse_args(arguments)


def _options(module: Any) -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    return [one for one in parser._actions if one.option_strings and one.dest not in ("address", "out")]


def values_of(option: argparse.Action) -> st.SearchStrategy[list[str]]:
    """What may follow an option on the command line."""
    if option.nargs == 0:
        return st.just([option.option_strings[-1]])
    kinds: dict[Any, st.SearchStrategy[str]] = {
        int: st.integers(-5, 99).map(str),
        float: st.floats(0, 99).map(str),
        None: st.text(st.characters(exclude_categories=["C"]), max_size=12),
    }
    value = st.sampled_from(list(option.choices)) if option.choices else kinds[option.type]
    return value.map(lambda text: [f"{option.option_strings[-1]}={text}"])


JOBS = {"ablate": (command, submit_command, "files"), "tune": (tuning_command, tuning_submit_command, "file")}


@given(st.data(), st.sampled_from(sorted(JOBS)), st.text(min_size=1, max_size=10))
def test_every_option_reaches_the_job_as_it_was_given(data, job, name):
    """Also through the shell that runs it there, whatever is in it."""
    module, submission, file = JOBS[job]
    options = data.draw(st.lists(st.sampled_from(_options(module)).flatmap(values_of), max_size=6))
    given_here = [word for option in options for word in option]
    args = parsed(submission, ["given", "--out", "/shared/my runs", *given_here])
    line = submit_command.entrypoint(args, job, [f"./{name}.yaml"])
    words = shlex.split(line)
    assert words[:5] == ["exec", "python", "-m", "experiments.cli", job]
    there = parsed(module, words[5:])
    wanted = parsed(module, ["given", *given_here])
    there_named = [f"./{name}.yaml"] if file == "files" else f"./{name}.yaml"
    assert vars(there) == {**vars(wanted), file: there_named, "address": "auto", "out": Path("/shared/my runs")}


def test_an_id_is_readable_and_a_word():
    at = time.strptime("2026-01-31 17:30:00", "%Y-%m-%d %H:%M:%S")
    assert submit_command.job_id_of("depth", "METR-LA", at) == "depth-METR-LA-20260131-173000"
    assert submit_command.job_id_of("depth", "my data/2; x", at) == "depth-my-data-2-x-20260131-173000"


def test_own_data_reach_a_job_by_its_matrix(
    project: Path, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file that ``--dataset`` names is not among those that are looked for on the cluster."""
    (project / "my.yaml").write_text("dataset: {path: my.csv}\n")
    assert submit("matrices/rates.yaml", "--dataset", "METR-LA,my.yaml", "--out", "/shared/runs") == 2
    assert (
        "--dataset my.yaml: a job gets" in (told := capsys.readouterr().err) and "write `base: my.yaml` there" in told
    )
    assert not client.submitted
