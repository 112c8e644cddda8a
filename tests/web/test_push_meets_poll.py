"""Each vendor's webhooks on real HTTP: reported at once, once, and confirmed where the vendor's word is not enough."""

from datetime import timedelta
from pathlib import Path

from doors import HEADER, MAILCHIMP, PARAKEY, RAILZ, SECRET, TOKEN, VALUE, open_door, subscribe, until
from inside import answered
from roundsman.sandbox import Parakey, Sandbox
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address
from roundsman.sandbox.railz import Railz
from worlds import event_logs, mailchimp_batches, parakey_batches, railz_pushes

SOON = timedelta(milliseconds=50)


async def test_an_event_log_is_reported_by_its_webhook_and_not_again_by_the_poll(tmp_path: Path) -> None:
    async with Sandbox(Parakey()) as box:
        doors = event_logs(base_url=box.url, interval=3600, webhook=PARAKEY)
        async with open_door(tmp_path, doors) as door:
            subscribe(box.vendor, f"{door.url}/hooks/doors", headers={HEADER: VALUE})
            await until(lambda: answered(door.engine, "doors"))
            log = box.vendor.add(user={"id": "u"}, success=True)
            await until(door.ids)
            assert door.ids() == [log.id]
            [event] = door.events()
            assert event.outcome == "granted"
            assert await door.store.via([event.seq]) == {event.seq: "push"}
            polls = (await door.status("doors")).visits
            door.engine.turns.visit_now("doors")
            await until(lambda: door.polls("doors", polls + 1))
            assert door.ids() == [log.id]


async def test_a_batch_of_keys_is_reported_by_its_webhook_with_what_failed(tmp_path: Path) -> None:
    async with Sandbox(Parakey()) as box:
        keys = parakey_batches(base_url=box.url, interval=3600, webhook=PARAKEY)
        async with open_door(tmp_path, keys) as door:
            subscribe(box.vendor, f"{door.url}/hooks/keys", headers={HEADER: VALUE})
            batch = box.vendor.batch([{}, {"error": {"message": "no"}}], took=SOON)
            await door.store.follow("keys", [batch.id])
            await until(lambda: len(door.ids()) >= 2)
            door.engine.turns.visit_now("keys")
            await until(lambda: door.polls("keys", 2))
            assert door.ids() == [f"{batch.id}:1:failed", f"{batch.id}:completed"]


async def test_a_finished_batch_is_confirmed_at_once_and_only_through_the_api(tmp_path: Path) -> None:
    async with Sandbox(Mailchimp()) as box:
        news = mailchimp_batches(base_url=f"{box.url}/3.0", interval=3600, webhook=MAILCHIMP)
        async with open_door(tmp_path, news) as door:
            subscribe(box.vendor, f"{door.url}/hooks/news/{TOKEN}", SECRET)
            await until(lambda: answered(door.engine, "news"))
            box.vendor.add([Operation(), bad_address("a@b.example", "row-1")], batch_id="b1", took=SOON)
            await until(lambda: len(door.ids()) == 2)
            assert door.ids()[1] == "b1:completed"
            seqs = [event.seq for event in door.events()]
            assert set((await door.store.via(seqs)).values()) == {"ring"}
            assert (await door.status("news")).due - door.engine.reception.now() > 3000, "its turn stays"


async def test_pushes_are_reported_by_their_webhooks_and_batches_when_all_of_them_ended(
    tmp_path: Path,
) -> None:
    async with Sandbox(Railz()) as box:
        box.vendor.connect("CON-1")
        url = {"base_url": box.url, "auth_url": f"{box.url}/getAccess"}
        ledger = railz_pushes(interval=3600, webhook=RAILZ, **url)
        async with open_door(tmp_path, ledger) as door:
            subscribe(box.vendor, f"{door.url}/hooks/ledger", SECRET)
            await until(lambda: answered(door.engine, "ledger"))
            box.vendor.push("CON-1", push_id="p1", took=SOON, batch="b1")
            box.vendor.push("CON-1", push_id="p2", took=2 * SOON, batch="b1", status="failed", errors=[])
            await until(lambda: len(door.ids()) == 3)
            assert sorted(door.ids()) == ["b1:completed", "p1:success", "p2:failed"]
            door.engine.turns.visit_now("ledger")
            await until(lambda: door.polls("ledger", 2))
            assert len(door.ids()) == 3
