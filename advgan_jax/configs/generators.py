r"""Compare ten AdvGANs, one for each class, with one AI-GAN for all classes.

    advgan-jax train --config=generators            # digits
    advgan-jax train --config=generators:mnist

To reuse finished runs, give their folders; `{}` is replaced by the class:

    advgan-jax train --config=generators:mnist \
        --config.target_model_dir=runs/target_models \
        --config.aigan_workdir=runs/aigan-mnist-C \
        --config.advgan_workdirs=runs/mnist-C-{}

Both methods share `epsilon`, `target_training`, `seed` and a few others. The sections
`advgan` and `aigan` have the rest: `--config.advgan.training.num_epochs=10`.

| variant | method | training | mean success |
|---|---|---|---|
| digits | AdvGAN, one for each class | 125 s on two cores | 90.2 % |
| digits | AI-GAN | 51 s on two cores | 95.5 % |
| mnist | AdvGAN, one for each class | an hour on one core | 99.5 % |
| mnist | AI-GAN | 18 minutes on one core | 98.5 % |
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan, aigan

_SHARED = (
    "dataset",
    "data_dir",
    "target_model",
    "target_model_dir",
    "target_weights",
    "epsilon",
    "parallel",
    "max_resident_bytes",
    "seed",
)


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's comparison."""
    each, every = advgan.get_config(variant), aigan.get_config(variant)
    config = ConfigDict()
    config.method = "generators"
    for name in _SHARED:
        config[name] = each.get_ref(name)
        every[name] = each.get_ref(name)
    for name in ("target_training", "evaluation"):
        config[name] = every[name] = each[name]
    config.advgan, config.aigan = each, every

    config.target_classes = tuple(range(10))
    config.advgan_workdirs = placeholder(str)  # default: trained here
    config.aigan_workdir = placeholder(str)  # default: trained here
    return config
