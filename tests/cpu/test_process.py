"""Test the program cache, reuse of freed memory, and the split of the CPU."""

import os
import pathlib
import platform
import resource
import socket
import stat
import subprocess
import sys

import jax
import pytest

from advgan_jax.cpu import process


def run(code, *arguments, environment=None):
    """Run code in its own process, because its settings are global to a process."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ if environment is None else environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


COMPUTE = """
from advgan_jax.cpu import process
process.set_compilation_cache(None)
import jax
from jax import monitoring
hits = []
monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None
)
jax.jit(lambda x: x * 3 + 1)(2.0)
print(len(hits))
"""


def cached(folder):
    return list(folder.glob("*-cache"))


def test_the_second_process_finds_what_the_first_compiled(tmp_path):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    clean |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    assert run(COMPUTE, environment=clean) == "0"
    assert int(run(COMPUTE, environment=clean)) > 0
    assert cached(tmp_path / ".cache" / "advgan_jax" / "programs")


def test_a_program_that_a_killed_process_wrote_by_half_is_replaced(tmp_path):
    chosen = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    run(COMPUTE, environment=chosen)
    written = {path: path.read_bytes() for path in cached(tmp_path)}
    for path, content in written.items():
        path.write_bytes(content[: len(content) // 2])
    assert run(COMPUTE, environment=chosen) == "0"
    assert {path.name for path in cached(tmp_path)} == {path.name for path in written}
    assert int(run(COMPUTE, environment=chosen)) == len(written)


class TestCompilationCache:
    """Test the settings without a process: JAX reads them at its first computation."""

    @pytest.fixture(autouse=True)
    def settings(self, monkeypatch, tmp_path):
        """Undo all settings, and use only a temporary folder."""
        names = (
            "jax_enable_compilation_cache",
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes",
        )
        before = {name: getattr(jax.config, name) for name in names}
        for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield
        for name, value in before.items():
            jax.config.update(name, value)

    @pytest.mark.parametrize(
        ("variable", "inner"),
        [
            ("JAX_COMPILATION_CACHE_DIR", ""),
            ("XDG_CACHE_HOME", "advgan_jax/programs"),
            (None, ""),
        ],
    )
    def test_the_folder_can_be_chosen(self, monkeypatch, tmp_path, variable, inner):
        chosen = tmp_path / "chosen"
        if variable is None:
            # The argument has priority over the environment.
            elsewhere = tmp_path / "elsewhere"
            monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(elsewhere))
            process.set_compilation_cache(str(chosen))
            assert not elsewhere.exists()
        else:
            monkeypatch.setenv(variable, str(chosen))
            process.set_compilation_cache(None)
        assert jax.config.jax_compilation_cache_dir == str(chosen / inner)
        assert (chosen / inner).is_dir()
        assert not (tmp_path / "home").exists()

    def test_none_caches_nothing(self, monkeypatch, tmp_path):
        folder = tmp_path / "programs"
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
        process.set_compilation_cache("none")
        assert not jax.config.jax_enable_compilation_cache
        assert not folder.exists()
        assert not (tmp_path / "home").exists()

    def test_a_folder_that_cannot_be_made(self, monkeypatch, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        inside = str(tmp_path / "file" / "programs")
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", inside)
        process.set_compilation_cache(None)
        assert "--compilation_cache=DIR" in capsys.readouterr().err
        with pytest.raises(NotADirectoryError):
            process.set_compilation_cache(inside)

    def test_a_new_folder_is_private(self, tmp_path):
        process.set_compilation_cache(str(tmp_path / "new" / "programs"))
        mode = (tmp_path / "new" / "programs").stat().st_mode
        assert stat.S_IMODE(mode) == 0o700

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
    def test_programs_of_others_are_not_run(self, monkeypatch, tmp_path, capsys, mode):
        folder = tmp_path / "programs"
        folder.mkdir()
        folder.chmod(mode)
        with pytest.raises(PermissionError, match=f"others? .*chmod 700 {folder}"):
            process.set_compilation_cache(str(folder))
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
        process.set_compilation_cache(None)
        assert f"chmod 700 {folder}" in capsys.readouterr().err
        assert not jax.config.jax_enable_compilation_cache


PAGES = """
import resource, statistics, sys
from advgan_jax.cpu import process
process.compute_in_caller()
if sys.argv[1] == "keep":
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
    """Return whether the system uses huge pages, whose faults are not counted."""
    try:
        text = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False
    return "[always]" in text


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.skipif(pages_are_large(), reason="needs pages of 4 KiB")
def test_freed_memory_is_kept():
    # The caller may have configured the C library.
    ours = ("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    plain["JAX_PLATFORMS"] = "cpu"

    def pages(what):
        return int(run(PAGES, what, environment=plain))

    # A step allocates its 128 MB of intermediate results anew, or at most an array of
    # 8 MB that finds no place. A block's first and last page may be there already.
    # The median of eleven steps: where another thread puts a small block into a freed
    # one, the next step has to find its memory elsewhere, but only once.
    anew = 128_000_000 // resource.getpagesize()
    assert pages("leave") > 0.9 * anew
    assert pages("keep") < 0.1 * anew


class Refusing:
    """A C library that rejects the settings, and counts the calls."""

    def __init__(self):
        self.asked = 0

    def gnu_get_libc_version(self):
        raise NotImplementedError

    def mallopt(self, option, value):
        self.asked += 1
        return 0


@pytest.mark.skipif(sys.platform != "linux", reason="asks no C library elsewhere")
@pytest.mark.parametrize(("backend", "asked"), [("cpu", 1), ("gpu", 0)])
def test_warns_where_memory_cannot_be_kept(monkeypatch, capsys, backend, asked):
    libc = Refusing()
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(process.jax, "default_backend", lambda: backend)
    process.keep_memory()
    assert libc.asked == asked
    assert ("freed memory is not kept" in capsys.readouterr().err) == (asked > 0)


CUT = """
import os, sys
# The test itself may have been given fewer cores than there are.
os.sched_setaffinity(0, range(os.cpu_count()))
from advgan_jax.cpu import process
process.split_cpu(int(sys.argv[1]))
process.compute_in_caller()
import jax
print(jax.config.values["jax_cpu_enable_async_dispatch"], jax.device_count())
print("multi_thread_eigen=false" in os.environ.get("XLA_FLAGS", ""))
"""


@pytest.mark.slow
@pytest.mark.multi_device
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize(
    ("wanted", "printed"), [(1, "False 1\nFalse"), (2, "True 2\nTrue")]
)
def test_the_cpu_is_split_into_devices_of_one_thread(wanted, printed):
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    assert run(CUT, wanted, environment=clean) == printed


# The run is replaced; only the connection of processes computes.
CONNECTING = """
import sys
from advgan_jax import runs
from advgan_jax.cli import main

runs.train = lambda *args, **options: []
main.run("train", sys.argv[1:])
"""


def test_processes_connect_with_the_cache_that_was_asked_for(repository, tmp_path):
    """Ignore the environment's folder, which JAX would read only once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run(
        CONNECTING,
        f"--config={repository / 'configs' / 'advgan.py'}",
        f"--workdir={tmp_path / 'run'}",
        f"--compilation_cache={tmp_path / 'asked'}",
        *("--distributed", f"--coordinator=127.0.0.1:{port}"),
        *("--num_processes=1", "--process_id=0"),
        environment=os.environ
        | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "elsewhere")},
    )
    assert cached(tmp_path / "asked")
    assert not (tmp_path / "elsewhere").exists()
