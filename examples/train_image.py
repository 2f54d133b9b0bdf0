"""Train an (Implicit)^2 network on a photograph: every pixel is its own fixed point, the weights are shared.

What: coordinates x in [-1, 1]^2 of a 128 x 128 image (16384 samples) are mapped to grey values through a
one-layer implicit cell.  With p = sin(A0 x + b0) and u = z + p,

    siren:    z <- sin(W u + (A1 x + b1))
    fourier:  z <- (W u + bz) * m,   m = sin(A1 x + b1)

and the readout is o = V z* + c.  W is kept at spectral norm <= 0.97, so either cell is a contraction (the
sine's slope and |m| are at most 1) and Picard iteration finds z*.  For `siren` the bias of the W layer is
part of b1.

Why: this is the image task of Huang, Bai and Kolter, "(Implicit)^2: Implicit Layers for Implicit
Representations" (NeurIPS 2021), and the one on which Wang, Cheng, Moure, Hahn and Liu, "DeltaDEQ:
Exploiting Heterogeneous Convergence for Accelerating Deep Equilibrium Iterations" (NeurIPS 2024), skip
84 % of the arithmetic.  The script ends with that measurement: the delta rule's MAC fraction and its PSNR.

How: gradients are implicit.  Both fixed points, z = f(z) and lambda = J^T lambda + g, are cached for every
pixel and continued from the previous step by one Picard iteration; the first epoch and the last 5 % solve
both to a relative tolerance of 5e-4.  (Huang et al. continue z likewise, but truncate the backward series.)
Training is float32 with plain NumPy products (see training_tools.py); the gradient check is float64.

The picture is skimage.data.camera: photograph by Lav Varshney, CC0 (no copyright restrictions), in
scikit-image since version 0.18, where it replaced another "cameraman"; its SHA-256 is therefore pinned
below.  It is mean-pooled 4 x 4 and rounded to uint8.

Read the PSNR with care: 256 hidden units make about four weights per pixel.  It says how well this image
is stored, not how well unseen pixels are predicted.  The input scale of 112 and the stop after 200 epochs
(about a minute on one core) are chosen for the delta rule: longer training raises the PSNR further, but then
the same threshold costs more dB, because there is less error left for it to hide in.

    python examples/train_image.py --filter siren --out refdeq/models/data/image_siren.safetensors
    python examples/train_image.py --filter fourier --out refdeq/models/data/image_fourier.safetensors
    python examples/train_image.py --check       # implicit gradient against central differences
"""

import argparse
import hashlib
import math
import time

import numpy as np
from skimage.data import camera
from training_tools import Adam, SpectralBound, cosine_rate, save, worst_gradient_deviation

import refdeq

PICTURE_NOTE = "skimage.data.camera, photograph by Lav Varshney, CC0; 4 x 4 mean pooled to 128 x 128"
CAMERA_SHA256 = "5cb24482a53416f99052258be2b1ee38cd31c559a70c8a8b321cba231b332e21"
SIDE = 128
BOUND = 0.97
FILTERS = ("siren", "fourier")
TAUS = (0.0, 1e-3, 1e-2, 3e-2, 1e-1)
EVALUATIONS = 31
# (relative tolerance, (forward, adjoint) Picard steps at most) of one training step.
CONTINUED = (0, (1, 1))
SOLVED = (5e-4, (60, 60))


def photograph():
    """The 128 x 128 uint8 training image."""
    full = camera()
    if hashlib.sha256(full.tobytes()).hexdigest() != CAMERA_SHA256:
        raise SystemExit("skimage.data.camera is not the picture this script was written for")
    pooled = full.reshape(SIDE, 4, SIDE, 4).mean((1, 3))
    return np.rint(pooled).astype(np.uint8)


def coordinates():
    """(column, row) of every pixel, row by row, each scaled to [-1, 1]."""
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def targets(image):
    return (image.reshape(-1, 1) / 127.5 - 1).astype(np.float32)


def psnr(output, target):
    """PSNR in dB; both arguments live on [-1, 1], whose peak-to-peak value is 2."""
    return float(10 * np.log10(4 / np.mean((output - target) ** 2, dtype=np.float64)))


def initial_parameters(filter_name, hidden, scale, rng):
    def uniform(*shape, reach=1.0):
        return (reach * rng.uniform(-1, 1, shape)).astype(np.float32)

    # reach = scale / (sqrt(2) sqrt(2)): once for the fan-in of 2, once for two maps sharing the frequencies.
    params = {
        "W": uniform(hidden, hidden, reach=1 / math.sqrt(hidden)),
        "A0": uniform(hidden, 2, reach=scale / 2),
        "b0": uniform(hidden, reach=np.pi),
        "A1": uniform(hidden, 2, reach=scale / 2),
        "b1": uniform(hidden, reach=np.pi),
        "V": uniform(1, hidden, reach=1 / math.sqrt(hidden)),
        "c": uniform(1, reach=1 / math.sqrt(hidden)),
    }
    if filter_name == "fourier":
        params["bz"] = uniform(hidden, reach=1 / math.sqrt(hidden))
    return params


class Cell:
    """The implicit layer at fixed parameters and inputs; the parts depending on x alone are computed once.

    A call remembers its u = z + p and W u (+ what is added to it): the derivative is taken there, and
    recomputing them would cost another matrix product.
    """

    def __init__(self, params, x):
        self.params, self.x = params, x
        self.is_siren = "bz" not in params
        self.phase0 = x @ params["A0"].T + params["b0"]
        self.phase1 = x @ params["A1"].T + params["b1"]
        self.p = np.sin(self.phase0)
        self.m = None if self.is_siren else np.sin(self.phase1)

    def activate(self, product):
        """The next state from product = W u, which is overwritten."""
        if self.is_siren:
            product += self.phase1
            self.before = product
            return np.sin(product)
        product += self.params["bz"]
        self.before = product
        return product * self.m

    def __call__(self, z):
        self.u = z + self.p
        return self.activate(self.u @ self.params["W"].T)

    def slope(self):
        """d(new z) / d(W u) at the last call."""
        return np.cos(self.before) if self.is_siren else self.m

    def gradients(self, adjoint, slope, through_u):
        """Parameter gradients for the adjoint state; through_u = J^T adjoint is d(loss)/du."""
        inner = adjoint * slope
        to_phase0 = through_u * np.cos(self.phase0)
        grads = {"W": inner.T @ self.u, "A0": to_phase0.T @ self.x, "b0": to_phase0.sum(0)}
        if self.is_siren:
            to_phase1 = inner
        else:
            grads["bz"] = inner.sum(0)
            to_phase1 = adjoint * self.before * np.cos(self.phase1)
        grads["A1"], grads["b1"] = to_phase1.T @ self.x, to_phase1.sum(0)
        return grads


def picard(step, state, tolerance, limit):
    """At most `limit` steps, fewer if the relative change of the whole array falls to the tolerance."""
    for _ in range(limit):
        new = step(state)
        change, state = new - state, new
        if tolerance and np.linalg.norm(change) <= tolerance * np.linalg.norm(new):
            break
    return state


def loss_and_gradients(params, x, target, z, adjoint, tolerance, limits):
    """MSE and implicit gradients, continuing both fixed points from z and adjoint, which are returned too.

    limits = (forward, adjoint) bounds the Picard steps.  The derivative is taken at the argument of the
    last forward step, and J^T lambda is read off as lambda - g: both are exact at the fixed points and save
    one matrix product each before that.
    """
    cell = Cell(params, x)
    z = picard(cell, z, tolerance, limits[0])
    error = z @ params["V"].T + params["c"] - target
    seed = error * np.asarray(2 / error.size, error.dtype)
    source = seed @ params["V"]
    slope = cell.slope()
    adjoint = picard(lambda y: source + (y * slope) @ params["W"], adjoint, tolerance, limits[1])
    grads = cell.gradients(adjoint, slope, adjoint - source)
    grads["V"], grads["c"] = seed.T @ z, seed.sum(0)
    return float(np.mean(error**2)), grads, z, adjoint


def train(filter_name, hidden=256, epochs=200, batch=2048, rate=1e-3, scale=112.0, seed=0, settle=0.05):
    """Adam over shuffled batches of pixels; returns the trained arrays (W already normalised)."""
    rng = np.random.default_rng(seed)
    image, x = photograph(), coordinates()
    target = targets(image)
    raw = initial_parameters(filter_name, hidden, scale, rng)
    bounded = SpectralBound(raw["W"], BOUND, rng)
    adam = Adam(raw)
    z = np.zeros((len(x), hidden), np.float32)
    adjoint = np.zeros_like(z)
    batches = len(x) // batch
    began = time.perf_counter()
    for epoch in range(epochs):
        # Cold at first and settled at the end: there both fixed points are solved, in between continued.
        solved = epoch == 0 or epoch >= (1 - settle) * epochs
        tolerance, limits = SOLVED if solved else CONTINUED
        total = 0.0
        for part, rows in enumerate(rng.permutation(len(x)).reshape(batches, -1)):
            params = {**raw, "W": bounded(raw["W"])}
            loss, grads, z[rows], adjoint[rows] = loss_and_gradients(
                params, x[rows], target[rows], z[rows], adjoint[rows], tolerance, limits
            )
            grads["W"] = bounded.pull_back(grads["W"], raw["W"])
            adam.step(raw, grads, np.float32(cosine_rate(rate, (epoch + part / batches) / epochs)))
            total += loss
        if epoch % 10 == 0 or epoch == epochs - 1:
            level = 10 * math.log10(4 * batches / total)
            print(f"epoch {epoch:4d}  PSNR {level:5.2f} dB  {time.perf_counter() - began:4.0f} s", flush=True)
    return {**raw, "W": bounded.exact(raw["W"]), "x": x, "image": image}


def blocks(count, size=2048):
    """Slices of rows small enough for their states to stay in the processor's cache."""
    return [slice(start, start + size) for start in range(0, count, size)]


def cold_solve(params, x, tolerance=1e-3, limit=100):
    """Picard from z = 0, each sample stopped by its own relative change; returns z and evaluation counts."""
    z = np.zeros((len(x), len(params["W"])), x.dtype)
    counts = np.full(len(x), limit)
    active = np.arange(len(x))
    for count in range(1, limit + 1):
        new = np.concatenate([Cell(params, x[active[b]])(z[active[b]]) for b in blocks(len(active))])
        change = np.linalg.norm(new - z[active], axis=1)
        done = change <= tolerance * np.linalg.norm(new, axis=1)
        z[active] = new
        counts[active[done]] = count
        active = active[~done]
        if not len(active):
            break
    return z, counts


def delta_run(params, x, tau, memory, evaluations=EVALUATIONS):
    """Picard from z = 0 under the delta rule, without a stop test: the states and the MAC fraction.

    The first product W u is dense; later ones add W delta for the entries with |u - memory| > tau only.
    memory = "sent": an entry's memory moves only when it is sent; "always": it moves at every evaluation.
    """
    states, sent = [], 0
    for rows in blocks(len(x)):
        cell = Cell(params, x[rows])
        z = np.zeros_like(cell.p)
        remembered = cell.p.copy()
        product = cell.p @ params["W"].T
        sent += cell.p.size
        for _ in range(evaluations - 1):
            z = cell.activate(product.copy())
            u = z + cell.p
            delta = u - remembered
            delta[np.abs(delta) <= tau] = 0
            remembered = u if memory == "always" else remembered + delta
            sent += np.count_nonzero(delta)
            product += delta @ params["W"].T
        states.append(cell.activate(product.copy()))
    z = np.concatenate(states)
    return z, sent / (z.size * evaluations)


def judge(arrays):
    """PSNR and evaluation counts of a cold solve, then the table of the delta rule."""
    params = {name: value for name, value in arrays.items() if name not in ("x", "image")}
    x, target = arrays["x"], targets(arrays["image"])

    def level(z):
        return psnr(z @ params["V"].T + params["c"], target)

    z, counts = cold_solve(params, x)
    facts = {
        "norm_W": float(np.linalg.norm(params["W"].astype(np.float64), 2)),
        "psnr_cold": level(z),
        "evaluations_mean": float(counts.mean()),
        "evaluations_max": int(counts.max()),
        "delta": [],
    }
    for tau in TAUS:
        for memory in ("sent", "always"):
            z, fraction = delta_run(params, x, tau, memory)
            facts["delta"].append([tau, memory, fraction, level(z)])
    return facts


def show(facts):
    print(
        f"||W||_2 {facts['norm_W']:.8f}   cold solve, rel 1e-3: PSNR {facts['psnr_cold']:.2f} dB, "
        f"evaluations mean {facts['evaluations_mean']:.2f}, max {facts['evaluations_max']}"
    )
    print(f"delta rule, {EVALUATIONS} evaluations:     tau  memory  MAC fraction  PSNR (dB)  loss (dB)")
    exact = facts["delta"][0][3]
    for tau, memory, fraction, level in facts["delta"]:
        print(f"{tau:35.0e}  {memory:6s}  {fraction:12.4f}  {level:9.3f}  {exact - level:9.3f}")


def check(filter_name, hidden=24, seed=0):
    """Print the worst deviation of the implicit gradient, through the spectral bound, at random weights."""
    rng = np.random.default_rng(seed)
    image, x = photograph(), coordinates()
    rows = rng.choice(len(x), 16, replace=False)
    x, target = x[rows].astype(float), targets(image)[rows].astype(float)
    start = initial_parameters(filter_name, hidden, 64.0, rng)
    raw = {name: value.astype(float) for name, value in start.items()}
    bounded = SpectralBound(raw["W"], BOUND, rng)
    zeros = np.zeros((len(x), hidden))

    def evaluate(params):
        normal = {**params, "W": bounded(params["W"], iterations=2000)}
        return loss_and_gradients(normal, x, target, zeros, zeros, 1e-15, (2000, 2000))

    _, grads, _, _ = evaluate(raw)
    grads["W"] = bounded.pull_back(grads["W"], raw["W"])
    worst = worst_gradient_deviation(lambda params: evaluate(params)[0], raw, grads, rng)
    print(f"{filter_name}: worst relative deviation of the implicit gradient {worst:.1e}")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--filter", choices=FILTERS, default="siren")
    parser.add_argument("--out", help="default: image_<filter>.safetensors")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2048, help="pixels per step; divides 16384")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate of Adam")
    parser.add_argument("--scale", type=float, default=112.0, help="input scale (initial frequencies)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="only check the gradients of both filters")
    args = parser.parse_args()
    if args.check:
        for filter_name in FILTERS:
            check(filter_name, seed=args.seed)
        return
    began = time.perf_counter()
    arrays = train(args.filter, args.hidden, args.epochs, args.batch, args.rate, args.scale, args.seed)
    print(f"trained in {time.perf_counter() - began:.0f} s")
    facts = judge(arrays)
    show(facts)
    meta = {"script": "examples/train_image.py", **vars(args), **facts, "picture": PICTURE_NOTE}
    del meta["out"], meta["check"]
    path = args.out or f"image_{args.filter}.safetensors"
    save(path, cell_of(args.filter, arrays), arrays, targets(arrays["image"]), meta)


def cell_of(kind, a):
    """The trained arrays as the refdeq cell they define."""
    if kind == "siren":
        return refdeq.models.siren(a["W"], a["A0"], a["b0"], a["A1"], a["b1"])
    return refdeq.models.fourier(a["W"], a["bz"], a["A0"], a["b0"], a["A1"], a["b1"])


if __name__ == "__main__":
    main()
