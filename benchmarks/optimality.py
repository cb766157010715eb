"""Compare searches of five libraries with the least distances that any of them found.

    python benchmarks/optimality.py --images=100 --out=results.json
    python benchmarks/optimality.py --images=100 --model=A \
        --target_model_dir=runs/target_models

All attack the same images with the same weights and number of steps. Optimality is
AttackBench's, see `evaluation.local_optimality`: 1 for a search that is the best on
each image. Each library's own model judges its images. Medians count failures as
infinite, None in the file. Seconds are of the processor, so that a loaded machine
matters little; those of ours include compilation. C&W runs five searches, of twice the
steps. `--only` restricts the libraries.

    python -m pip install torch==2.13.0 adv-lib==0.2.8 foolbox==3.3.4 \
        torchattacks==3.5.1 adversarial-robustness-toolbox==1.20.1
"""

import time
from functools import partial

import _attacked
import _measure
import _rivals
import jax
import numpy as np
import torch
from _torch_models import from_torch, to_torch
from absl import app, flags

from advgan_jax import attacks
from advgan_jax.evaluation import (
    distances_of,
    evaluate_adversarial,
    local_optimality,
)
from advgan_jax.numbers import ORDERS

_NORMS = flags.DEFINE_list("norms", ["l2", "linf"], "Norms: l2, linf.")
_STEPS = flags.DEFINE_integer("steps", 100, "Steps of each search.")
NUM_SEARCHES = 5  # of Carlini and Wagner's attack


def searches(norm, steps):
    """Return library, attack and a function of what is attacked, for each search."""
    found = [(_measure.OURS, *rest) for rest in _ours(norm, steps)]
    for library, make in {
        "adv-lib": _adv_lib,
        "Foolbox": _foolbox,
        "torchattacks": _torchattacks,
        "ART": _art,
    }.items():
        found += [(library, *rest) for rest in make(norm, steps)]
    return found


def _ours(norm, steps):
    cw = {"num_search_steps": NUM_SEARCHES, "num_steps": 2 * steps}
    number, both = {"num_steps": steps}, ("fmn", "fab", "fab_targeted", "deepfool")
    of_norm = {
        "l2": {
            "ddn": number,
            "carlini_wagner_l2": {**cw, "initial_loss_weight": 1.0},
            "lbfgs": number,
        },
        "linf": {"carlini_wagner_linf": number},
    }[norm]
    of_both = {name: {**number, "norm": norm} for name in both}
    for name, options in {**of_norm, **of_both}.items():
        yield name, partial(_run_ours, name, options)


def _run_ours(name, options, attacked):
    arguments = (attacked.logits_fn, attacked.images, attacked.labels)
    key = jax.random.key(0)
    return np.asarray(attacks.make_attack(name, **options)(*arguments, key=key))


def _adv_lib(norm, steps):
    import adv_lib.attacks as library

    order, long = ORDERS[norm], 2 * steps
    cw = {"binary_search_steps": NUM_SEARCHES, "max_iterations": long}
    calls = {
        "fmn": partial(library.fmn, norm=order, steps=steps),
        "fab": partial(library.fab, norm=order, n_iter=steps),
        "deepfool": partial(library.df, norm=order, steps=steps),
        "trust region": partial(library.tr, p=order, iter=steps),
        "pdpgd": partial(library.pdpgd, norm=order, num_steps=steps),
    }
    if norm == "l2":
        calls |= {
            "ddn": partial(library.ddn, steps=steps, levels=None),
            "alma": partial(library.alma, distance="l2", num_steps=steps),
            "superdeepfool": partial(library.sdf, steps=steps),
            "carlini_wagner_l2": partial(library.carlini_wagner_l2, **cw),
        }
    for name, call in calls.items():
        yield name, partial(_run_torch, call)


def _run_torch(call, attacked):
    labels = torch.tensor(attacked.labels.astype(np.int64))
    return from_torch(call(attacked.module, to_torch(attacked.images), labels))


def _foolbox(norm, steps):
    import foolbox.attacks as library

    if norm == "l2":
        yield "ddn", partial(_run_foolbox, library.DDNAttack(steps=steps))
        cw = {"binary_search_steps": NUM_SEARCHES, "steps": 2 * steps}
        cw = library.L2CarliniWagnerAttack(**cw, initial_const=1.0)
        yield "carlini_wagner_l2", partial(_run_foolbox, cw)
    fmn = {"l2": library.L2FMNAttack, "linf": library.LInfFMNAttack}[norm]
    yield "fmn", partial(_run_foolbox, fmn(steps=steps))
    deepfool = {"l2": library.L2DeepFoolAttack, "linf": library.LinfDeepFoolAttack}
    yield "deepfool", partial(_run_foolbox, deepfool[norm](steps=steps))


def _run_foolbox(attack, attacked):
    import foolbox

    def call(module, images, labels):
        model = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
        return attack(model, images, labels, epsilons=None)[1]

    return _run_torch(call, attacked)


def _torchattacks(norm, steps):
    fab = {"norm": {"l2": "L2", "linf": "Linf"}[norm], "eps": 1e3, "steps": steps}
    makers = {"fab": lambda library, model: library.FAB(model, **fab)}
    if norm == "l2":
        long = 2 * steps * NUM_SEARCHES
        makers["carlini_wagner_l2"] = lambda library, model: library.CW(
            model, steps=long
        )
        makers["deepfool"] = lambda library, model: library.DeepFool(model, steps=steps)
    for name, make in makers.items():
        yield (
            name,
            lambda one, make=make: _rivals.torch_attack(
                one.module, make, one.images, one.labels
            )(),
        )


def _art(norm, steps):
    if norm == "l2":
        cw = {"binary_search_steps": NUM_SEARCHES, "max_iter": 10}
        yield "carlini_wagner_l2", partial(_run_art, "CarliniL2Method", cw)
        deepfool = {"max_iter": steps, "epsilon": 0.02}
        yield "deepfool", partial(_run_art, "DeepFool", deepfool)
    else:
        yield "carlini_wagner_linf", partial(_run_art, "CarliniLInfMethod", {})


def _run_art(name, hyper, attacked):
    arguments = (attacked.module, name, attacked.images, attacked.labels)
    return _rivals.art_attack(*arguments, **hyper)()


def measure(attacked, library, run):
    """Return the evaluation of a search, with the verdicts of its own model."""
    start = time.process_time()
    found = np.clip(run(attacked), 0, 1).astype(np.float32)
    seconds = time.process_time() - start
    shown = (attacked.images, found, attacked.labels)
    evaluation = evaluate_adversarial(attacked.logits_fn, *shown)
    if library != _measure.OURS:
        with torch.no_grad():
            predictions = attacked.module(to_torch(found)).argmax(dim=1).numpy()
        evaluation.adversarial_predictions[:] = predictions
    return evaluation, seconds


def rows_of(title, norm, steps, measured):
    """Return a row for each search so far, the best first."""
    evaluations = {name: evaluation for name, (evaluation, _) in measured.items()}
    optimality = local_optimality(evaluations, norm=norm)
    rows = []
    for library, attack in sorted(measured, key=lambda name: -optimality[name]):
        evaluation, seconds = measured[library, attack]
        median = float(np.median(distances_of(evaluation, norm)))
        rows.append(
            {
                "model": title,
                "images": evaluation.num_images,
                "norm": norm,
                "steps": steps,
                "library": library,
                "attack": attack,
                "optimality": optimality[library, attack],
                "success": float(evaluation.succeeded.mean()),
                "median": median if np.isfinite(median) else None,
                "seconds": seconds,
            }
        )
    return rows


def main(_):
    torch.set_num_threads(_measure.num_cores())
    attacked = _attacked.load().correct()
    steps = _measure.smaller(_STEPS.value, 5)
    packages = ("torch", "adv-lib", "foolbox", "torchattacks")
    environment = _measure.environment((*packages, "adversarial-robustness-toolbox"))
    every = [search for norm in _NORMS.value for search in searches(norm, steps)]
    known = {library for library, *_ in every}
    unknown = {*(_measure.ONLY.value or ())} - known
    if unknown:
        raise ValueError(f"Unknown {sorted(unknown)}. Known: {sorted(known)}.")
    finished = []
    for norm in _NORMS.value:
        measured, rows = {}, []
        for library, attack, run in searches(norm, steps):
            if library not in (_measure.ONLY.value or [library]):
                continue
            try:
                measured[library, attack] = measure(attacked, library, run)
            except Exception as error:  # a rival that fails is not the end
                print(f"{library} {attack} FAILED: {error!r}", flush=True)
                continue
            print(library, attack, norm, measured[library, attack][1], flush=True)
            rows = rows_of(attacked.title, norm, steps, measured)
            _measure.save(environment, finished + rows, [])
        finished += rows
    print(_measure.table(finished))


if __name__ == "__main__":
    app.run(main)
