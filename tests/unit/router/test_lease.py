"""When a router may claim to be ready."""

from hypothesis import given
from hypothesis import strategies as st

from greentic.router.lease import Lease

STEPS = st.lists(
    st.tuples(st.sampled_from(("renew", "serve", "wait")), st.floats(0.1, 8), st.integers(0, 3)), max_size=30
)


@given(STEPS)
def test_it_is_ready_exactly_while_it_is_heard_of_and_has_the_newest(steps: list[tuple[str, float, int]]) -> None:
    lease, now, heard, newest, served = Lease(), 100.0, None, -1, None
    lapses, lapsed_before = 0, False
    for what, seconds, number in steps:
        if what == "wait":
            now += seconds
        elif what == "renew":
            newest = max(newest, number)
            lease.renew(now, 5.0, number)
            heard = now
        else:
            served = number
        lapsed = heard is not None and now - heard > 5.0
        lapses += lapsed and not lapsed_before
        lapsed_before = lapsed
        claim = lease.readiness(now, served)
        assert claim.ready is (served is not None and not lapsed and served >= newest)
        assert (claim.reason is None) is claim.ready
        left = lease.seconds_left(now)
        assert left is None if heard is None else left == max(0.0, heard + 5.0 - now)
        if served is not None:
            assert lease.lapses == lapses


def test_the_reason_says_what_is_wrong() -> None:
    lease = Lease()
    assert lease.readiness(0, None).reason == "it has no table yet"
    assert lease.readiness(0, 4).ready, "who grants no lease is not waited for"
    lease.renew(0, 10, 4)
    assert lease.readiness(10, 4).ready
    assert lease.readiness(12.5, 4).reason == "it has not heard from its runtime for 12.5 s (lease: 10 s)"
    lease.renew(13, 10, 5)
    assert lease.readiness(13, 4).reason == "it serves table 4, the newest is 5", "it catches up before it claims again"
    assert lease.readiness(13, 5).ready
    assert lease.lapses == 1


def test_a_lapse_that_nobody_looked_at_counts() -> None:
    lease = Lease()
    lease.renew(0, 1, 1)
    lease.renew(5, 1, 1)
    assert lease.lapses == 1
