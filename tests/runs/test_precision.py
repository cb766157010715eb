"""Runs whose networks compute in bfloat16 while they are trained."""

import jax
import pytest

import advgan_jax
from advgan_jax import parallel, runs
from advgan_jax.data import to_float

TARGET = {"target_training.compute_dtype": "bfloat16"}
TRAINING = {"training.compute_dtype": "bfloat16"}
BLACKBOX = {
    "distilled.model": "fc10",
    "training.num_rounds": 1,
    "training.steps_per_round": 2,
    "distilled.steps_per_round": 2,
    "distilled.initial_rounds": 1,
    "queries.clean": 64,
    "queries.perturbed_per_round": 20,
    "evaluation.monitor_images": 50,
}
KINDS = {
    "target_model": ("target_model", TARGET, ["bf16"]),
    # The target model of `finished`, in float32, is not trained again.
    "advgan": ("advgan", TRAINING | {"training.num_epochs": 1}, ["bf16"]),
    "aigan": ("aigan", TRAINING, ["bf16", "bf16"]),
    # The black box, the distilled model, and the generator that attacks it.
    "blackbox": ("advgan_blackbox", BLACKBOX | TRAINING, ["f32", "bf16", "bf16"]),
}


@pytest.fixture
def steps(monkeypatch, products):
    """The dtype of each training step, in the order of their first calls."""
    found, compile_steps = [], parallel.compile_steps

    def spying(step, **options):
        seen = []

        def spied(state, batch, *frozen, **shard):
            if not seen:
                arguments = jax.tree.map(
                    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
                    (state, batch, *frozen),
                )
                kinds = products(step, *arguments)
                seen.append(kinds.pop() if len(kinds) == 1 else "mixed")
                found.extend(seen)
            return step(state, batch, *frozen, **shard)

        return compile_steps(spied, **options)

    monkeypatch.setattr(parallel, "compile_steps", spying)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_networks_compute_in_the_configured_dtype(
    get_config, finished, steps, tmp_path, kind
):
    name, changes, expected = KINDS[kind]
    if kind in ("advgan", "aigan"):
        changes = changes | {"target_model_dir": str(finished[0] / "target_models")}
    rows = runs.train(get_config(name, **changes), tmp_path)
    assert steps == expected
    assert rows[0]["clean_accuracy"] > 0.9


@pytest.mark.slow
def test_a_defence_attacks_and_learns_in_bfloat16(get_config, steps, tmp_path):
    small = {
        "target_model": "fc10",
        "target_training.defences.ensemble.sources": ("fc10",),
    }
    config = get_config(
        "defence", **TARGET, **small, **{"target_training.defence": "ensemble"}
    )
    runs.train(config, tmp_path)
    assert steps == ["bf16", "bf16"]  # the source, then the model


@pytest.mark.slow
def test_a_loaded_generator_computes_in_float32(
    get_config, digits, digits_logits_fn, products, tmp_path
):
    runs.train(get_config(**TRAINING), tmp_path)
    attack = advgan_jax.load_generator(tmp_path)
    images, labels = to_float(digits.test.images[:20]), digits.test.labels[:20]
    assert products(lambda x: attack(digits_logits_fn, x, labels), images) == {"f32"}


def test_another_dtype_is_another_run(get_config, finished):
    with pytest.raises(ValueError, match="compute_dtype is float32 there and bfloat16"):
        runs.train(get_config(**TRAINING), finished[0], resume=True)
