from __future__ import annotations

import pytest
import torch

from altformer.model.bridge import SKIPS, Bridge, CrossStageAttention

TOKENS = 6


@pytest.fixture
def way():
    """An embedding and the outputs of two stages."""
    embedded, first, second = torch.randn(3, 2, 5, TOKENS, 16)
    return embedded, [first, second]


def test_without_links_the_decoder_alone_leads_on(way, tiny):
    bridge, (embedded, outputs) = Bridge(tiny(), TOKENS, 2).eval(), way
    for made, decoded in zip(bridge(embedded, outputs), bridge.decoder(outputs[-1]), strict=True):
        assert torch.equal(made, decoded)


def test_the_skips_are_the_written_out_formulas(way, tiny):
    embedded, outputs = way
    for kind in SKIPS:
        bridge = Bridge(tiny(stage_skip=kind), TOKENS, 2).eval()
        temporal, spatial = bridge.decoder(outputs[-1])
        expected = {
            "none": lambda part=temporal, _bridge=bridge: part,
            "add": lambda part=temporal, _bridge=bridge: part + embedded + outputs[-1],
            "concat": lambda part=temporal, bridge=bridge: (
                torch.cat([part, embedded, outputs[-1]], -1) @ bridge.skip.project.weight.T + bridge.skip.project.bias
            ),
        }[kind]()
        made, also = bridge(embedded, outputs)
        torch.testing.assert_close(made, expected)
        assert torch.equal(also, spatial)


@pytest.mark.parametrize("kind", ["add", "concat"])
def test_the_skip_reaches_stage_two(kind, build, draw):
    """The formula of the whole model: embedding x and stage 1's fusion F join the decoder's temporal part."""
    model = build(stage_skip=kind)
    (embedding,), (stage_1, stage_2), ((between,),) = model.embeddings, model.stages, model.decoders
    x = embedding(*draw())
    fused = stage_1(x)
    td, sd = between.decoder(fused)
    td = td + x + fused if kind == "add" else between.skip.project(torch.cat([td, x, fused], -1))
    t2 = stage_2.temporal(td + sd)
    s2 = stage_2.spatial(t2 + sd)
    torch.testing.assert_close(model(*draw()), model.head(stage_2.fusion(t2, s2)))


@pytest.mark.parametrize(("kind", "reaches"), [("none", False), ("add", True), ("concat", True)])
def test_past_stage_one_and_the_decoder_only_a_skip_carries_the_readings(kind, reaches, build, draw):
    """Stage 1's output is held: what still moves the forecast came around it."""
    model, (reading, *rest) = build(stage_skip=kind), draw()
    held = model.stages[0](model.embeddings[0](reading, *rest)).detach()
    model.stages[0].register_forward_hook(lambda *_: held)
    moved = model(reading + 1, *rest) - model(reading, *rest)
    assert bool((moved.abs() > 1e-4).any()) is reaches
    if not reaches:
        assert not moved.any()


@pytest.mark.parametrize(("kind", "learns"), [("none", False), ("add", True), ("concat", True)])
def test_by_a_skip_the_embedding_and_stage_one_also_learn_past_the_decoder(kind, learns, way, tiny):
    bridge, (embedded, outputs) = Bridge(tiny(stage_skip=kind), TOKENS, 2).eval(), way
    bridge.decoder.register_forward_pre_hook(lambda _module, entered: (entered[0].detach(),))
    for source in (embedded.requires_grad_(True), outputs[-1].requires_grad_(True)):
        temporal, _ = bridge(embedded, outputs)
        (gradient,) = torch.autograd.grad(temporal.square().sum(), source, allow_unused=True)
        assert (gradient is not None and bool((gradient != 0).any(-1).all())) is learns


# Attention to the stages before


def test_attention_to_earlier_stages_is_the_written_out_formula(way, tiny):
    _, outputs = way
    earlier, part = CrossStageAttention(tiny(), 2).eval(), torch.randn(2, 5, TOKENS, 16)
    layer, heads, width = earlier.attention, 4, 4
    for b, n in [(0, 0), (1, 3)]:
        named = [output[b, n] + earlier.stage_names[stage] for stage, output in enumerate(outputs)]
        key, value = layer.key_value(torch.cat(named)).chunk(2, -1)
        query = layer.query(part[b, n])
        read = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            weights = torch.softmax(query[:, own] @ key[:, own].T / width**0.5, -1)
            read.append(weights @ value[:, own])
        expected = part[b, n] + layer.out(torch.cat(read, -1))
        torch.testing.assert_close(earlier(part, outputs)[b, n], expected)


def test_attention_to_earlier_stages_tells_them_apart_and_stays_with_its_sensor(way, tiny):
    _, (first, second) = way
    earlier, part = CrossStageAttention(tiny(), 2).eval(), torch.randn(2, 5, TOKENS, 16)
    with torch.no_grad():
        earlier.stage_names.mul_(50)
    assert not torch.allclose(earlier(part, [first, second]), earlier(part, [second, first]), atol=1e-3)
    changed = first.clone()
    changed[1, 2, 0] += 1
    difference = (earlier(part, [changed, second]) - earlier(part, [first, second])).abs().amax(-1)
    assert (difference[1, 2] > 0).all()
    assert (difference > 0).sum() == TOKENS


@pytest.mark.parametrize("attends", [True, False])
def test_stage_three_hears_of_stage_one_past_stage_two_only_by_that_attention(attends, build, draw):
    """With stage 2's input cut off, the way from stage 1 to stage 3 leads through the attention alone."""
    model, kept = build(num_stages=3, cross_stage_attention=attends), {}
    model.stages[0].register_forward_hook(lambda _module, _entered, left: kept.update(first=left))
    model.stages[1].register_forward_pre_hook(lambda _module, entered: tuple(x.detach() for x in entered))
    model.stages[2].register_forward_pre_hook(lambda _module, entered: kept.update(third=entered[0]))
    model(*draw())
    third = kept["third"]
    (gradient,) = torch.autograd.grad((third * torch.randn_like(third)).sum(), kept["first"], allow_unused=True)
    if attends:
        assert (gradient.abs().amax(-1) > 0).all()
    else:
        assert gradient is None


def test_stage_two_hears_of_stage_one_also_past_the_decoder(build, draw):
    for attends in (True, False):
        model, kept = build(cross_stage_attention=attends), {}
        model.stages[0].register_forward_hook(lambda _module, _entered, left, kept=kept: kept.update(first=left))
        model.decoders[0][0].decoder.register_forward_pre_hook(lambda _module, entered: (entered[0].detach(),))
        model.stages[1].register_forward_pre_hook(lambda _module, entered, kept=kept: kept.update(second=entered[0]))
        model(*draw())
        (gradient,) = torch.autograd.grad(kept["second"].square().sum(), kept["first"], allow_unused=True)
        assert (gradient is not None and bool(gradient.any())) is attends
