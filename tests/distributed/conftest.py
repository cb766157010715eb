"""Run programs in their own processes, with a chosen number of devices."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent


class Programs:
    """One program in one or several processes, running."""

    def __init__(self, commands, *, devices, folder):
        flags = os.environ.get("XLA_FLAGS", "")
        flags += f" --xla_force_host_platform_device_count={devices}"
        # No other variables: an allocator's settings can stall threads.
        environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PATH": ""}
        for name in ("PYTHONPATH", "JAX_COMPILATION_CACHE_DIR"):
            if name in os.environ:
                environment[name] = os.environ[name]
        self.processes, self._logs = [], []
        for number, command in enumerate(commands):
            self._logs.append(folder / f"process-{number}.log")
            with self._logs[-1].open("w") as file:
                process = subprocess.Popen(
                    [sys.executable, *map(str, command)],
                    env=environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            self.processes.append(process)

    def output(self):
        return "\n".join(log.read_text(errors="replace") for log in self._logs)

    def running(self):
        return all(process.poll() is None for process in self.processes)

    def codes(self, timeout):
        """Waits for all, and kills those that still run after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            for process in self.processes:
                process.wait(max(0.1, deadline - time.monotonic()))
        finally:
            self.kill()
        return [process.returncode for process in self.processes]

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def launch(tmp_path_factory):
    """Starts commands and kills them at the end of the test."""
    started = []

    def launch(commands, devices):
        folder = tmp_path_factory.mktemp("logs")
        started.append(Programs(commands, devices=devices, folder=folder))
        return started[-1]

    yield launch
    for programs in started:
        programs.kill()


@pytest.fixture(scope="session")
def complete(tmp_path_factory):
    """Runs a program of this folder to its end."""

    def complete(name, *arguments, processes=1, devices=1):
        address = free_address()
        commands = [
            ["-W", "error", HERE / f"{name}.py", address, processes, i, *arguments]
            for i in range(processes)
        ]
        folder = tmp_path_factory.mktemp("logs")
        programs = Programs(commands, devices=devices, folder=folder)
        codes = programs.codes(timeout=500)
        assert not any(codes), programs.output()

    return complete


@pytest.fixture
def start_run(launch, repository):
    """Starts the training of a very small classifier by the command line."""
    command = [
        repository / "experiments" / "train.py",
        f"--config={repository / 'configs' / 'target_model.py'}",
        "--config.target_model=fc10",
    ]

    def start_run(workdir, *flags, processes=1):
        flags = [f"--workdir={workdir}", *flags]
        if (workdir / "config.json").exists():
            flags.append("--resume")
        commands = [[*command, *flags]]
        if processes > 1:
            address = free_address()
            flags += ["--distributed", f"--coordinator={address}"]
            flags.append(f"--num_processes={processes}")
            commands = [
                [*command, *flags, f"--process_id={i}"] for i in range(processes)
            ]
        return launch(commands, devices=1)

    return start_run
