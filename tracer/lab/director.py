"""The client host's process: builds the network, then plays rounds of scenarios.

It controls both ends of a scenario: it lives in the client's namespace and enters the server's for a moment to make
sockets there. So a scenario reads as one story, and needs no waiting.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Mapping

from tracer.lab import background, netns, road, topology
from tracer.lab.child import MESSAGE_MAX, come_first, say
from tracer.lab.scenarios import SCENARIOS, Scenario, server_address
from tracer.lab.stage import Stage
from tracer.lab.topology import BEHIND, Namespaces, Place

_ROUND_S = 4.0  # a round takes at least this long
_PACE_S = 0.02  # from one scenario's end to the next one's beginning


def be_server(control: socket.socket) -> None:
    """Main function of the server host's process: send the namespaces behind it, wait for `serve`, serve for ever."""
    netns.unshare_network()
    spaces = {place: netns.create() for place in BEHIND}
    socket.send_fds(control, [b"namespaces"], list(spaces.values()))
    if control.recv(MESSAGE_MAX) == b"serve":
        come_first()
        background.serve(control, spaces)


class Director:
    """The client host's process."""

    def __init__(self, control: socket.socket, server: int, behind: Mapping[Place, int]) -> None:
        self._control = control
        self._server, self._behind = server, behind

    def run(self) -> None:
        """Build the network, wait for `traffic ROUNDS` and play.

        Says what road.build() said, and sends the devices that a relay must join.
        """
        netns.unshare_network()
        home = netns.current()
        spaces = Namespaces(home, self._server, self._behind[Place.FAR])
        topology.build(spaces, [scenario.place for scenario in SCENARIOS])
        how, devices = road.build(self._server, self._behind)
        socket.send_fds(self._control, [how.encode()], devices)
        for device in devices:
            os.close(device)
        words = self._control.recv(MESSAGE_MAX).split()
        if len(words) != 2:  # the lab ended without traffic
            return
        rounds = int(words[1])
        for number in itertools.count(1) if rounds < 0 else range(1, rounds + 1):
            self._round(spaces)
            say(self._control, f"round {number}")
        self._control.recv(MESSAGE_MAX)  # until the lab ends

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
            say(self._control, f"fault {scenario.name} over IPv{version}: {type(error).__name__}: {error}")
