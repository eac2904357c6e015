"""Rounds of drawn faults: `make fault ROUNDS=30 SEED=7`; `ROUND=12` with the same seed repeats a single one.

A round takes a copy of a run that nobody hurt, finished or stopped half-way, hurts one file of it or kills a part of it
while it runs, and then does what people do: look, verify, resume, follow the advice that is printed. What must hold:

- every command ends within bounds, with a known exit code, with words and without a traceback;
- afterwards the run is whole, and digests and report equal those of the unhurt one;
- no process and no temporary folder is left.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import hurts
from commands import Broken, Place
from unhurt import STUDIES, Unhurt, answer

PARTS = ("driver", "worker", "raylet", "everything")
KILL_SHARE = 0.2  # Of the rounds; a kill takes several times as long as a file.
TURNS = 4  # How often advice is followed before a round is given up.
ADVISED = re.compile(r"python -m sweeps (store discard [0-9a-f]{16}|resume \S+ --retry-failed|resume --retry-failed)")
TO_REMOVE = re.compile(r"\b(remove|delete|mend|move away)\b", re.IGNORECASE)


def play(unhurt: Unhurt, draw: random.Random) -> Iterator[str]:
    """One round; yields what was done, so that a failure can tell it.

    Raises:
        Broken: If something did not hold.
    """
    place = unhurt.place
    if draw.random() < KILL_SHARE:
        study, who, after = "grid", draw.choice(PARTS), draw.uniform(0.0, 12.0)
        yield f"{who} killed {after:.1f} s after the run had a driver"
        unhurt.put(study, "finished")  # So that its answer is known.
        unhurt.put(study, "packed")
        kill(place, study, who, after)
        hurt = None
    else:
        study = draw.choice(("grid", "grid", "grid", "sampled"))
        state = draw.choice(("finished", "stopped")) if study == "grid" else "finished"
        unhurt.put(study, "finished")
        unhurt.put(study, state)
        hurt = hurts.hurt(place.out, draw)
        yield f"{study} run, {state}: {hurt}"
        for words in (("status",), ("report", "--json"), ("store", "list"), ("store", "gc", "--dry-run")):
            place.call(*words)
    mend(place, study, hurt)
    place.wait_until_gone()
    compare("digests", harness.digests(place.out), unhurt.digests[study])
    compare("the report's answer", answer(place), unhurt.answers[study])


def kill(place: Place, study: str, who: str, after: float) -> None:
    """Start a run and kill a part of it at some moment."""
    run = place.begin("run", *STUDIES[study], "--no-report")
    try:
        until = time.monotonic() + 60
        while not (view := run.status()).get("driver") and run.process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(after)
        view = run.status()
        driver = view.get("driver") or {}
        workers = [int(row["pid"]) for row in view.get("running", ()) if row.get("pid")]
        raylet = [int(driver["raylet"])] if driver.get("raylet") else []
        chosen = {"driver": [run.process.pid], "worker": workers[:1], "raylet": raylet}.get(
            who, [run.process.pid, *raylet, *workers]
        )
        for pid in chosen:
            harness.kill(pid)
        try:
            code, out, err = run.finish(180)
        except harness.subprocess.TimeoutExpired:
            raise Broken(f"the run did not end within 180 s after its {who} was killed: {run.status()}") from None
        if "Traceback (most recent call last)" in out + err:
            raise Broken(f"the run shows a traceback:\n{(out + err)[-3000:]}")
        if code not in (0, 1, 3, 130, -9):
            raise Broken(f"the run ended with {code}:\n{(out + err)[-1500:]}")
        place.wait_until_gone()
    finally:
        run.end()


def mend(place: Place, study: str, hurt: hurts.Hurt | None) -> None:
    """Verify and resume, do what the answers advise, and again, until both are content."""
    for _ in range(TURNS):
        verified = place.call("store", "verify")
        followed = follow(place, verified.stdout + verified.stderr, hurt)
        resumed = place.call("resume", "--no-report")
        followed += follow(place, resumed.stdout + resumed.stderr, hurt)
        if not verified.returncode and not resumed.returncode and not followed:
            return
        if resumed.returncode and not followed:
            again = place.call(
                "run", *STUDIES[study], "--no-report"
            )  # What every message about a lost run comes down to.
            follow(place, again.stdout + again.stderr, hurt)
    raise Broken(
        f"the advice does not help:\n{resumed.stdout[-700:]}{resumed.stderr[-1500:]}\n{verified.stdout[-700:]}"
    )


def follow(place: Place, text: str, hurt: hurts.Hurt | None) -> list[str]:
    """Run the commands that are advised, and remove the hurt file where that is advised; what was done."""
    done = []
    for words in dict.fromkeys(ADVISED.findall(text)):
        if words.startswith("resume") and "failed  " not in text:
            continue  # Advised after failures only.
        place.call(*words.split())
        done.append(words)
    if hurt is not None:
        for line in text.splitlines():
            named = hurt.path.name in line and TO_REMOVE.search(line) and not ADVISED.search(line)
            if named and os.path.lexists(hurt.path):
                hurts.remove(hurt.path)
                done.append(f"remove {hurt.path.name}")
    return done


def compare(what: str, got: Any, due: Any) -> None:
    if got != due:
        raise Broken(f"{what} differ from the unhurt run's:\n{got}\ninstead of\n{due}")


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=10)
    words.add_argument("--seed", type=int, default=None, help="Drawn when it is not given.")
    words.add_argument("--round", type=int, default=None, help="Only this one, counted from 1.")
    words.add_argument("--verbose", action="store_true", help="Say what each round does.")
    asked = words.parse_args()
    seed = asked.seed if asked.seed is not None else secrets.randbelow(1_000_000)
    numbers = [asked.round] if asked.round else list(range(1, asked.rounds + 1))
    began, held = time.monotonic(), 0
    # Short: a socket's path has at most 107 characters, and most of them are Ray's.
    base = Path(tempfile.mkdtemp(prefix="swf", dir="/tmp"))
    try:
        (base / "t").mkdir()
        place = Place(base / "out", base / "t")
        unhurt = Unhurt(place, base / "shelf")
        for number in numbers:
            held += one(unhurt, seed, number, verbose=asked.verbose)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    took = time.monotonic() - began
    print(f"fault: {held} of {len(numbers)} rounds held in {took:.0f} s (seed {seed})")
    return 0 if held == len(numbers) else 1


def one(unhurt: Unhurt, seed: int, number: int, *, verbose: bool = False) -> bool:
    """Play a round; what did not hold is printed with how to repeat it."""
    began, did = time.monotonic(), "began"
    unhurt.place.said.clear()
    try:
        for did in play(unhurt, random.Random(f"{seed}/{number}")):
            if verbose:
                print(f"round {number}: {did}", file=sys.stderr, flush=True)
    except AssertionError as error:
        print(f"round {number} did not hold: {did}\n{error}", file=sys.stderr)
        print("\n".join(unhurt.place.said)[-6000:] if verbose else "", file=sys.stderr)
        print(f"Repeat it: make fault SEED={seed} ROUND={number}\n", file=sys.stderr, flush=True)
        return False
    finally:
        try:
            unhurt.place.wait_until_gone(5.0)
        except Broken:
            pass  # Said already, or removed now.
    if verbose:
        print(f"round {number} held, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return True


if __name__ == "__main__":
    raise SystemExit(main())
