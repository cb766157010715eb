"""What an installed wheel must have: attacks, configurations, and a working command."""

import importlib
import os
import pathlib
import pkgutil
import subprocess
import sys
import tempfile
import time

import advgan_jax
from advgan_jax import attacks, configs, data, zoo

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

command = pathlib.Path(sys.prefix) / "bin" / "advgan-jax"
folder = tempfile.mkdtemp()


def run(*arguments, status=0):
    """Run the command in an empty folder; return what it prints."""
    result = subprocess.run(
        [command, *arguments], capture_output=True, text=True, cwd=folder
    )
    assert result.returncode == status, result.stderr
    return result.stdout


assert run("--version").strip() == advgan_jax.__version__
assert all(name in run("--help") for name in ("train", "attack", "export"))
assert "advgan_blackbox" in run("train", status=2)
short = ["--config.target_training.num_epochs=2", "--config.training.num_epochs=1"]
# The first line comes before the large imports; this also compiles everything.
started = time.monotonic()
with subprocess.Popen(
    [command, "train", "--config=advgan", *short],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    cwd=folder,
) as process:
    print(process.stdout.readline().strip())
    seconds = time.monotonic() - started
    print(process.stdout.read())
assert process.returncode == 0
print(f"first line after {seconds:.1f} s")
assert seconds < 2
report = pathlib.Path(folder, "runs", "advgan-digits-small", "report.html")
assert "<script>" in report.read_text(encoding="utf8")
for entry in zoo.list():
    zoo.load(entry)
print("zoo:", *zoo.list())
run("export", "runs/advgan-digits-small", "--format=folder", "--out=saved")
generator = advgan_jax.load_generator(os.path.join(folder, "saved"))
images = data.load_dataset("digits").test.images[:3]
assert generator.perturb(images).shape == images.shape
