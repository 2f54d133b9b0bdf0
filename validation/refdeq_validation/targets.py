"""What ``refdeq validate`` judges: every declaration of installed backends, and implementations named one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from refdeq import registry
from refdeq.errors import ArgumentError, BackendUnavailableError
from refdeq_validation.protocol.adapter import BackendImplementation
from refdeq_validation.protocol.loading import claims_of, implementation_names, load_implementation
from refdeq_validation.protocol.session import Implementation
from refdeq_validation.session import Declaration, declarations

__all__ = ["Found", "Target", "find_targets"]


@dataclass(frozen=True)
class Target:
    """One implementation to judge.

    Attributes
    ----------
    spec : str
        What :func:`refdeq_validation.protocol.loading.load_implementation` takes.
    declaration : Declaration or None
        Of a backend of refdeq: whole graphs are judged too.
    """

    spec: str
    declaration: Declaration | None = None

    def load(self) -> Implementation:
        """The implementation."""
        if self.declaration is None:
            return load_implementation(self.spec)
        return BackendImplementation(self.declaration.backend, self.declaration.order, self.declaration.executor)


@dataclass
class Found:
    """What there is of what was asked for.

    Attributes
    ----------
    targets : list of Target
    unavailable : list of (str, str)
        Names that cannot be judged here, with reasons.
    named : list of str
        Those of them that were asked for by name: the run is incomplete.
    broken : list of str
        Those of them that are there and cannot be loaded.
    """

    targets: list[Target] = field(default_factory=list)
    unavailable: list[tuple[str, str]] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def declared(self) -> list[Declaration]:
        """Declarations of backends."""
        return [target.declaration for target in self.targets if target.declaration is not None]


def find_targets(names: Sequence[str] | None, orders: Sequence[str] | None) -> Found:
    """Resolve what a user named; every installed backend and implementation when nothing was.

    Parameters
    ----------
    names : sequence of str, optional
        Backends (all their orders and paths), or specs of :func:`refdeq_validation.protocol.loading.load_implementation`.
    orders : sequence of str, optional
        Only these orders.

    Raises
    ------
    ArgumentError, FileFormatError
        For an order that does not exist, a manifest that is wrong, or what is no implementation.
    """
    unknown = sorted(set(orders or ()) - {"strict", "fast"})
    if unknown:
        raise ArgumentError("--order", expected="strict or fast", got=unknown[0])
    found, known = Found(), registry.backend_names()
    for name in dict.fromkeys(names or (*known, *implementation_names())):
        if name in known:
            _add_backend(found, name, orders, is_named=bool(names))
        elif _is_spec(name):
            _add_other(found, name, orders, is_named=bool(names))
        else:
            reason = f"no such backend is installed (known: {', '.join((*known, *implementation_names()))})"
            found.unavailable.append((name, reason))
            found.named.append(name)
    return found


def _is_spec(name: str) -> bool:
    return name.endswith(".toml") or ":" in name or name in implementation_names()


def _add_backend(found: Found, name: str, orders: Sequence[str] | None, is_named: bool) -> None:
    try:
        backend = registry.load_backend(name)
    except BackendUnavailableError as error:
        found.unavailable.append((name, f"{error.reason} ({error.hint})" if error.hint else error.reason))
        found.named += [name] if is_named else []
        return
    for declaration in declarations(backend, orders):
        found.targets.append(Target(f"{name}:{declaration.order}:{declaration.executor}", declaration))


def _add_other(found: Found, spec: str, orders: Sequence[str] | None, is_named: bool) -> None:
    try:
        implementation = load_implementation(spec)
        claims = claims_of(implementation, spec)
    except BackendUnavailableError as error:
        found.unavailable.append((spec, error.reason))
        found.named += [spec] if is_named else []
        found.broken += [spec] if is_named else []
        return
    if orders is not None and claims.order not in orders:
        return
    declaration = None
    if isinstance(implementation, BackendImplementation):
        declaration = Declaration(implementation.backend.backend, implementation.order, implementation.path)
    found.targets.append(Target(spec, declaration))
