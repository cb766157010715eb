"""Shared fixtures: real digits, a small trained classifier, the prepared MNIST."""

import contextlib
import fcntl
import importlib.util
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import optax
import pytest

from advgan_jax import data, models, parallel, runs
from advgan_jax.training import classifier, fit

REPOSITORY = pathlib.Path(__file__).parent.parent
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if jax.__version_info__ < (0, 11):
    # Fused loops compile in a third of the time; XLA ends the process if a later
    # version does not know the flag.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
# Values that shorten a test's run, if its configuration has them.
SHORT = {
    "target_training.num_epochs": 6,
    "generator.widths": (4, 8, 8),
    "generator.num_residual": 1,
    "training.num_epochs": 2,
    "training.epochs_per_checkpoint": 1,
    "stage_one.num_epochs": 1,
    "stage_two.num_epochs": 1,
    "attacker.num_steps": 2,
    "evaluation.num_images": 100,
    "evaluation.grid_images": 2,
}


def pytest_configure(config):
    """Compile the fast tests without optimisation; give each worker (`-n`) a core.

    Most tests compile for longer than they compute. The `optimised` ones, and a test
    that is run by its name, use the programs that users get. Two processes of JAX that
    share all cores wait for each other's threads.
    """
    if config.option.markexpr in ("not slow", "slow and not optimised"):
        os.environ.setdefault("XLA_FLAGS", QUICK)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):  # there is none on macOS
        cores = sorted(os.sched_getaffinity(0))
        core = cores[int(worker.removeprefix("gw")) % len(cores)]
        os.sched_setaffinity(0, {core})


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory):
    """Compile programs that several tests share once, in all workers (`-n`) together.

    A developer's own `JAX_COMPILATION_CACHE_DIR` keeps them for the next session too.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(base / "programs")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # Commands that tests start have a cache of their own: a killed one may write a
    # program by half, which the others replace.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", f"{folder}/commands")
        yield


@pytest.fixture
def stop_before(monkeypatch):
    """Send SIGTERM before these calls of compiled steps; return the list of calls.

    `monkeypatch.undo` ends it.
    """

    def stop(*numbers):
        calls, compile_steps = [], parallel.compile_steps

        def interrupting(step, *, mode):
            run = compile_steps(step, mode=mode)

            def counted(*arguments):
                calls.append(1)
                if len(calls) in numbers:
                    os.kill(os.getpid(), signal.SIGTERM)
                return run(*arguments)

            return counted

        monkeypatch.setattr(parallel, "compile_steps", interrupting)
        return calls

    return stop


_compiled = []


def _listen(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(duration)


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.fixture(scope="session")
def compiles():
    """Expect that so many programs are compiled in a block."""

    @contextlib.contextmanager
    def expected(count):
        before = len(_compiled)
        yield
        assert len(_compiled) - before == count

    return expected


@pytest.fixture(scope="session")
def on_devices():
    """Run code on a CPU with so many devices, and expect it to succeed.

    In a process of its own: the number of devices is fixed when JAX starts.
    """

    def run(devices, code, *arguments):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
        result = subprocess.run(
            [*command, *map(str, arguments)],
            env={
                "JAX_COMPILATION_CACHE_DIR": os.environ["JAX_COMPILATION_CACHE_DIR"],
                "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
                f"--xla_force_host_platform_device_count={devices}",
                "JAX_PLATFORMS": "cpu",
                "PATH": "",
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr

    return run


@pytest.fixture(scope="session")
def products():
    """The dtypes that the convolutions and matrix products of a function take in."""

    def of(fn, *arguments):
        text = jax.jit(fn).lower(*arguments).as_text()
        operation = r"stablehlo\.(?:convolution|dot_general)\b.* : \((.*)\) ->"
        operands = ", ".join(re.findall(operation, text))
        return set(re.findall(r"x([a-z]+\d+)>", operands))

    return of


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def digits():
    dataset = data.load_dataset("digits")
    # All tests share it: one that writes into it must fail itself, and not the others.
    for split in (dataset.train, dataset.test):
        split.images.setflags(write=False)
        split.labels.setflags(write=False)
    return dataset


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Make a thing once in a test run: several workers (`-n`) share it.

    The function takes a name and `make`, which gets an empty folder. It returns the
    folder and what `make` returned, pickled in between; do not write to the folder.
    """
    own = tmp_path_factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def get(name, make):
        folder, made = base / f"once-{name}", base / f"once-{name}.pickle"
        with (base / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                content = pickle.dumps(make(folder))
                made.write_bytes(content)
            return folder, pickle.loads(made.read_bytes())

    return get


@pytest.fixture(scope="session")
def digits_logits_fn(digits, made_once):
    """A small model with over 95 % accuracy on the test digits."""
    model = models.make_classifier("small", digits.num_classes)
    optimizer = optax.adam(2e-3)

    def train(_):
        state = classifier.init_state(model, optimizer, jax.random.key(0), (8, 8, 1))
        run = parallel.compile_steps(
            classifier.make_train_step(model, optimizer), mode="jit"
        )
        plan = fit.Plan(len(digits.train), batch_size=64, num_epochs=6)
        state, _ = fit.fit(
            state, run, fit.on_device(digits.train), plan, order_key=jax.random.key(1)
        )
        return jax.device_get(state.variables)

    variables = made_once("digits_logits_fn", train)[1]
    return models.make_logits_fn(model, jax.tree.map(jnp.asarray, variables))


@pytest.fixture(scope="session")
def mnist():
    """Real MNIST, where it has been prepared."""
    directory = os.environ.get("TFDS_DATA_DIR")
    if not directory or not (pathlib.Path(directory) / "mnist").is_dir():
        pytest.skip("needs MNIST prepared in TFDS_DATA_DIR")
    return data.load_dataset("mnist", data_dir=directory)


def shorten(config):
    for path, value in SHORT.items():
        section, name = path.split(".")
        if name in config.get(section, {}):
            config[section][name] = value


@pytest.fixture(scope="session")
def get_config(repository):
    """Loads a configuration file and shortens its run."""

    def load(name="advgan", **changes):
        path = repository / "configs" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
        if name == "szegedy":  # has a size of its own for tests
            config.target_training.num_epochs = SHORT["target_training.num_epochs"]
        else:
            for part in (config, config.get("advgan"), config.get("aigan")):
                shorten(part or {})
        if "target_classes" in config:
            config.target_classes = (0, 3)
        config.update_from_flattened_dict(changes)
        return config.lock()

    return load


@pytest.fixture(scope="session")
def finished(get_config, made_once, tmp_path_factory):
    """A finished run, in a folder that this worker may change, and its rows."""
    made, rows = made_once("finished", lambda folder: runs.train(get_config(), folder))
    workdir = tmp_path_factory.mktemp("run")
    return shutil.copytree(made, workdir, dirs_exist_ok=True), rows
