"""Messages arrive unchanged at the other part."""

from __future__ import annotations

import os

from tracer.ipc.messages import MESSAGE_MAX, Addresses, Counters, Ended, Failed, Notice, Stop, channel_pair


def test_messages_and_descriptors_arrive_in_order() -> None:
    root, user = channel_pair()
    read_end, write_end = os.pipe()
    sent = [Counters({"opened": 3}, 1), Notice("losses", "text", None), Ended({"opened": 3}, 0, "why", 4)]
    root.send(sent[0], [read_end])
    for message in sent[1:]:
        root.send(message)
    first, fds = user.from_root()
    assert first == sent[0]
    assert len(fds) == 1
    assert os.fstat(fds[0]).st_ino == os.fstat(read_end).st_ino
    assert [user.from_root()[0] for _ in sent[1:]] == sent[1:]
    user.send(Stop())
    assert root.from_user() == Stop()
    for fd in (read_end, write_end, *fds):
        os.close(fd)
    root.close()
    user.close()


def test_the_end_of_either_is_seen_by_the_other() -> None:
    root, user = channel_pair()
    root.close()
    assert user.from_root() == (None, [])
    assert user.send(Stop()) is False
    user.close()
    root, user = channel_pair()
    user.close()
    assert root.from_user() is None
    assert root.send(Failed("text", 3)) is False
    root.close()


def test_an_offer_never_waits_for_a_reader() -> None:
    root, user = channel_pair()
    message = Notice("kind", "x" * 1000, None)
    accepted = 0
    while root.offer(message):
        accepted += 1
        assert accepted < 100_000
    assert accepted > 0
    assert user.from_root()[0] == message
    assert root.offer(message)
    root.close()
    user.close()


def test_a_message_that_never_fits_does_not_end_the_run() -> None:
    root, user = channel_pair()
    assert root.offer(Addresses([bytes(16)] * (MESSAGE_MAX // 8)))
    assert root.offer(Notice("kind", "the next one", None))
    assert user.from_root()[0] == Notice("kind", "the next one", None)
    root.close()
    user.close()
