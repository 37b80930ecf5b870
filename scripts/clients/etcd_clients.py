"""What programs written for etcd do, done to a coordinator: etcd3gw and tooz, unchanged."""

import queue
import sys
import threading
import time

import etcd3gw
from etcd3gw.lease import Lease
from tooz import coordination

PORT, MEMBERS = int(sys.argv[1]), int(sys.argv[2])


def etcd3gw_keys(client):
    assert client.status()["version"].startswith("3.")
    assert client.put("a", "1")
    assert client.get("a") == [b"1"]
    assert client.get("none") == []
    value, meta = client.get("a", metadata=True)[0]
    assert (value, meta["version"]) == (b"1", "1"), meta
    for name in ("p/1", "p/2", "p/3"):
        client.put(name, name)
    assert len(client.get_prefix("p/")) == 3
    assert [v for v, _ in client.get_prefix("p/", sort_order="descend", sort_target="key")][0] == b"p/3"
    assert client.delete("a") and not client.delete("a")
    assert client.delete_prefix("p/")
    assert client.get_all() == []
    assert len(client.members()) == MEMBERS


def etcd3gw_transactions(client):
    assert client.create("once", "1") and not client.create("once", "2")
    assert client.replace("once", "1", "3") and not client.replace("once", "1", "4")
    assert client.get("once") == [b"3"]
    key = etcd3gw.utils._encode("once")
    txn = {
        "compare": [{"key": key, "result": "EQUAL", "target": "VERSION", "version": 2}],
        "success": [{"request_delete_range": {"key": key}}],
        "failure": [],
    }
    assert client.transaction(txn)["succeeded"]


def etcd3gw_leases(client):
    lease = client.lease(ttl=60)
    assert 0 < lease.ttl() <= 60
    client.put("leased", "1", lease=lease)
    assert lease.keys() == [b"leased"], lease.keys()
    assert lease.refresh() == 60
    assert lease.revoke()
    assert client.get("leased") == []
    assert Lease(12345, client=client).refresh() == -1


def etcd3gw_watches(client):
    events, cancel = client.watch_prefix("w/")
    client.put("w/1", "x")
    client.delete("w/1")
    first, second = next(events), next(events)
    assert first["kv"]["value"] == b"x" and second["type"] == "DELETE", (first, second)
    cancel()
    seen = queue.Queue()

    def watch_once():
        seen.put(client.watch_once("later", timeout=10))

    thread = threading.Thread(target=watch_once)
    thread.start()
    time.sleep(0.5)
    client.put("later", "now")
    assert seen.get(timeout=10)["kv"]["value"] == b"now"
    thread.join()


def etcd3gw_locks(client):
    with client.lock("resource", ttl=10) as held:
        assert held.is_acquired()
        other = client.lock("resource", ttl=10)
        assert not other.acquire()
    assert other.acquire() and other.release()


def tooz_groups_and_locks():
    url = f"etcd3+http://127.0.0.1:{PORT}"
    one = coordination.get_coordinator(url, b"one")
    two = coordination.get_coordinator(url, b"two")
    for member in (one, two):
        member.start(start_heart=True)
    one.create_group(b"g").get()
    try:
        two.create_group(b"g").get()
        raise AssertionError("a group was made twice")
    except coordination.GroupAlreadyExist:
        pass
    one.join_group(b"g", capabilities=b"c1").get()
    two.join_group(b"g").get()
    assert set(one.get_members(b"g").get()) == {b"one", b"two"}
    assert one.get_member_capabilities(b"g", b"one").get() == b"c1"
    assert b"g" in two.get_groups().get()
    lock, rival = one.get_lock(b"l"), two.get_lock(b"l")
    assert lock.acquire()
    assert not rival.acquire(blocking=False)
    lock.release()
    assert rival.acquire(blocking=True) and rival.release()
    one.heartbeat()
    two.leave_group(b"g").get()
    assert set(one.get_members(b"g").get()) == {b"one"}
    one.leave_group(b"g").get()
    one.delete_group(b"g").get()
    for member in (one, two):
        member.stop()


def main():
    client = etcd3gw.client(host="127.0.0.1", port=PORT)
    # What another member was asked before is here too.
    every = etcd3gw.utils._encode(b"\0")
    client.post(client.get_url("/kv/deleterange"), json={"key": every, "range_end": every})
    for check in (etcd3gw_keys, etcd3gw_transactions, etcd3gw_leases, etcd3gw_watches, etcd3gw_locks):
        check(client)
        print(f"ok  {check.__name__}")
    tooz_groups_and_locks()
    print("ok  tooz_groups_and_locks")


main()
