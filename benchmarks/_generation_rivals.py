"""The child process of `generation` that makes images with PyTorch or ONNX Runtime."""

import json
import sys
import time

import _success

EPSILON = 0.3


def pytorch():
    """Return functions that make a generator and convert images, without imports."""
    import torch
    from _torch_advgan import generator, perturb
    from _torch_models import to_torch

    def make():
        network = generator()

        @torch.no_grad()
        def generate(images):
            return perturb(network, images, EPSILON)[0]

        return generate

    return make, to_torch


def onnx(path):
    import onnxruntime

    def make():
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]

    return make, lambda images: images


def main():
    settings = json.loads(sys.argv[1])
    make, convert = onnx(settings["onnx"]) if settings["onnx"] else pytorch()
    batches = [convert(batch) for batch in _success.random_batches(settings)]
    start = time.perf_counter()
    generate = make()
    generate(batches[0])
    print(json.dumps(time.perf_counter() - start))
    _success.in_turns(lambda: [generate(batch) for batch in batches])


if __name__ == "__main__":
    main()
