"""Run the command: `python -m advgan_jax` is `advgan-jax`."""

from advgan_jax.cli.main import main

if __name__ == "__main__":
    main()
