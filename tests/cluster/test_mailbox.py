"""The hand-over, without Ray: the mailbox is a plain class of coroutines."""

import asyncio

import pytest

from cluster.mailbox import Assignment, Job, Mailbox
from cluster.work import Fault

HERE = ("node", 7)  # where the trial's process is


def mailbox(workers=1, keys=("a", "b")):
    job = Job(None, None, workers, 1, 0.0, "PACK", "/nowhere")
    return Mailbox([job], {key: {"cell": key} for key in keys})


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, timeout=5))


async def started(coroutine):
    task = asyncio.ensure_future(coroutine)
    for _ in range(5):
        await asyncio.sleep(0)
    return task


def test_a_report_waits_until_the_trial_asks_for_more():
    async def scenario():
        box = mailbox()
        await box.assign("slot", "a", HERE)
        assert await box.next("slot", 0) == Assignment({"cell": "a"})
        post = await started(box.post("slot", 0, 1, {"epoch": 1}))
        message = await box.take("slot")
        assert (message.kind, message.metrics) == ("epoch", {"epoch": 1})
        assert not post.done()
        take = await started(box.take("slot"))
        assert await post is None
        await box.finish("slot", 0, 0, {"status": "done"})
        end = await take
        assert (end.kind, end.result, end.reason) == ("end", {"status": "done"}, None)

    run(scenario())


@pytest.mark.parametrize("when", ["before the report", "while it waits"])
def test_a_stop_is_the_decision_on_every_rank(when):
    async def scenario():
        box = mailbox(workers=3)
        await box.assign("slot", "a", HERE)
        if when == "before the report":
            await box.stop("a", "scheduler")
        posts = [await started(box.post("slot", 0, 1, {"epoch": 1} if rank == 0 else None)) for rank in (2, 0, 1)]
        if when == "while it waits":
            await box.stop("a", "scheduler")
        assert await asyncio.gather(*posts) == ["scheduler"] * 3
        assert (await box.take("slot")).kind == "epoch"
        take = await started(box.take("slot"))
        for rank in (0, 1, 2):
            assert not take.done()
            await box.finish("slot", 0, rank, {"epochs": 1} if rank == 0 else None)
        end = await take
        assert (end.result, end.reason) == ({"epochs": 1}, "scheduler")

    run(scenario())


def test_a_rank_that_comes_late_is_given_the_decision_of_its_epoch():
    async def scenario():
        box = mailbox(workers=2)
        await box.assign("slot", "a", HERE)
        first = await started(box.post("slot", 0, 1, {"epoch": 1}))
        await box.take("slot")
        take = await started(box.take("slot"))
        assert await first is None
        second = await started(box.post("slot", 0, 2, {"epoch": 2}))
        assert await box.post("slot", 0, 1, None) is None
        await box.stop("a", "scheduler")
        assert await second == "scheduler"
        assert await box.post("slot", 0, 2, None) == "scheduler"
        assert (await take).kind == "epoch"

    run(scenario())


def test_an_interruption_stops_all_and_starts_nothing():
    async def scenario():
        box = mailbox()
        await box.assign("one", "a", HERE)
        post = await started(box.post("one", 0, 1, {"epoch": 1}))
        await box.interrupt("interrupted")
        assert await post == "interrupted"
        assert await box.assign("two", "b", HERE) == "interrupted"

    run(scenario())


def test_an_abandoned_cell_is_waited_for_no_longer():
    async def scenario():
        box = mailbox()
        await box.assign("slot", "a", HERE)
        take = await started(box.take("slot"))
        assert not take.done()
        await box.abandon()
        assert (await take).kind == "abandoned"

    run(scenario())


def test_a_second_attempt_tells_the_first_to_leave_and_keeps_its_own_epochs():
    async def scenario():
        box = mailbox()
        await box.assign("old", "a", HERE)
        await box.assign("new", "a", HERE)
        assert await box.post("old", 0, 1, {"epoch": 1}) == "replaced"
        post = await started(box.post("new", 0, 1, {"epoch": 1}))
        assert not post.done()
        await box.stop("a", "scheduler")
        assert await post == "scheduler"

    run(scenario())


def test_a_slot_is_given_one_cell_after_another_until_it_is_closed():
    async def scenario():
        box = mailbox()
        await box.assign("slot", "a", HERE)
        assert await box.next("slot", 0) == Assignment({"cell": "a"})
        waiting = await started(box.next("slot", 1))
        assert not waiting.done()
        await box.finish("slot", 0, 0, {})
        await box.assign("slot", "b", HERE)
        assert await waiting == Assignment({"cell": "b"})
        last = await started(box.next("slot", 2))
        await box.close("slot")
        assert await last is None

    run(scenario())


def test_the_first_error_ends_the_cell_and_later_ones_are_its_consequence():
    async def scenario():
        box = mailbox(workers=2)
        await box.assign("slot", "a", HERE)
        await box.fail("slot", Fault("error", "ValueError: the cause"))
        await box.fail("slot", Fault("error", "the group was ended"))
        await box.finish("slot", 0, 0, {})
        assert (await box.take("slot")).fault == Fault("error", "ValueError: the cause")
        assert not (await started(box.take("slot"))).done()

    run(scenario())


def test_only_a_single_worker_is_told_to_leave_within_an_epoch():
    async def scenario(workers):
        box = mailbox(workers)
        await box.assign("slot", "a", HERE)
        before = (await box.moved())["a"]
        assert await box.alive("slot", 0) is None
        assert (await box.moved())["a"] > before == 0
        await box.leave_node("another node", "preempted")
        assert await box.alive("slot", 0) is None
        moved = (await box.moved())["a"]
        for _ in range(2):
            await box.leave_node("node", "preempted")
        assert (await box.moved())["a"] == moved, "being asked to leave is no movement"
        return await box.alive("slot", 0)

    assert asyncio.run(scenario(1)) == "preempted"
    assert asyncio.run(scenario(2)) is None


def test_whoever_left_within_an_epoch_has_left_for_that_reason():
    async def scenario():
        box = mailbox()
        await box.assign("slot", "a", HERE)
        await box.stop("a", "preempted")
        await box.alive("slot", 0)
        await box.finish("slot", 0, 0, {"status": "interrupted"})
        return await box.take("slot")

    assert asyncio.run(scenario()).reason == "preempted"


def test_a_cell_that_is_over_counts_no_movement_and_keeps_its_place():
    async def scenario():
        box = mailbox()
        await box.assign("slot", "a", HERE)
        assert await box.places("a") == [HERE]
        await box.finish("slot", 0, 0, {})
        assert await box.moved() == {}
        assert await box.places("a") == [HERE]
        assert await box.places("b") == []

    run(scenario())


def test_a_cell_tried_again_in_a_process_that_was_there_before_is_looked_for_there():
    async def scenario():
        box = mailbox()
        await box.assign("old", "a", HERE)
        await box.assign("lost", "b", ("another node", 8))
        await box.next("lost", 0)
        await box.finish("old", 0, 0, {})
        await box.assign("old", "b", HERE)
        assert await box.places("b") == [HERE]
        assert await box.moved() == {"b": 0}
        await box.alive("lost", 0)
        assert await box.moved() == {"b": 0}, "the attempt that was given up counts no more"
        await box.next("old", 1)
        assert await box.moved() == {"b": 1}

    run(scenario())
