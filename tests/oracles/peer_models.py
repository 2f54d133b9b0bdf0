"""What the published solvers do, written down once more: plain loops over arrays, no code and no vocabulary of refdeq.

Each function takes ``f`` on (B, N) arrays and returns what the published one returns. They agree with the stored runs (see
``test_dialects_models.py``), and serve where no run is stored: early stops, padding, line searches, windows, other problems.
"""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import numpy as np


def norms(rows):
    return np.linalg.norm(rows, axis=1)


class Book:
    """Traces, lowest values and lowest points of the torch codes, per sample or for the whole batch."""

    def __init__(self, start, mode, whole, head=True, always=False):
        self.mode, self.whole, self.always = mode, whole, always
        count = 1 if whole else len(start)
        self.lowest = {kind: np.full(count, 1e8) for kind in ("abs", "rel")}
        self.step = {kind: np.zeros(count) for kind in ("abs", "rel")}
        self.trace = {kind: [np.full(count, 1e8)] if head else [] for kind in ("abs", "rel")}
        self.point = start.copy()

    def note(self, gap, size, eps, point, step):
        absolute = np.array([np.linalg.norm(gap)]) if self.whole else norms(gap)
        size = np.array([np.linalg.norm(size)]) if self.whole else norms(size)
        for kind, value in (("rel", absolute / (size + eps)), ("abs", absolute)):
            self.trace[kind].append(value)
            lower = (value < self.lowest[kind]) | self.always
            if kind == self.mode:
                self.point = np.where(lower[:, None], point, self.point)
            self.lowest[kind] = np.where(lower, value, self.lowest[kind])
            self.step[kind] = np.where(lower, step, self.step[kind])
        return self.trace[self.mode][-1].max()

    def pad(self, count):
        for _ in range(count):
            for kind in ("abs", "rel"):
                self.trace[kind].append(self.lowest[kind])

    def out(self, **more):
        table = {f"{kind}_trace": np.array(values) for kind, values in self.trace.items()}
        if self.whole:
            table = {name: values[:, 0] for name, values in table.items()}
        step, lowest = self.step[self.mode], self.lowest[self.mode]
        return SimpleNamespace(
            result=self.point,
            nstep=step[0] if self.whole else step,
            lowest=lowest[0] if self.whole else lowest,
            **table,
            **more,
        )


def armijo_scalar(phi, at_zero, tests_parabola):
    """SciPy's backtracking (with `tests_parabola`), or its copy in the DEQ codes."""
    down = -at_zero
    long, at_long = 1.0, phi(1.0)
    if at_long <= at_zero + 1e-4 * down:
        return 1.0
    short = -down / 2.0 / (at_long - at_zero - down)
    at_short = phi(short)
    if tests_parabola and at_short <= at_zero + 1e-4 * short * down:
        return short
    while short > 1e-2:
        scale = long**2 * short**2 * (short - long)
        left, right = at_short - at_zero - down * short, at_long - at_zero - down * long
        a = (long**2 * left - short**2 * right) / scale
        b = (-(long**3) * left + short**3 * right) / scale
        new = (-b + np.sqrt(abs(b**2 - 3 * a * down))) / (3.0 * a)
        at_new = phi(new)
        if at_new <= at_zero + 1e-4 * new * down:
            return new
        if short - new > short / 2.0 or 1 - new / short < 0.96:
            new = short / 2.0
        long, short, at_long, at_short = short, new, at_short, at_new
    return None


def searched(g, z, gz, p, search):
    """Point and g after a step, one step length for the whole batch."""
    if not search:
        return z + p, g(z + p)
    seen = {"s": 0.0, "g": gz, "phi": np.linalg.norm(gz) ** 2}

    def phi(s):
        if s != seen["s"]:
            value = g(z + s * p)
            seen.update(s=s, g=value, phi=np.linalg.norm(value) ** 2)
        return seen["phi"]

    s = armijo_scalar(phi, seen["phi"], False)
    s = 1.0 if s is None else s
    return z + s * p, seen["g"] if s == seen["s"] else g(z + s * p)


class InverseJacobian:
    """``-I + sum u v^T`` per sample as dense matrices; a ring of pairs when limited."""

    def __init__(self, batch, size, limit=None):
        self.h = np.broadcast_to(-np.eye(size), (batch, size, size)).copy()
        self.pairs, self.limit, self.count = {}, limit, 0

    def times(self, rows):
        return np.einsum("bij,bj->bi", self.h, rows)

    def add(self, dz, dg):
        v = np.einsum("bj,bji->bi", dz, self.h)
        with np.errstate(all="ignore"):
            u = (dz - self.times(dg)) / np.einsum("bi,bi->b", v, dg)[:, None]
        u, v = np.where(np.isnan(u), 0.0, u), np.where(np.isnan(v), 0.0, v)
        new = np.einsum("bi,bj->bij", u, v)
        slot = self.count % self.limit if self.limit else self.count
        self.h = self.h + new - self.pairs.get(slot, 0.0)
        self.pairs[slot] = new
        self.count += 1


def broyden_v1(f, z0, budget, eps, search=False):
    g = lambda z: f(z) - z  # noqa: E731
    z, gz = z0.copy(), g(z0)
    inverse, p = InverseJacobian(*z0.shape), gz
    trace = [np.linalg.norm(gz)]
    lowest, point, best_step, step = trace[0], None, 0, 0
    while trace[-1] >= eps and step < budget:
        new, g_new = searched(g, z, gz, p, search)
        dz, dg, z, gz = new - z, g_new - gz, new, g_new
        step += 1
        trace.append(np.linalg.norm(gz))
        if trace[-1] < lowest:
            lowest, point, best_step = trace[-1], z.copy(), step
        if trace[-1] < eps or (trace[-1] < 3 * eps and step > 30 and max(trace[-30:]) / min(trace[-30:]) < 1.3):
            break
        if trace[-1] > trace[0] * 1e5:
            break
        inverse.add(dz, dg)
        p = -inverse.times(gz)
    # the variable that "lowest" starts as is the one that is updated in place
    return SimpleNamespace(
        result=z if point is None else point, abs_trace=np.array(trace), lowest_step=best_step, nstep=step, lowest=lowest
    )


def broyden_torch(f, z0, budget, eps, mode, kind, search=False, limit=None, final=False):
    """v2 (`kind` "v2"), torchdeq ("torchdeq") and deq-flow ("deq-flow")."""
    g = lambda z: f(z) - z  # noqa: E731
    whole = kind == "v2"
    book = Book(z0, mode, whole, head=not whole, always=final)
    z, gz = z0.copy(), g(z0)
    inverse, p, broke = InverseJacobian(*z0.shape, limit), gz, False
    for step in range(1, budget + 1):
        new, g_new = searched(g, z, gz, p, search)
        dz, dg, z, gz = new - z, g_new - gz, new, g_new
        now = book.note(gz, gz + z, 1e-8 if kind == "deq-flow" else 1e-9, z, step)
        trace = book.trace[mode]
        if now < eps and not final:
            break
        if step > 30 and now < 3 * eps:
            last = np.array(trace[-30:])
            ratio = last.max() / last.min() if whole else (last.max(axis=1) / last.min(axis=1)).max()
            if ratio < 1.3:
                break
        if whole and now > trace[0][0] * (1e6 if mode == "abs" else 1e3):
            broke = True
            break
        inverse.add(dz, dg)
        p = -inverse.times(gz)
    book.pad(budget + 1 - len(book.trace[mode]))
    return book.out(broke=broke)


def anderson_torch(f, z0, budget, eps, mode, kind, m=6, lam=1e-4, mixing=1.0, final=False):
    """v2, torchdeq, deq-flow and SRS ("srs")."""
    whole, late = kind == "v2", kind in ("v2", "srs")
    book = Book(z0, mode, whole, head=not whole, always=final)
    z, fz = np.zeros((2, m, *z0.shape))
    z[0], fz[0] = z0, f(z0)
    z[1], fz[1] = fz[0], f(fz[0])
    for k in range(1 if kind == "srs" else 2, budget + (kind == "srs")):
        n = min(k, m)
        gap = np.moveaxis(fz[:n] - z[:n], 0, 1)
        system = np.zeros((len(z0), n + 1, n + 1))
        system[:, 0, 1:] = system[:, 1:, 0] = 1.0
        system[:, 1:, 1:] = gap @ gap.transpose(0, 2, 1) + lam * np.eye(n)
        weights = np.linalg.inv(system)[:, 1:, 0].T[:, :, None]
        z[k % m] = mixing * (weights * fz[:n]).sum(0) + (1 - mixing) * (weights * z[:n]).sum(0)
        fz[k % m] = f(z[k % m])
        eps_rel = {"v2": 1e-5, "torchdeq": 1e-9, "deq-flow": 1e-8, "srs": 1e-8}[kind]
        point = z[k % m] if late else fz[k % m]
        now = book.note(fz[k % m] - z[k % m], fz[k % m], eps_rel, point, k if late else k + 1)
        if now < eps and not final:
            book.pad(budget - 1 - k)
            break
    out = book.out()
    if kind == "srs":
        out.result = z[k % m].copy()
    return out


def picard_torch(f, z0, budget, eps, mode, kind, damping=1.0, final=False):
    """torchdeq, and deq-flow's Krasnoselskii-Mann, which returns its last point."""
    book = Book(z0, mode, False, always=final or kind == "deq-flow")
    point = z0
    for k in range(budget):
        z, point = point, damping * f(point) + (1 - damping) * point
        now = book.note(point - z, point, 1e-8 if kind == "deq-flow" else 1e-9, point, k + 1)
        if now < eps and not final:
            book.pad(budget - 1 - k)
            break
    return book.out()


def anderson_hopdeq(f, z0, budget, m=4, safeguard=True):
    z, fz = deque([z0], m), deque([f(z0)], m)
    z.append(fz[0])
    fz.append(f(fz[0]))
    refused = 0
    for _ in range(2, budget):
        gap = np.stack(fz, 2) - np.stack(z, 2)
        gram = np.einsum("bni,bnj->bij", gap, gap) + 1e-10 * np.eye(len(z))
        weights = np.linalg.inv(gram).sum(2)
        mixed = np.einsum("bni,bi->bn", np.stack(fz, 2), weights / weights.sum(1, keepdims=True))
        better = norms(fz[-1] - mixed) / norms(mixed) < norms(fz[-1] - z[-1]) / norms(z[-1])
        refused += int((~better).sum())
        z.append(np.where(better[:, None], mixed, fz[-1]) if safeguard else mixed)
        fz.append(f(z[-1]))
    logged = (norms(fz[-1] - z[-1]) / norms(z[-1])).mean()
    return SimpleNamespace(result=fz[-1], logged=logged, refused=refused)


def anderson_jaxopt(f, z0, budget, tol, m=5, beta=1.0, ridge=1e-5, frequency=1):
    size = z0.size
    z, gap, point, errors = np.zeros((m, size)), np.zeros((m, size)), z0.ravel(), []
    for i in range(budget):
        if i >= m and i % frequency == 0:
            system = np.zeros((m + 1, m + 1))
            system[0, 1:] = system[1:, 0] = 1.0
            system[1:, 1:] = gap @ gap.T + ridge * np.eye(m)
            weights = np.linalg.solve(system, np.eye(m + 1)[0])[1:]
            point = weights @ z + beta * weights @ gap
        value = f(point.reshape(z0.shape)).ravel()
        z[i % m], gap[i % m] = point, value - point
        errors.append(np.linalg.norm(gap[i % m]))
        point = value
        if errors[-1] <= tol:
            break
    return SimpleNamespace(result=point.reshape(z0.shape), abs_trace=np.array(errors), nstep=len(errors))


def broyden_jaxopt(f, z0, budget, tol, history=None, gamma=1.0, stepsize=1.0):
    fun = lambda z: z - f(z.reshape(z0.shape)).ravel()  # noqa: E731
    z, history = z0.ravel(), budget if history is None else history
    value, errors = fun(z), []
    h, pairs = gamma * np.eye(z.size), {}
    for i in range(budget):
        new = z - stepsize * h @ value
        new_value = fun(new)
        dz, dg = new - z, new_value - value
        v = dz @ h
        pair = np.outer(dz - h @ dg, v / (v @ dg))
        h = h + pair - pairs.get(i % history, 0.0)
        pairs[i % history] = pair
        z, value = new, new_value
        errors.append(np.linalg.norm(value))
        if errors[-1] <= tol:
            break
    return SimpleNamespace(result=z.reshape(z0.shape), abs_trace=np.array(errors), nstep=len(errors))
