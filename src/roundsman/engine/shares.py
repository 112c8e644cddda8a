"""What a worker holds of all that is configured: pure functions.

Sources with the same host and credentials are a group, and one worker holds a whole group: a vendor's limits then hold
for all machines as they hold for one.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from roundsman.engine.roster import Configured
from roundsman.store.fleet import Holders

SLACK = 1.05
"""A worker gives back only what is above its share by more than this: else two would pass sources to and fro."""

Groups = Mapping[object, Sequence[str]]


def groups_of(sources: Mapping[str, Configured]) -> Groups:
    """The sources by group."""
    found: defaultdict[object, list[str]] = defaultdict(list)
    for name, each in sources.items():
        found[each.host, each.identity].append(name)
    return found


def claims(groups: Groups, holders: Holders, me: int, peers: int) -> list[str]:
    """The sources to claim: the rest of groups that this worker has a part of, and free groups up to its share.

    `peers`: the number of workers among which the sources are shared, with this one. A group that another worker has a
    part of is left to it, also if its configuration lacks the rest: two workers would ask one account.
    """
    total = mine = 0
    own: list[str] = []
    free: list[list[str]] = []
    for names in groups.values():
        known = [name for name in names if name in holders]
        total += len(known)
        waiting = [name for name in known if holders[name] is None]
        mine += sum(holders[name] == me for name in known)
        if not waiting:
            continue
        owners = {holders[name] for name in known} - {None}
        if me in owners:
            own += waiting
        elif not owners:
            free.append(waiting)
    share = math.ceil(total / max(1, peers))
    mine += len(own)
    for names in free:
        if mine >= share:
            break
        own += names
        mine += len(names)
    return own


def left_to_others(groups: Groups, holders: Holders, me: int) -> set[str]:
    """The sources that no worker holds, and that wait for another one: it has a part of their group."""
    found: set[str] = set()
    for names in groups.values():
        owners = {holders.get(name) for name in names} - {None}
        if owners and me not in owners:
            found.update(name for name in names if holders.get(name) is None)
    return found


def strays(groups: Groups, holders: Holders, me: int, peers: Collection[int]) -> list[Sequence[str]]:
    """What this worker holds of groups of which one of `peers` holds more: a change of credentials has joined two groups."""
    found: list[Sequence[str]] = []
    for names in groups.values():
        parts: defaultdict[int, list[str]] = defaultdict(list)
        for name in names:
            holder = holders.get(name)
            if holder is not None:
                parts[holder].append(name)
        if me in parts and len(parts) > 1:
            first = max(parts, key=lambda each: (len(parts[each]), -each))
            if first != me and first in peers:  # with another configuration, it would not take the rest
                found.append(parts[me])
    return found


def surplus(groups: Groups, held: Collection[str], peers: int) -> list[Sequence[str]]:
    """Groups that this worker can give back, because it holds more than its share. Never less than a whole group."""
    total = sum(map(len, groups.values()))
    share = math.ceil(total / max(1, peers))
    over = len(held) - share
    if len(held) <= share * SLACK + 1:
        return []
    found: list[Sequence[str]] = []
    for names in reversed(list(groups.values())):
        mine = [name for name in names if name in held]
        if mine and len(mine) <= over:
            found.append(mine)
            over -= len(mine)
    return found


def sinks_to_claim(places: Mapping[str, str | None], holders: Holders, me: int, peers: int) -> Iterable[str]:
    """The sinks to claim: those of this machine, and of the others its share. `places`: by name, the machine, if it names one."""
    shared = [name for name, on in places.items() if on is None and name in holders]
    left = math.ceil(len(shared) / max(1, peers)) - sum(holders[name] == me for name in shared)
    free = [name for name in shared if holders[name] is None]
    return [*(name for name, on in places.items() if on is not None), *free[: max(0, left)]]
