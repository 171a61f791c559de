"""`knudge simulate`: the whole live loop with a population whose preferences are known.

Threads, each with a connection of its own, take visits in turn: ask for a recommendation, click or not, send
the click back. No click sends nothing: silence is what the policy counts as no reward. The terminal and a PNG
show the cumulative regret while it runs. What users want is `population`'s business, what regret is
`regret`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.live import Live

from functions.console import simulate_display, simulate_plot
from functions.console.client import Client
from functions.console.failure import ConsoleFailure
from functions.console.obd_log import Campaign, read_campaign
from functions.console.obd_source import find_source
from functions.console.population import Population
from functions.console.regret import RegretMeter

_READY_LIMIT_S = 15.0
_REFRESH_S = 0.25
_PLOT_PERIOD_S = 5.0


class Options(msgspec.Struct, frozen=True):
    """What the command line says. None means: a fresh name, the server's own exploration floor."""

    url: str
    output: Path
    decisions: int = 10_000
    campaign: Campaign = "men"
    scale: float = 20.0
    taste: float = 0.0
    users: int = 1_000
    seed: int = 1
    policy_kind: str = "thompson"
    policy: str | None = None
    exploration_floor: float | None = None
    concurrency: int = 8
    data: Path | None = None


def run(options: Options, console: Console | None = None) -> int:
    """Simulate and report; returns the exit status. Raises `ConsoleFailure` where it cannot be done."""
    console = console or Console()
    log = read_campaign(find_source(options.data), options.campaign)
    population = Population(
        log,
        users=options.users,
        visits=options.decisions,
        scale=options.scale,
        taste=options.taste,
        seed=options.seed,
    )
    policy = options.policy or f"simulate-{options.seed}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with Client(options.url) as client:
        _make_policy(client, policy, population.items, options)
    simulation = Simulation(options, policy, population)
    plot = options.output / "regret.png"
    _watch(simulation, options, policy, plot, console)
    if not console.is_terminal:
        console.print()  # there, rich leaves the last frame of a live display without a line end
    console.print(f"policy {policy}, plot {plot}", highlight=False)
    return 0


class Simulation:
    """The threads that make visits, and what came of them so far."""

    def __init__(self, options: Options, policy: str, population: Population) -> None:
        """Prepare; `start` begins."""
        self.meter = RegretMeter(options.decisions)
        self._options = options
        self._policy = policy
        self._population = population
        self._place = {item: place for place, item in enumerate(population.items)}
        self._numbers: Iterator[int] = iter(range(options.decisions))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        count = min(options.concurrency, options.decisions)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self) -> None:
        """Begin to make visits."""
        for thread in self._threads:
            thread.start()

    def is_running(self) -> bool:
        """Return whether any thread still works."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ask the threads to end after the visit they are at, and wait for them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Raise what ended a thread early, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            with Client(self._options.url) as client:
                while not self._stop.is_set():
                    with self._lock:
                        number = next(self._numbers, None)
                    if number is None:
                        return
                    self._visit(client, number)
        except BaseException as error:
            self._failure = error
            self._stop.set()

    def _visit(self, client: Client, number: int) -> None:
        visit = self._population.visit(number)
        name = f"{self._policy}-{number}"
        answer = client.post(
            "/v1/recommend",
            {"policy": self._policy, "user_id": visit.user_id, "context": visit.context, "request_id": name},
        )
        action = answer["items"][0]["action"]
        place = self._place.get(action)
        if place is None:
            message = f"policy {self._policy} recommended {action!r}, which is none of its actions"
            raise ConsoleFailure(message)
        clicked = visit.clicks(place)
        if clicked:
            event = {"decision_id": answer["decision_id"], "kind": "click", "value": 1, "event_id": name}
            client.post("/v1/feedback", event)
        self.meter.record(visit.rates, place, clicked=clicked, degraded=bool(answer.get("degraded")))


def _watch(simulation: Simulation, options: Options, policy: str, plot: Path, console: Console) -> None:
    """Show the simulation until it ends; on Ctrl-C what has been seen so far is still drawn."""
    title = f"{options.policy_kind} on simulated users: cumulative regret"
    floor = "default" if options.exploration_floor is None else f"{options.exploration_floor:g}"
    subtitle = (
        f"campaign {options.campaign}, rates x {options.scale:g}, floor {floor}, {options.users:,} users, "
        f"seed {options.seed}"
    )
    started = time.monotonic()
    next_plot = started + _PLOT_PERIOD_S
    simulation.start()
    try:
        with Live(console=console, auto_refresh=False) as live:
            running = True
            while running:
                running = simulation.is_running()
                curve = simulation.meter.read()
                elapsed_s = time.monotonic() - started
                live.update(simulate_display.render(policy, curve, options.decisions, elapsed_s), refresh=True)
                if running and time.monotonic() >= next_plot and len(curve.visits) > 1:
                    simulate_plot.draw(curve, plot, title=title, subtitle=subtitle, planned=options.decisions)
                    next_plot = time.monotonic() + _PLOT_PERIOD_S
                time.sleep(_REFRESH_S if running else 0.0)
    finally:
        simulation.stop()
        curve = simulation.meter.read()
        if curve.finished:
            simulate_plot.draw(curve, plot, title=title, subtitle=subtitle, planned=options.decisions)
    simulation.check()


def _make_policy(client: Client, policy: str, items: tuple[str, ...], options: Options) -> None:
    """Write the policy and wait until it is served; the probe is deferred, never activated, never counted."""
    body: dict[str, object] = {"kind": options.policy_kind, "actions": list(items), "reward": {"click": 1.0}}
    if options.exploration_floor is not None:
        body["exploration_floor"] = options.exploration_floor
    client.put(f"/v1/policies/{quote(policy, safe='')}", body)
    give_up_at = time.monotonic() + _READY_LIMIT_S
    while True:
        try:
            client.post("/v1/recommend", {"policy": policy, "defer_activation": True})
        except ConsoleFailure:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(_REFRESH_S)
        else:
            return
