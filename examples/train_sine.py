"""Train the one-dimensional demonstration DEQ: sin(x) as the fixed point of a small tanh cell.

What: a cell z <- tanh(W z + U x + b) with 20 state variables, and a readout y = V z* + c, fitted to
sin(x) at 200 points of [-2 pi, 2 pi].

Why: it is the smallest trained model on which the delta rule can be watched at work.  The setting is
that of the sine notebook of DeltaDEQ (Wang, Cheng, Moure, Hahn, Liu, "DeltaDEQ: Exploiting
Heterogeneous Convergence for Accelerating Deep Equilibrium Iterations", NeurIPS 2024), where a cell of
this size reaches a loss of 2.6e-5 in 600 epochs.  Unlike the notebook, which differentiates through 15
unrolled iterations, this script uses implicit gradients: the forward fixed point is solved, then the
adjoint fixed point lambda = J^T lambda + g.

The recurrent matrix is bounded, ||W||_2 <= 0.95, by normalisation; |tanh'| <= 1 then makes the cell a
contraction for every x, so both fixed points exist and Picard iteration finds them.

Everything is float64 and seeded.  Plain NumPy products are used (see training_tools.py).

    python examples/train_sine.py --out refdeq/models/data/sine.safetensors
    python examples/train_sine.py --check        # implicit gradient against central differences
"""

import argparse
import time

import numpy as np
from training_tools import Adam, SpectralBound, cosine_rate, save, worst_gradient_deviation

import refdeq

HIDDEN = 20
SAMPLES = 200


def data():
    x = np.linspace(-2 * np.pi, 2 * np.pi, SAMPLES).reshape(-1, 1)
    return x, np.sin(x)


def initial_parameters(rng, gain):
    """W starts orthogonal, times gain: with every singular value alike, no direction converges at once."""
    orthogonal, _ = np.linalg.qr(rng.standard_normal((HIDDEN, HIDDEN)))
    return {
        "W": gain * orthogonal,
        "U": rng.uniform(-1, 1, (HIDDEN, 1)),
        "b": rng.uniform(-1, 1, HIDDEN) * np.pi,
        "V": rng.uniform(-1, 1, (1, HIDDEN)) / np.sqrt(HIDDEN),
        "c": np.zeros(1),
    }


def picard(step, start, tolerance, limit=2000):
    """Iterate `step` until the relative change is at most `tolerance`; return the state and the count."""
    state = start
    for count in range(1, limit + 1):
        new = step(state)
        change = np.linalg.norm(new - state) / (np.linalg.norm(new) + 1e-300)
        state = new
        if change <= tolerance:
            return state, count
    return state, limit


def solve(params, x, start, tolerance):
    injected = x @ params["U"].T + params["b"]
    return picard(lambda z: np.tanh(z @ params["W"].T + injected), start, tolerance)


def loss_and_gradients(params, x, target, start, adjoint_start, tolerance):
    """MSE at the fixed point, and its implicit gradients; also the two solutions, for a warm start."""
    z, _ = solve(params, x, start, tolerance)
    error = z @ params["V"].T + params["c"] - target
    seed = 2 / error.size * error
    slope = 1 - z * z
    source = seed @ params["V"]
    adjoint, _ = picard(lambda y: source + (y * slope) @ params["W"], adjoint_start, tolerance)
    inner = adjoint * slope
    grads = {"W": inner.T @ z, "U": inner.T @ x, "b": inner.sum(0), "V": seed.T @ z, "c": seed.sum(0)}
    return float(np.mean(error**2)), grads, z, adjoint


def train(epochs=5000, rate=1e-2, bound=0.95, tolerance=1e-8, seed=0, report=500):
    """Full-batch Adam with implicit gradients; returns the trained arrays (W already normalised)."""
    rng = np.random.default_rng(seed)
    x, target = data()
    raw = initial_parameters(rng, bound)
    bounded = SpectralBound(raw["W"], bound, rng)
    adam = Adam(raw)
    z = np.zeros((SAMPLES, HIDDEN))
    adjoint = np.zeros_like(z)
    for epoch in range(1, epochs + 1):
        params = {**raw, "W": bounded(raw["W"])}
        loss, grads, z, adjoint = loss_and_gradients(params, x, target, z, adjoint, tolerance)
        if epoch % report == 0 or epoch == 1:
            print(f"epoch {epoch:5d}  loss {loss:.3e}", flush=True)
        grads["W"] = bounded.pull_back(grads["W"], raw["W"])
        adam.step(raw, grads, cosine_rate(rate, epoch / epochs))
    return {**raw, "W": bounded.exact(raw["W"]), "x": x, "target": target}


def judge(arrays):
    """Loss and Picard counts of a cold solve (z = 0), for all samples at once and for the slowest sample."""
    x, target = arrays["x"], arrays["target"]
    start = np.zeros((SAMPLES, HIDDEN))
    z, _ = solve(arrays, x, start, 1e-14)
    facts = {"mse": float(np.mean((z @ arrays["V"].T + arrays["c"] - target) ** 2))}
    facts["norm_W"] = float(np.linalg.norm(arrays["W"], 2))
    for tolerance in (1e-3, 1e-6):
        facts[f"iterations_{tolerance:g}"] = solve(arrays, x, start, tolerance)[1]
        counts = [solve(arrays, x[i : i + 1], start[:1], tolerance)[1] for i in range(SAMPLES)]
        facts[f"iterations_{tolerance:g}_per_sample"] = [min(counts), float(np.mean(counts)), max(counts)]
    return facts


def check(seed=0):
    """Print the worst deviation of the implicit gradient, through the spectral bound, at random weights."""
    rng = np.random.default_rng(seed)
    x, target = data()
    x, target = x[::25], target[::25]
    raw = initial_parameters(rng, 1.0)
    raw["W"] += 0.1 * rng.standard_normal(raw["W"].shape)  # a simple largest singular value, above the bound
    bounded = SpectralBound(raw["W"], 0.9, rng)
    zeros = np.zeros((len(x), HIDDEN))

    def evaluate(params):
        normal = {**params, "W": bounded(params["W"], iterations=2000)}
        return loss_and_gradients(normal, x, target, zeros, zeros, 1e-15)

    _, grads, _, _ = evaluate(raw)
    grads["W"] = bounded.pull_back(grads["W"], raw["W"])
    worst = worst_gradient_deviation(lambda params: evaluate(params)[0], raw, grads, rng)
    print(f"sine: worst relative deviation of the implicit gradient {worst:.1e}")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="sine.safetensors")
    parser.add_argument("--epochs", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=1e-2, help="peak learning rate of Adam")
    parser.add_argument("--bound", type=float, default=0.95, help="largest allowed spectral norm of W")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="only check the gradient")
    args = parser.parse_args()
    if args.check:
        check(args.seed)
        return
    began = time.perf_counter()
    arrays = train(args.epochs, args.rate, args.bound, seed=args.seed)
    facts = judge(arrays)
    print(f"trained in {time.perf_counter() - began:.0f} s")
    for name, value in facts.items():
        print(f"{name}: {value}")
    cell = refdeq.models.rnn(arrays["W"], arrays["U"], arrays["b"])
    meta = {"script": "examples/train_sine.py", "seed": args.seed, "epochs": args.epochs, **facts}
    save(args.out, cell, arrays, arrays["target"], meta)


if __name__ == "__main__":
    main()
