"""The client host's process: builds the network, then plays rounds of scenarios beside ordinary traffic.

It controls both ends of a scenario: it lives in the client's namespace and enters the server's for a moment to make
sockets there. So a scenario reads as one story, and needs no waiting.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from contextlib import suppress

from tracer.lab import background, netns, topology
from tracer.lab.child import MESSAGE_MAX
from tracer.lab.scenarios import SCENARIOS, Scenario, server_address
from tracer.lab.stage import Stage
from tracer.lab.topology import Namespaces

_ROUND_S = 4.0  # a round takes at least this long
_PACE_S = 0.02  # from one scenario's end to the next one's beginning


def be_server(control: socket.socket) -> None:
    """Main function of the server host's process: send the far host's namespace, then serve for ever."""
    netns.unshare_network()
    far = netns.create()
    socket.send_fds(control, [b"namespace"], [far])
    if control.recv(MESSAGE_MAX) == b"serve":
        background.serve(control)


class Director:
    """The client host's process."""

    def __init__(self, control: socket.socket, server: int, far: int) -> None:
        self._control = control
        self._server, self._far = server, far
        self._sending = threading.Lock()

    def run(self) -> None:
        """Build the network, report `ready`, wait for `traffic ROUNDS RATE` and play."""
        netns.unshare_network()
        home = netns.current()
        spaces = Namespaces(home, self._server, self._far)
        topology.build(spaces, [scenario.place for scenario in SCENARIOS])
        self._say("ready")
        words = self._control.recv(MESSAGE_MAX).split()
        if len(words) != 3:  # the lab ended without traffic
            return
        rounds, per_s = int(words[1]), float(words[2])
        if per_s > 0:
            threading.Thread(target=self._background, args=(per_s,), daemon=True, name="background").start()
        for number in itertools.count(1) if rounds < 0 else range(1, rounds + 1):
            self._round(spaces)
            self._say(f"round {number}")
        self._control.recv(MESSAGE_MAX)  # ordinary traffic goes on until the lab ends

    def _say(self, text: str) -> None:
        # A parent that never reads must not stop the traffic: drop what its socket has no room for.
        with self._sending, suppress(BlockingIOError):
            self._control.send(text.encode()[:MESSAGE_MAX], socket.MSG_DONTWAIT)

    def _background(self, per_s: float) -> None:
        while True:
            try:
                background.run_clients(per_s)
            except OSError as error:
                self._say(f"fault ordinary traffic: {error}")
            time.sleep(1.0)

    def _round(self, spaces: Namespaces) -> None:
        began = time.monotonic()
        beside = []
        for scenario in SCENARIOS:
            for version in topology.versions():
                if scenario.slow:
                    thread = threading.Thread(target=self._play, args=(scenario, version, spaces), daemon=True)
                    thread.start()
                    beside.append(thread)
                else:
                    self._play(scenario, version, spaces)
                time.sleep(_PACE_S)
        for thread in beside:
            thread.join()
        time.sleep(max(0.0, began + _ROUND_S - time.monotonic()))

    def _play(self, scenario: Scenario, version: int, spaces: Namespaces) -> None:
        server = server_address(scenario, version)
        try:
            with Stage(version, topology.client_address(version), server, scenario.place, spaces) as stage:
                stage.forget()
                scenario.play(stage)
        except (OSError, ValueError) as error:  # if this kernel cannot play a scenario, the demo must go on
            self._say(f"fault {scenario.name} over IPv{version}: {type(error).__name__}: {error}")
