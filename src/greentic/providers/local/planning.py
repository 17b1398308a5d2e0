"""What a reconcile would change here: pure computations from what is recorded and what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from greentic.envpacks.deployer import Change, DesiredState, Observation, Plan
from greentic.envpacks.planning import opening, planned
from greentic.spec.environment import Environment


def stopped(desired: DesiredState, left: Iterable[int]) -> Plan:
    """The plan where no runtime is; `left` are the processes that a former one has left."""
    environment = desired.environment
    down = planned(desired, Observation(running=True)).changes
    return Plan(
        (
            *(Change("end", "worker", f"process {one}", "it has outlived its runtime") for one in left),
            *opening(environment, environment.host_config.routers),
            *metrics(environment, None),
            *down,
        )
    )


def listener(environment: Environment, asked: str, address: str) -> Iterator[Change]:
    """The listener moves from `address`, which it has for `asked`, when another one is recorded."""
    recorded = environment.host_config.listen_address
    if recorded != asked:
        yield Change("change", "listener", recorded, f"{address} is listened on; every router is replaced for it")


def metrics(environment: Environment, asked: str | None) -> Iterator[Change]:
    """The listener that answers Prometheus on `asked`."""
    settings = environment.host_config.router
    recorded = settings.metrics_addr if settings is not None else None
    if recorded == asked:
        return
    if recorded is None:
        yield Change("end", "listener", str(asked), "no address of metrics is recorded")
    elif asked is None:
        yield Change("start", "listener", recorded, "metrics are recorded to be served there")
    else:
        yield Change("change", "listener", recorded, f"metrics are served on {asked}")


def routers(environment: Environment, names: Sequence[str]) -> Iterator[Change]:
    """As many routers as are recorded."""
    count = environment.host_config.routers
    reason = f"recorded: {count}, there: {len(names)}"
    yield from (Change("start", "router", f"router-{index}", reason) for index in range(len(names), count))
    yield from (Change("end", "router", name, reason) for name in names[count:])
