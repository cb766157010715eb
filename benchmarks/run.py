"""Run all benchmarks of a suite and print one table of their figures.

    python benchmarks/run.py --suite=cpu --out=benchmarks/results/cpu.json
    python benchmarks/run.py --suite=gpu --out=benchmarks/results/gpu.json
    python benchmarks/run.py --suite=cpu --only=roofline,startup --smoke

A ratio above 1 means that ours is better. The table shows the goal of each ratio: what
it must reach, and what we aim at. A figure without a rival has a goal of its own. If a
part fails, its failure is printed immediately and at the end, the other parts run, and
the exit status is 1. The GPU suite omits rivals that run on a CPU only, and adds larger
batches. The rivals:

    python -m pip install -e '.[bench]'
    python -m pip install torchattacks==3.5.1 --no-deps  # it needs old versions

The searches of adversarial-library import torchvision and visdom.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

_HERE = pathlib.Path(__file__).parent

_LARGE = "--batches=1,32,512,2048,8192,32768,131072"
# Parts with a trained model C.
_ON_C = ("training", "attacks", "time_to_success", "agreement", "least_distances")
_ON_C += ("queries", "interop", "evaluations")
_NEED_PYTORCH = ("agreement", "least_distances", "interop")
# Of AutoAttack as a whole, with one seed.
_WHOLE = ["--only=whole", "--seeds=1", "--keys=1", "--keep_memory", "--channels_last"]
# The flags of each part.
SUITES = {
    "cpu": {
        # Runs differ by a tenth, more than turns do; more turns help a little.
        "training": ["--repeats=9"],
        "generation": [],
        "attacks": ["--repeats=3"],
        "startup": ["--repeats=3"],
        "first_call": ["--repeats=1"],
        "agreement": ["--model=C", "--norms=linf", "--epsilon=0.15", *_WHOLE],
        "least_distances": ["--model=C", "--images=100"],
        "queries": ["--images=100", "--few_images=10", "--repeats=3"],
        "evaluations": ["--repeats=3"],
        "interop": ["--only=training,pgd,large"],
        "roofline": [],
        "convolutions": [],
        "growth": [],
        "time_to_success": ["--repeats=3"],
    },
    "gpu": {
        "training": [
            "--batches=128,1024,8192",
            "--also=bfloat16",
            "--also=convolutions",
        ],
        "generation": [_LARGE],
        "attacks": ["--repeats=3"],
        "startup": ["--repeats=3"],
        "roofline": ["--batch=1024"],
        "growth": ["--only=images,batch,side of the image,filters,classes of AI-GAN"],
        "time_to_success": ["--repeats=3"],
    },
}
RIVALS = {"cpu": "pytorch,foolbox,torchattacks,art,scipy", "gpu": "foolbox"}


class Goal(NamedTuple):
    """The value that a figure must reach, and the value that we aim at.

    Attributes:
      part: the part of the suite that measures the figure.
      must: the smallest acceptable value, or the largest with `at_most`.
      aim: the value that we aim at.
      key: `ratio`, or `ours` if there is no rival.
      at_most: whether smaller values are better.
    """

    part: str
    must: float
    aim: float
    key: str = "ratio"
    at_most: bool = False

    def verdict(self, figure):
        if figure[self.key] is None:
            return "missed"
        sign = -1 if self.at_most else 1
        value = sign * figure[self.key]
        reached = [value >= sign * self.must, value >= sign * self.aim]
        return ("missed", "met", "aim reached")[sum(reached)]

    def __str__(self):
        sign = "<=" if self.at_most else ">="
        return f"{sign} {self.must:g} (aim {self.aim:g})"


# The rate in float32; bfloat16 takes the place of a rival.
_IN_BATCHES = ("generate, batch 8192", "advgan_jax, bfloat16")
# The two states of memory in which PyTorch trains.
_AS_INSTALLED = ("PyTorch", "PyTorch, memory kept")
_TO_SUCCESS = "cold start to 98% success, model C"
GOALS = {
    "cpu": {
        **{
            (f"{step}, batch 128", rival): Goal("training", must, aim)
            for step, *goals in (
                ("AdvGAN step", (1.35, 2), (1.1, 1.5)),
                ("AdvGAN epoch", (1.3, 2), (1.1, 1.5)),
                ("model C step", (1.0, 1.5), (0.9, 1.2)),
                ("ResNet-32 step", (1.0, 1.3), (0.9, 1.2)),
            )
            for rival, (must, aim) in zip(_AS_INSTALLED, goals, strict=True)
        },
        ("AdvGAN step against ResNet-32, batch 128", "PyTorch"): Goal(
            "training", 1.2, 1.5
        ),
        ("generate 1000 images", "PyTorch"): Goal("generation", 1.5, 5),
        ("PGD-40, epsilon 0.3", "Foolbox"): Goal("attacks", 4, 8),
        ("PGD-40, epsilon 0.3", "torchattacks"): Goal("attacks", 1.1, 2),
        ("C&W L2, default, 64 digits", "Foolbox"): Goal("attacks", 3, 10),
        ("L-BFGS, 256 images", "SciPy"): Goal("attacks", 2, 5),
        ("AutoAttack, whole, linf, mnist C, none", "the reference"): Goal(
            "agreement", 1.5, 4
        ),
        ("Square, 1000 queries", "torchattacks"): Goal("queries", 2, 5),
        ("HopSkipJump, as art", "art"): Goal("queries", 2, 5),
        ("first step, filled cache", None): Goal("startup", 4, 2, "ours", True),
        ("default command, empty cache", None): Goal("startup", 40, 25, "ours", True),
        **{
            (f"first call of {name}, {state} cache", None): Goal(
                "first_call", must, aim, "ours", True
            )
            for name, state, must, aim in (
                ("pgd", "empty", 1.5, 1),
                ("apgd", "empty", 2.5, 1.5),
                ("lbfgs", "empty", 4, 2),
                ("pgd", "filled", 0.7, 0.4),
                ("apgd", "filled", 0.7, 0.4),
                ("lbfgs", "filled", 0.7, 0.4),
            )
        },
    },
    "gpu": {
        (_TO_SUCCESS, None): Goal("time_to_success", 30, 8, "ours", True),
        _IN_BATCHES: Goal("generation", 500_000, 2_000_000, "ours"),
    },
}


def parse(arguments):
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--suite", choices=SUITES, default="cpu")
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--out", type=pathlib.Path, help="all rows and figures, JSON")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    rivals = "libraries to compare with; without pytorch some parts are omitted"
    parser.add_argument("--rivals", help=rivals)
    parser.add_argument("--target_model_dir", help="folder of trained target models")
    parser.add_argument("--onnx", help="a generator from export_onnx.py")
    parser.add_argument("--plot", help="write the plot of growth.py to this PNG file")
    given = parser.parse_args(arguments)
    known = list(SUITES[given.suite])
    if given.rivals is not None and "pytorch" not in given.rivals.split(","):
        known = [part for part in known if part not in _NEED_PYTORCH]
    given.only = given.only.split(",") if given.only else known
    unknown = [name for name in given.only if name not in known]
    if unknown:
        parser.error(f"unknown parts {unknown} in --only; known: {known}")
    return given


def flags_of(part, given):
    """Return the flags of a part: its own, and those of the command line."""
    rivals = RIVALS[given.suite] if given.rivals is None else given.rivals
    found = [*SUITES[given.suite][part], f"--rivals={rivals}"]
    found += ["--smoke"] if given.smoke else []
    for flag, parts in (
        ("target_model_dir", _ON_C),
        ("onnx", ("generation",)),
        ("plot", ("growth",)),
    ):
        value = getattr(given, flag)
        found += [f"--{flag}={value}"] if value and part in parts else []
    return found


def run(part, given):
    """Run a part; return its environment, rows and figures, or None if it failed."""
    print(f"== {part}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "part.json"
        command = [sys.executable, str(_HERE / f"{part}.py"), f"--out={path}"]
        done = subprocess.run([*command, *flags_of(part, given)])
        if done.returncode == 0 and path.exists():
            return json.loads(path.read_text(encoding="utf8"))
    print(f"== {part} FAILED with exit status {done.returncode}", flush=True)
    return None


def line(part, figure, goals):
    """Return a figure as a row of the table."""
    goal = goals.get((figure["figure"], figure["rival"]))
    return {
        "part": part,
        **figure,
        "goal": goal and str(goal),
        "verdict": goal and goal.verdict(figure),
    }


def unmeasured(suite, parts, lines):
    """Return the goals of the parts that ran for which there is no figure."""
    found = {(one["figure"], one["rival"]) for one in lines}
    return [
        f"{name} against {rival}" if rival else name
        for (name, rival), goal in GOALS[suite].items()
        if goal.part in parts and (name, rival) not in found
    ]


def main(arguments):
    given = parse(arguments)
    done = {part: run(part, given) for part in given.only}
    lines = [
        line(part, figure, GOALS[given.suite])
        for part, found in done.items()
        if found
        for figure in found["figures"]
    ]
    failed = [part for part, found in done.items() if found is None]
    # Imported here, because it defines absl flags that only the parts parse.
    from _measure import table, write

    if lines:
        print("\n" + table(lines))
    if given.out:
        content = {"suite": given.suite, "failed": failed, "figures": lines}
        write(given.out, content | {"parts": done})
    missing = [] if given.smoke else unmeasured(given.suite, given.only, lines)
    if missing:
        print(f"NOT MEASURED: {'; '.join(missing)}", file=sys.stderr)
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
