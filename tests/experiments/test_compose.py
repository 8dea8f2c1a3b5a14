from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from altformer.baselines.config import StaeformerConfig, StidConfig
from altformer.config import Config
from altformer.errors import UserError
from experiments.compose import HERE, compose, find_experiment, parse_setting, settings_over
from experiments.fields import leaf_paths, locate

BASE = HERE / "METR-LA_alternating.yaml"
SHIPPED = sorted(path for path in HERE.glob("*.yaml") if not path.name.startswith(("alternating", "tuning")))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments_compose(path):
    config = compose(path)
    assert config.dataset.name == path.stem.removesuffix("_optimized").removesuffix("_alternating")


def test_the_baseline_is_the_guides():
    config = compose(BASE)
    model, training = config.model, config.training
    assert (model.embed_dim, model.num_heads, model.mlp_ratio, model.fusion_type, model.dropout) == (
        96,
        4,
        4,
        "gated",
        0.1,
    )
    depths = [getattr(model, f"{kind}_depth_{stage}") for stage in (1, 2) for kind in ("temporal", "spatial")]
    assert depths == [2, 2, 2, 2]
    assert (training.lr, training.weight_decay, training.batch_size, training.epochs) == (5e-4, 1e-4, 32, 150)
    assert (config.dataset.input_len, config.dataset.output_len) == (12, 12)


def test_the_optimized_experiment_is_phase1_optimized():
    config = compose(HERE / "METR-LA_alternating_optimized.yaml")
    assert config.training.scheduler.model_dump() | {"type": "OneCycleLR", "max_lr": 1e-3, "pct_start": 0.3} == (
        config.training.scheduler.model_dump()
    )
    assert (config.model.fusion_type, config.training.weight_decay, config.model.dropout) == ("cross_attn", 3e-4, 0.12)
    assert (config.model.temporal_depth_2, config.model.spatial_depth_1) == (3, 1)


def test_precedence_base_dataset_profile_set_arm():
    quick = compose(BASE, profile="quick")
    assert quick.model.embed_dim != 96 and quick.training.steps_per_epoch is not None
    layered = compose(
        BASE, dataset="PEMS08", profile="quick", settings={"embed_dim": 40, "dropout": 0.2}, arm={"dropout": 0.3}
    )
    assert (layered.dataset.name, layered.model.embed_dim, layered.model.dropout) == ("PEMS08", 40, 0.3)
    assert layered.dataset.test_stride == quick.dataset.test_stride
    assert compose(BASE, profile="quick", varied=["embed_dim"]).model.embed_dim == 96


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("lr=1e-3", "training.lr", 1e-3),
        ("training.lr=0.002", "training.lr", 2e-3),
        ("scheduler=OneCycleLR", "training.scheduler.type", "OneCycleLR"),
        ("scheduler={type: MultiStepLR, milestones: [3, 4]}", "training.scheduler.milestones", (3, 4)),
        ("use_adaptive=false", "model.use_adaptive", False),
        ("seed=7", "seed", 7),
    ],
)
def test_any_field_by_leaf_or_path(text, path, value):
    found = compose(BASE, settings=dict([parse_setting(text)]))
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_a_field_can_be_set_below_one_that_was_off(tmp_path):
    """As in every cell's own config.yaml, which writes out what is off."""
    path = tmp_path / "cell.yaml"
    path.write_text(yaml.safe_dump(compose(BASE).model_dump(mode="json")))
    config = compose(path, settings={"teacher": "0123456789abcdef", "training.optimizer.lr_groups.head": 0.002})
    assert config.training.distillation.teacher == "0123456789abcdef"
    assert config.training.optimizer.lr_groups.head == 0.002


def test_a_choices_own_field_can_be_set_after_it():
    config = compose(BASE, settings={"scheduler": "OneCycleLR", "max_lr": 0.01})
    assert config.training.scheduler.max_lr == 0.01


MISTAKES = {
    "unknown leaf": ({"embed_dm": 1}, "unknown field 'embed_dm'; did you mean 'embed_dim'"),
    "unknown path": ({"training.lrr": 1}, "did you mean 'lr'"),
    "unknown section": ({"modle.lr": 1}, "unknown field 'modle.lr'"),
    "wrong type": ({"epochs": "many"}, "training.epochs: takes a whole number, got 'many'"),
    "out of range": ({"dropout": 1.5}, "model.dropout: .*1.5"),
    "not of this choice": ({"max_lr": 1}, "max_lr does not apply to training.scheduler 'constant'"),
    "unknown choice": ({"scheduler": "Onecycle"}, "OneCycleLR"),
    "unknown key of a choice": ({"scheduler": {"type": "OneCycleLR", "max_lrr": 1}}, "did you mean 'max_lr'"),
    "unknown model": ({"model": "stidd"}, "unknown type of model 'stidd'; did you mean 'stid'"),
    "not of this model": ({"model.type": "stid", "patch_len": 3}, "model.patch_len does not apply to model 'stid'"),
    "not of our model": ({"series_dim": 3}, "model.series_dim does not apply to model 'altformer'"),
    "unknown field of a model": ({"model": {"type": "stid", "num_layer": 3}}, "did you mean 'num_layers'"),
    "no class": ({"model": {"class": "mine.MyModel"}}, "model.class_path: .*'mine.MyModel'"),
    "do not fit": ({"embed_dim": 50, "num_heads": 4}, "embed_dim must be divisible by num_heads"),
    "not finite": ({"lr": float("nan")}, "training.lr"),
}


@pytest.mark.parametrize(("given_settings", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_name_rule_value_and_place(given_settings, message):
    with pytest.raises(UserError, match=message) as caught:
        compose(BASE, settings=given_settings)
    assert "--set" in str(caught.value) or "model:" in str(caught.value)


@pytest.mark.parametrize(
    "given_model",
    ["stid", {"type": "stid"}, {"type": "stid", "num_layers": 3}],
)
@pytest.mark.parametrize("profile", ["quick", "full"])
def test_another_model_comes_with_its_own_fields_alone(given_model, profile):
    """What base and profile say of the Transformer is not carried over; data and training are."""
    config = compose(BASE, profile=profile, arm={"model": given_model})
    assert config.model == StidConfig()
    ours = compose(BASE, profile=profile)
    assert (config.training, config.dataset) == (ours.training, ours.dataset)


def test_a_model_in_the_base_is_not_resized_by_the_profile(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: METR-LA_alternating.yaml\nmodel: {type: staeformer, num_layers: 2}\n")
    config = compose(path, profile="quick")
    assert config.model == StaeformerConfig(num_layers=2)
    assert config.training == compose(BASE, profile="quick").training


def test_naming_the_same_model_again_keeps_its_fields():
    config = compose(BASE, settings={"embed_dim": 48}, arm={"model": {"type": "altformer", "dropout": 0.2}})
    assert (config.model.embed_dim, config.model.dropout, config.model.num_heads) == (48, 0.2, 4)


ONE_CYCLE = {"scheduler": {"type": "OneCycleLR", "max_lr": 0.01}}
GROUPS = {"optimizer": {"type": "AdamW", "lr_groups": {"encoder": 1e-3}}}


@pytest.mark.parametrize(
    ("below", "above", "message"),
    [
        (ONE_CYCLE, {"lr": 0.1}, "arm lr: lr has no effect under OneCycleLR, whose peak is max_lr"),
        ({"scheduler": "OneCycleLR"}, {"training.lr": 0.1}, "lr has no effect under OneCycleLR"),
        (GROUPS, {"lr": 0.1}, "arm lr: lr has no effect under lr_groups"),
        ({"lr": 0.1}, ONE_CYCLE, None),
        (ONE_CYCLE, {"lr": 0.1, "scheduler": "constant"}, None),
        ({"optimizer": "Adam"}, {"lr": 0.1}, None),
        ({"lr_groups": None}, {"lr": 0.1}, None),
    ],
)
def test_a_rate_that_would_have_no_effect_is_refused(below, above, message):
    """Else a search over it would train equal models under different names."""
    if message is None:
        compose(BASE, settings=below, arm=above)
        return
    with pytest.raises(UserError, match=message):
        compose(BASE, settings=below, arm=above)


def test_the_guides_command_with_a_rate_over_one_cycle_is_refused():
    with pytest.raises(UserError, match="set that, or the scheduler"):
        compose(HERE / "METR-LA_alternating_optimized.yaml", settings={"lr": 0.001})


@pytest.mark.parametrize("end", ["scheduler.type", "lr_groups.head", "optimizer.lr_groups.head"])
def test_an_end_of_a_path_stands_for_it(end):
    assert locate(end).startswith("training.") and locate(end).endswith(f".{end}")


def test_a_users_own_class_takes_all_else_as_its_options():
    own = {"class": "my_package.module:MyModel", "hidden": 3}
    model = compose(BASE, arm={"model": own, "model.options.depth": 2}).model
    assert (model.type, model.class_path, model.options) == ("own", own["class"], {"hidden": 3, "depth": 2})


def test_a_mistake_in_a_file_names_file_and_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: METR-LA_alternating.yaml\nmodel:\n  embed_dim: 48\n  num_head: 4\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:4") + ".*num_heads"):
        compose(path)


def test_the_guides_keys_load_unchanged(tmp_path):
    path = tmp_path / "guide.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "dataset": "METR-LA",
                "embed_dim": 96,
                "num_heads": 4,
                "batch_size": 64,
                "use_positional_encoding": False,
                "positional_encoding_type": "sincos",
                "optimizer": {"type": "AdamW"},
                "scheduler": {"type": "OneCycleLR", "max_lr": 0.001, "pct_start": 0.3, "anneal_strategy": "cos"},
            }
        )
    )
    config = compose(path)
    assert config.model.positional_encoding_type == "none"
    assert config.training.batch_size == 64 and config.training.scheduler.type == "OneCycleLR"


def test_files_of_the_user_are_named_from_the_file_or_folder_they_are_named_in(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "base.yaml").write_text("base: alternating.yaml\ndataset: {path: a.csv, graph: sub/g.csv}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.yaml").write_text("base: ../base.yaml\nembed_dim: 48\n")
    source = compose(Path("../sub/x.yaml")).dataset
    assert (source.path.resolve(), source.graph.resolve()) == (tmp_path / "a.csv", tmp_path / "sub/g.csv")
    given = compose(tmp_path / "sub/x.yaml", settings={"dataset.path": "b.csv", "graph": None}).dataset
    assert (given.path, given.graph) == (tmp_path / "elsewhere" / "b.csv", None)
    layer = settings_over({"path": "c.csv"}, str, tmp_path, {"graph": "/d/g.csv"})
    source = compose(tmp_path / "base.yaml", settings=layer).dataset
    assert (source.path, source.graph) == (tmp_path / "c.csv", Path("/d/g.csv"))
    again = tmp_path / "config.yaml"
    again.write_text(yaml.safe_dump(compose(Path("../base.yaml")).model_dump(mode="json")))
    assert compose(again).dataset.path.resolve() == tmp_path / "a.csv", "so that a record can be repeated"


def test_what_is_missing_is_named_with_the_experiment(tmp_path):
    (tmp_path / "x.yaml").write_text("lr: 0.1\n")
    with pytest.raises(UserError, match=r"x\.yaml: 'dataset' is missing"):
        compose(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "value", ["{a: 1, a: 2}", "[1, 2", "!!python/name:os.system", "[" * 300, "2020-13-45", "9" * 5000]
)
def test_a_value_that_cannot_be_read_is_named_with_its_option(value):
    with pytest.raises(UserError, match=r"^--set lr") as caught:
        parse_setting(f"lr={value}")
    assert len(str(caught.value)) < 200


def test_a_users_own_file_as_data_set(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: alternating.yaml\ndataset: {path: my.csv, freq: 15min, split: [7, 1, 2], null_value: 0}\n")
    config = compose(path)
    assert (config.dataset.path, config.dataset.freq, config.dataset.input_len) == (tmp_path / "my.csv", "15min", 12)
    assert compose(path, dataset="PEMS08").dataset.path is None


def test_the_data_set_of_another_experiments_file(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: alternating.yaml\ndataset: {path: my.csv, input_len: 24}\nmodel: {embed_dim: 8}\n")
    config = compose(BASE, dataset=str(mine), profile="quick")
    assert (config.dataset.name, config.dataset.path) == (None, tmp_path / "my.csv")
    assert (config.dataset.input_len, config.dataset.output_len) == (24, 12), "the base's windows, but its own before"
    assert config.model == compose(BASE, profile="quick").model, "only the data set is taken"
    mine.write_text("dataset: PEMS08\n")
    assert compose(BASE, dataset=str(mine)).dataset == compose(BASE, dataset="PEMS08").dataset
    mine.write_text("base: alternating.yaml\n")
    with pytest.raises(UserError, match=r"mine.yaml: names no data set"):
        compose(BASE, dataset=str(mine))


def test_an_experiment_that_is_not_there_is_likely_one_beside(tmp_path):
    (tmp_path / "my.yaml").touch()
    with pytest.raises(UserError, match=r"did you mean 'my\.yaml'"):
        find_experiment("mine.yaml", beside=tmp_path)


def test_bases_that_name_each_other_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(UserError, match="does one name itself"):
        compose(tmp_path / "a.yaml")


def test_unknown_experiment_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'METR-LA_alternating\.yaml'"):
        find_experiment("METR-LA_alternatin")


def test_leaf_names_stand_for_one_field_each():
    paths = leaf_paths()
    assert len(set(paths.values())) == len(paths)
    assert all(locate(path) == path and locate(leaf) == path for leaf, path in paths.items())


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "embed_dim": st.sampled_from([8, 48, 96]),
            "dropout": st.floats(0, 0.9),
            "lr": st.floats(1e-4, 1),
            "scheduler": st.sampled_from(["constant", "MultiStepLR", "CosineAnnealingLR", "OneCycleLR"]),
            "patch_len": st.sampled_from([1, 3, 6, 12]),
            "patch_sizes": st.sampled_from([[1], [1, 2], [1, 2, 4]]),
            "stage_skip": st.sampled_from(["none", "add", "concat"]),
            "use_adaptive": st.booleans(),
            "seed": st.integers(0, 2**31),
        },
    )
)
def test_a_dumped_configuration_composes_to_itself(tmp_path_factory, values):
    config = compose(BASE, settings=values)
    path = Path(tmp_path_factory.mktemp("dump")) / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert compose(path) == config
    assert Config.model_validate_json(config.model_dump_json()) == config
