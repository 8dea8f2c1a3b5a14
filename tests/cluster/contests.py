"""Contests, curves and a made-up cluster that the tests of the futility rule share."""

from __future__ import annotations

import math

from cluster.futility import Contest

RUNGS, EPOCHS = (2, 4), 8


def contest(arms=("a", "b"), seeds=3, baseline="base", **changes):
    def cells(arm):
        return {seed: f"{arm}{seed}" for seed in range(seeds)}

    rule = {"rungs": RUNGS, "margin": 0.02, "alpha": 0.05} | changes
    return Contest(cells(baseline), {arm: cells(arm) for arm in arms}, **rule)


def falling(level, epochs=EPOCHS):
    return [level + 1 / epoch for epoch in range(1, epochs + 1)]


LEVELS = {"base0": 3.0, "base1": 3.1, "base2": 2.9, "a0": 3.01, "a1": 3.08, "a2": 2.91, "b0": 4.0, "b1": 4.2, "b2": 3.9}
CURVES = {key: falling(level) for key, level in LEVELS.items()}


class Cluster:
    """Runs cells in random order, as many at once as there are slots, asking the race as the queue and Tune do."""

    def __init__(self, race, curves, slots, rng, began=()):
        self.race, self.curves, self.slots, self.rng = race, curves, slots, rng
        self.epoch = dict.fromkeys(curves, 0) | dict(began)
        self.waiting = list(rng.permutation(sorted(curves)))
        self.running, self.ended = [], {}

    def run(self, until=math.inf):
        steps = 0
        while steps < until:
            steps += 1
            for key in [key for key in self.waiting if self.race.decision(key) != "pause"]:
                if len(self.running) < self.slots:
                    self.waiting.remove(key)
                    if self.race.decision(key) == "stop":
                        self.end(key, "stopped")
                    else:
                        self.running.append(key)
            if not self.running:
                break
            self.step(self.running.pop(self.rng.integers(len(self.running))))
        return self.ended

    def step(self, key):
        self.epoch[key] += 1
        decision = self.race.reported(key, self.epoch[key], self.curves[key][self.epoch[key] - 1])
        if self.epoch[key] == len(self.curves[key]):
            self.end(key, "done")
        elif decision == "go":
            self.running.append(key)
        elif decision == "stop":
            self.end(key, "stopped")
        else:
            self.waiting.append(key)

    def end(self, key, status):
        self.race.ended(key, status)
        self.ended[key] = (status, self.epoch[key])
