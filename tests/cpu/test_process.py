"""Programs are kept between processes, memory between steps; the CPU is cut."""

import importlib
import json
import os
import pathlib
import platform
import resource
import socket
import subprocess
import sys

import pytest

# The settings are global to a process, so each test has its own.
COMPUTE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from advgan_jax.cpu import process
directory = json.loads(sys.argv[2])
process.set_compilation_cache(directory)
import jax
from jax import monitoring
hits = []
monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None
)
jax.jit(lambda x: x * 3 + 1)(2.0)
print(json.dumps(len(hits)))
"""


@pytest.fixture
def compute(repository, tmp_path):
    """Runs a small program in a process; returns it, and the hits of the cache."""

    def compute(directory=None, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
        home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}
        scripts = str(repository / "experiments")
        return subprocess.run(
            [sys.executable, "-c", COMPUTE, scripts, json.dumps(directory)],
            env={**clean, **home, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return compute


def kept(folder):
    return list(folder.glob("*-cache"))


def test_the_second_process_finds_what_the_first_compiled(compute, tmp_path):
    first, second = compute(), compute()
    assert (first.returncode, first.stdout.strip()) == (0, "0"), first.stderr
    assert int(second.stdout) > 0, second.stderr
    assert kept(tmp_path / "home" / ".cache" / "advgan_jax" / "programs")


@pytest.mark.parametrize(
    "variable", ["JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", None]
)
def test_the_folder_can_be_chosen(compute, tmp_path, variable):
    chosen = tmp_path / "chosen"
    if variable is None:
        # The flag goes before the environment.
        elsewhere = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "elsewhere")}
        result = compute(str(chosen), **elsewhere)
        assert not (tmp_path / "elsewhere").exists()
    else:
        result = compute(**{variable: str(chosen)})
    assert result.returncode == 0, result.stderr
    inner = "advgan_jax/programs" if variable == "XDG_CACHE_HOME" else ""
    assert kept(chosen / inner)
    assert not (tmp_path / "home").exists()


def test_none_keeps_nothing(compute, tmp_path):
    result = compute("none", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "programs"))
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "programs").exists()
    assert not (tmp_path / "home").exists()


def test_a_folder_that_cannot_be_made(compute, tmp_path):
    (tmp_path / "file").write_text("")
    inside = str(tmp_path / "file" / "programs")
    by_default = compute(JAX_COMPILATION_CACHE_DIR=inside)
    assert by_default.returncode == 0
    assert "--compilation_cache=DIR" in by_default.stderr
    asked_for = compute(inside)
    assert asked_for.returncode != 0
    assert "NotADirectoryError" in asked_for.stderr


PAGES = """
import resource, statistics, sys
sys.path.insert(0, sys.argv[1])
from advgan_jax.cpu import process
process.compute_in_caller()
if sys.argv[2] == "keep":
    process.keep_memory()
import jax, jax.numpy as jnp

def step(x):
    y = jnp.concatenate([x, -x] * 8)  # 128 MB
    # A factor of a product is an array in memory; the mean keeps x from growing.
    means = jnp.dot(y.reshape(x.shape[0], -1), jnp.full((16000, 1), 1 / 16000))
    return means + x

step = jax.jit(step)
x = jax.block_until_ready(step(jnp.ones((2000, 1000))))
faults = []
for _ in range(12):
    x = jax.block_until_ready(step(x))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(int(statistics.median(b - a for a, b in zip(faults, faults[1:]))))
"""


def pages_are_large():
    """Whether the system fetches memory in pages too large to be counted."""
    try:
        text = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False
    return "[always]" in text


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.skipif(pages_are_large(), reason="needs pages of 4 KiB")
def test_freed_memory_is_kept(repository):
    # The caller may have set the C library himself.
    ours = ("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(ours)}

    def pages(what):
        scripts = str(repository / "experiments")
        result = subprocess.run(
            [sys.executable, "-c", PAGES, scripts, what],
            env=plain | {"JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        return int(result.stdout)

    # A step fetches its 128 MB of intermediate results anew, or at most an array of
    # 8 MB that finds no place. A block's first and last page may be there already.
    # The median of eleven steps: where another thread puts a small block into a freed
    # one, the next step has to find its memory elsewhere, but only once.
    anew = 128_000_000 // resource.getpagesize()
    assert pages("leave") > 0.9 * anew
    assert pages("keep") < 0.1 * anew


class Refusing:
    """A C library that keeps nothing, and counts who asks."""

    def __init__(self):
        self.asked = 0

    def gnu_get_libc_version(self):
        raise NotImplementedError

    def mallopt(self, option, value):
        self.asked += 1
        return 0


@pytest.fixture
def process(repository, monkeypatch):
    """The module, which is a script's neighbour and no package's."""
    monkeypatch.syspath_prepend(str(repository / "experiments"))
    return importlib.import_module("advgan_jax.cpu.process")


@pytest.mark.skipif(sys.platform != "linux", reason="asks no C library elsewhere")
@pytest.mark.parametrize(("backend", "asked"), [("cpu", 1), ("gpu", 0)])
def test_who_cannot_keep_memory_is_told(monkeypatch, capsys, process, backend, asked):
    libc = Refusing()
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(process.jax, "default_backend", lambda: backend)
    process.keep_memory()
    assert libc.asked == asked
    assert ("freed memory is not kept" in capsys.readouterr().err) == (asked > 0)


CUT = """
import os, sys
sys.path.insert(0, sys.argv[1])
# The test itself may have been given fewer cores than there are.
os.sched_setaffinity(0, range(os.cpu_count()))
from advgan_jax.cpu import process
process.split_cpu(int(sys.argv[2]))
process.compute_in_caller()
import jax
print(jax.config.values["jax_cpu_enable_async_dispatch"], jax.device_count())
print("multi_thread_eigen=false" in os.environ.get("XLA_FLAGS", ""))
"""


@pytest.mark.multi_device
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize(
    ("wanted", "printed"), [(1, "False 1\nFalse"), (2, "True 2\nTrue")]
)
def test_the_cpu_is_cut_into_devices_of_one_thread(repository, wanted, printed):
    scripts = str(repository / "experiments")
    result = subprocess.run(
        [sys.executable, "-c", CUT, scripts, str(wanted)],
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.strip() == printed, result.stderr


# The run is replaced; what is left computes when processes connect.
CONNECTING = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from absl import app
import _command
from advgan_jax import runs

runs.train = lambda *args, **options: []
app.run(_command.main)
"""


def test_processes_connect_with_the_cache_that_was_asked_for(repository, tmp_path):
    """Not with the one of the environment, at which JAX would look once and for all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = subprocess.run(
        [
            *(sys.executable, "-c", CONNECTING, str(repository / "experiments")),
            f"--config={repository / 'configs' / 'advgan.py'}",
            f"--workdir={tmp_path / 'run'}",
            f"--compilation_cache={tmp_path / 'asked'}",
            *("--distributed", f"--coordinator=127.0.0.1:{port}"),
            *("--num_processes=1", "--process_id=0"),
        ],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "elsewhere")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert kept(tmp_path / "asked")
    assert not (tmp_path / "elsewhere").exists()
