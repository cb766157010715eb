"""Test where the options for short compilations apply."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from advgan_jax import tracing
from advgan_jax.cpu.compiling import compiler_options

pytestmark = pytest.mark.skipif(
    jax.__version_info__ >= (0, 11), reason="The options are those of JAX 0.10."
)
LAZILY = """
import jax
@jax.jit
def double(x):
    from advgan_jax import tracing
    from advgan_jax.cpu.compiling import compiler_options
    assert compiler_options() is None
    return tracing.run(jax.numpy.multiply, x, 2.0)
assert double(3.0) == 6.0
from advgan_jax.cpu.compiling import compiler_options
assert compiler_options()
"""


def _triple(x):
    return 3.0 * jnp.sin(x)


def test_they_apply_outside_of_transformations():
    assert compiler_options() == {"xla_cpu_use_fusion_emitters": False}
    assert jax.jit(_triple, compiler_options=compiler_options())(0.0) == 0.0


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap])
def test_a_program_within_a_transformation_has_none(transform):
    def inner(x):
        assert compiler_options() is None
        return tracing.run(_triple, x)

    x = jnp.ones(2) if transform is jax.vmap else jnp.ones(())
    for _ in range(2):  # a program of its own, also after one with options
        assert jnp.allclose(transform(inner)(x), transform(_triple)(x), rtol=1e-6)
        assert jnp.allclose(tracing.run(_triple, x), _triple(x), rtol=1e-6)


def test_the_first_import_may_be_within_jit():
    assert not subprocess.run([sys.executable, "-c", LAZILY], timeout=120).returncode
