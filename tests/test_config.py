"""Tests of the config: checked before anything runs, frozen afterwards, and passed on by sections only."""

import ast
import dataclasses
import json
import re
from pathlib import Path

import flax.linen as nn
import helpers
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from srgan_jax import defaults, models
from srgan_jax.config import command_line, renamed
from srgan_jax.config.keys import as_dict
from srgan_jax.config.resolve import resolve
from srgan_jax.config.schema import RunConfig
from srgan_jax.losses.terms import TERMS, Term
from srgan_jax.models.generators.compact import CompactResNet
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import setup
from srgan_jax.training.network_fields import select_keys

PACKAGE = Path(__file__).parents[1] / "srgan_jax"


@pytest.fixture
def config(tiny):
    config = tiny(defaults.get_config())
    config.stages.gan.losses.perceptual.weight, config.stages.gan.losses.pixel.weight = 0.0, 1.0
    return config.unlock()


def _set(config, values):
    config.update_from_flattened_dict(values)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"stages.gan.drops": (100_000,), "stages.gan.total_steps": 200_000}, ("drops", "fractions", "write (0.5,)")),
        ({"stages.gan.drops": (-0.5,)}, ("drops", "between 0 and 1")),
        (
            {"stages.pretrain.schedule": "cosine", "stages.pretrain.warmup_steps": 9},
            ("warmup_steps=9", "total_steps=2"),
        ),
        ({"ema_decay": 1.0}, ("ema_decay=1.0", "less than 1")),
        ({"ema_decay": -0.1}, ("ema_decay=-0.1",)),
        ({"stages.pretrain.learning_rate": -1e-4}, ("learning_rate=-0.0001", "0 or more")),
        ({"stages.gan.discriminator_learning_rate": -1.0}, ("discriminator_learning_rate=-1.0",)),
        ({"stages.gan.losses.adversarial.weight": -1.0}, ("losses.adversarial.weight=-1.0",)),
        ({"stages.gan.weight_decay": -0.1}, ("weight_decay=-0.1",)),
        ({"generator_of_init_from": True, "init_from": ""}, ("init_from",)),
        ({"stages.gan.fresh_batch": True}, ("fresh_batch", "step=gan_several_updates")),
        ({"data.lr_feature": 3}, ("lr_feature=3", "str")),
        ({"stage_names": ()}, ("stage_names is empty",)),
        ({"stages.gan.pixel_weight": 1.0}, ("stages.gan.pixel_weight", "losses.pixel.weight")),
        ({"stages.gan.generator_first": True}, ("generator_first", "step=gan_generator_first")),
        ({"data.crop_pixels": 32}, ("data.crop_pixels", "'crop_px'")),
    ],
)
def test_wrong_values_are_refused(config, values, parts):
    with pytest.raises(UserError) as raised:
        for key, value in values.items():  # also keys that don't exist, as in a config file
            *sections, field = key.split(".")
            node = config
            for section in sections:
                node = node[section]
            with node.ignore_type():
                node[field] = value
        resolve(config)
    assert all(part in str(raised.value) for part in parts), raised.value


class _Maskless(nn.Module):
    """A generator without `mask`: training could use it, tiled inference couldn't."""

    scale: int = 4

    @nn.compact
    def __call__(self, lr, *, train=False):
        return lr.repeat(4, axis=1).repeat(4, axis=2) * self.param("gain", nn.initializers.ones, ())


def _keys(section):
    for name, value in section.items():
        yield section, name
        if isinstance(value, ConfigDict):
            yield from _keys(value)


VALUES = [None, "x", (), (None,), (-1,), ({},), 10**400, float("nan"), float("inf"), True, {}, b"x", object()]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:9])
def test_a_value_of_any_type_at_any_key_is_accepted_or_refused_in_a_line(value):
    config, refused = defaults.get_config(), 0
    for section, name in list(_keys(config)):
        before = section._fields[name]
        section._fields[name] = value  # past ConfigDict's own checks, as the value of a new key in a config file
        try:
            resolve(config)
        except UserError as error:  # any other exception is a traceback for the user
            assert len(str(error)) < 1000
            refused += 1
        section._fields[name] = before
    assert refused > 50


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"discriminator.head": "flat"}, ("head 'flat'", "flatten")),
        ({"discriminator.strides": "two"}, ("strides 'two'", "alternating")),
        ({"discriminator.norm": "instance"}, ("norm 'instance'", "batch")),
        ({"discriminator.initialization": "he"}, ("initialization 'he'", "lecun")),
        ({"generator.norm": "layer"}, ("norm 'layer'",)),
        ({"stages.gan.discriminator_losses.d_loss.options.label_smoothing": 1.0}, ("label_smoothing=1.0",)),
        ({"stages.gan.discriminator_losses.d_loss.options.label_smoothing": -0.1}, ("label_smoothing=-0.1",)),
        ({"stages.gan.step": "gun"}, ("step 'gun'", "gan_two_steps", "gan_keras")),
        ({"stages.gan.discriminator_losses.d_loss.term": "mse"}, ("'mse'", "bce")),
        ({"generator.name": "compact", "generator.activation": "relu"}, ("'activation'", "blocks")),
    ],
)
def test_networks_and_losses_that_cannot_be_built_are_refused(config, values, parts):
    _set(config, values)
    with pytest.raises(UserError) as raised:
        setup.build(resolve(config))
    assert all(part in str(raised.value) for part in parts), raised.value


def test_a_unet_discriminator_whose_crop_does_not_fit_is_refused(config):
    config.discriminator = ConfigDict({"name": "unet", "width": 4})
    config.data.crop_px = 36
    with pytest.raises(UserError, match="divisible by 8"):
        setup.build(resolve(config))


def test_a_generator_without_mask_is_refused_before_training(config, monkeypatch, tmp_path):
    monkeypatch.setitem(models.GENERATORS, "maskless", _Maskless)
    config.generator = ConfigDict({"name": "maskless"})
    with pytest.raises(UserError, match="mask"):
        helpers.train(config, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_keys_that_an_architecture_lacks_are_ignored_at_their_defaults():
    config = defaults.get_config()
    command_line.apply_overrides(config, ["--config.generator.name=compact", "--config.generator.width=24"])
    section = resolve(config).generator
    described = select_keys(models.GENERATORS["compact"], section, RunConfig().generator)
    assert dict(described) == {"name": "compact", "blocks": 16, "width": 24, "scale": 4}  # as in the config


@pytest.mark.parametrize("scale", [2, 4])
def test_a_scale_that_is_given_is_used_even_if_it_is_the_default(scale):
    """CompactResNet's default scale is 4, that of the class here is 2."""
    kind = type("Twice", (CompactResNet,), {"__annotations__": {"scale": int}, "scale": 2})
    config = defaults.get_config()
    command_line.apply_overrides(config, ["--config.generator.name=compact", f"--config.generator.scale={scale}"])
    described = select_keys(kind, resolve(config).generator, RunConfig().generator)
    assert models.build({"compact": kind}, described).scale == scale


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--config.stage_names=pretrain,gan", ("pretrain", "gan")),
        ("--config.stage_names=gan", ("gan",)),
        ("--config.stage_names=('gan',)", ("gan",)),
        ("--config.stages.gan.drops=0.25,0.5", (0.25, 0.5)),
        ("--config.stages.gan.drops=", ()),
        ("--config.stages.gan.losses.perceptual.options.taps=relu2_2,relu5_4", ("relu2_2", "relu5_4")),
        ("--config.ema_decay=1e-1", 0.1),
        ("--config.remat=True", True),
        ("--config.init_from=", ""),
        ("--config.stages.gan.total_steps=7", 7),
    ],
)
def test_overrides_have_the_type_of_their_key(argument, value):
    config = defaults.get_config()
    command_line.apply_overrides(config, [argument])
    found = config
    for part in argument.removeprefix("--config.").split("=")[0].split("."):
        found = found[part]
    assert found == value and type(found) is type(value)
    resolve(config)


def test_gan_options_reach_the_game_from_the_command_line():
    """Every recipe has these keys."""
    config = defaults.get_config()
    values = {
        "losses.adversarial.term": "lsgan", "losses.perceptual.weight": 0.0, "losses.pixel.weight": 1.0,
        "discriminator_losses.d_loss.options.label_smoothing": 0.1,
        "discriminator_losses.gradient_penalty.weight": 10.0, "historical_averaging": 0.5, "discriminator_every": 2,
        "step": "gan_several_updates", "discriminator_updates": 3, "fresh_batch": True, "clip_norm": 1.0,
    }  # fmt: skip
    overrides = [f"--config.stages.gan.{key}={value}" for key, value in values.items()]
    sizes = {"generator.blocks": 1, "generator.width": 4, "discriminator.width": 2, "discriminator.dense": 4}
    overrides += [f"--config.{key}={value}" for key, value in sizes.items()]
    command_line.apply_overrides(config, [*overrides, "--config.discriminator.norm=none", "--config.data.crop_px=32"])
    stage = helpers.build_stage(config, "gan")
    d = stage.game.opponent
    assert stage.draws == 4 and stage.game.discriminator_updates == 3
    assert [term.name for term in d.losses] == ["d_loss", "gradient_penalty"] and d.losses[1].weight == 10.0
    assert d.losses[0].options == {"label_smoothing": 0.1} and d.optimizer.every == 2
    assert d.optimizer.historical_averaging == 0.5 and stage.game.generator.optimizer.clip_norm == 1.0
    # Least squares: D's term on logits of 1 and 0 with labels of 0.9 and 0 is 0.1^2 / 2.
    from srgan_jax.losses import Views

    views = Views(None, None, logits=((jnp.ones((2, 1)), jnp.zeros((2, 1))),))
    assert float(d.losses[0].value(views)) == pytest.approx(0.005)


def test_resolving_keeps_all_values_and_freezes_the_config(config):
    run = resolve(config)
    assert json.loads(json.dumps(as_dict(run))) == json.loads(config.to_json())
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.seed = 1


def test_configs_of_earlier_versions_are_translated():
    stage = {"pixel": "l1", "pixel_weight": 0.5, "perceptual_taps": ["relu2_2"], "total_steps": 3}
    gan = stage | {"adversarial": "lsgan", "adversarial_weight": 0.1, "generator_first": True, "label_smoothing": 0.1}
    found = renamed.translate_keys({"seed": 1, "stages": {"pretrain": stage, "gan": gan}})
    assert found["stages"]["pretrain"]["losses"]["pixel"] == {"term": "l1", "weight": 0.5}
    assert found["stages"]["pretrain"]["step"] == "pretrain" and found["stages"]["gan"]["step"] == "gan_generator_first"
    assert found["stages"]["gan"]["losses"]["adversarial"] == {"term": "lsgan", "weight": 0.1}
    assert found["stages"]["gan"]["discriminator_losses"]["d_loss"]["options"] == {"label_smoothing": 0.1}
    assert renamed.translate_keys(found) == found


def _annotations():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                for argument in arguments:
                    if argument.annotation is not None:
                        yield path, node.name, ast.unparse(argument.annotation)


def test_few_functions_take_the_whole_config():
    takes_root = {name for _, name, annotation in _annotations() if "RunConfig" in annotation}
    allowed = {"train_and_evaluate", "build", "describe_run", "resolve"}
    assert takes_root == allowed | {"_check_intervals"}  # called by resolve
    editable = {(path.parent.name, name) for path, name, annotation in _annotations() if "ConfigDict" in annotation}
    assert {folder for folder, _ in editable} == {"config"}


def test_an_unknown_key_is_reported_with_similar_keys(config):
    with pytest.raises(UserError, match=r"pretrain\.steps.*'total_steps'"):
        command_line.apply_overrides(config, ["--config.stages.pretrain.steps=4"])
    with pytest.raises(UserError, match="'stage_names'"):
        command_line.apply_overrides(config, ["--config.stage=gan"])


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("consistency", "unknown option of the loss term 'mine' 'epsilom'; valid: distance, factor"),
        ("psnr", "psnr() got an unexpected keyword argument 'epsilom'"),  # its entry takes any option
    ],
)
def test_an_unknown_option_of_a_term_is_refused(config, term, message):
    config.stages.pretrain.losses.mine = {"term": term, "weight": 1.0, "options": {"epsilom": 1e-3}}
    with pytest.raises(UserError, match=re.escape(message)):
        setup.build(resolve(config))


def test_a_term_that_reads_undeclared_views_is_reported(config, monkeypatch):
    monkeypatch.setitem(TERMS, "greedy", Term(lambda views: views.features["relu5_4"][0], ("sr",)))
    config.stages.pretrain.losses.mine = {"term": "greedy", "weight": 1.0}
    config.stage_names = ("pretrain",)
    with pytest.raises(UserError, match="loss term 'mine', whose entry names the views sr"):
        setup.build(resolve(config))
