"""pymemcache, a client that knows nothing of this project, against the server that is named."""

import sys

from pymemcache.client.base import Client

client = Client((sys.argv[1], int(sys.argv[2])), timeout=30)
big = bytes(range(256)) * 4000

assert client.set("a", "one", noreply=False)
assert client.get("a") == b"one"
assert client.get("absent") is None
assert not client.add("a", "two", noreply=False)
assert client.replace("a", "two", noreply=False)
assert client.append("a", "!", noreply=False)
assert client.prepend("a", "?", noreply=False)
value, cas = client.gets("a")
assert value == b"?two!"
assert client.cas("a", "three", cas, noreply=False)
assert client.cas("a", "four", cas, noreply=False) is False
assert client.set("n", "41", noreply=False)
assert client.incr("n", 1) == 42
assert client.decr("n", 2) == 40
assert client.touch("n", 100, noreply=False)
assert client.set_many({f"k{number}": str(number) for number in range(500)}, noreply=False) == []
found = client.get_many([f"k{number}" for number in range(600)])
assert found == {f"k{number}": str(number).encode() for number in range(500)}
assert client.set("big", big, noreply=False)
assert client.get("big") == big
assert client.delete("a", noreply=False)
assert not client.delete("a", noreply=False)
try:
    client.set("huge", bytes(2 << 20), noreply=False)
    raise AssertionError("an item of 2 MiB was taken")
except Exception as error:
    assert "too large" in str(error), error
assert client.stats()[b"curr_items"] == 502
assert client.version() == b"1.6.18"
assert client.flush_all(noreply=False)
assert client.get("big") is None
print("pymemcache is content")
