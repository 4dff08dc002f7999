"""Tickets that come, are promoted, rolled back and retired while callers keep asking, and canaries that turn out bad.

Every ticket here has answers of its own: the probability of the same text tells them apart, so that an answer which
names one ticket and comes from another is found out.
"""

import pytest

from tests.e2e.bad_tickets import TRIGGER, crashing_bundle
from tests.e2e.installation import Start, patient
from tests.e2e.moves import Mover
from tests.e2e.traffic import TEXT, Traffic
from tests.tiny import tiny_bundle

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(180)]

SWAPS = 6


async def test_swaps_under_load_drop_and_mix_nothing(start: Start) -> None:
    """Register, promote, roll back, promote again, retire what was there before; two gateways, two workers."""
    up = start("--workers", "2", "--gateways", "2").wait_until_up()
    await up.uses(await up.publish(patient))
    mover = Mover(up, gateways=2)
    old = next(id_ for id_, state in (await mover.states()).items() if state == "promoted")
    traffic = Traffic(up, dict(zip(await mover.states(), (1.0, 0.5), strict=True)))
    async with traffic.steady():
        await traffic.more(20, old)
        for number in range(SWAPS):
            scale = 0.1 + 0.03 * number
            bundle = tiny_bundle("accurate", 0.98, scale=scale)
            new = await mover.register(bundle, tier="accurate", quality=0.98 + 0.001 * number)
            traffic.scales[new] = scale
            await mover.promote(new)
            await traffic.more(10, new)
            await mover.roll_back()
            await traffic.more(10, old)
            await mover.promote(new)
            await traffic.more(10, new)
            await mover.retire(old)
            old = new
        await traffic.more(20)
    await mover.store.close()
    assert traffic.failed == []
    assert traffic.mixed == []
    assert len(traffic.by_ticket) == SWAPS + 1


async def test_a_canary_that_crashes_its_workers_is_rolled_back_and_no_caller_sees_an_error(start: Start) -> None:
    up = start("--workers", "2").wait_until_up()
    await up.uses(await up.publish(patient))
    mover = Mover(up)
    traffic = Traffic(up, dict(zip(await mover.states(), (1.0, 0.5), strict=True)))
    bad = await mover.register(crashing_bundle(), tier="accurate", quality=0.98)
    traffic.scales[bad] = 1.0
    async with traffic.steady(texts=(TEXT, TEXT, TEXT, f"{TRIGGER} law")):
        await traffic.more(100)
        await mover.start_canary(bad, share=0.5)
        await mover.comes_to(bad, "registered")
        await traffic.more(50)
    (event,) = [one for one in await mover.store.events() if one.action == "canary.roll_back"]
    await mover.store.close()
    assert traffic.failed == []
    assert traffic.mixed == []
    assert event.actor == "overseer/gateway-0"
    assert "asks of the canary failed" in event.reason
    assert "signal" in up.log.read_text()  # it did crash them


async def test_a_canary_that_answers_otherwise_is_rolled_back_and_a_good_one_promoted_by_itself(start: Start) -> None:
    """The first knows other labels by other words; the second differs only in how sure it is."""
    up = start("--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    mover = Mover(up)
    traffic = Traffic(up, dict(zip(await mover.states(), (1.0, 0.5), strict=True)))
    other, good = (tiny_bundle("accurate", 0.98, scale=scale) for scale in (-1.0, 0.9))
    async with traffic.steady():
        await traffic.more(200)
        bad = await mover.register(other, tier="accurate", quality=0.98)
        traffic.scales[bad] = -1.0
        await mover.start_canary(bad, share=0.5, mode="shadow")
        await mover.comes_to(bad, "registered")
        assert bad not in traffic.by_ticket
        new = await mover.register(good, tier="accurate", quality=0.98)
        traffic.scales[new] = 0.9
        await mover.start_canary(new, share=1.0, is_automatic=True)
        await mover.comes_to(new, "promoted")
    actions = [event.action for event in await mover.store.events()]
    await mover.store.close()
    assert traffic.failed == []
    assert traffic.mixed == []
    assert actions[0] == "ticket.promote"
    assert "canary.roll_back" in actions
