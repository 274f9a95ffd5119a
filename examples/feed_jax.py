"""A JAX training loop over a calostream pipeline.

    python examples/feed_jax.py pipelines/feed-lcd.yaml --epochs 2 --batch 128 --set data=data/lcd/files

`on_device` hands the next batch to the device while the step before is still being computed. Put `last: drop` into the pipeline's
`feed` (or choose a batch that divides the number of events): a batch of another size is compiled anew.
"""

import collections
import sys

import jax
import jax.numpy as jnp
from feed_pyarrow import Feed


def on_device(batches, names, ahead=2):
    """The arrays of these names, `ahead` batches of them on their way to the device."""
    waiting = collections.deque()
    for batch in batches:
        waiting.append(jax.device_put({name: batch[name] for name in names}))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def loss(weights, batch):
    # How deep, how far out, and how much: sums over the layers and over the face of the calorimeter.
    image = batch["ecal"]
    features = jnp.concatenate([image.sum((1, 2)), image.sum(3).reshape(len(image), -1)], 1)
    hidden = jax.nn.relu(jnp.log1p(100 * jnp.abs(features)) @ weights["a"] + weights["b"])
    scores = jax.nn.log_softmax(hidden @ weights["c"] + weights["d"])
    return -jnp.take_along_axis(scores, batch["label"].astype("i4")[:, None], 1).mean()


@jax.jit
def step(weights, batch):
    value, slope = jax.value_and_grad(loss)(weights, batch)
    return jax.tree.map(lambda w, g: w - 0.05 * g, weights, slope), value


if __name__ == "__main__":
    a, c = jax.random.split(jax.random.key(1))
    weights = {
        "a": jax.random.normal(a, (650, 32)) * 0.05, "b": jnp.zeros(32),
        "c": jax.random.normal(c, (32, 4)) * 0.2, "d": jnp.zeros(4),
    }
    losses, rows = [], 0
    for batch in on_device(Feed(*sys.argv[1:], "--quiet"), ["ecal", "label"]):
        weights, value = step(weights, batch)
        losses.append(value)
        rows += len(batch["label"])
    losses = [float(value) for value in losses]
    tenth = max(1, len(losses) // 10)
    print(f"{rows} events in {len(losses)} batches; loss {sum(losses[:tenth]) / tenth:.3f} at first, {sum(losses[-tenth:]) / tenth:.3f} in the end")
