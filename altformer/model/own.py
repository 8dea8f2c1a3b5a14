"""A user's own model, as an arm like any other."""

from __future__ import annotations

import importlib
import traceback

import torch
from torch import Tensor, nn

from altformer.data.windows import Batch
from altformer.errors import UserError, unknown_name
from altformer.model.config import OwnModelConfig
from altformer.model.shape import ForecastShape


def build_own(config: OwnModelConfig, shape: ForecastShape) -> nn.Module:
    """The user's model; UserError when its class cannot be imported, is no module, or fails with the options.

    So does a forecast of another form than (b,h,n), which a loss might broadcast in silence.
    """
    module_name, _, name = config.class_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"model.class: cannot import '{module_name}' ({error}); is it installed, or its folder in PYTHONPATH?"
        ) from error
    except (Exception, SystemExit) as error:  # whatever its own code does
        raise UserError(f"model.class: '{module_name}' raised {_as_raised(error)} when it was imported") from error
    if not hasattr(module, name):
        classes = [known for known, value in vars(module).items() if _is_model(value)]
        raise unknown_name("class", name, classes, where=f"model.class: module '{module_name}'")
    made = getattr(module, name)
    if not _is_model(made):
        raise UserError(f"model.class: '{config.class_path}' is no torch.nn.Module class")
    try:
        model: nn.Module = made(shape, **config.options)
    except TypeError as error:
        raise UserError(f"model.class: {config.class_path}(shape, **options) refused its options: {error}") from error
    except Exception as error:
        raise UserError(f"model.class: {config.class_path}(shape, **options) raised {_as_raised(error)}") from error

    def check(module: nn.Module, inputs: tuple[Tensor, ...], forecast: Tensor) -> None:
        expected = (len(inputs[0]), shape.output_len, shape.num_sensors)
        if tuple(forecast.shape) != expected:
            got = tuple(forecast.shape)
            raise UserError(f"model.class: {config.class_path} returned {got}, expected (b,h,n) = {expected}")

    model.register_forward_hook(check)
    return model


def check_forward(config: OwnModelConfig, model: nn.Module, batch: Batch) -> None:
    """UserError where the user's model cannot forecast a batch (b,t,n); it is left in the mode it was in."""
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(*batch.inputs)
    except UserError:
        raise
    except Exception as error:
        if "cuda" in str(error).lower():  # it needs a GPU, which this machine may lack although the cluster has some
            return
        raise UserError(
            f"model.class: {config.class_path} cannot forecast: model(reading, observed, time_of_day, day_of_week) "
            f"raised {_as_raised(error)}"
        ) from error
    finally:
        model.train(training)


def _as_raised(error: BaseException) -> str:
    """What a user's own code has raised, and in which line of which file."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if at.filename.startswith("<") else f" ({at.filename}:{at.lineno})"  # a SyntaxError says its own
    return f"{type(error).__name__}: {error}{place}"


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)
