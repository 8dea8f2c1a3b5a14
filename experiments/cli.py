"""The command line. A command's module is imported when it is used: plain training imports neither ray nor mlflow."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from typing import NoReturn, Protocol

from altformer.errors import UserError, unknown_name
from altformer.files import DiskFullError
from cluster.errors import ClusterError, RayGoneError
from cluster.redaction import redact
from experiments.garbage import collect_rarely
from experiments.signals import Terminated


class Command(Protocol):
    """What a command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""


class Parser(argparse.ArgumentParser):
    """Says of a wrong option or value what is wrong in one message, as for any mistake of a user."""

    def error(self, message: str) -> NoReturn:
        """What argparse found, and where the options are listed."""
        for kind, takes in (("int", "a whole number"), ("float", "a number")):
            message = re.sub(rf"^argument (\S+): invalid {kind} value: ", rf"\1 takes {takes}, got ", message)
        raise UserError(f"{message}; `{self.prog} --help` lists the options")

    def refuse(self, given: str) -> UserError:
        """The error for an argument that the command does not have."""
        if not given.startswith("--"):
            return UserError(f"'{given}' is one argument too many; `{self.prog} --help` lists them")
        options = [option for option in self._option_string_actions if option.startswith("--")]
        return unknown_name("option", given.partition("=")[0], options, self.prog.removeprefix("altformer "))


# name -> module, one line of help; the only place where ablations is known here, by name
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("ablations.init_command", "write a folder to start from, with one experiment and one matrix"),
    "ablate": ("ablations.command", "run an ablation matrix and report on it"),
    "submit": ("ablations.submit_command", "run a matrix as a job on a Ray cluster that is elsewhere"),
    "submit tune": (
        "ablations.tuning.submit_command",
        "run the tuning plan as a job on a Ray cluster that is elsewhere",
    ),
    "logs": ("experiments.logs_command", "print what a job on a cluster has printed, or follow it"),
    "stop": ("experiments.stop_command", "end a job on a cluster; its running cells leave with a checkpoint"),
    "report": ("ablations.report_command", "write the report of a finished matrix anew, or a page over several"),
    "compare": ("ablations.compare_command", "set two cells or two arms side by side"),
    "promote": ("ablations.promote_command", "register the best cell of a matrix as a model in MLflow"),
    "status": ("ablations.status_command", "show how far a matrix is, also while it runs"),
    "gc": ("ablations.gc_command", "remove what finished matrices need no longer"),
    "tune": ("ablations.tuning.command", "run the tuning plan, its gates decided on validation"),
    "campaign": ("ablations.accuracy.command", "tune, train and publish the best numbers, in slices of minutes"),
    "train": ("experiments.train_command", "train one configuration on this machine, without Ray"),
    "evaluate": ("experiments.evaluate_command", "score a naive baseline"),
    "predict": ("experiments.predict_command", "forecast the next steps of all sensors from a file of readings"),
    "ensemble": ("experiments.ensemble_command", "average 3 to 5 trained models and score the average"),
    "distill": ("experiments.distill_command", "train a small model on the data and on a trained one's forecasts"),
    "postprocess": ("experiments.postprocess_command", "score forecasts before and after causal post-processing"),
    "data": ("experiments.data_command", "list, fetch, describe and check data sets"),
    "sync": ("experiments.sync_command", "bring to MLflow what could not be logged there"),
    "mlflow-ui": ("experiments.mlflow_ui_command", "open the MLflow pages of the runs"),
    "mlflow-server": ("experiments.mlflow_server_command", "run the MLflow server that all nodes log to"),
    "dashboard": ("experiments.dashboard_command", "show where the Ray dashboard is"),
    "cluster": ("experiments.cluster_command", "start a local cluster, or render files that start one elsewhere"),
    "monitoring": ("experiments.monitoring_command", "run Prometheus for a running Ray cluster"),
    "completion": ("ablations.completion_command", "print the script by which a shell completes these commands"),
    "schema": ("ablations.schema_command", "print the JSON Schema of a kind of YAML file, for editors"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one message on standard error and exit code 2, a full disk one and 1."""
    if argv is None:  # this process is the command
        collect_rarely()
    arguments = sys.argv[1:] if argv is None else argv
    goes_on = "the same command goes on where this one ended"
    if "--again" in arguments:
        goes_on = "what was there before stands; with --again the same command begins anew"
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print(f"\naltformer: interrupted; {goes_on}", file=sys.stderr)
        return 130
    except Terminated:
        print(f"altformer: terminated; {goes_on}", file=sys.stderr)
        return 143
    except (UserError, ClusterError) as error:  # it may quote what a user's own code or a server has said
        print(f"altformer: {redact(str(error))}", file=sys.stderr)
        return 2
    except DiskFullError as error:
        print(f"altformer: {error}", file=sys.stderr)
        return 1
    except RayGoneError as error:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.code)
    except BrokenPipeError:
        return 0  # the reader of our output has gone, as with `altformer data list | head`


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, rest = named(arguments)
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    command, parser = load_command(name)
    args, unknown = parser.parse_known_args(rest)
    if getattr(command, "ACCEPTS_FIELDS", False):
        args.fields = unknown
    elif unknown:
        raise parser.refuse(next((given for given in unknown if given.startswith("--")), unknown[0]))
    return command.run(args)


def load_command(name: str) -> tuple[Command, Parser]:
    """A command's module, and the parser of its options."""
    module, summary = COMMANDS[name]
    command: Command = importlib.import_module(module)
    parser = Parser(prog=f"altformer {name}", description=summary, allow_abbrev=False)
    command.add_arguments(parser)
    return command, parser


def named(arguments: list[str]) -> tuple[str, list[str]]:
    """The name of the command, of one word or two, and what follows it."""
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    return " ".join(arguments[:words]), arguments[words:]


_END = (
    "To begin: altformer init my-project, or altformer ablate depth --dataset simulated --profile quick --dry-run.",
    "Exit codes: 0 done, 1 something failed, 2 a mistake of yours, 3 a budget is spent, 130 and 143 interrupted.",
    "altformer COMMAND --help says more.",
)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["usage: altformer COMMAND [OPTIONS]", "", *lines, "", *_END])


if __name__ == "__main__":
    sys.exit(main())
