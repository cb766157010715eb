"""What an installed wheel must have: all attacks and all configurations."""

import importlib
import pathlib
import pkgutil
import sys

import advgan_jax
from advgan_jax import attacks, configs

package = pathlib.Path(advgan_jax.__file__)
assert pathlib.Path(sys.prefix) in package.parents, f"imported from {package}"
assert (package.parent / "py.typed").exists()
names = [
    module.name
    for module in pkgutil.iter_modules(configs.__path__)
    if not module.name.startswith("_")
]
assert "advgan" in names, names
for name in names:
    importlib.import_module(f"advgan_jax.configs.{name}").get_config()
known = sorted(attacks.__all__)
assert {"fgsm", "pgd", "make_attack"} <= set(known), known
print(f"advgan_jax {advgan_jax.__version__}")
print("configs:", *names)
print("attacks:", *known)
