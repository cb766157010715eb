"""From a configuration to objects; with `runs`, the only reader of configurations."""

from advgan_jax.runs.from_config.blackbox import blackbox_attacker
from advgan_jax.runs.from_config.defences import (
    DEFENCES,
    check_defence,
    chosen_defence,
    make_target_model_step,
    source_configs,
    target_model_title,
    target_model_training,
)
from advgan_jax.runs.from_config.gans import (
    advgan_networks,
    advgan_objective,
    aigan_attacker,
    aigan_like,
    aigan_networks,
    aigan_objective,
    bind_aigan,
)
from advgan_jax.runs.from_config.loading import load_generator
from advgan_jax.runs.from_config.parts import (
    UNDEFENDED,
    bound_attack,
    fingerprint,
    make_optimizer,
    plain,
    registry_name,
    target_model_description,
    trace_attack,
    training_plan,
)
from advgan_jax.runs.from_config.precision import (
    DEFAULT_DTYPE,
    compute_dtype,
    mixed_logits_fn,
    mixed_module,
    mixed_networks,
)

__all__ = [
    "DEFAULT_DTYPE",
    "DEFENCES",
    "UNDEFENDED",
    "advgan_networks",
    "advgan_objective",
    "aigan_attacker",
    "aigan_like",
    "aigan_networks",
    "aigan_objective",
    "bind_aigan",
    "blackbox_attacker",
    "bound_attack",
    "check_defence",
    "chosen_defence",
    "compute_dtype",
    "fingerprint",
    "load_generator",
    "make_optimizer",
    "make_target_model_step",
    "mixed_logits_fn",
    "mixed_module",
    "mixed_networks",
    "plain",
    "registry_name",
    "source_configs",
    "target_model_description",
    "target_model_title",
    "target_model_training",
    "trace_attack",
    "training_plan",
]
