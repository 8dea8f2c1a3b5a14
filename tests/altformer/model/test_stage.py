from __future__ import annotations

import copy

import pytest
import torch

from altformer.model.build import build_model, count_parameters
from altformer.model.stage import Stage

DEPTHS = (1, 1)


@pytest.fixture
def parts():
    return torch.randn(2, 5, 12, 16), torch.randn(2, 5, 12, 16)


@pytest.fixture
def seen():
    """What entered and left the encoders of a stage, by hooks."""

    def watched(stage, *inputs):
        found = {}
        for name in ("temporal", "spatial"):
            encoder = getattr(stage, name)
            encoder.register_forward_hook(
                lambda _module, entered, left, name=name: found.update({f"{name} in": entered[0], f"{name} out": left})
            )
        found["stage out"] = stage(*inputs)
        return found

    return watched


@pytest.mark.parametrize("impl", ["batched", "stepwise"])
def test_alternating_space_reads_what_time_made_and_both_get_the_spatial_part(impl, parts, seen, tiny, shape):
    stage, (temporal, spatial) = Stage(tiny(spatial_impl=impl), shape, DEPTHS).eval(), parts
    found = seen(stage, temporal, spatial)
    assert torch.equal(found["temporal in"], temporal + spatial)
    assert torch.equal(found["spatial in"], found["temporal out"] + spatial)
    assert torch.equal(found["stage out"], stage.fusion(found["temporal out"], found["spatial out"]))
    first = seen(Stage(tiny(spatial_impl=impl), shape, DEPTHS).eval(), temporal)
    assert torch.equal(first["temporal in"], temporal)
    assert torch.equal(first["spatial in"], first["temporal out"])


def test_parallel_both_read_the_stages_input(parts, seen, tiny, shape):
    stage, (temporal, spatial) = Stage(tiny(encoder_order="parallel"), shape, DEPTHS).eval(), parts
    for inputs in ((temporal,), (temporal, spatial)):
        found = seen(stage, *inputs)
        assert torch.equal(found["temporal in"], sum(inputs))
        assert torch.equal(found["spatial in"], sum(inputs))
        assert torch.equal(found["stage out"], stage.fusion(found["temporal out"], found["spatial out"]))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_in_a_parallel_model_space_does_not_hear_of_time(stage, build, draw):
    model, found = build(num_stages=3, encoder_order="parallel"), []
    part = model.stages[stage]
    part.spatial.register_forward_hook(lambda _module, entered, _left: found.append(entered[0]))
    model(*draw())
    part.temporal.register_forward_hook(lambda _module, _entered, left: left + 1)
    model(*draw())
    assert torch.equal(found[0], found[1])


# Shared weights


def encoders(model):
    return [encoder for stage in model.stages for encoder in (stage.temporal, stage.spatial)]


def computes_alike(model, parts):
    """Whether all stages' encoders compute the same of the same input."""
    x = parts[0]
    alike = [
        torch.equal(getattr(stage, axis)(x), getattr(model.stages[0], axis)(x))
        for stage in model.stages[1:]
        for axis in ("temporal", "spatial")
    ]
    return all(alike)


def trained(model, inputs, steps=3):
    """A few optimizer steps, in evaluation mode so that only the weights decide."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("stages", [2, 3])
def test_shared_weights_are_one_storage_saved_and_counted_once(stages, tiny, shape):
    fields = {"num_stages": stages}
    shared = build_model(tiny(share_stages=True, **fields), shape)
    apart = build_model(tiny(**fields), shape)
    lent = {id(p) for encoder in encoders(shared)[:2] for p in encoder.parameters()}
    assert all(id(p) in lent for encoder in encoders(shared) for p in encoder.parameters())
    saved = shared.state_dict()
    assert len({value.data_ptr() for value in saved.values()}) == len(saved)
    gone = {name for name in apart.state_dict() if name not in saved}
    assert gone and all(name.split(".")[2] in ("temporal", "spatial") for name in gone)
    assert {name.split(".")[1] for name in gone} == {str(stage) for stage in range(1, stages)}
    later = encoders(apart)[2:]
    assert count_parameters(apart) - count_parameters(shared) == sum(count_parameters(encoder) for encoder in later)


def test_fusions_and_decoders_are_not_shared(tiny, shape):
    model = build_model(tiny(share_stages=True), shape)
    gates = [stage.fusion.gate.weight for stage in model.stages]
    assert gates[0] is not gates[1] and not torch.equal(*gates)


def test_after_training_all_stages_still_compute_with_the_same_weights(build, draw, parts):
    model = build(share_stages=True)
    before = model.stages[1].temporal(parts[0])
    assert computes_alike(trained(model, draw()), parts)
    assert not torch.allclose(model.stages[1].temporal(parts[0]), before, atol=1e-3)
    assert not computes_alike(build(), parts)  # without sharing they differ


def test_both_stages_gradients_meet_in_the_shared_weights(build, draw):
    """The gradient of the shared weights is that of stage 1 plus that of stage 2, taken in an unshared twin."""
    shared, apart = build(share_stages=True), build()
    apart.load_state_dict(shared.state_dict(), strict=False)
    for own, lent in zip(encoders(apart)[2:], encoders(shared)[:2], strict=True):
        own.load_state_dict(lent.state_dict())
    for model in (shared, apart):
        model(*draw()).square().mean().backward()
    twin = dict(apart.named_parameters())
    for name, parameter in shared.stages[0].named_parameters():
        if name.startswith("fusion"):
            continue
        both = twin[f"stages.0.{name}"].grad + twin[f"stages.1.{name}"].grad
        torch.testing.assert_close(parameter.grad, both, atol=1e-6, rtol=1e-4)


def test_a_copy_shares_within_itself_and_not_with_its_original(build, draw, parts):
    model = build(share_stages=True)
    forecast = model(*draw())
    copied = copy.deepcopy(model)
    assert copied.stages[1].temporal is copied.stages[0].temporal
    assert copied.stages[0].temporal is not model.stages[0].temporal
    assert torch.equal(copied(*draw()), forecast)
    assert computes_alike(trained(copied, draw()), parts)
    assert torch.equal(model(*draw()), forecast)


def test_shared_encoders_follow_the_model_between_training_and_evaluation(build, draw):
    model = build(share_stages=True, dropout=0.5).train()
    assert not torch.equal(model(*draw()), model(*draw()))
    assert all(encoder.training for encoder in encoders(model))
    model.eval()
    assert torch.equal(model(*draw()), model(*draw()))
    assert model.double().stages[1].spatial.norm.weight.dtype == torch.float64
