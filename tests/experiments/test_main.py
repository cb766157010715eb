"""The installed command: its help, its first line, and exports."""

import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import advgan_jax
from advgan_jax import models
from advgan_jax.cli import arguments, commands, export
from advgan_jax.configs import advgan
from advgan_jax.data import to_float
from advgan_jax.generators import TrainedGenerator

# What the command would compute is replaced; nothing large may be imported until then.
LIGHT = """
    import sys
    import types

    def run():
        from absl import flags
        print(flags.FLAGS.config.dataset, flags.FLAGS.config.epsilon)

    computing = types.ModuleType("advgan_jax.cli.command")
    computing.run = run
    sys.modules["advgan_jax.cli.command"] = computing
    from advgan_jax import cli
    from advgan_jax.cli.main import main
    cli.command = computing
    main()
    large = {"jax", "tensorflow_datasets", "matplotlib", "orbax"} & set(sys.modules)
    assert not large, large
"""


@pytest.fixture
def light(tmp_path):
    """Run the command without its computation; return its lines."""

    def run(*given):
        command = [sys.executable, "-c", textwrap.dedent(LIGHT), *given]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    return run


def test_alone_and_with_help_it_lists_the_commands(light):
    lines = light()
    assert lines == light("--help")
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == list(commands.COMMANDS)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_shows_three_examples(light, name):
    lines = light(name, "--help")
    assert sum(line.startswith(f"  advgan-jax {name} ") for line in lines) == 3


def test_a_run_is_announced_before_the_large_imports(light):
    first, second = light("train", "--config=advgan:mnist", "--config.epsilon=0.2")
    version = advgan_jax.__version__
    assert first == f"advgan_jax {version}: advgan mnist in runs/advgan-mnist-C"
    assert second == "mnist 0.2"


def test_tables_choose_their_configuration_by_scale(light):
    first, _ = light("reproduce", "--table=2", "--workdir=tables")
    assert first.endswith(": reproduce mnist in tables")


def test_attacks_are_chosen_by_name(light):
    first, _ = light("attack", "--attacks=autoattack,pgd", "--workdir=chosen")
    assert first.endswith(": attacks digits in chosen")
    given = ["--resume", "--attacks=pgd, fmn", "--config=attacks:mnist"]
    expected = ["--config=attacks:mnist", "--resume", "--config.names=('pgd', 'fmn')"]
    assert arguments.with_attacks(given) == expected
    assert arguments.with_attacks(["--config=a"]) == ["--config=a"]


def test_every_configuration_belongs_to_one_command():
    taken = [name for one in commands.COMMANDS.values() for name in one.configs]
    assert set(taken) == set(arguments.names())
    assert all(arguments.describe(name) for name in taken)


def test_names_and_paths_of_configurations():
    owners = {"train": ("advgan",)}
    path = arguments.find("advgan:mnist", owners, "train")
    assert path == f"{advgan.__file__}:mnist"
    for other in ("configs/advgan.py:mnist", "own.py", "../own"):
        assert arguments.find(other, owners, "train") == other
    given = ["--resume", "--config", "advgan", "--config.epsilon=1"]
    assert arguments.split(given) == ("advgan", ["--resume", "--config.epsilon=1"])


def test_a_limit_of_memory_is_one_clear_error(tmp_path):
    """XLA would abort the process when it reaches the limit."""
    pytest.importorskip("resource", reason="Windows has no such limits")
    # A shell sets the limit: a process that runs JAX must not fork.
    limited = ["sh", "-c", 'ulimit -S -v 2097152 && exec "$@"', "sh"]
    command = [sys.executable, "-m", "advgan_jax", "train", "--config=advgan"]
    done = subprocess.run(
        [*limited, *command], cwd=tmp_path, capture_output=True, text=True
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("error: The address space of this process is limited to 2.0")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path):
    module = models.Generator(epsilon=0.3, widths=(4, 4, 4), num_residual=1)
    params = module.init(jax.random.key(0), np.zeros((1, 8, 8, 1)))["params"]
    generator = TrainedGenerator(module, params, 0.3, (8, 8, 1), 10)
    generator.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_exports_a_saved_generator(saved, digits, tmp_path):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")
    path = tmp_path / "generator.stablehlo"
    export.run([str(saved), "--format=stablehlo", f"--out={path}"])
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    images = to_float(digits.test.images[:3])
    expected = advgan_jax.load_generator(saved).perturb(images)
    np.testing.assert_allclose(program.call(images), expected, atol=1e-6)


def test_an_export_never_overwrites(saved, tmp_path, capsys):
    for form, path in (("folder", saved), ("stablehlo", saved / "generator.json")):
        with pytest.raises(SystemExit) as ended:
            export.run([str(saved), f"--format={form}", f"--out={path}"])
        assert ended.value.code == 2
        errors = capsys.readouterr().err
        assert errors.startswith(f"error: {path} exists")
        assert errors.count("\n") == 1


def test_saves_a_generator_as_a_folder(saved, tmp_path):
    export.run([str(saved), "--format=folder", f"--out={tmp_path / 'copy'}"])
    again, first = map(advgan_jax.load_generator, (tmp_path / "copy", saved))
    jax.tree.map(np.testing.assert_array_equal, again.params, first.params)
