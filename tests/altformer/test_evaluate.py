from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from altformer.data.windows import Windows
from altformer.evaluate import model_forecaster, score, true_float32

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
KINDS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


def precision():
    """As torch's newer settings say it, which the older ones set too."""
    return tuple(kind.fp32_precision for kind in KINDS)


def test_a_cuda_device_scores_in_all_bits_and_gets_its_settings_back():
    """In a process of its own: by torch's older settings, by its newer ones, after an error."""
    code = """
        import torch
        from altformer.evaluate import true_float32
        backends = torch.backends
        kinds = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
        newer = lambda: [kind.fp32_precision for kind in kinds]
        older = lambda: (backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
        def check(settings):
            before = settings()
            try:
                with true_float32(torch.device("cuda")):
                    assert "tf32" not in newer(), newer()
                    if settings is older:
                        assert older() == (False, "highest"), older()
                    1 / 0
            except ZeroDivisionError:
                assert settings() == before, (settings(), before)
        assert older() == (True, "highest"), older()
        check(older)
        for products in ("highest", "high", "medium"):
            for convolutions in (True, False):
                torch.set_float32_matmul_precision(products)
                backends.cudnn.allow_tf32 = convolutions
                check(older)
        for values in (["tf32", "ieee", "tf32"], ["ieee", "tf32", "ieee"], ["tf32", "tf32", "tf32"]):
            for kind, value in zip(kinds, values):
                kind.fp32_precision = value
            check(newer)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_on_a_cpu_nothing_is_touched(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    before = precision()
    with true_float32(CPU):
        assert precision() == before and torch.backends.cudnn.allow_tf32


def test_every_forecast_is_made_within_it(traffic, monkeypatch):
    """Scoring and forecasting for use call the model in one place; there the device decides."""
    seen = []

    class Watching(nn.Module):
        def forward(self, reading, observed, time_of_day, day_of_week):
            seen.append(precision())
            return reading

    monkeypatch.setattr("altformer.evaluate.true_float32", lambda device, real=true_float32: real(CUDA))
    windows = Windows.of(traffic, 12, 12)
    kept = precision()[1:]
    score(model_forecaster(Watching(), windows), windows, "val", stride=20)
    assert seen and not any("tf32" in found for found in seen) and precision()[1:] == kept and "tf32" in kept


@pytest.mark.gpu
def test_a_convolution_on_a_gpu_is_that_of_a_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.manual_seed(0)
    convolution, x = nn.Conv2d(64, 64, 1), torch.randn(8, 64, 12, 50)
    with torch.inference_mode(), true_float32(CUDA):
        found = convolution.cuda()(x.cuda()).cpu()
    with torch.inference_mode():
        torch.testing.assert_close(found, convolution.cpu()(x), rtol=1e-5, atol=1e-5)
